"""Every frame of a clip shown to the follower, and some of them, near enough to each other, looked at by the models.

Where not every frame is looked at, only every second look is at the whole picture; the others are at the part where something was seen
before, which on a street is a tenth of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from curation.errors import ClipUnreadable
from curation.model_settings import ObjectKind
from curation.ports import Detector, ShownFrame
from curation.privacy.boxes import Box, Boxes, clipped, no_boxes
from curation.privacy.follow import LUMA_WIDTH_PX, Follower, Paths, hull
from curation.records import Detection

EVERY_MAX: Final = 6  # a fifth of a second at 30 frames a second: in a longer pause a head turns out from under its mask
PAUSE_MAX_S: Final = 0.25  # between two looks, where frames are rarer: at 10 a second every second one is looked at
_AROUND: Final = 3.0  # of a box's sides: the part of the picture in which it is looked for again
_AROUND_LEAST_PX: Final = 64.0  # and how far that reaches beyond it at least: a model knows a face by what is around it


def unseen_frames(every: int) -> int:
    """How many frames something may be in the picture before a look at all of it, at every `every`-th frame."""
    return 2 * every - 1 if every > 1 else 0


@dataclass(slots=True)
class Watched:
    """What was seen of one kind: by frame, None for those not looked at; and for looked at frames where that lies before and after."""

    frames: list[tuple[Detection, ...] | None] = field(default_factory=list)
    paths: dict[int, Paths] = field(default_factory=dict)

    def around(self, width_px: int, height_px: int) -> Box | None:
        """The part of the frame shown last in which all that is followed lies, with what is around it; None if nothing is."""
        here = len(self.frames) - 1
        known = [path.after[-1] for number, path in self.paths.items() if path.after and number + len(path.after) == here]
        if not known:
            return None
        boxes = np.concatenate(known)
        beyond = np.maximum(boxes[:, 2:] * (_AROUND - 1) / 2, _AROUND_LEAST_PX)
        grown = clipped(np.hstack([boxes[:, :2] - beyond, boxes[:, 2:] + 2 * beyond]), width_px, height_px)
        grown = grown[grown[:, 2:].min(axis=1) > 0]
        if not len(grown):
            return None
        x, y, width, height = hull(list(grown)).tolist()
        return x, y, width, height


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
        every: look at every n-th frame, at one every `PAUSE_MAX_S` or more of them, and at the last; at all of the first, of every
            second one from there, and of the last.
        subject: names the clip in errors.

    Raises:
        ClipUnreadable: the frames are not all of one size.
    """
    seen = {kind: Watched() for kind in detectors}
    eyes = _Eyes(seen, detectors, least_scores, Follower(reach_frames))
    pace = _Pace(every)
    last: ShownFrame | None = None
    whole = False
    for frame in shown:
        if last is not None and last.size_px != frame.size_px:
            raise ClipUnreadable("changes its size on the way", subject=subject, fix="leave the clip out of masked shard sets")
        eyes.show(frame)
        whole = False
        if pace.is_due(frame.at_s):
            whole = pace.is_whole
            eyes.look(frame, whole=whole)
        last = frame
    if last is not None and not whole:
        eyes.look(last, whole=True)
    return seen, (0, 0) if last is None else last.size_px


class _Pace:
    """Says which frames are due for a look, and which of these looks are at all of the picture."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._passed = every  # frames since the last look: the first frame is due
        self._looked_s: float | None = None
        self._before_s: float | None = None
        self.is_whole = False

    def is_due(self, at_s: float | None) -> bool:
        """Whether the next frame is, which is shown at that time: the one after it would come too late."""
        due = self._passed >= self._every
        if at_s is not None and self._looked_s is not None and self._before_s is not None:
            due = due or 2 * at_s - self._before_s - self._looked_s > PAUSE_MAX_S
        self._before_s = at_s
        if due:
            self._passed, self._looked_s = 0, at_s
            self.is_whole = self._every == 1 or not self.is_whole
        self._passed += 1
        return due


@dataclass(frozen=True, slots=True)
class _Eyes:
    """The models, and what follows what they saw."""

    seen: Mapping[ObjectKind, Watched]
    detectors: Mapping[ObjectKind, Detector]
    least_scores: Mapping[ObjectKind, float]
    follower: Follower

    def show(self, frame: ShownFrame) -> None:
        """The next frame."""
        self.follower.show(frame.luma(LUMA_WIDTH_PX))
        for one in self.seen.values():
            one.frames.append(None)

    def look(self, frame: ShownFrame, *, whole: bool) -> None:
        """Look at the frame shown last, at all of it or where something is followed."""
        parts = {kind: None if whole else one.around(*frame.size_px) for kind, one in self.seen.items()}
        wanted = [kind for kind, part in parts.items() if whole or part is not None]
        if not wanted:
            return
        picture = frame.picture()
        for kind in wanted:
            one = self.seen[kind]
            found = tuple(self.detectors[kind].find(picture, min_score=self.least_scores[kind], within=parts[kind]))
            one.frames[-1] = found
            one.paths[len(one.frames) - 1] = self.follower.saw(_boxes(found), width_px=frame.size_px[0])


def _boxes(found: Sequence[Detection]) -> Boxes:
    return np.asarray([(one.x_px, one.y_px, one.width_px, one.height_px) for one in found], np.float64) if found else no_boxes()
