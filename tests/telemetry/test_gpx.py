"""GPX files: recorded tracks are read, absurd positions counted, everything else refused in bounded time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from curation.errors import ClipUnreadable
from curation.telemetry.gpx import parse_gpx


def test_a_recorded_track_is_read_whole(made: SimpleNamespace) -> None:
    """Every position with its time and speed, in WGS-84 and UTC by the format."""
    track = parse_gpx(made.gpx(inner="<speed>9.5</speed><fix>3d</fix>"), subject="a.gpx")
    assert (11, 11, {}, {}) == (track.seen_count, len(track.fixes), track.disbelieved, track.malformed)
    assert ("gpx", "WGS-84", "gpx", "UTC", made.began) == (track.source, track.datum, track.clock, track.zone, track.began_at)
    assert made.way == tuple((fix.latitude_deg, fix.longitude_deg) for fix in track.fixes)
    assert [float(second) for second in range(11)] == [fix.offset_s for fix in track.fixes]
    assert ({9.5}, {"3d"}) == ({fix.speed_mps for fix in track.fixes}, {fix.quality for fix in track.fixes})


def test_garmins_speed_is_read_and_no_other_makers(made: SimpleNamespace) -> None:
    """The extension whose schema says m/s counts; one that names no unit does not."""
    spaces = 'xmlns:g="http://www.garmin.com/xmlschemas/TrackPointExtension/v2" xmlns:o="http://other"'
    garmin = "<extensions><g:TrackPointExtension><g:speed>7.5</g:speed></g:TrackPointExtension></extensions>"
    other = "<extensions><o:speed>27</o:speed></extensions>"
    for inner, expected in ((garmin, 7.5), (other, None)):
        data = made.gpx(inner=inner).replace(b'version="1.0" creator', f'version="1.1" {spaces} creator'.encode())
        assert {expected} == {fix.speed_mps for fix in parse_gpx(data, subject="a.gpx").fixes}


def test_times_of_other_zones_become_utc_and_bare_ones_are_utc(made: SimpleNamespace) -> None:
    """08:00+08:00 is midnight UTC; a time without a zone is UTC, as GPX has it."""
    for written in (b"2026-09-01T08:00:00+08:00", b"2026-09-01T00:00:00"):
        data = made.gpx([(31.2, 121.4)]).replace(b"2026-09-01T00:00:00Z", written)
        assert made.began == parse_gpx(data, subject="a.gpx").began_at


@pytest.mark.parametrize(
    ("points", "inner", "times", "reason"),
    [
        ([(0.0, 0.0)] * 3, "", True, "0/0"),
        ([(91.0, 121.0)] * 3, "", True, "off the globe"),
        ([("nan", 121.0)] * 3, "", True, "no position"),
        ([(31.0, 121.0)] * 3, "<fix>none</fix>", True, "no fix"),
        ([(31.0, 121.0)] * 3, "", False, "no time"),
        ([(31.0, 121.0)] * 3, "<time>now</time>", False, "no time"),
    ],
)
def test_absurd_positions_are_counted(
    made: SimpleNamespace, *, points: list[tuple[float, float]], inner: str, times: bool, reason: str
) -> None:
    """A whole file of one absurdity gives no fix, no datum, no time, and the count."""
    track = parse_gpx(made.gpx(points, inner=inner, times=times), subject="a.gpx")
    assert ((), {reason: 3}, "unknown", None) == (track.fixes, track.disbelieved, track.datum, track.began_at)


@pytest.mark.parametrize("year", [1980, 2000, 2038])
def test_an_unset_or_overflown_clock_is_not_believed(made: SimpleNamespace, year: int) -> None:
    """Years that only a broken clock shows: counted, no fix, no time."""
    track = parse_gpx(made.gpx(began=datetime(year, 1, 19, tzinfo=UTC)), subject="a.gpx")
    assert ({"clock": 11}, None) == (track.disbelieved, track.began_at)


def test_routes_and_waypoints_are_no_way_driven() -> None:
    """What was planned is not read."""
    data = b'<gpx version="1.0"><wpt lat="31" lon="121"/><rte><rtept lat="31" lon="121"/></rte></gpx>'
    assert parse_gpx(data, subject="a.gpx").seen_count == 0


LAUGHS = b'<!DOCTYPE gpx [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><gpx version="1.0"><trk><name>&b;</name></trk></gpx>'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no GPX"),
        (b"<gpx", "no GPX"),
        (b"\xff\xfe<\x00", "not UTF-8"),
        (LAUGHS, "document type"),
        (b"<gpx" + b" xmlns" * 290_000, "namespaces"),
        (b" " * (2 * 1024 * 1024 + 1), "is over"),
        (b"<a>" * 200_000, "no GPX"),
        (b'<gpx version="1.0"><trk><trkseg><trkpt lon="121"/></trkseg></trk></gpx>', "no GPX"),
        (b'<gpx version="1.0"><trk><trkseg><trkpt lat="x" lon="121"/></trkseg></trk></gpx>', "no GPX"),
    ],
)
def test_what_is_no_gpx_is_refused_at_once(data: bytes, problem: str) -> None:
    """Broken, hostile or too large: an error that names the file, within a second or two."""
    start_s = time.process_time()
    with pytest.raises(ClipUnreadable, match=rf"a\.gpx: .*{problem}"):
        parse_gpx(data, subject="a.gpx")
    assert time.process_time() - start_s < 10.0
