"""Detections of a clip's frames made into masks that do not flicker: started by sure ones, carried on by doubtful ones.

A track is joined over gaps, and reaches beyond its ends; what is doubtful counts before the sure detection as after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import MASK_SCALE, Boxes, clipped, ious, no_boxes, scaled
from curation.records import Detection

_SAME_IOU: Final = 0.15  # between frames a thing moves: less overlap than two boxes of one picture need
_REACH: Final = 0.6  # of a box's larger side, within which its centre may move a frame: small boxes overlap no more after a step
_LIKE_SIZE: Final = 2.0  # by which its sides may grow or shrink meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackLimits:
    """How tracks are made.

    Attributes:
        start_score: a track must hold a detection of this score.
        keep_score: a detection of this score carries one on.
        gap_frames: over how many frames without a detection a track is joined.
        extend_frames: how many frames it reaches beyond its first and its last detection.
        scale: of masks against boxes.
    """

    start_score: float
    keep_score: float
    gap_frames: int = 15
    extend_frames: int = 10
    scale: float = MASK_SCALE

    def __post_init__(self) -> None:
        if not 0 < self.keep_score <= self.start_score or self.scale < MASK_SCALE or min(self.gap_frames, self.extend_frames) < 0:
            raise ValueError(f"limits that would mask less than is due: {self}")


@dataclass(frozen=True, slots=True)
class Track:
    """One thing through the clip: frame number -> box (x, y, width, height), for the frames where it was detected."""

    boxes: Mapping[int, tuple[float, float, float, float]]
    best_score: float


def tracks(frames: Sequence[Sequence[Detection] | None], limits: TrackLimits) -> tuple[Track, ...]:
    """The tracks of a clip, by their first frame.

    Args:
        frames: what was detected in each frame, at `keep_score` or above; None for a frame that was not looked at.
        limits: how they are made.
    """
    done: list[_Growing] = []
    growing: list[_Growing] = []
    for number, found in enumerate(frames):
        if found is None:
            continue
        kept = [one for one in found if one.score >= limits.keep_score]
        over = [one for one in growing if number - one.last - 1 > limits.gap_frames]
        done.extend(over)
        growing = [one for one in growing if one not in over]
        boxes = np.asarray([(one.x_px, one.y_px, one.width_px, one.height_px) for one in kept], np.float64) if kept else no_boxes()
        taken = _assigned(growing, boxes, number)
        for index, one in enumerate(kept):
            if index in taken:
                taken[index].add(number, boxes[index], one.score)
            else:
                growing.append(_Growing(number, boxes[index], one.score))
    every = sorted([*done, *growing], key=lambda one: min(one.boxes))
    return tuple(
        Track({number: tuple(map(float, box)) for number, box in one.boxes.items()}, one.best_score)  # type: ignore[misc]  # four of them
        for one in every
        if one.best_score >= limits.start_score
    )


class _Growing:
    """A track that may still be carried on."""

    def __init__(self, number: int, box: npt.NDArray[np.float64], score: float) -> None:
        self.boxes = {number: box}
        self.last = number
        self.best_score = score
        self._step = np.zeros(2)  # of the centre, a frame

    def add(self, number: int, box: npt.NDArray[np.float64], score: float) -> None:
        """One more frame in which it was detected."""
        before = self.boxes[self.last]
        step = ((box[:2] + box[2:] / 2) - (before[:2] + before[2:] / 2)) / (number - self.last)
        self._step = step if not self._step.any() else (self._step + step) / 2
        self.boxes[number] = box
        self.last = number
        self.best_score = max(self.best_score, score)

    def expected(self, number: int) -> npt.NDArray[np.float64]:
        """Its box, moved on as it moved so far."""
        box = self.boxes[self.last].copy()
        box[:2] += self._step * (number - self.last)
        return box


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
    may = (overlap >= _SAME_IOU) | ((away <= _REACH * np.minimum(frames_ago, 3)) & (grown <= _LIKE_SIZE))
    cost = np.where(may, -overlap - 1 / (1 + away), 1e6)
    rows, columns = linear_sum_assignment(cost)
    return {int(column): growing[row] for row, column in zip(rows, columns, strict=True) if may[row, column]}


def masks(found: Sequence[Track], *, frame_count: int, width_px: int, height_px: int, limits: TrackLimits) -> Iterator[Boxes]:
    """The masks of each frame: boxes within the picture, `scale` times the size of what they cover.

    Between two detections the box moves evenly; before the first and after the last it stands and grows, to twice
    its size where the track ends, since nobody knows which way it goes.
    """
    of_frame: list[list[tuple[float, float, float, float]]] = [[] for _ in range(frame_count)]
    for track in found:
        for number, box in _filled(track, frame_count, limits.extend_frames):
            of_frame[number].append(box)
    for boxes in of_frame:
        grown = scaled(np.asarray(boxes, np.float64), limits.scale) if boxes else no_boxes()
        yield clipped(grown, width_px, height_px)


def _filled(track: Track, frame_count: int, extend_frames: int) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    numbers = np.asarray(sorted(track.boxes))
    boxes = np.asarray([track.boxes[number] for number in numbers])
    first, last = int(numbers[0]), int(numbers[-1])
    wanted = np.arange(max(0, first - extend_frames), min(frame_count, last + extend_frames + 1))
    sides = [np.interp(wanted, numbers, boxes[:, side]) for side in range(4)]
    beyond = np.maximum(first - wanted, 0) + np.maximum(wanted - last, 0)
    grown = scaled_each(np.stack(sides, axis=1), 1 + beyond / max(extend_frames, 1))
    for number, box in zip(wanted.tolist(), grown.tolist(), strict=True):
        yield number, (box[0], box[1], box[2], box[3])


def scaled_each(boxes: Boxes, scales: npt.NDArray[np.float64]) -> Boxes:
    """Each box about its centre, by its own scale."""
    grown = boxes[:, 2:] * scales[:, None]
    return np.hstack([boxes[:, :2] - (grown - boxes[:, 2:]) / 2, grown])
