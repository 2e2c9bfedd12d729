"""`curation privacy evaluate`: pictures and video with labels in, a signed record and a page out, and masking refused until it passed."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.choices import Part
from curation.cli import app
from curation.errors import EvaluationRefused, UsageError
from curation.privacy import gate
from curation.privacy.labels import half
from curation.residency.signing import keygen
from curation.settings import PrivacySettings, Settings

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "privacy"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One grey picture and two frames of a grey video in which nothing is to be seen, and one plate that nobody can find."""
    folder = tmp_path_factory.mktemp("labelled")
    cv2.imwrite(str(folder / "grey.png"), np.full((96, 160, 3), 120, np.uint8))
    wiring.video_writer().write(folder / "grey.mp4", (np.full((96, 160, 3), 90 + n % 7, np.uint8) for n in range(30)), fps=Fraction(10))
    rows = ["grey.png,plate,20,20,40,18,", "grey.mp4,none,,,,,0", "grey.mp4,none,,,,,2.5"]
    (folder / "boxes.csv").write_text("\n".join(["file,kind,x,y,w,h,at_s", *rows]), encoding="utf-8")
    return folder


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_command_writes_a_signed_record_and_a_page_in_two_languages(
    labelled: Path, models_at_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 as long as it is not passed; what was missed is named with its reason; the page needs nothing from elsewhere."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-21T10:00:00+00:00")
    pem, public_key = keygen()
    (tmp_path / "key.pem").write_bytes(pem)
    arguments = ["privacy", "evaluate", str(labelled), "--key", str(tmp_path / "key.pem"), "--demo", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--work", str(models_at_home.work)])
    assert 1 == done.exit_code, done.output
    assert "missed plate of 40 x 18 px in grey.png: not seen, even at score 0.05" in done.output
    assert "3 pictures, at least 500 are needed" in done.output
    signed = gate.parse((tmp_path / "out" / "evaluation.json").read_bytes())
    assert signed.signature is not None
    told = signed.evaluation
    assert ("insufficient", True, "all", 3, public_key) == (
        told.result,
        told.demo,
        told.part,
        told.sample_count,
        signed.signature.public_key,
    )
    assert (datetime(2026, 11, 21, 10, tzinfo=UTC), 365) == (told.evaluated_at, (told.expires_at - told.evaluated_at).days)
    assert (0, 1) == (told.figures["plate"]["detection"]["count"], told.figures["plate"]["detection"]["total"])
    page = _Text()
    page.feed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert [] == page.links
    for said in ("Insufficient", "样本不足", "漏检及原因", "grey.png", told.models["face"].sha256, public_key, "A demo: it proves nothing"):
        assert said in page.text
    assert signed == pipeline.evaluation_in_force(models_at_home)


def test_masking_is_refused_until_the_evaluation_in_force_holds(
    labelled: Path, models_at_home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline's own gate: an unsigned one, one of another key, and a demo's where demos do not count; then one that holds."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-22T10:00:00+00:00")
    pem, public_key = keygen()
    trusting = models_at_home.model_copy(update={"privacy": PrivacySettings(trusted_evaluators=(public_key,))})
    unsigned = pipeline.evaluate_models(trusting, labelled)
    assert "is not signed" in str(pipeline.masking_refusal(trusting))
    passed = unsigned.evaluation.model_copy(update={"result": "passed", "reasons": (), "demo": True})
    monkeypatch.setenv("CURATION_NOW", "2026-11-23T10:00:00+00:00")
    later = passed.model_copy(update={"evaluated_at": datetime(2026, 11, 23, 9, tzinfo=UTC)})
    wiring.store(trusting).create(f"evaluations/{later.id}/evaluation.json", gate.to_bytes(gate.sign(later, pem)))
    assert "is a demo's" in str(pipeline.masking_refusal(trusting))
    assert None is pipeline.masking_refusal(
        models_at_home.model_copy(
            update={"privacy": PrivacySettings(trusted_evaluators=(public_key,), allow_demo_evaluation=True)},
        )
    )
    other = trusting.models["clp-det"].model_copy(update={"min_score": 0.9})
    changed = trusting.model_copy(update={"models": {**trusting.models, "clp-det": other}})
    assert "there is none of the models in use" in str(pipeline.masking_refusal(changed))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("gone.png,none,,,,,", "gone.png: cannot be read"),
        ("boxes.csv,none,,,,,", "boxes.csv: is no picture"),
        ("grey.mp4,none,,,,,99", "grey.mp4: has no frame at 99.0 s"),
    ],
)
def test_files_that_are_not_what_the_labels_say_are_refused(
    labelled: Path, models_at_home: Settings, tmp_path: Path, rows: str, told: str
) -> None:
    """A picture that is gone or none, and a time after the video's end: nothing is left out in silence."""
    shutil.copytree(labelled, tmp_path / "set")
    (tmp_path / "set" / "boxes.csv").write_text(f"file,kind,x,y,w,h,at_s\n{rows}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        pipeline.evaluate_models(models_at_home, tmp_path / "set")


def test_a_folder_without_labels_and_an_empty_half_are_wrong_use(labelled: Path, models_at_home: Settings, tmp_path: Path) -> None:
    """The error names the file to write, or the part that holds nothing."""
    with pytest.raises(UsageError, match=r"boxes\.csv: cannot be read"):
        pipeline.evaluate_models(models_at_home, tmp_path)
    shutil.copy(labelled / "grey.png", tmp_path / "one.png")
    (tmp_path / "boxes.csv").write_text("file,kind,x,y,w,h\none.png,none,,,,\n", encoding="utf-8")
    other: Part = "tune" if half((tmp_path / "one.png").read_bytes()) == "report" else "report"
    with pytest.raises(UsageError, match=f"part {other} holds nothing"):
        pipeline.evaluate_models(models_at_home, tmp_path, part=other)


@pytest.mark.clips
@pytest.mark.skipif(not _SHARED.is_dir(), reason="../shared/privacy is not there")
def test_real_faces_and_plates_are_found(models_at_home: Settings, tmp_path: Path) -> None:
    """Two faces and two Chinese plates of the labelled set: each is masked by half or more, and nothing false is found."""
    chosen = {"faces/coco01.jpg", "plates_cn/ccpd0.jpg", "plates_cn/ccpd4.jpg"}
    with (_SHARED / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] in chosen]
    for name in chosen:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(_SHARED / name, tmp_path / name)
    with (tmp_path / "boxes.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = pipeline.evaluate_models(models_at_home, tmp_path).evaluation.figures
    rates = {kind: (one["detection"]["count"], one["detection"]["total"], one["false"]["count"]) for kind, one in found.items()}
    assert {"face": (2, 2, 0), "plate": (2, 2, 0)} == rates, json.dumps(found)


def test_no_clip_is_masked_by_models_that_may_not(labelled: Path, models_at_home: Settings, tmp_path: Path) -> None:
    """Without an evaluation that holds, nothing is read and nothing written."""
    untrusting = models_at_home.model_copy(update={"privacy": PrivacySettings(trusted_evaluators=())})
    with pytest.raises(EvaluationRefused):
        pipeline.mask_clip(untrusting, labelled / "grey.mp4", tmp_path / "masked.mp4")
    assert [] == list(tmp_path.iterdir())
