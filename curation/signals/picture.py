"""What one picture shows: sharpness, light, colour, noise; and whether two pictures differ. 8-bit arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

DARK_BELOW: Final = 32  # luma; as the schema has it
BRIGHT_ABOVE: Final = 235  # luma; the nominal white of limited-range video
BLACK_LUMA_MAX: Final = 32
BLACK_SHARE: Final = 0.999  # the darkest real night clip has 98 % of its pixels below 26, but its brightest 0.1 % reach 93
STILL_STEP_MAX: Final = 2  # luma; re-encoding a frozen picture moves pixels by so much
STILL_SHARE: Final = 1e-4  # of 18 real clips, standing cameras included, no run of frames stayed below this
SIGMA_MAX: Final = 127.5  # no 8-bit picture deviates by more; the estimate does, on a chequerboard
FROZEN_RUN_STEPS: Final = 5  # a camera of 12.5 or 15 fps written at 30 fps doubles frames, which is no freeze

_SIGMA_PER_RESPONSE: Final = math.sqrt(math.pi / 2.0) / 6.0
_PLAINLY_SHARE: Final = 0.005  # of a sample of pixels: five times what is_black lets pass, fifty times what differ asks for
_PLAIN_STEP: Final = 8  # luma; four times what differ asks for
_IMMERKAER: Final = np.array([1, -2, 1], dtype=np.float32)  # across and down


def luma_of(bgr: Picture) -> Picture:
    """Height x width luma (BT.601) of a height x width x 3 BGR picture."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def sharpness(luma: Picture) -> float:
    """Variance of the Laplacian, >= 0; depends on the picture's width, so compare at one width only."""
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    return float(cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2)


def brightness(luma: Picture) -> float:
    """Mean luma / 255, in [0, 1]."""
    return float(cv2.mean(luma)[0] / 255.0)


def contrast(luma: Picture) -> float:
    """(95th - 5th percentile of luma) / 255, in [0, 1]."""
    low, high = percentiles(luma, (0.05, 0.95))
    return (high - low) / 255.0


def dark_ratio(luma: Picture) -> float:
    """Share of pixels with luma below 32, in [0, 1]."""
    return _share(luma, DARK_BELOW - 1, cv2.THRESH_BINARY_INV)


def bright_ratio(luma: Picture) -> float:
    """Share of pixels with luma above 235, in [0, 1]."""
    return _share(luma, BRIGHT_ABOVE, cv2.THRESH_BINARY)


def peak_brightness(luma: Picture) -> float:
    """99.9th percentile of luma / 255, in [0, 1]: a lamp, a lane mark or the sky, whatever is brightest in a view."""
    return percentiles(luma, (0.999,))[0] / 255.0


def noise_sigma(luma: Picture) -> float:
    """Noise standard deviation in luma steps, in [0, 127.5], after Immerkaer (CVIU 64(2), 1996); fine texture counts as noise.

    A picture below 3 x 3 has no inner pixel and gives 0.
    """
    height, width = luma.shape
    if height < 3 or width < 3:
        return 0.0
    response = _fine_detail(luma)[1:-1, 1:-1]
    return float(min(SIGMA_MAX, cv2.norm(response, cv2.NORM_L1) / response.size * _SIGMA_PER_RESPONSE))


def noise_floor_sigma(luma: Picture) -> float:
    """The same noise in the flattest tenth of 16 x 9 tiles, in luma steps: texture does not reach it, noise does. 0 below 18 x 11 px."""
    height, width = luma.shape
    if height < 9 + 2 or width < 16 + 2:
        return 0.0
    return min(SIGMA_MAX, float(np.quantile(tile_means(np.abs(_fine_detail(luma)), columns=16, rows=9), 0.1)) * _SIGMA_PER_RESPONSE)


def saturation(bgr: Picture) -> float:
    """Mean HSV saturation / 255 of every second pixel each way, in [0, 1]: colour is coded no finer."""
    half = cv2.resize(bgr, ((bgr.shape[1] + 1) // 2, (bgr.shape[0] + 1) // 2), interpolation=cv2.INTER_NEAREST)
    return float(cv2.mean(cv2.cvtColor(half, cv2.COLOR_BGR2HSV))[1] / 255.0)


def percentiles(luma: Picture, shares: Sequence[float]) -> tuple[float, ...]:
    """For each share in (0, 1], the smallest luma that at least this share of the pixels does not exceed."""
    counts = cv2.calcHist([luma], [0], None, [256], [0, 256]).astype(np.float64).cumsum()
    return tuple(float(np.searchsorted(counts, share * luma.size)) for share in shares)


def tile_means(values: npt.NDArray[Any], *, columns: int, rows: int) -> npt.NDArray[np.float32]:
    """Means of a picture's tiles, rows x columns; its last pixels are repeated until the tiles are of one size, which costs a tenth."""
    height, width = values.shape
    whole = values.astype(np.float32)
    if height % rows or width % columns:
        whole = np.asarray(cv2.copyMakeBorder(whole, 0, -height % rows, 0, -width % columns, cv2.BORDER_REPLICATE), dtype=np.float32)
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)


def is_plainly_lit(glance: Picture) -> bool:
    """Whether so many pixels of every n-th are lighter than black, 1 in 200, that the picture cannot be black."""
    return _share(glance, BLACK_LUMA_MAX, cv2.THRESH_BINARY) >= _PLAINLY_SHARE


def is_black(luma: Picture) -> bool:
    """Whether at least 99.9 % of the pixels have luma 32 or less: no lamp, no lane, no reflection."""
    return _share(luma, BLACK_LUMA_MAX, cv2.THRESH_BINARY_INV) >= BLACK_SHARE


def plainly_differ(earlier: Picture, later: Picture) -> bool:
    """Whether so many pixels of every n-th moved so far, 1 in 200 by more than 8 luma steps, that the pictures cannot but differ."""
    if earlier.shape != later.shape:
        return True
    return _share(cv2.absdiff(earlier, later), _PLAIN_STEP, cv2.THRESH_BINARY) >= _PLAINLY_SHARE


def differ(earlier: Picture, later: Picture) -> bool:
    """Whether at least one in 10,000 pixels moved by more than 2 luma steps; pictures of unequal shape differ."""
    if earlier.shape != later.shape:
        return True
    moved = cv2.countNonZero(cv2.threshold(cv2.absdiff(earlier, later), STILL_STEP_MAX, 255, cv2.THRESH_BINARY)[1])
    return bool(moved >= STILL_SHARE * later.size)


def frozen_ratio(differing: Sequence[bool]) -> float:
    """Share of the steps between consecutive frames that belong to a run of 5 or more steps without a difference, in [0, 1].

    Raises:
        ValueError: there is no step to judge.
    """
    if not differing:
        raise ValueError("frozen_ratio needs two frames or more")
    runs = ((differs, sum(1 for _ in steps)) for differs, steps in groupby(differing))
    return sum(length for differs, length in runs if not differs and length >= FROZEN_RUN_STEPS) / len(differing)


def _fine_detail(luma: Picture) -> npt.NDArray[np.int16]:
    return np.asarray(cv2.sepFilter2D(luma, cv2.CV_16S, _IMMERKAER, _IMMERKAER), dtype=np.int16)


def _share(luma: Picture, limit: int, side: int) -> float:
    return float(cv2.countNonZero(cv2.threshold(luma, limit, 255, side)[1]) / luma.size)
