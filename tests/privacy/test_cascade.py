"""Three nets that find faces together: proved, shown what they were trained on, and blind once a face is masked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from curation import pipeline, wiring
from curation.adapters.cascade_onnx import DnnCascade
from curation.adapters.net_onnx import Named
from curation.errors import ModelRefused
from curation.layout import model_key
from curation.privacy import cascade
from curation.privacy.boxes import ious, scaled
from curation.privacy.paint import painted
from curation.settings import Settings
from tests.privacy.conftest import CASCADE

_FACE = Path(__file__).resolve().parents[3] / "shared" / "privacy" / "faces" / "ego1.jpg"
on_clips = pytest.mark.skipif(not _FACE.exists(), reason="../shared/privacy is not there")


@pytest.fixture(scope="module")
def nets(models_at_home: Settings) -> tuple[Named, ...]:
    """The shipped nets with their bytes."""
    store, models = wiring.store(models_at_home), models_at_home.models
    return tuple((name, models[name], store.read(model_key(models[name].sha256, ".onnx"))) for name in CASCADE)


@pytest.fixture(scope="module")
def faces(nets: tuple[Named, ...]) -> DnnCascade:
    """The shipped cascade."""
    return DnnCascade(*nets)


def test_a_net_that_opencv_would_run_wrongly_is_refused(nets: tuple[Named, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are in the wheel OpenCV 5 pools at the wrong edge without saying so: the self-test tells, by the net's name."""
    monkeypatch.setattr(cascade, "readable", lambda data: data)
    with pytest.raises(ModelRefused, match="model mtcnn-rnet: the self-test on a fixed picture says no: output dense_2 is off by"):
        DnnCascade(*nets)


def test_other_bytes_and_other_numbers_are_refused(nets: tuple[Named, ...]) -> None:
    """A file that was swapped is not run; nor is one that computes something else than was written down."""
    (name, model, data), second, third = nets
    with pytest.raises(ModelRefused, match="mtcnn-pnet: its bytes have SHA-256"):
        DnnCascade((name, model, data + b"\x00"), second, third)
    other = {output: (0.5, *told[1:]) for output, told in model.self_test.items()}
    with pytest.raises(ModelRefused, match="mtcnn-pnet: the self-test on a fixed picture says no: output conv2d_4 is off by"):
        DnnCascade((name, model.model_copy(update={"self_test": other}), data), second, third)


def test_a_net_of_a_cascade_is_no_detector(models_at_home: Settings) -> None:
    """Asked to find faces by itself it is refused, before it is run on anything."""
    with pytest.raises(ModelRefused, match="mtcnn-onet: is a net of a cascade"):
        pipeline.detector(models_at_home, "mtcnn-onet")


@on_clips
@pytest.mark.clips
def test_the_cascade_finds_the_face_and_nothing_once_it_is_masked(models_at_home: Settings, faces: DnnCascade) -> None:
    """It sees the same face as the model that masks, at half the size and a tenth of it; painted over by the mask of that, none."""
    face = cv2.resize(cv2.imread(str(_FACE)), (540, 960), interpolation=cv2.INTER_AREA)
    (masks,) = pipeline.detector(models_at_home, "centerface").find(face)
    box = np.asarray([[masks.x_px, masks.y_px, masks.width_px, masks.height_px]])
    found = faces.find(face)
    assert 1 == len(found)
    assert ious(box, np.asarray([[found[0].x_px, found[0].y_px, found[0].width_px, found[0].height_px]]))[0, 0] > 0.4
    assert () == tuple(faces.find(painted(face, scaled(box))))
    small = cv2.resize(face, (108, 192), interpolation=cv2.INTER_AREA)
    assert [True] == [16 <= one.width_px < 40 for one in faces.find(small)]


@pytest.mark.parametrize("size", [(11, 300), (1, 1), (16, 16), (300, 17)])
def test_pictures_of_any_size_are_looked_at(faces: DnnCascade, size: tuple[int, int]) -> None:
    """Grey pictures, smaller than a window too, hold no face and are no error."""
    assert () == tuple(faces.find(np.full((size[1], size[0], 3), 90, np.uint8)))


@pytest.mark.parametrize("size", [(70, 100), (71, 101), (12, 12), (333, 57)])
def test_the_first_net_says_of_strips_what_it_says_of_the_whole(
    faces: DnnCascade, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strips bound what a large picture costs in memory; no window is seen otherwise, left out or seen twice."""
    picture = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    whole = faces._first.run(cascade.blob(picture[None]))
    monkeypatch.setattr(cascade, "_STRIP_PX", 2000)
    parts = [faces._first.run(cascade.blob(strip[None])) for strip in cascade.strips(picture)]
    assert (len(parts) > 1) == (size != (12, 12))
    for name, output in whole.items():
        np.testing.assert_array_equal(output[0], np.concatenate([one[name][0] for one in parts], axis=1))


def test_windows_are_told_in_pixels_of_the_picture_and_moved_by_shares_of_them() -> None:
    """The window in column 3, row 5 at half the size: 12 x 20 px from the edge, 24 px wide; moves go by side, squares by the longer one."""
    scores, moves = np.zeros((8, 9, 2), np.float32), np.zeros((8, 9, 4), np.float32)
    scores[3, 5, 1], moves[3, 5] = 0.75, (0.25, 0, 0, 0.5)
    windows, found, told = cascade.proposed(scores, moves, 0.5, 0.6)
    assert ([[12, 20, 24, 24]], [0.75]) == (windows.tolist(), found.tolist())
    placed = cascade.moved(windows, told)
    assert [[18, 20, 18, 36]] == placed.tolist()
    assert [[9, 20, 36, 36]] == cascade.squares(placed).tolist()
    assert [0.75, 0.75 * 0.709] == list(cascade.zooms(24, 400))


def test_a_square_over_the_edge_is_cut_out_with_black() -> None:
    """Half of it outside: half of it black, on the side where it lies outside; one far outside is black."""
    picture = np.full((20, 20, 3), 200, np.uint8)
    over, outside = cascade.cut_out(picture, np.asarray([[-10.0, 0, 20, 20], [50.0, 50, 20, 20]]), 10)
    assert (0, 200, 0) == (over[:, :5].max(), over[:, 5:].min(), outside.max())
