"""What a track says of its clip, and how it joins what other files say."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ClipUnreadable
from curation.records import Fix, Telemetry, Track, TrackPoint
from curation.telemetry import beside
from curation.telemetry.fixes import distance_m
from curation.telemetry.merge import merge
from curation.telemetry.track import KEPT_EVERY_M, KEPT_EVERY_S, is_far_from_track, lie_apart, reading_of, telemetry_of, waypoints

AT = datetime(2026, 9, 1, tzinfo=UTC)


def _fix(offset_s: float, longitude_deg: float, speed_mps: float | None = None) -> Fix:
    return Fix(offset_s=offset_s, at=None, latitude_deg=31.0, longitude_deg=longitude_deg, speed_mps=speed_mps, quality="3d")


def _track(*fixes: Fix, **changed: object) -> Track:
    return Track(**({"source": "gpx", "fixes": fixes, "datum": "WGS-84", "seen_count": len(fixes)} | changed))


def test_a_track_gives_place_way_time_and_speeds() -> None:
    """The first fix is the clip's, the receiver's speeds count, the clock is named with its zone."""
    told = telemetry_of(_track(_fix(0.0, 121.0, 10.0), _fix(1.0, 121.001, 20.0), began_at=AT, clock="gpx", zone="UTC", gnss_error_m=4.0))
    assert told == Telemetry(
        captured_at=AT, captured_at_source="gpx (UTC)", latitude_deg=31.0, longitude_deg=121.0, datum="WGS-84", gnss_error_m=4.0,
        speed_mean_mps=15.0, speed_max_mps=20.0,
        track=(
            TrackPoint(offset_s=0.0, latitude_deg=31.0, longitude_deg=121.0),
            TrackPoint(offset_s=1.0, latitude_deg=31.0, longitude_deg=121.001),
        ),
    )  # fmt: skip


def test_one_place_is_no_way() -> None:
    """A single fix has no track, and nothing is said of speed."""
    told = telemetry_of(_track(_fix(0.0, 121.0)))
    assert (None, None, None) == (told.track, told.speed_mean_mps, told.speed_max_mps)


def test_without_given_speeds_the_way_over_the_time_counts_and_no_noise() -> None:
    """95 m in 10 s; a parked receiver that wanders by 3 m stands still; the highest speed is never worked out."""
    moving = telemetry_of(_track(*(_fix(float(second), 121.0 + 0.0001 * second) for second in range(11))))
    assert (pytest.approx(9.53, abs=0.02), None) == (moving.speed_mean_mps, moving.speed_max_mps)
    parked = telemetry_of(_track(*(_fix(float(second), 121.0 + 0.00003 * (second % 2)) for second in range(11))))
    assert 0.0 == parked.speed_mean_mps


def test_a_track_without_fixes_tells_its_time_alone() -> None:
    """No datum without a fix; the counts carry the name of the format."""
    reading = reading_of(_track(seen_count=3, disbelieved={"no fix": 3}, malformed={"clock": 1}, began_at=AT, clock="creation_time"))
    assert reading.telemetry == Telemetry(captured_at=AT, captured_at_source="creation_time (zone unknown)")
    assert {"gpx: no fix": 3, "gpx: clock": 1} == reading.malformed


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(-3e-5, 3e-5)), min_size=2, max_size=200))
def test_no_fix_left_out_of_the_way_lies_far_from_one_kept(steps: list[tuple[float, float]]) -> None:
    """Thinning keeps the first and the last, and leaves out only what lies within 1 s and 5 m of one kept."""
    offset_s, longitude_deg, fixes = 0.0, 121.0, []
    for step_s, step_deg in steps:
        offset_s, longitude_deg = offset_s + step_s, longitude_deg + step_deg
        fixes.append(_fix(offset_s, longitude_deg))
    track = telemetry_of(_track(*fixes)).track
    if track is None:
        track = (TrackPoint(offset_s=fixes[0].offset_s, latitude_deg=31.0, longitude_deg=fixes[0].longitude_deg),)
    else:
        assert (fixes[0].offset_s, fixes[-1].offset_s) == (track[0].offset_s, track[-1].offset_s)
    kept = [_fix(point.offset_s, point.longitude_deg) for point in track]
    for fix in fixes:
        near = [one for one in kept if abs(one.offset_s - fix.offset_s) <= KEPT_EVERY_S and distance_m(one, fix) <= KEPT_EVERY_M]
        assert near


def test_two_datums_are_an_unknown_one_and_the_larger_error_counts() -> None:
    """A way in one datum beside a fix in another must not be tested as if it were in the same; an error that is known goes on."""
    fleet = Telemetry(latitude_deg=31.0, longitude_deg=121.0, datum="WGS-84", gnss_error_m=5.0)
    points = (TrackPoint(offset_s=0.0, latitude_deg=31.0, longitude_deg=121.0),) * 2
    for datum, error_m, expected in (
        ("WGS-84", None, ("WGS-84", 5.0)),
        ("WGS-84", 9.0, ("WGS-84", 9.0)),
        ("GCJ-02", 1.0, ("unknown", 5.0)),
    ):
        other = Telemetry(latitude_deg=31.1, longitude_deg=121.1, datum=datum, gnss_error_m=error_m, track=points)
        merged = merge(fleet, other)
        assert (31.0, points, *expected) == (merged.latitude_deg, merged.track, merged.datum, merged.gnss_error_m)


@pytest.mark.parametrize(("longitude_deg", "expected"), [(121.0, False), (121.15, False), (121.25, True), (-117.3, True)])
def test_a_fix_far_from_the_whole_track_contradicts_it(longitude_deg: float, *, expected: bool) -> None:
    """Twenty kilometres from every point; a fix or a track alone contradicts nothing."""
    track = tuple(TrackPoint(offset_s=float(second), latitude_deg=31.0, longitude_deg=121.0 + second / 1000) for second in range(3))
    assert expected is is_far_from_track(Telemetry(latitude_deg=31.0, longitude_deg=longitude_deg, track=track))
    assert is_far_from_track(Telemetry(latitude_deg=31.0, longitude_deg=longitude_deg)) is False
    assert is_far_from_track(Telemetry(track=track)) is False
    here, there = Telemetry(latitude_deg=31.0, longitude_deg=121.0, track=track), Telemetry(latitude_deg=31.0, longitude_deg=longitude_deg)
    assert (expected, expected) == (lie_apart(here, there), lie_apart(there, here))
    assert lie_apart(here, Telemetry()) is False


def test_a_long_way_does_not_contradict_its_end() -> None:
    """Somebody names the place where a drive of 30 km ended: it lies on the way, though far from where the way began."""
    track = tuple(TrackPoint(offset_s=60.0 * km, latitude_deg=31.0, longitude_deg=121.0 + 0.01 * km) for km in range(31))
    drive = Telemetry(latitude_deg=31.0, longitude_deg=121.0, track=track)
    assert lie_apart(drive, Telemetry(latitude_deg=31.0, longitude_deg=121.3)) is False
    assert lie_apart(drive, Telemetry(latitude_deg=31.3, longitude_deg=121.3)) is True


def test_waypoints_are_five_kilometres_apart_and_reach_the_end() -> None:
    """A fix alone is one; a way has its first, its last, and one for each 5 km between."""
    track = tuple(TrackPoint(offset_s=60.0 * km, latitude_deg=0.0 + 0.009 * km, longitude_deg=121.0) for km in range(13))
    drive = Telemetry(latitude_deg=0.0, longitude_deg=121.0, track=track)
    assert [0.0, 5.0, 10.0, 12.0] == [round(point.latitude_deg / 0.009) for point in waypoints(drive)]
    assert 1 == len(list(waypoints(dataclasses.replace(drive, track=None))))
    assert [] == list(waypoints(Telemetry()))


def test_a_file_beside_a_clip_is_read_by_its_suffix(made: SimpleNamespace) -> None:
    """GPX, NMEA and BlackVue's .gps, whatever their case; the way begins with the clip."""
    for name, data in (("a.mp4.gpx", made.gpx()), ("A.NMEA", made.nmea()), ("a.gps", made.nmea())):
        reading = beside.read(name, data, subject=name)
        assert (made.began, "WGS-84", {}) == (reading.telemetry.captured_at, reading.telemetry.datum, reading.malformed)
        assert (11, 0.0) == (len(reading.telemetry.track), reading.telemetry.track[0].offset_s)
    assert (".gpx", ".nmea", ".gps") == beside.SUFFIXES


def test_no_other_file_is_taken_for_a_track() -> None:
    """An error that names the file and the suffixes."""
    with pytest.raises(ClipUnreadable, match=r"a\.kml: is no track file.*\.gpx, \.nmea, \.gps"):
        beside.read("a.kml", b"", subject="a.kml")
