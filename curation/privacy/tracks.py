"""Detections of a clip's frames made into masks that do not flicker: started by sure ones, carried on by doubtful ones.

A track is joined over gaps, and reaches beyond its ends; what is doubtful counts before the sure detection as after it. Between its
sights it lies where the picture's own motion takes it from the one before and from the one after, where that was followed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import MASK_SCALE, Box, Boxes, clipped, ious, no_boxes, scaled
from curation.privacy.follow import Paths, hull
from curation.records import Detection

_SAME_IOU: Final = 0.15  # between frames a thing moves: less overlap than two boxes of one picture need
_REACH: Final = 0.6  # of a box's larger side, within which its centre may move a frame: small boxes overlap no more after a step
_AGREE_IOU: Final = 0.3  # of where two sights lead to: from here on it is one place
_LIKE_SIZE: Final = 2.0  # by which its sides may grow or shrink meanwhile
_GOES_WITH_IOU: Final = 0.6  # of where it would go by itself: from here on it goes with the picture, and 1.3 times the box covers both
_LEAP: Final = 2.0  # of its larger side, within which what no track claims is one that was seen just now: it is fast, not new
_LEAP_FRAMES: Final = 2  # how long ago that may be


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackLimits:
    """How tracks are made.

    Attributes:
        start_score: a track must hold a detection of this score.
        keep_score: a detection of this score carries one on.
        together_score: two detections of this score start one too.
        gap_frames: over how many frames without a detection a track is joined.
        extend_frames: how many frames it reaches beyond its first and its last detection.
        scale: of masks against boxes.
    """

    start_score: float
    keep_score: float
    together_score: float | None = None
    gap_frames: int = 15
    extend_frames: int = 10
    scale: float = MASK_SCALE

    def __post_init__(self) -> None:
        if not 0 < self.keep_score <= self.start_score or self.scale < MASK_SCALE or min(self.gap_frames, self.extend_frames) < 0:
            raise ValueError(f"limits that would mask less than is due: {self}")
        if self.together_score is not None and not self.keep_score <= self.together_score <= self.start_score:
            raise ValueError(f"two sights start a track from a score between those of one and of none: {self}")

    @property
    def reach_frames(self) -> int:
        """How far from a sight a track may be followed."""
        return max(self.gap_frames + 1, self.extend_frames)

    def starts(self, scores: Sequence[float]) -> bool:
        """Whether sights of these scores make a track."""
        best = sorted(scores)[-2:]
        return best[-1] >= self.start_score or (self.together_score is not None and len(best) == 2 and best[0] >= self.together_score)


@dataclass(frozen=True, slots=True)
class Track:
    """One thing through the clip: frame number -> box (x, y, width, height), for the frames where it was detected.

    `followed`: the same for other frames, as far as it was followed: one box around where its sight before and its sight after lead,
    or both and the place between its sights where they lead apart.
    """

    boxes: Mapping[int, Box]
    best_score: float
    followed: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)


def tracks(
    frames: Sequence[Sequence[Detection] | None], limits: TrackLimits, paths: Mapping[int, Paths] | None = None
) -> tuple[Track, ...]:
    """The tracks of a clip, by their first frame.

    Args:
        frames: what was detected in each frame, at `keep_score` or above; None for a frame that was not looked at.
        limits: how they are made.
        paths: frame number -> where its detections, in their order, lie before and after; without them things are taken to move evenly.
    """
    done: list[_Growing] = []
    growing: list[_Growing] = []
    for number, found in enumerate(frames):
        if found is None:
            continue
        led = (paths or {}).get(number, Paths(number))
        kept = [_Sight(index, one.score, _box(one), led) for index, one in enumerate(found) if one.score >= limits.keep_score]
        over = [one for one in growing if number - one.last - 1 > limits.gap_frames]
        done.extend(over)
        growing = [one for one in growing if one not in over]
        boxes = np.stack([one.box for one in kept]) if kept else no_boxes()
        taken = _assigned(growing, boxes, number)
        for index, sight in enumerate(kept):
            if index in taken:
                taken[index].add(number, sight)
            else:
                growing.append(_Growing(number, sight))
    every = sorted([*done, *growing], key=lambda one: one.first)
    return tuple(one.track(limits, len(frames)) for one in every if limits.starts(one.scores))


@dataclass(frozen=True, slots=True)
class _Sight:
    """A detection in its frame: its index there, and where it was followed."""

    index: int
    score: float
    box: npt.NDArray[np.float64]
    paths: Paths

    def at(self, number: int) -> npt.NDArray[np.float64] | None:
        """Where it lies in another frame, None where it was not followed."""
        return self.paths.at(number, self.index)


class _Growing:
    """A track that may still be carried on."""

    def __init__(self, number: int, sight: _Sight) -> None:
        self.sights = {number: sight}
        self.first = self.last = number
        self._step = np.zeros(2)  # of the centre, a frame

    @property
    def scores(self) -> list[float]:
        """Of its sights."""
        return [one.score for one in self.sights.values()]

    def add(self, number: int, sight: _Sight) -> None:
        """One more frame in which it was detected."""
        step = (_centre(sight.box) - _centre(self.sights[self.last].box)) / (number - self.last)
        self._step = step if not self._step.any() else (self._step + step) / 2
        self.sights[number] = sight
        self.last = number

    def expected(self, number: int) -> npt.NDArray[np.float64]:
        """Its box where the picture moved it, else moved on as it moved so far."""
        followed = self.sights[self.last].at(number)
        if followed is not None:
            return followed
        box = self.sights[self.last].box.copy()
        box[:2] += self._step * (number - self.last)
        return box

    def track(self, limits: TrackLimits, frame_count: int) -> Track:
        """It, with what lies between and beyond its sights."""
        reach = range(max(0, self.first - limits.extend_frames), min(frame_count, self.last + limits.extend_frames + 1))
        numbers = sorted(self.sights)
        followed = {}
        for number in reach:
            if number not in self.sights:
                at = bisect_left(numbers, number)
                led = [self.sights[one].at(number) for one in numbers[max(at - 1, 0) : at + 1]]
                ways = [box for box in led if box is not None]
                if len(ways) == len(led):
                    followed[number] = tuple(map(_plain, self._places(number, ways)))
        return Track({number: _plain(one.box) for number, one in self.sights.items()}, max(self.scores), followed)

    def _places(self, number: int, ways: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
        """Where it may be in a frame. A box around ways that lead apart would hide what lies between, up to a quarter of a picture."""
        if len(ways) < 2:
            return self._beyond(number, ways)
        if ious(ways[0][None], ways[1][None])[0, 0] >= _AGREE_IOU:
            return [hull(ways)]
        numbers = sorted(self.sights)
        boxes = np.stack([self.sights[one].box for one in numbers])
        return [*ways, np.asarray([np.interp(number, numbers, boxes[:, side]) for side in range(4)])]

    def _beyond(self, number: int, ways: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
        """Before its first sight and after its last: where the picture moved, and where it went on as it came if that is elsewhere.

        The flow of a small picture sees the scene behind what is small and fast.
        """
        if len(self.sights) < 2:
            return ways
        numbers = sorted(self.sights)
        end, next_to_it = numbers[:2] if number < numbers[0] else numbers[:-3:-1]
        box = self.sights[end].box.copy()
        box[:2] += (_centre(box) - _centre(self.sights[next_to_it].box)) / (end - next_to_it) * (number - end)
        return ways if ious(ways[0][None], box[None])[0, 0] >= _GOES_WITH_IOU else [*ways, box]


def _centre(box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centre: npt.NDArray[np.float64] = box[:2] + box[2:] / 2
    return centre


def _box(one: Detection) -> npt.NDArray[np.float64]:
    return np.asarray([one.x_px, one.y_px, one.width_px, one.height_px], np.float64)


def _plain(box: npt.NDArray[np.float64]) -> Box:
    x, y, width, height = map(float, box)
    return x, y, width, height


def _assigned(growing: Sequence[_Growing], boxes: Boxes, number: int) -> dict[int, _Growing]:
    """Index of a box -> the track that it carries on: the pairs that lie best together over all, each track and box once."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - half a second to import, which every command would wait for

    if not growing or not len(boxes):
        return {}
    expected = np.stack([one.expected(number) for one in growing])
    overlap = ious(expected, boxes)
    centres, found = expected[:, :2] + expected[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    away = np.linalg.norm(centres[:, None] - found[None], axis=2) / expected[:, 2:].max(axis=1)[:, None]
    grown = np.maximum(boxes[None, :, 2:] / expected[:, None, 2:], expected[:, None, 2:] / boxes[None, :, 2:]).max(axis=2)
    frames_ago = np.asarray([number - one.last for one in growing])[:, None]
    near = (overlap >= _SAME_IOU) | ((away <= _REACH * np.minimum(frames_ago, 3)) & (grown <= _LIKE_SIZE))
    leap = (away <= _LEAP) & (grown <= _LIKE_SIZE) & (frames_ago <= _LEAP_FRAMES)
    taken: dict[int, _Growing] = {}
    for may in (near, leap):  # what is near goes first: only what it leaves over may have leapt
        rows, columns = linear_sum_assignment(np.where(may, -overlap - 1 / (1 + away), 1e6))
        pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if may[row, column]]
        taken |= {int(column): growing[row] for row, column in pairs}
        leap[[row for row, _ in pairs]] = False
        leap[:, [column for _, column in pairs]] = False
    return taken


def masks(found: Sequence[Track], *, frame_count: int, width_px: int, height_px: int, limits: TrackLimits) -> Iterator[Boxes]:
    """The masks of each frame: boxes within the picture, `scale` times the size of what they cover.

    Between two detections the box lies around where both lead, or moves evenly where they were not followed; before the first and after
    the last it goes with the picture, or stands, and grows to twice its size where the track ends, since nobody knows which way it goes.
    """
    of_frame: list[list[Box]] = [[] for _ in range(frame_count)]
    for track in found:
        for number, box in _filled(track, frame_count, limits.extend_frames):
            of_frame[number].append(box)
    for boxes in of_frame:
        grown = scaled(np.asarray(boxes, np.float64), limits.scale) if boxes else no_boxes()
        yield clipped(grown, width_px, height_px)


def _filled(track: Track, frame_count: int, extend_frames: int) -> Iterator[tuple[int, Box]]:
    numbers = np.asarray(sorted(track.boxes))
    boxes = np.asarray([track.boxes[number] for number in numbers])
    first, last = int(numbers[0]), int(numbers[-1])
    wanted = np.arange(max(0, first - extend_frames), min(frame_count, last + extend_frames + 1))
    evenly = np.stack([np.interp(wanted, numbers, boxes[:, side]) for side in range(4)], axis=1)
    beyond = np.maximum(first - wanted, 0) + np.maximum(wanted - last, 0)
    scales = 1 + beyond / max(extend_frames, 1)
    for number, box, scale in zip(wanted.tolist(), evenly, scales.tolist(), strict=True):
        places = np.asarray(track.followed.get(number, (box,)), np.float64)
        for grown in scaled_each(places, np.full(len(places), scale)):
            yield number, _plain(grown)


def scaled_each(boxes: Boxes, scales: npt.NDArray[np.float64]) -> Boxes:
    """Each box about its centre, by its own scale."""
    grown = boxes[:, 2:] * scales[:, None]
    return np.hstack([boxes[:, :2] - (grown - boxes[:, 2:]) / 2, grown])
