"""Boxes followed by the picture's own motion: both ways, through frames that no model looked at."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.privacy.boxes import covered
from curation.privacy.follow import LUMA_WIDTH_PX, Follower, Paths, hull
from curation.privacy.tracks import TrackLimits, masks, tracks
from curation.records import Detection

_STEP_PX = (12.0, -3.0)  # of the scene, a frame, in a picture 1280 wide
_LIMITS = TrackLimits(start_score=0.5, keep_score=0.2, together_score=0.4, gap_frames=8, extend_frames=4)
_SIDE_PX = 40.0


def _lumas(count: int) -> list[np.ndarray]:
    """A textured scene that moves evenly."""
    noise = np.random.default_rng(7).integers(0, 255, (60, 140)).astype(np.uint8)
    scene = cv2.resize(noise, (560, 240), interpolation=cv2.INTER_CUBIC)
    zoom = LUMA_WIDTH_PX / 1280
    found = []
    for number in range(count):
        turn = np.asarray([[1, 0, number * _STEP_PX[0] * zoom - 120], [0, 1, number * _STEP_PX[1] * zoom - 20]])
        found.append(cv2.warpAffine(scene, turn, (LUMA_WIDTH_PX, 180), flags=cv2.INTER_LINEAR))
    return found


def _box(number: int, x_px: float = 400.0) -> np.ndarray:
    """Where a thing of the scene lies in a frame."""
    return np.array([x_px + number * _STEP_PX[0], 300.0 + number * _STEP_PX[1], _SIDE_PX, _SIDE_PX])


def _seen(box: np.ndarray, score: float = 0.9) -> Detection:
    return Detection(x_px=box[0], y_px=box[1], width_px=box[2], height_px=box[3], score=score)


def _paths(lumas: list[np.ndarray], looks: dict[int, np.ndarray]) -> dict[int, Paths]:
    follower = Follower(_LIMITS.reach_frames)
    found = {}
    for number, luma in enumerate(lumas):
        follower.show(luma)
        if number in looks:
            found[number] = follower.saw(looks[number], width_px=1280)
    return found


@pytest.mark.parametrize("number", [0, 3, 6])
def test_a_box_is_followed_both_ways(number: int) -> None:
    """Seen once in nine frames of a moving scene: in each other one it is found to within a fifth of its side, as far as it reaches."""
    path = _paths(_lumas(9), {number: np.stack([_box(number), _box(number, 700.0)])})[number]
    for other in set(range(9)) - {number}:
        for index, x_px in enumerate((400.0, 700.0)):
            led = path.at(other, index)
            assert led is not None
            assert np.abs(led - _box(other, x_px)).max() < 8
    assert path.at(number, 0) is None
    assert path.at(9, 0) is None


def test_it_is_followed_no_further_than_asked() -> None:
    """Nine frames each way, no matter how many there are; nothing seen, or a frame of another size, leads nowhere."""
    path = _paths(_lumas(24), {12: np.stack([_box(12)])})[12]
    assert (9, 9) == (len(path.before), len(path.after))
    follower = Follower(3)
    follower.show(np.zeros((180, 320), np.uint8))
    assert [] == follower.saw(np.zeros((0, 4)), width_px=1280).before
    sight = follower.saw(np.stack([_box(0)]), width_px=1280)
    follower.show(np.zeros((320, 180), np.uint8))
    assert sight.at(1, 0) is None


def test_a_crowd_that_moves_by_more_than_its_spacing_keeps_its_masks() -> None:
    """Looks at every sixth frame, 72 px on, of faces 80 px apart: without following each is taken for its neighbour."""
    crowd = [200.0 + 80 * place for place in range(6)]
    looks = {number: np.stack([_box(number, x_px) for x_px in crowd]) for number in (0, 6, 12)}
    frames = [tuple(map(_seen, looks[number])) if number in looks else None for number in range(13)]
    found = tracks(frames, _LIMITS, _paths(_lumas(13), looks))
    assert [(0, 6, 12)] * 6 == [tuple(track.boxes) for track in found]
    for number, boxes in enumerate(masks(found, frame_count=13, width_px=1280, height_px=720, limits=_LIMITS)):
        for x_px in crowd:
            middle = _box(number, x_px)[:2] + _SIDE_PX / 2
            assert ((boxes[:, :2] < middle - 20) & (boxes[:, :2] + boxes[:, 2:] > middle + 20)).all(axis=1).any()
    alone = tracks(frames, _LIMITS)
    assert [(0, 6, 12)] * 6 != [tuple(track.boxes) for track in alone]


def test_what_both_sights_lead_to_is_covered_and_not_what_lies_between() -> None:
    """Ways that nearly agree: one mask around both. Ways that part: one on each and one where it would be by moving evenly."""
    frames = [(_seen(_box(0)),), None, (_seen(_box(2)),)]

    def between(before_px: float, after_px: float) -> tuple[tuple[float, ...], ...]:
        before, after = (np.array([[x_px, 300.0, 40, 40]]) for x_px in (before_px, after_px))
        [track] = tracks(frames, _LIMITS, {0: Paths(0, after=[before, _box(2)[None]]), 2: Paths(2, before=[after])})
        masked = list(masks([track], frame_count=3, width_px=1280, height_px=720, limits=_LIMITS))[1]
        assert len(masked) == len(track.followed[1])
        return tuple(track.followed[1])

    assert ((400.0, 300.0, 50.0, 40.0),) == between(400, 410)
    assert ((380.0, 300.0, 40.0, 40.0), (900.0, 300.0, 40.0, 40.0), (412.0, 297.0, 40.0, 40.0)) == between(380, 900)
    assert [0, 0, 30, 20] == hull([np.array([0.0, 0, 10, 10]), np.array([20.0, 5, 10, 15])]).tolist()
    [track] = tracks(frames, _LIMITS)
    assert {} == track.followed


def test_two_sights_that_are_nearly_sure_start_a_track_and_one_does_not() -> None:
    """0.4 twice, in two looks that following joins, is masked; once, or 0.3 ever so often, is not."""
    lumas, looks = _lumas(13), {number: np.stack([_box(number)]) for number in (0, 6, 12)}
    paths = _paths(lumas, looks)

    def masked(*scores: float) -> int:
        given = dict(zip((0, 6, 12), scores, strict=True))
        frames = [(_seen(_box(number), given[number]),) if number in given else None for number in range(13)]
        return len(tracks(frames, _LIMITS, paths))

    assert [1, 0, 0] == [masked(0.4, 0.4, 0.1), masked(0.4, 0.3, 0.3), masked(0.3, 0.3, 0.3)]
    with pytest.raises(ValueError, match="between those of one and of none"):
        TrackLimits(start_score=0.5, keep_score=0.2, together_score=0.6)


def _over_a_still_scene(count: int, step_px: int, side_px: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of a still scene that a thing crosses, so many pixels of a picture 1280 wide a frame; and where it is in each."""
    rng, zoom = np.random.default_rng(7), 1280 // LUMA_WIDTH_PX
    still = cv2.resize(rng.integers(60, 120, (45, 80)).astype(np.uint8), (LUMA_WIDTH_PX, 180), interpolation=cv2.INTER_CUBIC)
    thing = cv2.resize(rng.integers(0, 255, (4, 4)).astype(np.uint8), (side_px // zoom,) * 2, interpolation=cv2.INTER_CUBIC)
    lumas, boxes = [], []
    for number in range(count):
        left = 100 + number * step_px
        luma = still.copy()
        luma[75 : 75 + side_px // zoom, left // zoom : (left + side_px) // zoom] = thing
        lumas.append(luma)
        boxes.append(np.array([left, 300.0, side_px, side_px]))
    return lumas, boxes


@pytest.mark.parametrize("missed", [0, 7])
@pytest.mark.parametrize(("side_px", "step_px"), [(24, 16), (40, 60)])
def test_a_fast_mover_that_is_missed_in_the_first_or_last_frame_is_masked_there(side_px: int, step_px: int, missed: int) -> None:
    """Seen in every frame but that: there is no sight beyond to interpolate to, and dense flow does not see so small and fast a thing."""
    lumas, boxes = _over_a_still_scene(8, step_px, side_px)
    looks = {number: box[None] for number, box in enumerate(boxes) if number != missed}
    limits = TrackLimits(start_score=0.5, keep_score=0.25)
    follower, paths = Follower(limits.reach_frames), {}
    for number, luma in enumerate(lumas):
        follower.show(luma)
        if number in looks:
            paths[number] = follower.saw(looks[number], width_px=1280)
    found = tracks([(_seen(box),) if number in looks else () for number, box in enumerate(boxes)], limits, paths)
    masked = list(masks(found, frame_count=8, width_px=1280, height_px=720, limits=limits))[missed]
    assert covered(boxes[missed][None], masked)[0] >= 0.9
