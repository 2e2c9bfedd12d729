"""A person looks at masked pictures: which are drawn, what may be said of them and by whom, and what it keeps from masking."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from curation import layout, pipeline, wiring
from curation.cli import app
from curation.errors import EvidenceBroken, ReviewRefused, UsageError
from curation.privacy import review
from curation.privacy.paint import GREY
from curation.residency.signing import keygen
from curation.settings import Settings, read_settings
from curation.stages import review_masks
from curation.stages.review_masks import parsed_answers

_PEM, _KEY = keygen()
_OTHER_PEM, _OTHER_KEY = keygen()


def _masked_frame(number: int, side_px: int) -> np.ndarray:
    picture = np.full((96, 160, 3), 40 + number, np.uint8)
    picture[20 : 20 + side_px, 30 : 30 + side_px] = GREY
    return picture


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three masked copies of ten frames, whose masks are 20, 50 and 0 px."""
    folder = tmp_path_factory.mktemp("copies")
    made = []
    for index, side_px in enumerate((20, 50, 0)):
        path = folder / f"{index}.mp4"
        wiring.video_writer().write(path, (_masked_frame(index, side_px) for _ in range(10)), fps=Fraction(10))
        made.append(path.read_bytes())
    return made


@pytest.fixture
def home(tmp_path: Path, copies: list[bytes]) -> Settings:
    """Settings whose store holds the copies, and who may review."""
    work = tmp_path / "work"
    work.mkdir()
    said = f'[privacy.reviewers]\nLi = "{_KEY}"\nWang = "{_OTHER_KEY}"\n'
    (work / "curation.toml").write_text(said, encoding="utf-8")
    settings = read_settings({}, work=work)
    store, masking, models = wiring.store(settings), "0" * 64, review.models_text(pipeline.models_in_use(settings))
    for number, data in enumerate(copies):
        clip_id, digest = f"{number:064x}", hashlib.sha256(data).hexdigest()
        key = layout.masked_copy_key(clip_id, masking, digest)
        store.create(key, data)
        note = {"frame_count": 10, "key": key, "sha256": digest, "size_bytes": len(data), "detector_versions": models}
        store.create(layout.masked_note_key(clip_id, masking), json.dumps(note).encode())
    return settings


def _sheet(settings: Settings, *, requester: str = "Zhao", count: int = 6, seed: str = "7") -> review.Sheet:
    return pipeline.make_mask_review(settings, seed=seed, requester=requester, count=count)


def _answer(settings: Settings, sheet: review.Sheet, given: dict[int, review.Answer], pem: bytes | None = _PEM) -> review.Answers:
    return pipeline.answer_mask_review(settings, sheet.review_id, given, private_pem=pem)


def test_the_same_seed_draws_the_same_frames_evenly_over_clips_and_sizes(home: Settings) -> None:
    """Six pictures of three clips are two of each, small, medium and without a mask; another seed draws others; each lies at home."""
    sheet, again, other = _sheet(home), _sheet(home), _sheet(home, seed="8")
    assert sheet == again
    assert [one.frame for one in sheet.pictures] != [one.frame for one in other.pictures]
    assert [2, 2, 2] == [sum(one.clip_id == f"{number:064x}" for one in sheet.pictures) for number in range(3)]
    assert {"small": 2, "medium": 2, "none": 2} == {
        size: sum(one.mask_size == size for one in sheet.pictures) for size in ("small", "medium", "none")
    }
    store = wiring.store(home)
    assert all(hashlib.sha256(store.read(one.key)).hexdigest() == one.sha256 for one in sheet.pictures)
    page = store.read(layout.review_key(sheet.review_id, "sheet.html")).decode()
    assert all(f'src="../../{one.key}"' in page for one in sheet.pictures)
    assert sheet.pictures[0].key.startswith(layout.masked_folder(sheet.pictures[0].clip_id))


def test_nothing_is_drawn_without_copies_a_seed_or_a_requester(home: Settings, tmp_path: Path) -> None:
    """Masked copies of the models in use alone are looked at; one that was changed is named."""
    with pytest.raises(UsageError, match="no masked copy of the models in use"):
        _sheet(read_settings({}, work=tmp_path / "empty"))
    for seed, requester in (("", "Zhao"), ("7", " ")):
        with pytest.raises(UsageError, match="needs a seed, a requester"):
            _sheet(home, seed=seed, requester=requester)
    key = next(one for one in wiring.store(home).keys("masked/") if one.endswith(".mp4"))
    wiring.eraser(home).replace(key, b"other")
    with pytest.raises(EvidenceBroken, match="is not what stands beside it says"):
        _sheet(home)


def test_answers_are_signed_and_stand_in_the_ledger(home: Settings) -> None:
    """Who said what of which picture, when, and under whose key; said twice it is recorded once; `audit verify` covers the files."""
    sheet = _sheet(home)
    said = _answer(home, sheet, {1: "ok", 2: "ok"})
    assert said == _answer(home, sheet, {1: "ok"})
    assert ("Li", _KEY, True) == (said.reviewer, said.public_key, said.is_signed())
    assert not said.model_copy(update={"reviewer": "Wang"}).is_signed()
    entries = [entry for entry in pipeline.ledger_entries(home) if entry.kind == review_masks.ANSWER_STAGE]
    assert [({"rows_in": 2, "ok": 2}, "Li")] == [(entry.counts, entry.facts["reviewer"]) for entry in entries]
    (standing,) = pipeline.mask_reviews(home)
    assert (2, 0, 4, ["Li"], True) == tuple(standing[name] for name in ("ok", "missed", "open", "reviewers", "in_use"))
    pipeline.verify(home)
    (key,) = entries[0].files
    wiring.eraser(home).replace(key, wiring.store(home).read(key).replace(b'"ok"', b'"oK"'))
    with pytest.raises(EvidenceBroken):
        pipeline.verify(home)
    with pytest.raises(EvidenceBroken):
        list(pipeline.mask_reviews(home))


def test_what_does_not_count_is_refused_and_not_recorded(home: Settings) -> None:
    """No signature, a stranger's key, the requester's own, an unknown or changed picture, no answer, another answer than before."""
    sheet = _sheet(home)
    stranger, _ = keygen()
    for given, pem, told in (
        ({1: "ok"}, None, "answered without a signature"),
        ({1: "ok"}, stranger, "which is of nobody who may review"),
        ({7: "ok"}, _PEM, "has no picture 7"),
        ({}, _PEM, "was given no answer"),
    ):
        with pytest.raises(ReviewRefused, match=told):
            _answer(home, sheet, given, pem)  # type: ignore[arg-type]
    own = _sheet(home, requester=" LI ", seed="9")
    with pytest.raises(ReviewRefused, match="who may not answer it"):
        _answer(home, own, {1: "ok"})
    wiring.eraser(home).replace(sheet.pictures[2].key, b"another picture")
    with pytest.raises(ReviewRefused, match="picture 3 is gone, or is not the one that was drawn"):
        _answer(home, sheet, {3: "ok"})
    _answer(home, sheet, {1: "ok"})
    with pytest.raises(ReviewRefused, match="Li said something else of picture 1 before"):
        _answer(home, sheet, {1: "missed"})
    with pytest.raises(UsageError, match="is no review"):
        pipeline.answer_mask_review(home, "review-0", {1: "ok"}, private_pem=_PEM)
    assert 1 == sum(entry.kind == review_masks.ANSWER_STAGE for entry in pipeline.ledger_entries(home))


def test_a_changed_sheet_and_an_answer_of_a_key_that_is_trusted_no_more_do_not_count(home: Settings) -> None:
    """The sheet is what the ledger recorded; a reviewer whose key left the settings is told by name."""
    sheet = _sheet(home)
    _answer(home, sheet, {1: "ok"})
    fewer = home.model_copy(update={"privacy": home.privacy.model_copy(update={"reviewers": {"Wang": _OTHER_KEY}})})
    with pytest.raises(ReviewRefused, match=r"an answer of Li that no key of \[privacy\.reviewers\] signed"):
        list(pipeline.mask_reviews(fewer))
    key = layout.review_key(sheet.review_id, layout.REVIEW_SHEET)
    wiring.eraser(home).replace(key, wiring.store(home).read(key).replace(b'"Zhao"', b'"Chen"'))
    with pytest.raises(EvidenceBroken, match="is not what the ledger recorded"):
        _answer(home, sheet, {2: "ok"})


def test_one_missed_face_makes_the_evaluation_of_these_models_stand_as_failed(home: Settings) -> None:
    """Whatever the evaluation says; with another threshold it is another model, of which nobody said so."""
    sheet = _sheet(home)
    _answer(home, sheet, {1: "ok"})
    assert "there is none" in str(pipeline.masking_refusal(home))
    _answer(home, sheet, {1: "missed", 2: "ok"}, _OTHER_PEM)
    assert f"stands as failed: in {sheet.review_id} a person found" in str(pipeline.masking_refusal(home))
    (standing,) = pipeline.mask_reviews(home)
    assert (1, 1, 4) == (standing["ok"], standing["missed"], standing["open"])
    other = home.models["centerface"].model_copy(update={"min_score": 0.2})
    changed = home.model_copy(update={"models": {**home.models, "centerface": other}})
    assert "there is none" in str(pipeline.masking_refusal(changed))
    assert [False] == [one["in_use"] for one in pipeline.mask_reviews(changed)]


def test_a_filled_in_list_is_read_and_a_wrong_one_refused() -> None:
    """Empty answers are passed over; a number twice, another word, and another table are wrong use."""
    assert {1: "ok", 3: "missed"} == parsed_answers(b"number,clip_id,answer\n1,a,OK\n2,a,\n3,b, missed\n", subject="x")
    for wrong in (b"number,answer\n1,ok\n1,ok\n", b"number,answer\n1,yes\n", b"name\nx\n", b"\xff\xfe\x00"):
        with pytest.raises(UsageError):
            parsed_answers(wrong, subject="x")


def test_the_commands_make_answer_and_tell(home: Settings, tmp_path: Path) -> None:
    """The folder holds page, pictures and the list to fill in; status is 1 until 100 pictures of the models in use are ok."""
    run, work, folder = CliRunner(), ["--work", str(home.work)], tmp_path / "sheet"
    made = run.invoke(app, ["privacy", "review", "make", "--seed", "7", "--requester", "Zhao", "--count", "3", "--out", str(folder), *work])
    assert (0, 5) == (made.exit_code, len(list(folder.iterdir())))
    review_id = made.output.split(":")[0]
    filled = (folder / "answers.csv").read_text().replace(",\n", ",ok\n")
    (folder / "answers.csv").write_text(filled)
    (tmp_path / "key.pem").write_bytes(_PEM)
    asked = ["privacy", "review", "answer", review_id, "--answers", str(folder / "answers.csv"), *work]
    assert isinstance(run.invoke(app, asked).exception, ReviewRefused)
    assert "Li said ok of 3 pictures, missed of 0" in run.invoke(app, [*asked, "--key", str(tmp_path / "key.pem")]).output
    told = run.invoke(app, ["privacy", "review", "status", *work])
    assert (1, True) == (told.exit_code, "of the models in use: 3 ok, 0 missed, 0 open of 3" in told.output)
    lines = run.invoke(app, ["privacy", "review", "status", "--json", *work]).output.splitlines()
    assert [(review_id, 3)] == [(one["review_id"], one["ok"]) for one in map(json.loads, lines)]
    both = run.invoke(app, ["privacy", "review", "answer", review_id, "--ok", "1", "--missed", "1", *work])
    assert isinstance(both.exception, UsageError)
    proof = run.invoke(app, ["privacy", "prove", str(tmp_path / "key.pem"), "--json", *work])
    assert (1, "unmeasured") == (proof.exit_code, json.loads(proof.output)["verdict"])
