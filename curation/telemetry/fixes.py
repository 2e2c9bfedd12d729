"""Which positions of a receiver are believed. What is not believed is counted under its reason. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from curation.records import Fix, TrackPoint
from curation.telemetry.reading import SPEED_MAX_MPS, is_of_a_clock

# What a receiver says of a fix, from least to most; `autonomous` is a fix whose dimension is not told.
QUALITIES: Final = ("unknown", "estimated", "autonomous", "2d", "3d", "differential", "rtk")
NO_FIX: Final = "none"  # the receiver itself says that it has no fix
SIMULATED: Final = "simulated"

REASONS: Final = ("no fix", "simulated", "no position", "off the globe", "0/0", "clock", "no time", "jump")
FIXES_MAX: Final = 100_000  # 1.5 hours at the 18 a second of a GoPro; a clip has a hundredth of it

_ZERO_DEG: Final = 1e-3  # 110 m around 0/0 lies open sea
_OFFSET_MAX_S: Final = 1e9  # 32 years
_JITTER_M: Final = 100.0  # two readings of one place differ by less, with a fix that is worth anything
_CHAINS_MAX: Final = 16
_EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius, IUGG


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A position as the file has it, not yet believed. None is what the file does not say; `quality` may be `none` or `simulated`."""

    offset_s: float | None
    at: datetime | None = None
    latitude_deg: float | None
    longitude_deg: float | None
    speed_mps: float | None = None
    quality: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """The fixes believed, in time, and counts by reason of the positions, and of the speeds, that are not."""

    fixes: tuple[Fix, ...]
    disbelieved: dict[str, int]
    malformed: dict[str, int]


def believe(seen: Sequence[Seen], *, from_first: bool = False) -> Belief:
    """Every position of `seen` is a fix, or disbelieved for one of `REASONS`.

    Offsets are counted from the first fix if `from_first`, or where that one lies before the clip's start.

    Where positions contradict each other, because no vehicle gets from one to the next in time (or time runs back), those that agree with
    more than half are believed; without such a majority, none.
    """
    disbelieved: Counter[str] = Counter()
    malformed: Counter[str] = Counter()
    plausible: list[Fix] = []
    for one in seen:
        reason = _reason(one)
        if reason is not None:
            disbelieved[reason] += 1
            continue
        speed_mps = one.speed_mps if one.speed_mps is not None and 0.0 <= one.speed_mps <= SPEED_MAX_MPS else None
        malformed["speed"] += one.speed_mps is not None and speed_mps is None
        plausible.append(_fix(one, speed_mps))
    fixes = _without_jumps(plausible)
    disbelieved["jump"] += len(plausible) - len(fixes)
    if fixes and (from_first or fixes[0].offset_s < 0.0):
        fixes = [dataclasses.replace(fix, offset_s=fix.offset_s - fixes[0].offset_s) for fix in fixes]
    return Belief(fixes=tuple(fixes), disbelieved=dict(+disbelieved), malformed=dict(+malformed))


def timed(seen: Sequence[Seen]) -> list[Seen]:
    """The positions with `offset_s` counted from the first believable time among them; those without a time get none."""
    start = next((one.at for one in seen if one.at is not None and is_of_a_clock(one.at)), None)
    return [
        dataclasses.replace(one, offset_s=(one.at - start).total_seconds() if one.at is not None and start is not None else None)
        for one in seen
    ]


def utc(at: datetime) -> datetime | None:
    """The time in UTC, a time without a zone being UTC; None for one that leaves the calendar."""
    try:
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return None


def distance_m(one: Fix | TrackPoint, other: Fix | TrackPoint) -> float:
    """Great-circle distance in metres."""
    south, north = math.radians(one.latitude_deg), math.radians(other.latitude_deg)
    east = math.radians(other.longitude_deg - one.longitude_deg)
    half = math.sin((north - south) / 2.0) ** 2 + math.cos(south) * math.cos(north) * math.sin(east / 2.0) ** 2
    return 2.0 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def _reason(one: Seen) -> str | None:
    """The first thing that speaks against the position, judged by itself; None if nothing does."""
    latitude_deg = math.nan if one.latitude_deg is None else one.latitude_deg
    longitude_deg = math.nan if one.longitude_deg is None else one.longitude_deg
    against = {
        "no fix": one.quality == NO_FIX,
        "simulated": one.quality == SIMULATED,
        "no position": math.isnan(latitude_deg) or math.isnan(longitude_deg),
        "off the globe": not (abs(latitude_deg) <= 90.0 and abs(longitude_deg) <= 180.0),
        "0/0": abs(latitude_deg) < _ZERO_DEG and abs(longitude_deg) < _ZERO_DEG,
        "clock": one.at is not None and not is_of_a_clock(one.at),
        "no time": one.offset_s is None or not abs(one.offset_s) <= _OFFSET_MAX_S,
    }
    return next((reason for reason, hit in against.items() if hit), None)


def _fix(one: Seen, speed_mps: float | None) -> Fix:
    """The position as a fix; `_reason` found nothing against it."""
    if one.offset_s is None or one.latitude_deg is None or one.longitude_deg is None:
        raise TypeError("a position without place or time is no fix")
    return Fix(
        offset_s=one.offset_s,
        at=one.at,
        latitude_deg=one.latitude_deg,
        longitude_deg=one.longitude_deg,
        speed_mps=speed_mps,
        quality=one.quality if one.quality in QUALITIES else "unknown",
    )


def _without_jumps(fixes: list[Fix]) -> list[Fix]:
    """The fixes of the largest group within which each can be reached from the one before, if it holds more than half of all."""
    chains: list[list[Fix]] = []
    for fix in fixes:
        chain = next((chain for chain in chains if _reaches(chain[-1], fix)), None)
        if chain is not None:
            chain.append(fix)
        elif len(chains) < _CHAINS_MAX:
            chains.append([fix])
    longest = max(chains, key=len, default=[])
    return longest if 2 * len(longest) > len(fixes) else []


def _reaches(before: Fix, after: Fix) -> bool:
    step_s = after.offset_s - before.offset_s
    return step_s >= 0.0 and distance_m(before, after) <= _JITTER_M + SPEED_MAX_MPS * step_s
