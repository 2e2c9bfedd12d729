"""How far the picture moves from one frame to the next, and how much of that is no movement of the camera as a whole."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.signals.picture import Picture

WIDTH_PX: Final = 320
HEIGHT_MAX_PX: Final = 1280  # a picture of 2 x 2000 px must not grow to 320 x 320,000
SIDE_MIN_PX: Final = 16  # below this the flow has no patch to follow
_GRID_PX: Final = 8  # every eighth vector each way settles six numbers well enough
Flow = npt.NDArray[np.float32]


def at_motion_width(luma: Picture) -> Picture:
    """The luma scaled to 320 px width, height in proportion, or to 1280 px height where that is less."""
    scale = min(WIDTH_PX / luma.shape[1], HEIGHT_MAX_PX / luma.shape[0])
    width, height = max(SIDE_MIN_PX, round(luma.shape[1] * scale)), max(SIDE_MIN_PX, round(luma.shape[0] * scale))
    return np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def flow_between(earlier: Picture, later: Picture) -> Flow:
    """Optical flow in px, height x width x 2, between two lumas of the motion width.

    Dense inverse search (Kroeger et al., ECCV 2016), OpenCV's "fast" preset: an eighth of Farneback's time at these sizes.
    """
    return np.asarray(_searcher().calc(earlier, later, None), dtype=np.float32)


def motion_px(flow: Flow) -> float:
    """Mean length of the flow in px, >= 0.

    Flow sees little where the picture is dark, wet or flat: it is near 0 on a night drive, so that a low value is no proof
    of standing.
    """
    across, down = cv2.split(flow)
    return float(np.sqrt(across * across + down * down).mean(dtype=np.float64))  # cv2.magnitude rounds by where its arrays happen to lie


def shake_px(flow: Flow) -> float:
    """Root mean square in px, >= 0, of what the best affine movement of the whole picture leaves of the flow."""
    sparse = flow[_GRID_PX // 2 :: _GRID_PX, _GRID_PX // 2 :: _GRID_PX].reshape(-1, 2).astype(np.float64)
    affine = _affine_movements(flow.shape[0], flow.shape[1])
    return float(np.sqrt(((sparse - affine @ (affine.T @ sparse)) ** 2).sum(axis=1).mean()))


@lru_cache(maxsize=16)
def _affine_movements(height: int, width: int) -> npt.NDArray[np.float64]:
    """Orthonormal columns that span what one coordinate of an affine movement can be on the grid."""
    rows, columns = np.mgrid[_GRID_PX // 2 : height : _GRID_PX, _GRID_PX // 2 : width : _GRID_PX]
    return np.linalg.qr(np.column_stack([np.ones(rows.size), columns.ravel(), rows.ravel()]))[0]


@cache
def _searcher() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
