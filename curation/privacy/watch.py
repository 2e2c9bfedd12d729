"""Every frame of a clip shown to the follower, and some of them, near enough to each other, looked at by the models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from curation.errors import ClipUnreadable
from curation.model_settings import ObjectKind
from curation.ports import Detector, ShownFrame
from curation.privacy.boxes import Boxes, no_boxes
from curation.privacy.follow import LUMA_WIDTH_PX, Follower, Paths
from curation.records import Detection

EVERY_MAX: Final = 6  # a fifth of a second at 30 frames a second: in a longer pause a head turns out from under its mask
PAUSE_MAX_S: Final = 0.25  # between two looks, where frames are rarer: at 10 a second every second one is looked at


@dataclass(slots=True)
class Watched:
    """What was seen of one kind: by frame, None for those not looked at; and for looked at frames where that lies before and after."""

    frames: list[tuple[Detection, ...] | None] = field(default_factory=list)
    paths: dict[int, Paths] = field(default_factory=dict)


def watch(
    shown: Iterable[ShownFrame],
    detectors: Mapping[ObjectKind, Detector],
    *,
    least_scores: Mapping[ObjectKind, float],
    reach_frames: int,
    every: int = 1,
    subject: str,
) -> tuple[dict[ObjectKind, Watched], tuple[int, int]]:
    """What was seen by kind, and the frames' width and height in pixels.

    Args:
        shown: all frames of the clip.
        detectors: by kind.
        least_scores: from which score a sight counts.
        reach_frames: how far what was seen is followed both ways.
        every: look at every n-th frame, at one every `PAUSE_MAX_S` or more of them, and at the last.
        subject: names the clip in errors.

    Raises:
        ClipUnreadable: the frames are not all of one size.
    """
    seen = {kind: Watched() for kind in detectors}
    follower = Follower(reach_frames)
    pace = _Pace(every)
    last: ShownFrame | None = None
    for frame in shown:
        if last is not None and last.size_px != frame.size_px:
            raise ClipUnreadable("changes its size on the way", subject=subject, fix="leave the clip out of masked shard sets")
        follower.show(frame.luma(LUMA_WIDTH_PX))
        is_due = pace.is_due(frame.at_s)
        for one in seen.values():
            one.frames.append(None)
        if is_due:
            _look(frame, seen, detectors, least_scores, follower)
        last = frame
    if last is not None and any(one.frames[-1] is None for one in seen.values()):
        _look(last, seen, detectors, least_scores, follower)
    return seen, (0, 0) if last is None else last.size_px


class _Pace:
    """Says which frames are due for a look."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._passed = every  # frames since the last look: the first frame is due
        self._looked_s: float | None = None
        self._before_s: float | None = None

    def is_due(self, at_s: float | None) -> bool:
        """Whether the next frame is, which is shown at that time: the one after it would come too late."""
        due = self._passed >= self._every
        if at_s is not None and self._looked_s is not None and self._before_s is not None:
            due = due or 2 * at_s - self._before_s - self._looked_s > PAUSE_MAX_S
        self._before_s = at_s
        if due:
            self._passed, self._looked_s = 0, at_s
        self._passed += 1
        return due


def _look(
    frame: ShownFrame,
    seen: Mapping[ObjectKind, Watched],
    detectors: Mapping[ObjectKind, Detector],
    least_scores: Mapping[ObjectKind, float],
    follower: Follower,
) -> None:
    picture = frame.picture()
    for kind, one in seen.items():
        found = tuple(detectors[kind].find(picture, min_score=least_scores[kind]))
        one.frames[-1] = found
        one.paths[len(one.frames) - 1] = follower.saw(_boxes(found), width_px=frame.size_px[0])


def _boxes(found: Sequence[Detection]) -> Boxes:
    return np.asarray([(one.x_px, one.y_px, one.width_px, one.height_px) for one in found], np.float64) if found else no_boxes()
