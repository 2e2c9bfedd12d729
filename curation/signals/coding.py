"""What coding did to the pictures: blocks, starved bits; and pictures that no camera took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.records import Packet
from curation.signals.picture import Picture

_WINDOW: Final = 25  # columns or rows looked at together: more than one block of 24, the largest that ffmpeg's blockdetect searches
_STEP_MIN: Final = 0.05  # luma; a window below it is flat, and flatness has no blocks
_FLAT_STEP_MAX: Final = 2  # luma; between neighbours inside a bar of a test picture, after coding
_BAR_FLAT_SHARE: Final = 0.93  # SMPTE bars have 0.96
_BAR_SHARE: Final = 0.015  # of the picture that one bar's colour covers
_BAR_COLOURS_MIN: Final = 5
_BAR_SATURATION: Final = 120


def blockiness(luma: Picture) -> float:
    """How much the steps between neighbouring pixels gather on few columns and rows, in [0, 1]: 0 for none, 1 for a mosaic.

    In each window of 25, one less the median step over the mean one: lines of blocks stand out of their neighbours whatever the
    blocks' size and place, natural edges do not once averaged over the other side of the picture. The lesser of the two directions.
    """
    across = cv2.reduce(cv2.absdiff(luma[:, 1:], luma[:, :-1]), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    down = cv2.reduce(cv2.absdiff(luma[1:], luma[:-1]), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    return min(_gathered(across), _gathered(down))


def _gathered(steps: npt.NDArray[Any]) -> float:
    count = len(steps) // _WINDOW
    if not count:
        return 0.0
    windows = steps[: count * _WINDOW].reshape(count, _WINDOW)
    means = windows.mean(axis=1)
    seen = means > _STEP_MIN
    if not seen.any():
        return 0.0
    return float(np.clip(1.0 - np.median(windows[seen], axis=1) / means[seen], 0.0, 1.0).mean())


def bits_per_pixel(packets: Sequence[Packet], width_px: int, height_px: int) -> float | None:
    """Bits of the video packets over all pixels that they stand for, > 0; None without packets."""
    return sum(packet.size_bytes for packet in packets) * 8 / (len(packets) * width_px * height_px) if packets else None


def is_test_pattern(bgr: Picture) -> bool:
    """Whether the picture is made of flat areas alone, five or more of them in full, distinct colours: bars, not a view."""
    small = cv2.resize(bgr, (160, 90), interpolation=cv2.INTER_NEAREST)
    luma = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    across, down = cv2.absdiff(luma[:, 1:], luma[:, :-1]), cv2.absdiff(luma[1:], luma[:-1])
    flat = (np.count_nonzero(across <= _FLAT_STEP_MAX) + np.count_nonzero(down <= _FLAT_STEP_MAX)) / (across.size + down.size)
    if flat < _BAR_FLAT_SHARE:
        return False
    hsv = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
    strong = hsv[(hsv[..., 1] >= _BAR_SATURATION) & (hsv[..., 2] >= _BAR_SATURATION)]
    hues = np.bincount(strong[:, 0] // 15, minlength=12)
    return bool(np.count_nonzero(hues >= _BAR_SHARE * luma.size) >= _BAR_COLOURS_MIN)
