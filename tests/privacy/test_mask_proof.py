"""Masked copies are looked at again: what is found blocks them, and what cannot look finds nothing clean."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation import pipeline, wiring
from curation.errors import MaskRefused, ModelRefused
from curation.pipeline import masking
from curation.privacy import cascade, lines
from curation.privacy.paint import GREY
from curation.privacy.proof import MaskProof, refusal, residues, solid
from curation.records import Detection, TextLine
from curation.settings import read_settings
from curation.stages import prove_masks


class _Faces:
    """Finds a face where a picture is white."""

    version = "faces-1"

    def find(self, picture: np.ndarray) -> Sequence[Detection]:
        rows, columns = np.nonzero(picture[..., 1] > 200)
        if not len(rows):
            return ()
        wide, high = float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
        return (Detection(x_px=float(columns.min()), y_px=float(rows.min()), width_px=wide, height_px=high, score=0.9),)


class _Text:
    """Reads the same line in every picture, or nothing."""

    version = "text-1"

    def __init__(self, *lines: TextLine) -> None:
        self.lines = lines

    def read(self, picture: np.ndarray, *, least_height_px: float) -> Sequence[TextLine]:
        return self.lines


def _line(text: str, *, height_px: float = 20.0, x_px: float = 60.0) -> TextLine:
    return TextLine(x_px=x_px, y_px=40, width_px=60, height_px=height_px, line_height_px=height_px, text=text, score=0.9)


def _picture(number: int, *, face_at: Sequence[int] = ()) -> np.ndarray:
    picture = np.full((96, 160, 3), 60, np.uint8)
    picture[10:60, 10:40] = GREY
    if number in face_at:
        picture[60:84, 100:124] = 255
    return picture


def _clip(path: Path, *, face_at: Sequence[int] = (), frames: int = 20) -> Path:
    wiring.video_writer().write(path, (_picture(number, face_at=face_at) for number in range(frames)), fps=Fraction(10))
    return path


class _Blind:
    """Finds no face, and reads nothing."""

    version = "blind-1"

    def find(self, picture: np.ndarray) -> Sequence[Detection]:
        return ()

    def read(self, picture: np.ndarray, *, least_height_px: float) -> Sequence[TextLine]:
        return ()


def _proof(path: Path, *, faces: object = None, text: object = None, step_s: float = 0.5) -> MaskProof:
    """By four models, of which two see what there is."""
    return _alone(
        path, faces={"one": _Blind(), "two": faces or _Faces()}, texts={"three": _Blind(), "four": text or _Text()}, step_s=step_s
    )


def _alone(path: Path, *, step_s: float = 0.5, **models: Any) -> MaskProof:
    looking = {"faces": {"one": _Blind(), "two": _Blind()}, "texts": {"three": _Blind(), "four": _Blind()}, **models}
    return prove_masks.run(path, video=wiring.video_reader(), step_s=step_s, **looking)


def test_a_copy_in_which_nothing_is_found_is_clean(tmp_path: Path) -> None:
    """Looked at are the first frame, one each half second, and the last; nothing refuses the copy."""
    proof = _proof(_clip(tmp_path / "masked.mp4"))
    assert ("clean", (0, 5, 10, 15, 19), "blind-1 faces-1 blind-1 text-1") == (proof.verdict, proof.frames, proof.versions)
    assert refusal(proof, subject="clip") is None


def test_a_face_in_the_last_frame_is_found_and_refuses_the_copy_by_name(tmp_path: Path) -> None:
    """The refusal names the clip, what was found, how large, and when; looking at every frame finds what steps pass over."""
    proof = _proof(_clip(tmp_path / "last.mp4", face_at=(19,)))
    assert ("found", [19]) == (proof.verdict, [one.frame for one in proof.residues])
    with pytest.raises(
        MaskRefused,
        match=r"clip abc: after masking, other models still find 1 faces and 0 plates, first a face of 24 x 24 px at 1.90 s, by two",
    ):
        raise refusal(proof, subject="clip abc")
    between = _clip(tmp_path / "between.mp4", face_at=(3,))
    assert ["clean", "found"] == [_proof(between, step_s=step_s).verdict for step_s in (0.5, 0.0)]


def test_a_plate_is_told_by_its_form_and_what_it_says_is_kept_nowhere(tmp_path: Path) -> None:
    """A line in the form of a plate refuses the copy; a street sign, and a plate too small for the standard, do not."""
    clip = _clip(tmp_path / "masked.mp4")
    proof = _proof(clip, text=_Text(_line("京A12345"), _line("STOP"), _line("ABC1234", height_px=15.0)), step_s=9)
    assert [("plate", "mainland", "four")] * 2 == [(one.kind, one.form, one.model) for one in proof.residues]
    assert "A12345" not in repr(proof.told())
    assert "found" == proof.told()["verdict"]


def test_a_model_that_cannot_look_leaves_the_copy_unmeasured(tmp_path: Path) -> None:
    """Missing, broken on the way, or no video at all: never clean, each with its reason; what another model finds still counts."""

    class _Broken(_Text):
        def read(self, picture: np.ndarray, *, least_height_px: float) -> Sequence[TextLine]:
            raise ModelRefused("does not run", subject="model x", fix="pull it")

    clip = _clip(tmp_path / "masked.mp4")
    (tmp_path / "none.mp4").write_bytes(b"no video")
    for proof, reason in (
        (_proof(clip, text="model x is not there"), "model x is not there"),
        (_proof(clip, faces="model y computes something else"), "model y computes something else"),
        (_alone(clip, faces={"one": _Blind()}), "1 models for faces look, Annex B asks for 2"),
        (_alone(clip, texts={}), "0 readers of text look, Annex B asks for 2"),
        (_proof(clip, text=_Broken()), "does not run"),
        (_proof(tmp_path / "none.mp4"), "none.mp4"),
    ):
        assert "unmeasured" == proof.verdict
        assert reason in str(refusal(proof, subject="clip"))
    assert "found" == _proof(_clip(tmp_path / "face.mp4", face_at=(0,)), text="gone").verdict
    assert "unmeasured" == MaskProof(frames=(), residues=(), unmeasured=None, versions="").verdict


def test_what_lies_under_a_mask_by_half_is_no_finding_and_one_in_the_open_is() -> None:
    """As Annex B counts cover; masks are told by solid grey in the picture itself, through noise as coding makes it, never by grains."""
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (100, 200, 3)).astype(np.uint8)
    picture[20:60, 20:60] = (GREY + rng.integers(-3, 4, (40, 40, 3))).astype(np.uint8)
    masked = solid(picture)
    assert masked[22:58, 22:58].all()
    assert 0 == masked[:, 70:].sum()

    def face(x_px: float, side_px: float = 30) -> Detection:
        return Detection(x_px=x_px, y_px=25, width_px=side_px, height_px=side_px, score=0.8)

    found = residues(picture, {"one": [face(25), face(40), face(50)], "two": [face(120), face(120, 15.0)]}, frame=3, at_s=0.3)
    assert [("one", 50.0), ("two", 120.0)] == [(one.model, one.x_px) for one in found]
    assert [pytest.approx(1 / 3, abs=0.01), 0.0] == [one.hidden for one in found]


def test_the_pipeline_finds_nothing_clean_without_its_models(tmp_path: Path) -> None:
    """A home store that holds no model: unmeasured, with the command that brings each of the four."""
    proof = pipeline.prove_masked(read_settings({}, work=tmp_path / "work"), _clip(tmp_path / "masked.mp4", frames=2))
    assert "unmeasured" == proof.verdict
    for name in ("blazeface-full", "mtcnn-pnet", "ppocr-lines", "clp-lines"):
        assert f"curation models pull {name}`" in str(proof.unmeasured)


def test_another_way_of_looking_again_gives_copies_another_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold of the last net, even contrast and the least face all decide which copies may stand."""
    settings = read_settings({}, work=tmp_path / "work")
    stricter = settings.models["mtcnn-onet"].model_copy(update={"min_score": 0.8})
    found = {
        masking._identity(settings),
        masking._identity(settings.model_copy(update={"models": {**settings.models, "mtcnn-onet": stricter}})),
    }
    for module in (lines, cascade):
        monkeypatch.setattr(module, "LOOKS", "otherwise")
        found.add(masking._identity(settings))
    assert 4 == len(found)
