"""Where what was seen in one frame lies in the frames before and after it, by dense optical flow over small grey pictures.

One flow a frame serves every box, however many there are: 2 ms for 320 x 180, where a look of a model takes 400 (CPU).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import Boxes

LUMA_WIDTH_PX: Final = 320  # of the grey pictures; steps of 12 px a frame in 1280 were found to within 2 px in 99.9 % of a picture
_INSIDE: Final = np.linspace(0.1, 0.9, 5)  # of a box's sides: where flow is read, and the median taken
_TURNS: Final = 3  # of the search for the point that a flow brought here: each halves what is off, at least, where flow is smooth

Luma = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]  # height x width x 2: pixels of the grey picture, across and down, to the next frame


@dataclass(slots=True)
class Paths:
    """Boxes of one frame followed: `after[i]` where they lie i + 1 frames later, `before[i]` as many frames earlier."""

    number: int
    before: list[Boxes] = field(default_factory=list)
    after: list[Boxes] = field(default_factory=list)

    def at(self, number: int, index: int) -> npt.NDArray[np.float64] | None:
        """The box of that index in that frame, None where it was not followed so far."""
        away = number - self.number
        steps = self.after if away > 0 else self.before
        return steps[abs(away) - 1][index] if 0 < abs(away) <= len(steps) else None


class Follower:
    """Is shown every frame of a clip in order, and follows what was seen in some of them for `reach_frames` both ways."""

    def __init__(self, reach_frames: int) -> None:
        self._reach_frames = reach_frames
        self._flows: deque[Flow] = deque(maxlen=max(reach_frames, 1))
        self._flowing: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]  # not in its stubs
        self._luma: Luma | None = None
        self._number = -1
        self._open: list[tuple[Paths, Boxes, float]] = []

    def show(self, luma: Luma) -> None:
        """The next frame, grey."""
        self._number += 1
        if self._luma is not None and luma.shape == self._luma.shape:
            self._flows.append(self._flowing.calc(self._luma, luma, None))
            self._open = [one for one in self._open if len(one[0].after) < self._reach_frames]
            for paths, boxes, zoom in self._open:
                paths.after.append(moved(paths.after[-1] if paths.after else boxes, self._flows[-1], zoom=zoom))
        self._luma = luma

    def saw(self, boxes: Boxes, *, width_px: int) -> Paths:
        """Where boxes of this frame, in pixels of a picture `width_px` wide, lay before; grows as further frames are shown."""
        paths = Paths(self._number)
        if self._luma is None or not len(boxes):
            return paths
        zoom = self._luma.shape[1] / width_px
        here = boxes
        for flow in reversed(self._flows):
            here = moved_back(here, flow, zoom=zoom)
            paths.before.append(here)
        self._open.append((paths, boxes, zoom))
        return paths


def moved(boxes: Boxes, flow: Flow, *, zoom: float) -> Boxes:
    """The boxes of a frame where the flow takes them, each by the median of what lies in it; `zoom`: grey pixels for each pixel."""
    step = np.median(_read(flow, _points(boxes, zoom)), axis=1) / zoom
    return np.hstack([boxes[:, :2] + step, boxes[:, 2:]])


def moved_back(boxes: Boxes, flow: Flow, *, zoom: float) -> Boxes:
    """The boxes of the frame after the flow where it took them from."""
    points = _points(boxes, zoom)
    came = points
    for _ in range(_TURNS):
        came = points - _read(flow, came)
    step = np.median(came - points, axis=1) / zoom
    return np.hstack([boxes[:, :2] + step, boxes[:, 2:]])


def _points(boxes: Boxes, zoom: float) -> npt.NDArray[np.float64]:
    """Points inside each box, in grey pixels: n x 25 x 2."""
    across = boxes[:, None, 0] + boxes[:, None, 2] * _INSIDE
    down = boxes[:, None, 1] + boxes[:, None, 3] * _INSIDE
    count = len(_INSIDE)
    return zoom * np.stack([np.tile(across, (1, count)), np.repeat(down, count, axis=1)], axis=2)


def _read(flow: Flow, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The flow at the points; that of the edge for those outside."""
    high, wide = flow.shape[:2]
    columns = np.clip(points[..., 0], 0, wide - 1).astype(np.intp)
    rows = np.clip(points[..., 1], 0, high - 1).astype(np.intp)
    return flow[rows, columns].astype(np.float64)


def hull(boxes: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The smallest box around boxes."""
    stacked = np.stack(list(boxes))
    low, high = stacked[:, :2].min(axis=0), (stacked[:, :2] + stacked[:, 2:]).max(axis=0)
    return np.concatenate([low, high - low])
