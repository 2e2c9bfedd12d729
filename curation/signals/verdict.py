"""From measured signals and thresholds to a verdict with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from curation.choices import Depth
from curation.settings import Thresholds

REASONS: Final = (
    "too_short",
    "too_small",
    "blurred",
    "low_contrast",
    "black",
    "frozen",
    "noisy",
    "over_exposed",
    "under_exposed",
    "blocky",
    "starved",
    "covered",
    "test_pattern",
    "scene_cut",
    "dropped_frames",
    "disordered_frames",
    "variable_rate",
    "truncated",
    "decode_errors",
    "duration_mismatch",
)

# What tells from the packets alone; all other reasons need pictures.
TIMELINE_REASONS: Final = frozenset(
    {"too_short", "too_small", "dropped_frames", "disordered_frames", "variable_rate", "truncated", "duration_mismatch"}
)

# Without these nothing says that the clip is good. A container that promises no duration (cut off recordings in Matroska
# or MPEG-TS) breaks no promise, so duration_mismatch_s is judged only where it was measured.
NEEDED_OF_PACKETS: Final = ("duration_s", "fps", "frame_count", "dropped_frame_count")
NEEDED_OF_PICTURES: Final = ("sharpness", "contrast", "noise_sigma", "black_ratio", "frozen_ratio")
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "packets": NEEDED_OF_PACKETS,
    "keyframes": (*NEEDED_OF_PACKETS, *NEEDED_OF_PICTURES),
    "full": (*NEEDED_OF_PACKETS, *NEEDED_OF_PICTURES, "decode_error_count"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict; `unmeasured` names what kept the clip from being judged."""

    verdict: str
    reasons: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()


def reasons(measured: Mapping[str, float], limits: Thresholds) -> tuple[str, ...]:
    """Names from `REASONS` of all thresholds that a measured value breaks; what was not measured breaks none.

    Args:
        measured: values of `schema.SIGNALS`, and duration_s, fps, frame_count and side_px (the shorter side) of the clip. A
            NaN breaks its threshold.
        limits: the thresholds of the clip's camera.
    """
    frames = measured.get("frame_count")
    dropped = measured.get("dropped_frame_count")
    errors = measured.get("decode_error_count")
    dropped_ratio = dropped / (frames + dropped) if frames and dropped is not None else None
    error_ratio = errors / frames if frames and errors is not None else None
    disordered = [measured[name] for name in ("duplicate_pts_count", "backward_frame_count") if name in measured]
    moves = measured.get("motion_px", 0.0) >= limits.starved_motion_px
    checks = {
        "over_exposed": _at_most(measured.get("bright_ratio"), limits.max_bright_ratio),
        "under_exposed": _at_least(measured.get("peak_brightness"), limits.min_peak_brightness),
        "blocky": _at_most(measured.get("blockiness"), limits.max_blockiness),
        "starved": not moves or _at_least(measured.get("bits_per_pixel"), limits.min_bits_per_pixel),
        "covered": _at_most(measured.get("soiled_ratio"), limits.max_soiled_ratio),
        "test_pattern": _at_most(measured.get("test_pattern_ratio"), limits.max_test_pattern_ratio),
        "scene_cut": _at_most(measured.get("scene_cut_count"), limits.max_scene_cut_count),
        "disordered_frames": _at_most(sum(disordered), limits.max_disordered_count),
        "truncated": _at_most(measured.get("missing_byte_count"), limits.max_missing_byte_count),
        "too_small": _at_least(measured.get("side_px"), limits.min_side_px),
        "too_short": _at_least(measured.get("duration_s"), limits.min_duration_s),
        "blurred": _at_least(measured.get("sharpness"), limits.min_sharpness),
        "low_contrast": _at_least(measured.get("contrast"), limits.min_contrast),
        "black": _at_most(measured.get("black_ratio"), limits.max_black_ratio),
        "frozen": _at_most(measured.get("frozen_ratio"), limits.max_frozen_ratio),
        "noisy": _at_most(measured.get("noise_sigma"), limits.max_noise_sigma)
        and _at_most(measured.get("noise_floor_sigma"), limits.max_noise_floor_sigma),
        "variable_rate": _at_most(measured.get("frame_step_ratio"), limits.max_frame_step_ratio),
        "dropped_frames": _at_most(dropped_ratio, limits.max_dropped_ratio),
        "decode_errors": _at_most(error_ratio, limits.max_decode_error_ratio),
        "duration_mismatch": _at_most(measured.get("duration_mismatch_s"), limits.max_duration_mismatch_s),
    }
    explained: set[str] = set()
    if measured.get("black_ratio", 0.0) > 0.5:  # then the median frame is black, and says nothing of the lens
        explained |= {"blurred", "low_contrast", "under_exposed"}
    if not checks["too_small"]:  # blown up to the working width it has no sharp edge
        explained.add("blurred")
    if not checks["test_pattern"]:  # its bars are blocks
        explained.add("blocky")
    if not checks["over_exposed"]:  # what is blown out is flat
        explained.add("covered")
    return tuple(name for name in REASONS if not checks[name] and name not in explained)


def judge(measured: Mapping[str, float], limits: Thresholds, *, depth: Depth) -> Judgement:
    """`rejected` if a measured value falls short, else `quarantined` if one that the depth needs is unmeasured, else `accepted`."""
    short = reasons(measured, limits)
    if short:
        return Judgement(verdict="rejected", reasons=short)
    missing = tuple(name for name in NEEDED[depth] if name not in measured)
    if missing:
        return Judgement(verdict="quarantined", unmeasured=missing)
    return Judgement(verdict="accepted")


def _at_least(value: float | None, limit: float) -> bool:
    return value is None or value >= limit


def _at_most(value: float | None, limit: float) -> bool:
    return value is None or value <= limit
