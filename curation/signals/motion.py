"""How far the picture moves from one frame to the next."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from curation.signals.picture import Picture

WIDTH_PX: Final = 320


def at_motion_width(luma: Picture) -> Picture:
    """The luma scaled to 320 px width, height in proportion."""
    height = max(1, round(luma.shape[0] * WIDTH_PX / luma.shape[1]))
    return np.asarray(cv2.resize(luma, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def motion_px(earlier: Picture, later: Picture) -> float:
    """Mean length of the optical flow in px, >= 0, between two lumas of 320 px width.

    Farneback with the published parameters (.5, 3, 15, 3, 5, 1.2). Flow sees little where the picture is dark, wet or
    flat: it is near 0 on a night drive, so that a low value is no proof of standing.
    """
    flow = cv2.calcOpticalFlowFarneback(earlier, later, np.zeros((*later.shape, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0)
    return float(np.linalg.norm(flow, axis=2).mean())
