"""What a track says of its clip: where it began, the way, and how fast. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Final

from curation.records import Fix, Telemetry, Track, TrackPoint
from curation.telemetry.fixes import distance_m
from curation.telemetry.reading import Reading

KEPT_EVERY_S: Final = 1.0
KEPT_EVERY_M: Final = 5.0  # less than the 8 m that GPS promises at 95 % (SPS Performance Standard 2020)
_APART_M: Final = 20_000.0  # farther than a datum (700 m) or a city's name for a clip explains; what provinces are told apart by
_WAYPOINT_M: Final = 5_000.0  # a quarter of what a province is told apart by, so that no province is passed between two
_STEP_M: Final = 10.0  # steps that count as way: a parked receiver wanders by less


def reading_of(track: Track) -> Reading:
    """The telemetry of a track, and its counts with the track's source before each reason."""
    counts: Counter[str] = Counter()
    for reason, count in (*track.disbelieved.items(), *track.malformed.items()):
        counts[f"{track.source}: {reason}"] += count
    return Reading(telemetry=telemetry_of(track), malformed=dict(counts))


def telemetry_of(track: Track) -> Telemetry:
    """The first fix with the track's datum and error, the way as far as there is more than one place, the speeds, and the time.

    The mean speed is that of the receiver or the vehicle; where neither gave one, the way in steps of at least 10 m over the time that it
    took. The highest speed is only ever a given one.
    """
    clock = None if track.began_at is None else f"{track.clock or track.source} ({track.zone or 'zone unknown'})"
    if not track.fixes:
        return Telemetry(captured_at=track.began_at, captured_at_source=clock)
    first = track.fixes[0]
    speeds_mps = [fix.speed_mps for fix in track.fixes if fix.speed_mps is not None]
    points = tuple(_points(track.fixes))
    return Telemetry(
        captured_at=track.began_at,
        captured_at_source=clock,
        latitude_deg=first.latitude_deg,
        longitude_deg=first.longitude_deg,
        datum=track.datum,
        gnss_error_m=track.gnss_error_m,
        track=points if len(points) > 1 else None,
        speed_mean_mps=fmean(speeds_mps) if speeds_mps else _mean_speed_mps(track.fixes),
        speed_max_mps=max(speeds_mps, default=None),
    )


def is_far_from_track(telemetry: Telemetry) -> bool:
    """Whether the fix lies over 20 km from every point of the track, so that one of the two is wrong or another vehicle's."""
    return bool(telemetry.track) and _is_far(telemetry, telemetry.track or ())


def lie_apart(one: Telemetry, other: Telemetry) -> bool:
    """Whether the fix of each lies over 20 km from every place that the other tells, so that one of them is wrong or another vehicle's."""
    return _is_far(one, [*_fix(other), *(other.track or ())]) and _is_far(other, [*_fix(one), *(one.track or ())])


def _is_far(telemetry: Telemetry, points: Sequence[TrackPoint]) -> bool:
    return bool(points) and any(all(distance_m(fix, point) > _APART_M for point in points) for fix in _fix(telemetry))


def _fix(telemetry: Telemetry) -> Iterator[TrackPoint]:
    if telemetry.latitude_deg is not None and telemetry.longitude_deg is not None:
        yield TrackPoint(offset_s=0.0, latitude_deg=telemetry.latitude_deg, longitude_deg=telemetry.longitude_deg)


def waypoints(telemetry: Telemetry) -> Iterator[TrackPoint]:
    """The fix and the track, thinned: each place left out lies less than 5 km from the one kept before it, and the last is kept."""
    kept: TrackPoint | None = None
    left_out: TrackPoint | None = None
    for point in (*_fix(telemetry), *(telemetry.track or ())):
        if kept is None or distance_m(kept, point) >= _WAYPOINT_M:
            yield point
            kept, left_out = point, None
        else:
            left_out = point
    if left_out is not None:
        yield left_out


def _points(fixes: Iterable[Fix]) -> Iterator[TrackPoint]:
    """The fixes, thinned: each one left out lies less than 1 s and less than 5 m from the one kept before it, and the last is kept."""
    kept: Fix | None = None
    left_out: Fix | None = None
    for fix in fixes:
        if kept is None or fix.offset_s - kept.offset_s >= KEPT_EVERY_S or distance_m(kept, fix) >= KEPT_EVERY_M:
            yield _point(fix)
            kept, left_out = fix, None
        else:
            left_out = fix
    if left_out is not None:
        yield _point(left_out)


def _point(fix: Fix) -> TrackPoint:
    return TrackPoint(offset_s=fix.offset_s, latitude_deg=fix.latitude_deg, longitude_deg=fix.longitude_deg)


def _mean_speed_mps(fixes: tuple[Fix, ...]) -> float | None:
    length_s = fixes[-1].offset_s - fixes[0].offset_s
    if not length_s >= 1.0:  # over less than a second the receiver's noise is larger than the way
        return None
    anchor, way_m = fixes[0], 0.0
    for fix in fixes:
        step_m = distance_m(anchor, fix)
        if step_m >= _STEP_M:
            anchor, way_m = fix, way_m + step_m
    return way_m / length_s
