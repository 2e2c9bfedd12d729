"""Verdicts from numbers alone."""

from __future__ import annotations

import math

import pytest

from curation.settings import Thresholds
from curation.signals.verdict import NEEDED, REASONS, judge, reasons

LIMITS = Thresholds()
GOOD = {
    "duration_s": 10.0,
    "fps": 25.0,
    "frame_count": 250,
    "sharpness": 150.0,
    "contrast": 0.5,
    "noise_sigma": 1.0,
    "black_ratio": 0.0,
    "frozen_ratio": 0.0,
    "dropped_frame_count": 0,
    "decode_error_count": 0,
    "duration_mismatch_s": 0.0,
}
FAULTS = {
    "too_short": {"duration_s": 0.4},
    "too_small": {"side_px": 36.0, "sharpness": 1.5},
    "blurred": {"sharpness": 1.5},
    "low_contrast": {"contrast": 0.01},
    "black": {"black_ratio": 0.25},
    "frozen": {"frozen_ratio": 0.3},
    "noisy": {"noise_sigma": 25.0},
    "dropped_frames": {"dropped_frame_count": 75},
    "decode_errors": {"decode_error_count": 3},
    "duration_mismatch": {"duration_mismatch_s": 3.0},
    "over_exposed": {"bright_ratio": 0.9},
    "under_exposed": {"peak_brightness": 0.2},
    "blocky": {"blockiness": 0.6},
    "starved": {"bits_per_pixel": 0.003, "motion_px": 1.0},
    "covered": {"soiled_ratio": 0.75},
    "test_pattern": {"test_pattern_ratio": 1.0, "blockiness": 1.0},
    "scene_cut": {"scene_cut_count": 1},
    "disordered_frames": {"duplicate_pts_count": 1, "backward_frame_count": 1},
    "variable_rate": {"frame_step_ratio": 5.0},
    "truncated": {"missing_byte_count": 1},
}


def test_a_good_clip_is_accepted_without_reasons():
    """Every needed signal measured and within its threshold: accepted."""
    judgement = judge(GOOD, LIMITS, depth="full")
    assert (judgement.verdict, judgement.reasons, judgement.unmeasured) == ("accepted", (), ())


def test_every_reason_has_a_fault_that_shows_it():
    """The vocabulary is closed: the table of faults names each reason once."""
    assert set(REASONS) == set(FAULTS)


@pytest.mark.parametrize("reason", REASONS)
def test_each_threshold_rejects_for_its_own_reason_alone(reason: str):
    """One number that falls short rejects the clip with exactly that reason."""
    judgement = judge({**GOOD, **FAULTS[reason]}, LIMITS, depth="full")
    assert (judgement.verdict, judgement.reasons) == ("rejected", (reason,))


@pytest.mark.parametrize("missing", NEEDED["full"])
def test_an_unmeasured_needed_signal_is_neither_good_nor_bad(missing: str):
    """A clip that lacks a needed signal is quarantined by its name: not rejected as if it measured 0, not accepted either."""
    judgement = judge({name: value for name, value in GOOD.items() if name != missing}, LIMITS, depth="full")
    assert (judgement.verdict, judgement.reasons) == ("quarantined", ())
    assert missing in judgement.unmeasured


def test_a_measured_fault_outweighs_an_unmeasured_signal():
    """One frame is too short whatever else could not be measured on it."""
    measured = {"duration_s": 0.04, "frame_count": 1, "sharpness": 150.0}
    assert judge(measured, LIMITS, depth="full").reasons == ("too_short",)


def test_a_container_without_duration_can_be_accepted():
    """Where the header promises no duration, no promise is broken."""
    measured = {name: value for name, value in GOOD.items() if name != "duration_mismatch_s"}
    assert judge(measured, LIMITS, depth="full").verdict == "accepted"


def test_a_value_that_is_no_number_breaks_its_threshold():
    """NaN never passes."""
    assert reasons({**GOOD, "sharpness": math.nan, "noise_sigma": math.nan}, LIMITS) == ("blurred", "noisy")


def test_a_black_clip_is_not_called_blurred():
    """With most frames black the median frame says nothing of the lens; with few, it does."""
    flat = {**GOOD, "sharpness": 0.0, "contrast": 0.0}
    found = [reasons({**flat, "black_ratio": share}, LIMITS) for share in (1.0, 0.2)]
    assert found == [("black",), ("blurred", "low_contrast", "black")]
