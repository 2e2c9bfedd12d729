"""Tracks: a face that is lost for a few frames stays masked, before its first sight and after its last too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.privacy.boxes import MASK_SCALE, covered
from curation.privacy.tracks import TrackLimits, masks, tracks
from curation.records import Detection

_LIMITS = TrackLimits(start_score=0.5, keep_score=0.2, gap_frames=4, extend_frames=3)


def _one(x_px: float, score: float = 0.9, y_px: float = 50.0, side_px: float = 20.0) -> Detection:
    return Detection(x_px=x_px, y_px=y_px, width_px=side_px, height_px=side_px, score=score)


def _masks(frames: Sequence[Sequence[Detection] | None], limits: TrackLimits = _LIMITS) -> list[np.ndarray]:
    return list(masks(tracks(frames, limits), frame_count=len(frames), width_px=400, height_px=200, limits=limits))


def _masked_frames(frames: Sequence[Sequence[Detection] | None]) -> list[int]:
    return [number for number, boxes in enumerate(_masks(frames)) if len(boxes)]


def test_a_gap_is_filled_between_two_sights() -> None:
    """Seen at 100 and at 130 five frames on: in between the mask moves evenly."""
    frames = [(_one(100.0),), (), (), (), (), (_one(130.0),)]
    found = _masks(frames)
    assert [100.0, 106.0, 112.0, 118.0, 124.0, 130.0] == [pytest.approx(boxes[0, 0] + 3.0) for boxes in found]
    assert {1} == {len(boxes) for boxes in found}
    assert all(boxes[0, 2] == pytest.approx(20 * MASK_SCALE) for boxes in found)


def test_a_track_reaches_beyond_both_ends_and_grows_there() -> None:
    """Three frames before the first sight and after the last, twice as large at the far end."""
    frames: list[Sequence[Detection]] = [()] * 5 + [(_one(100.0),)] + [()] * 5
    assert [2, 3, 4, 5, 6, 7, 8] == _masked_frames(frames)
    assert pytest.approx(2 * 20 * MASK_SCALE) == _masks(frames)[2][0, 2]


def test_doubtful_sights_carry_a_track_both_ways_but_start_none() -> None:
    """Frames of score 0.3 before and after a sure one are masked; without a sure one, none is."""
    doubtful = [(_one(100.0 + 2 * number, 0.3),) for number in range(20)]
    assert [] == _masked_frames(doubtful)
    sure = [*doubtful[:10], (_one(120.0, 0.9),), *doubtful[11:]]
    assert list(range(20)) == _masked_frames(sure)
    assert [] == _masked_frames([(_one(100.0, 0.1),)] * 5 + [()])


def test_a_long_absence_ends_a_track() -> None:
    """More frames without a sight than are joined: what lies between both extensions stays unmasked."""
    frames: list[Sequence[Detection]] = [(_one(100.0),), *[()] * 12, (_one(100.0),)]
    assert [0, 1, 2, 3, 10, 11, 12, 13] == _masked_frames(frames)


def test_two_that_cross_and_one_that_is_fast_keep_their_tracks() -> None:
    """Two faces that move towards each other are two tracks; a small one that jumps half its size is one."""
    both = [(_one(100.0 + 4 * number, y_px=40), _one(180.0 - 4 * number, y_px=75)) for number in range(20)]
    assert 2 == len(tracks(both, _LIMITS))
    assert 1 == len(tracks([(_one(100.0 + 11 * number),) for number in range(10)], _LIMITS))
    assert 2 == len(tracks([(_one(100.0),), (_one(300.0),)], _LIMITS))


def test_frames_that_were_not_looked_at_are_no_absence() -> None:
    """Detection on every third frame alone: those between are masked as gaps are."""
    frames = [(_one(100.0 + number),) if number % 3 == 0 else None for number in range(10)]
    assert list(range(10)) == _masked_frames(frames)


@given(st.lists(st.lists(st.tuples(st.floats(0, 380), st.floats(0, 180), st.floats(0.2, 1)), max_size=4), min_size=1, max_size=12))
def test_every_sure_detection_is_masked_whatever_else_is_seen(told: list[list[tuple[float, float, float]]]) -> None:
    """Whole and in its own frame: no assignment of tracks may lose one."""
    frames = [tuple(_one(x_px, score, y_px) for x_px, y_px, score in frame) for frame in told]
    for frame, boxes in zip(frames, _masks(frames), strict=True):
        for one in frame:
            if one.score >= 0.5:
                within = np.array([[one.x_px, one.y_px, min(20.0, 400 - one.x_px), min(20.0, 200 - one.y_px)]])
                assert pytest.approx(1.0) == covered(within, boxes)[0]


@pytest.mark.parametrize("changes", [{"scale": 1.2}, {"keep_score": 0.6}, {"keep_score": 0.0}, {"gap_frames": -1}, {"extend_frames": -1}])
def test_limits_that_would_mask_less_than_is_due_are_refused(changes: dict[str, float]) -> None:
    """A scale below 1.3, a threshold that lets no doubtful sight in, and negative spans are no limits."""
    with pytest.raises(ValueError, match="less than is due"):
        TrackLimits(**{"start_score": 0.5, "keep_score": 0.2, **changes})  # type: ignore[arg-type]
