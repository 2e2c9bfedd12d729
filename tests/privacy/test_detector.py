"""Detectors: they prove themselves before they look, and find what a larger picture hides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation import pipeline, wiring
from curation.adapters.detector_onnx import DnnDetector
from curation.errors import ModelRefused
from curation.layout import model_key
from curation.privacy import decode, self_test
from curation.privacy.boxes import ious, scaled
from curation.privacy.paint import painted
from curation.privacy.tiles import Look, cut_to, looks
from curation.records import Detection
from curation.settings import Settings

_A_WEIGHT_AT = 260_575  # of clp_det.onnx: the first of tensor 644, 0.3647033
_FACE = Path(__file__).resolve().parents[3] / "shared" / "privacy" / "faces" / "ego1.jpg"
on_clips = pytest.mark.skipif(not _FACE.exists(), reason="../shared/privacy is not there")


@pytest.fixture(scope="module")
def plates(models_at_home: Settings) -> DnnDetector:
    """The shipped detector of plates."""
    found = pipeline.detector(models_at_home, "clp-det")
    assert isinstance(found, DnnDetector)
    return found


def _bytes(settings: Settings, name: str) -> bytes:
    model = settings.models[name]
    return wiring.store(settings).read(model_key(model.sha256, model.suffix))


def test_a_model_with_one_weight_changed_fails_its_self_test(models_at_home: Settings) -> None:
    """The digest of the changed file is what the settings name, it loads and runs: only its numbers tell."""
    data = _bytes(models_at_home, "clp-det")
    assert pytest.approx(0.3647033) == float(np.frombuffer(data, "<f4", count=1, offset=_A_WEIGHT_AT)[0])
    changed = data[:_A_WEIGHT_AT] + np.float32(0.40).tobytes() + data[_A_WEIGHT_AT + 4 :]
    model = models_at_home.models["clp-det"].model_copy(update={"sha256": hashlib.sha256(changed).hexdigest()})
    with pytest.raises(ModelRefused, match=r"self-test on a fixed picture says no: output loc is off"):
        DnnDetector("clp-det", model, changed)


def test_all_shipped_models_pass_their_self_test(models_at_home: Settings) -> None:
    """OpenCV computes what ONNX Runtime and LiteRT did when the numbers were written down; the version names model and thresholds."""
    for name in ("centerface", "clp-det", "blazeface-full"):
        assert models_at_home.models[name].version(name) == pipeline.detector(models_at_home, name).version


def test_other_bytes_and_bytes_that_are_no_model_are_refused(models_at_home: Settings) -> None:
    """A file that was swapped is not run; nor is one that OpenCV cannot read."""
    model = models_at_home.models["clp-det"]
    with pytest.raises(ModelRefused, match="SHA-256"):
        DnnDetector("clp-det", model, _bytes(models_at_home, "centerface"))
    no_model = b"no model"
    with pytest.raises(ModelRefused, match="no model that OpenCV runs"):
        DnnDetector("clp-det", model.model_copy(update={"sha256": hashlib.sha256(no_model).hexdigest()}), no_model)


def test_a_model_that_was_not_pulled_is_a_clear_error(models_at_home: Settings, tmp_path: Path) -> None:
    """The error names the command that mends it."""
    elsewhere = models_at_home.model_copy(update={"store": models_at_home.store.model_copy(update={"path": tmp_path})})
    with pytest.raises(ModelRefused, match="curation models pull centerface"):
        pipeline.detector(elsewhere, "centerface")


def test_the_self_test_says_no_to_missing_outputs_and_to_no_numbers() -> None:
    """An output that is gone, one of other numbers, and one that holds no number are all found out."""
    output = np.linspace(0, 1, 100, dtype=np.float32)
    expected = {"out": self_test.numbers(output)}
    assert None is self_test.differing({"out": output}, expected)
    assert "output out is missing; there are other" == self_test.differing({"other": output}, expected)
    assert "off by" in str(self_test.differing({"out": output * np.float32(1.01)}, expected))
    assert "off by nan" in str(self_test.differing({"out": output * np.float32(np.nan)}, expected))
    assert "numbers" in str(self_test.differing({"out": output}, {"out": (0.0,)}))


@pytest.mark.parametrize("size", [(33, 31), (1, 1), (2000, 40), (1300, 760)])
def test_pictures_of_any_size_are_looked_at(plates: DnnDetector, size: tuple[int, int]) -> None:
    """Small, thin and large grey pictures hold no plate, and are no error."""
    assert () == tuple(plates.find(np.full((size[1], size[0], 3), 90, np.uint8)))


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A picture with one large face."""
    return cv2.resize(cv2.imread(str(_FACE)), (640, 360))


def _is_at(found: Sequence[Detection], x_px: float, y_px: float, *, from_score: float = 0.5) -> bool:
    return any(
        one.x_px < x_px < one.x_px + one.width_px and one.y_px < y_px < one.y_px + one.height_px for one in found if one.score >= from_score
    )


@on_clips
@pytest.mark.clips
def test_a_face_is_found_once_where_it_is_and_small_ones_in_large_pictures_too(models_at_home: Settings, face: np.ndarray) -> None:
    """One face gives one box; far smaller, in a corner of a picture three times as wide as the working size, tiles still find it."""
    small = models_at_home.models["centerface"].model_copy(update={"width_px": 640, "height_px": 384, "max_zoom": 1.0})
    detector = DnnDetector("centerface", small, _bytes(models_at_home, "centerface"))
    found = detector.find(face)
    assert 1 == len(found)
    centre = (found[0].x_px + found[0].width_px / 2, found[0].y_px + found[0].height_px / 2)
    canvas = np.full((1152, 1920, 3), 90, np.uint8)
    canvas[900 : 900 + 45, 1700 : 1700 + 80] = cv2.resize(face, (80, 45), interpolation=cv2.INTER_AREA)
    assert _is_at(detector.find(canvas, min_score=0.3), 1700 + centre[0] / 8, 900 + centre[1] / 8)
    whole_alone = cv2.resize(canvas, (640, 384), interpolation=cv2.INTER_AREA)
    assert not _is_at(detector.find(whole_alone), (1700 + centre[0] / 8) / 3, (900 + centre[1] / 8) / 3)
    near = detector.find(canvas, min_score=0.3, within=(1650.2, 850.0, 180.0, 160.9))
    assert _is_at(near, 1700 + centre[0] / 8, 900 + centre[1] / 8, from_score=0.3)
    assert () == tuple(detector.find(canvas, min_score=0.3, within=(0.0, 0.0, 1690.0, 1152.0)))
    assert () == tuple(detector.find(canvas, within=(1920.0, 0.0, 50.0, 50.0)))


def test_looks_are_cut_to_a_part_of_the_picture() -> None:
    """At their own zoom and in whole pixels around the part; those elsewhere are left out."""
    every = (
        Look(x_px=0, y_px=0, width_px=1280, height_px=720, zoom=0.5, least_px=80.0),
        Look(x_px=0, y_px=0, width_px=640, height_px=720, zoom=1.0),
        Look(x_px=512, y_px=0, width_px=640, height_px=720, zoom=1.0),
    )
    assert (
        Look(x_px=600, y_px=10, width_px=101, height_px=61, zoom=0.5, least_px=80.0),
        Look(x_px=600, y_px=10, width_px=40, height_px=61, zoom=1.0),
        Look(x_px=600, y_px=10, width_px=101, height_px=61, zoom=1.0),
    ) == cut_to(every, (600.5, 10.0, 100.2, 60.5))
    assert every[:2] == cut_to(every[:2], (-5.0, -5.0, 2000.0, 2000.0))
    assert () == cut_to(every, (1280.0, 0.0, 5.0, 5.0))


def test_what_is_small_in_a_coarser_look_does_not_count(models_at_home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a quarter of the size a face counts from 40 px on, which are 160 of the picture's; at full size whatever it measures."""
    assert [0.0, 160.0] == [one.least_px for one in looks(1280, 720, width_px=1280, height_px=736, coarser=(0.25,), coarser_from_px=40)]
    detector = pipeline.detector(models_at_home, "centerface")
    asked = []

    def seen(_picture: object, look: Look, _least: float) -> tuple[np.ndarray, np.ndarray]:
        asked.append(look.zoom)
        return np.array([[300.0 * len(asked), 10, 150, 150], [300.0 * len(asked), 300, 170, 170]]), np.full(2, 0.9)

    monkeypatch.setattr(detector, "_look", seen)
    found = detector.find(np.zeros((720, 1280, 3), np.uint8))
    assert {(300.0, 150.0), (300.0, 170.0), (600.0, 170.0)} == {(one.x_px, one.width_px) for one in found}
    assert [1.0, 0.25] == asked


@on_clips
@pytest.mark.clips
def test_another_makers_model_finds_the_face_and_nothing_once_it_is_masked(models_at_home: Settings) -> None:
    """BlazeFace sees the same face where CenterFace does; painted over by the mask of that, there is none for either."""
    face = cv2.imread(str(_FACE))
    first, second = (pipeline.detector(models_at_home, name) for name in ("centerface", "blazeface-full"))
    (found,), (again,) = first.find(face), second.find(face)
    boxes = np.asarray([[one.x_px, one.y_px, one.width_px, one.height_px] for one in (found, again)])
    assert ious(boxes[:1], boxes[1:])[0, 0] > 0.5
    masked = painted(face, scaled(boxes[:1]))
    assert ((), ()) == (first.find(masked), tuple(second.find(masked)))


def test_an_anchor_of_blazeface_is_a_box_about_its_place() -> None:
    """Centre and size beside the anchor in the model's own pixels, and a score out of a logit."""
    outputs = {
        "reshaped_classifier_face_4": np.full((1, 64, 1), -9, np.float32),
        "reshaped_regressor_face_4": np.zeros((1, 64, 16), np.float32),
    }
    outputs["reshaped_classifier_face_4"][0, 10] = 0.0
    outputs["reshaped_regressor_face_4"][0, 10, :4] = (1.0, -1.0, 6.0, 8.0)
    boxes, scores = decode.blazeface(outputs, 32, 32, 0.5)
    assert ([[10 + 1 - 3, 6 - 1 - 4, 6, 8]], [0.5]) == (boxes.tolist(), scores.tolist())
