"""Time of day from pictures alone: BDD100K's values, `undefined` wherever light and colour do not settle it.

The limits were set on 18 labelled real clips and 13 labelled driving photos: night pictures had a median luma of at most
28, daylight ones of at least 58; lamp-lit scenes lean to red by 24 and more, daylight ones by at most 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2

from curation.signals.picture import Picture, dark_ratio, luma_of, percentiles

UNDEFINED: Final = "undefined"
_NIGHT_MEDIAN_MAX: Final = 36.0
_NIGHT_DARK_MIN: Final = 0.45
_DAY_MEDIAN_MIN: Final = 52.0
_DAY_SKY_MIN: Final = 100.0
_DAY_WARMTH_MAX: Final = 16.0
_DUSK_MEDIAN_MAX: Final = 80.0
_DUSK_SKY_MIN: Final = 45.0
_DUSK_HORIZON_WARMTH_MIN: Final = 18.0
_DIM_DAY_HORIZON_WARMTH_MAX: Final = 12.0  # a dim picture with a warmer horizon may be either
_AGREEMENT_MIN: Final = 0.6  # share of the frames that must name one value


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """How one picture is lit; all in 8-bit steps but `dark_ratio`."""

    median_luma: float
    ground_luma: float  # median of the lower half
    sky_luma: float  # median of the upper third
    sky_high_luma: float  # 90th percentile of the upper third
    dark_ratio: float
    warmth: float  # mean red - blue of the upper half
    horizon_warmth: float  # the same between a quarter and a half of the height


def light_of(bgr: Picture) -> Light:
    """How a height x width x 3 BGR picture is lit."""
    luma = luma_of(bgr)
    height = max(4, luma.shape[0])
    sky_luma, sky_high_luma = percentiles(luma[: height // 3], (0.5, 0.9))
    upper, horizon = bgr[: height // 2], bgr[height // 4 : height // 2]
    return Light(
        median_luma=percentiles(luma, (0.5,))[0],
        ground_luma=percentiles(luma[height // 2 :], (0.5,))[0] if luma.shape[0] > height // 2 else 0.0,
        sky_luma=sky_luma,
        sky_high_luma=sky_high_luma,
        dark_ratio=dark_ratio(luma),
        warmth=_red_minus_blue(upper),
        horizon_warmth=_red_minus_blue(horizon) if horizon.shape[0] else 0.0,
    )


def _red_minus_blue(bgr: Picture) -> float:
    blue, _, red, _ = cv2.mean(bgr)
    return float(red - blue)


def name_light(light: Light) -> tuple[str, float]:
    """BDD100K time of day of one picture, and a confidence in [0, 1] that grows with the distance from the limits."""
    if light.median_luma <= _NIGHT_MEDIAN_MAX and light.dark_ratio >= _NIGHT_DARK_MIN and light.sky_luma <= _NIGHT_MEDIAN_MAX:
        return "night", _sure(_NIGHT_MEDIAN_MAX - light.median_luma, 24.0)
    dim = light.median_luma <= _DUSK_MEDIAN_MAX
    glowing = light.horizon_warmth >= _DUSK_HORIZON_WARMTH_MIN and light.sky_luma >= max(_DUSK_SKY_MIN, 1.3 * light.ground_luma)
    if dim and glowing:
        return "dawn/dusk", min(0.7, _sure(light.horizon_warmth - _DUSK_HORIZON_WARMTH_MIN, 40.0))
    bright = light.median_luma >= _DAY_MEDIAN_MIN and light.sky_high_luma >= _DAY_SKY_MIN
    doubtful = dim and light.horizon_warmth > _DIM_DAY_HORIZON_WARMTH_MAX
    if bright and not doubtful and light.warmth <= _DAY_WARMTH_MAX:
        return "daytime", _sure(min(light.median_luma - _DAY_MEDIAN_MIN, _DAY_WARMTH_MAX - light.warmth), 40.0)
    return UNDEFINED, 0.0


def timeofday(frames: Sequence[Picture]) -> tuple[str, float]:
    """What at least 60 % of the BGR frames agree on, with the agreeing share times their mean confidence; else `undefined`, 0."""
    if not frames:
        return UNDEFINED, 0.0
    named = [name_light(light_of(frame)) for frame in frames]
    values = [value for value, _ in named]
    winner = max(sorted(set(values)), key=values.count)
    share = values.count(winner) / len(values)
    if winner == UNDEFINED or share < _AGREEMENT_MIN:
        return UNDEFINED, 0.0
    confidences = [confidence for value, confidence in named if value == winner]
    return winner, round(share * sum(confidences) / len(confidences), 4)


def _sure(distance: float, full: float) -> float:
    return 0.5 + 0.5 * min(1.0, max(0.0, distance / full))
