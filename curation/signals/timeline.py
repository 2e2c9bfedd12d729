"""What a clip's packets say of its time: length, rate, gaps, doubled times. Packet lists in, numbers out.

Packets that the container tells the player to discard (edit lists) are no part of the timeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from curation.records import Packet

GAP_FACTOR: Final = 1.5  # a step over this many nominal frame times is a gap; no published value
NOMINAL_STEPS: Final = 31  # about a second at 30 fps: short enough to follow a variable rate, long enough to stand over a gap
SPAN_MAX_S: Final = 86_400.0  # no recorder writes a day into one file; damaged or forged times claim centuries
FPS_MAX: Final = 240.0  # what action cameras offer for slow motion; two packets a clock tick apart claim 90,000
_SAME_TIME_S: Final = 1e-6  # container clocks tick no finer than this


def span_s(packets: Sequence[Packet]) -> float | None:
    """Seconds from the first presentation time to the end of the last frame, in [0, 1 day]; None where `why_unmeasured` says so."""
    times = _times(packets)
    if not times:
        return None
    last = _last_frame_s(packets, times)
    return None if last is None else times[-1] - times[0] + last


def fps(packets: Sequence[Packet]) -> float | None:
    """Mean frames per second over the span, in (0, 240]; None where `why_unmeasured` says so."""
    length = span_s(packets)
    rate = len(_times(packets)) / length if length else None
    return rate if rate is not None and rate <= FPS_MAX else None


def gap_count(packets: Sequence[Packet]) -> int | None:
    """Steps of over 1.5 nominal frame times; None with fewer than two presentation times."""
    missing = _missing(packets)
    return None if missing is None else sum(1 for count in missing if count)


def dropped_frame_count(packets: Sequence[Packet]) -> int | None:
    """Frames that would have filled the gaps, each gap rounded; None with fewer than two presentation times."""
    missing = _missing(packets)
    return None if missing is None else sum(missing)


def duplicate_pts_count(packets: Sequence[Packet]) -> int | None:
    """Packets whose presentation time an earlier packet already has; None where no packet carries a time."""
    times = _times(packets)
    return sum(1 for step in _steps(times) if step <= _SAME_TIME_S) if times else None


def backward_frame_count(packets: Sequence[Packet]) -> int | None:
    """Packets due at the decoder before the one that precedes them, which no sound stream holds; None where no packet carries that time."""
    times = [packet.dts_s for packet in packets if packet.dts_s is not None]
    return sum(1 for earlier, later in pairwise(times) if later < earlier - _SAME_TIME_S) if times else None


def start_offset_s(packets: Sequence[Packet]) -> float | None:
    """Presentation time of the first frame in seconds of the container's clock; None where no packet carries a time."""
    times = _times(packets)
    return times[0] if times else None


def frame_step_ratio(packets: Sequence[Packet]) -> float | None:
    """90th over 10th percentile of the steps between frames, >= 1: 1 for a constant rate; None with fewer than two distinct times."""
    steps = sorted(step for step in _steps(_times(packets)) if step > _SAME_TIME_S)
    if not steps:
        return None
    return round(steps[min(len(steps) - 1, int(0.9 * len(steps)))] / steps[int(0.1 * len(steps))], 6)


def duration_mismatch_s(container_duration_s: float | None, packets: Sequence[Packet]) -> float | None:
    """|container duration - span| in seconds; None where either is unknown."""
    length = span_s(packets)
    return None if container_duration_s is None or length is None else abs(container_duration_s - length)


def why_unmeasured(packets: Sequence[Packet]) -> str:
    """Why a number of this timeline is None."""
    times = _said_times(packets)
    if not times:
        return "the packets carry no presentation times"
    if times[-1] - times[0] > SPAN_MAX_S:
        return "the packets claim to span more than a day"
    if times[-1] - times[0] <= _SAME_TIME_S:
        return "the packets carry fewer than two distinct presentation times"
    return f"the packets claim more than {FPS_MAX:g} frames per second"


def _said_times(packets: Sequence[Packet]) -> list[float]:
    return sorted(packet.pts_s for packet in packets if packet.pts_s is not None and not packet.is_discarded)


def _times(packets: Sequence[Packet]) -> list[float]:
    times = _said_times(packets)
    return times if times and times[-1] - times[0] <= SPAN_MAX_S else []


def _steps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _last_frame_s(packets: Sequence[Packet], times: Sequence[float]) -> float | None:
    steps = [step for step in _steps(times) if step > _SAME_TIME_S]
    if steps:
        return median(steps[-NOMINAL_STEPS:])
    said = [packet.duration_s for packet in packets if packet.duration_s]
    return said[-1] if said else None


def _missing(packets: Sequence[Packet]) -> list[int] | None:
    """Frames missing in each step; the nominal frame time is the median of the steps around it, so that a rate may vary."""
    times = _times(packets)
    if len(times) < 2:
        return None
    steps = np.array([step for step in _steps(times) if step > _SAME_TIME_S])
    if not steps.size:
        return []
    nominal = _rolling_median(steps, NOMINAL_STEPS // 2)
    shorter_neighbour = np.minimum(np.append(np.inf, steps[:-1]), np.append(steps[1:], np.inf))
    in_full = steps - np.maximum(0.0, nominal - shorter_neighbour)  # a frame that is only late shortens the next step
    missing = np.where(in_full > GAP_FACTOR * nominal, np.rint(in_full / nominal) - 1, 0)
    return [int(count) for count in missing]


def _rolling_median(values: npt.NDArray[np.float64], half: int) -> npt.NDArray[np.float64]:
    """The median of each value and up to `half` on either side of it, fewer at the ends."""
    endless = np.full(half, np.inf)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(np.concatenate([endless, values, endless]), 2 * half + 1), axis=1)
    places = np.arange(values.size)
    counts = np.minimum(places, half) + np.minimum(values.size - 1 - places, half) + 1
    return np.asarray((windows[places, (counts - 1) // 2] + windows[places, counts // 2]) / 2.0, dtype=np.float64)
