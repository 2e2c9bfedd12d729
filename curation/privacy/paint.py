"""Masks painted over a picture so that nothing of what was there is left in it."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import Boxes

GREY = 114  # neither black nor white, so that no edge of a mask rings far into the picture when it is coded
NO_COLOUR = 128  # of both colour planes


def upright(picture: npt.NDArray[np.uint8], quarter_turns: int) -> npt.NDArray[np.uint8]:
    """A picture as players show it, turned by quarters against the clock: models know no face that lies on its side."""
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns % 4 else picture


def painted(picture: npt.NDArray[np.uint8], masks: Boxes) -> npt.NDArray[np.uint8]:
    """A copy of a picture (height x width x 3) with every pixel that a mask touches one solid grey."""
    copy = picture.copy()
    for x, y, width, height in masks.tolist():
        copy[floor(y) : ceil(y + height), floor(x) : ceil(x + width)] = GREY
    return copy


def paint_planes(planes: npt.NDArray[np.uint8], masks: Boxes, height_px: int) -> None:
    """Paint over the planes of a YUV 4:2:0 picture, Y over U over V in 1.5 x height rows, in place.

    Luma 114 is this grey in limited as in full range; of the colours every sample goes that shares a pixel with a mask.
    """
    luma, colours = planes[:height_px], planes[height_px:].reshape(2, height_px // 2, -1)
    for x, y, width, height in masks.tolist():
        left, top, right, bottom = floor(x), floor(y), ceil(x + width), ceil(y + height)
        luma[top:bottom, left:right] = GREY
        colours[:, top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)] = NO_COLOUR
