"""Masks painted over a picture so that nothing of what was there is left in it."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import Boxes

GREY = 114  # neither black nor white, so that no edge of a mask rings far into the picture when it is coded


def painted(picture: npt.NDArray[np.uint8], masks: Boxes) -> npt.NDArray[np.uint8]:
    """A copy of a picture (height x width x 3) with every pixel that a mask touches one solid grey."""
    copy = picture.copy()
    for x, y, width, height in masks.tolist():
        copy[floor(y) : ceil(y + height), floor(x) : ceil(x + width)] = GREY
    return copy
