"""Boxes, tiles and what is read from a model's outputs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.privacy import decode
from curation.privacy.boxes import clipped, covered, distinct, ious, no_boxes, scaled
from curation.privacy.tiles import OVERLAP, Look, looks, uncut

_SIDE = st.floats(1, 80)
_BOX = st.tuples(st.floats(-20, 120), st.floats(-20, 120), _SIDE, _SIDE)
_BOXES = st.lists(_BOX, min_size=1, max_size=6).map(lambda boxes: np.asarray(boxes, np.float64))


def test_overlap_is_the_shared_area_over_the_joined_one() -> None:
    """Two squares that share a quarter of each, one that touches, and one without area."""
    one = np.array([[0.0, 0, 10, 10]])
    other = np.array([[5.0, 5, 10, 10], [10, 0, 10, 10], [2, 2, 0, 5]])
    assert [[pytest.approx(25 / 175), 0.0, 0.0]] == ious(one, other).tolist()


def test_of_boxes_that_overlap_the_best_is_left() -> None:
    """A double of lower score goes; what lies elsewhere stays; none of none is none."""
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 10, 10], [40, 40, 10, 10]])
    assert [1, 2] == distinct(boxes, np.array([0.5, 0.9, 0.4])).tolist()
    assert [] == distinct(no_boxes(), np.zeros(0)).tolist()


def test_a_mask_grows_about_its_centre_and_is_cut_to_the_picture() -> None:
    """1.3 times as wide and as high, less what lies outside."""
    grown = scaled(np.array([[10.0, 20, 20, 10]]))
    assert [pytest.approx([7.0, 18.5, 26.0, 13.0])] == grown.tolist()
    assert [[7.0, 18.5, 13.0, 1.5]] == [pytest.approx(box) for box in clipped(grown, 20, 20).tolist()]


@given(_BOXES, _BOXES)
def test_cover_is_what_counting_pixels_says(boxes: np.ndarray, masks: np.ndarray) -> None:
    """Overlapping masks count once: on whole pixels, the share equals the one that is counted."""
    boxes, masks = np.ceil(boxes), np.ceil(masks)
    canvas = np.zeros((400, 400), np.bool_)
    for x, y, width, height in np.add(masks, (100, 100, 0, 0)).astype(int).tolist():
        canvas[y : y + height, x : x + width] = True
    for (x, y, width, height), share in zip(np.add(boxes, (100, 100, 0, 0)).astype(int).tolist(), covered(boxes, masks), strict=True):
        assert pytest.approx(canvas[y : y + height, x : x + width].mean()) == share


def test_nothing_is_covered_without_a_mask() -> None:
    """No mask covers nothing of anything."""
    assert [0.0] == covered(np.array([[0.0, 0, 5, 5]]), no_boxes()).tolist()


@given(st.integers(40, 5000), st.integers(40, 5000))
def test_looks_see_every_pixel_and_tiles_share_a_fifth(width_px: int, height_px: int) -> None:
    """Whatever lies anywhere and is smaller than the overlap is whole in some tile, at full resolution."""
    found = looks(width_px, height_px, width_px=640, height_px=352)
    whole, tiles = found[0], found[1:]
    assert (0, 0, width_px, height_px) == (whole.x_px, whole.y_px, whole.width_px, whole.height_px)
    assert whole.width_px * whole.zoom <= 641 or whole.height_px * whole.zoom <= 641
    for starts, side, length in (
        (sorted({tile.x_px for tile in tiles}), "width_px", width_px),
        (sorted({tile.y_px for tile in tiles}), "height_px", height_px),
    ):
        if tiles:
            tile_px = getattr(tiles[0], side)
            assert 0 == starts[0]
            assert length == starts[-1] + tile_px
            assert all(after - before <= tile_px * (1 - OVERLAP) + 1 for before, after in pairwise(starts))
        else:
            assert whole.zoom >= 1 / (1 + OVERLAP)


def test_looks_turn_with_the_picture_and_enlarge_as_far_as_is_allowed() -> None:
    """A portrait picture is looked at in portrait tiles; a small one is enlarged; a coarser look is of the whole."""
    assert {(352, 640)} == {(look.width_px, look.height_px) for look in looks(1080, 1920, width_px=640, height_px=352)[1:]}
    assert [2.0] == [look.zoom for look in looks(100, 50, width_px=640, height_px=352, max_zoom=2)]
    assert [1.0, 0.5] == [look.zoom for look in looks(640, 352, width_px=640, height_px=352, coarser=(0.5,))]


def test_what_a_tile_cuts_off_is_left_to_its_neighbour() -> None:
    """A box at an inner edge goes; one at the picture's own edge stays."""
    look = Look(x_px=0, y_px=0, width_px=100, height_px=100, zoom=1.0)
    boxes = np.array([[0.0, 0, 10, 10], [90, 40, 10, 10], [40, 89, 5, 10], [40, 40, 5, 5]])
    assert [True, False, False, True] == uncut(boxes, look, 200, 200).tolist()
    assert [True, True, True, True] == uncut(boxes, look, 100, 100).tolist()
    inner = Look(x_px=100, y_px=100, width_px=100, height_px=100, zoom=1.0)
    assert [False, True] == uncut(np.array([[101.0, 150, 10, 10], [150, 150, 10, 10]]), inner, 200, 200).tolist()


def test_a_peak_of_centerface_is_a_box_about_its_place() -> None:
    """Place times four, logarithms of a quarter of the sides, and offsets: as the model's authors read it."""
    outputs = {"537": np.zeros((1, 1, 8, 8), np.float32), "538": np.zeros((1, 2, 8, 8), np.float32)}
    outputs["539"] = np.zeros((1, 2, 8, 8), np.float32)
    outputs["537"][0, 0, 2, 5] = 0.8
    outputs["538"][0, :, 2, 5] = np.log([5.0, 3.0])
    outputs["539"][0, :, 2, 5] = (0.25, 0.5)
    boxes, scores = decode.centerface(outputs, 32, 32, 0.3)
    assert [pytest.approx((5 + 0.5 + 0.5) * 4 - 6), pytest.approx((2 + 0.25 + 0.5) * 4 - 10), 12, 20] == [
        pytest.approx(side, rel=1e-5) for side in boxes[0]
    ]
    assert [pytest.approx(0.8)] == scores.tolist()


def test_an_anchor_of_retina_is_moved_and_stretched() -> None:
    """The sixth anchor of the second level: its centre moved by a tenth of its side, its width grown by e to the fifth."""
    count = (4 * 4 + 2 * 2 + 1) * 2
    outputs = {"loc": np.zeros((1, count, 4), np.float32), "conf": np.zeros((1, count, 2), np.float32)}
    index = 32 + 5
    outputs["conf"][0, index] = (0.1, 0.9)
    outputs["loc"][0, index] = (1.0, 0.0, 1.0, 0.0)
    boxes, scores = decode.retina(outputs, 32, 32, 0.5)
    wide = 192 * np.exp(0.2)
    assert [pytest.approx(8 + 19.2 - wide / 2), pytest.approx(24 - 96), pytest.approx(wide), 192] == [
        pytest.approx(one) for one in boxes[0]
    ]
    assert [pytest.approx(0.9)] == scores.tolist()
    assert 0 == len(decode.retina(outputs, 32, 32, 0.95)[0])
