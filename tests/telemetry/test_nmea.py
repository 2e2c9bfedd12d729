"""NMEA logs: sentences of one moment make one position; only sound sentences count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from curation.errors import ClipUnreadable
from curation.telemetry.nmea import parse_nmea


def test_a_log_is_read_whole(made: SimpleNamespace) -> None:
    """RMC and GGA of a second are one position, to a tenth of a metre, with the speed in m/s."""
    track = parse_nmea(made.nmea(), subject="a.nmea")
    assert (11, 11, {}, {}) == (track.seen_count, len(track.fixes), track.disbelieved, track.malformed)
    assert ("nmea", "WGS-84", "nmea", "UTC", made.began) == (track.source, track.datum, track.clock, track.zone, track.began_at)
    for (latitude_deg, longitude_deg), fix in zip(made.way, track.fixes, strict=True):
        assert (pytest.approx(latitude_deg, abs=1e-7), pytest.approx(longitude_deg, abs=1e-7)) == (fix.latitude_deg, fix.longitude_deg)
    assert pytest.approx(10.0, abs=0.01) == track.fixes[0].speed_mps
    assert "autonomous" == track.fixes[0].quality


def test_south_and_west_are_negative(made: SimpleNamespace) -> None:
    """The letters count."""
    (fix,) = parse_nmea(made.nmea([(-33.5, -70.25)]), subject="a.nmea").fixes
    assert (pytest.approx(-33.5), pytest.approx(-70.25)) == (fix.latitude_deg, fix.longitude_deg)


def test_blackvues_milliseconds_and_other_lines_are_skipped(made: SimpleNamespace) -> None:
    """`[ms]` before a sentence, empty lines, other sentences and text between them change nothing."""
    lines = made.nmea().decode().splitlines()
    noisy = "\r\n".join(f"[1788220800000]{line}\r\n\r\nhello\r\n$PUBX,00*33\r\n$GPGSV,1,1,00*79" for line in lines)
    assert parse_nmea(made.nmea(), subject="a").fixes == parse_nmea(noisy.encode(), subject="a.gps").fixes


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"status": "V"}, "no fix"),
        ({"mode": "N"}, "no fix"),
        ({"mode": "S"}, "simulated"),
        ({"latitude_deg": 0.0, "longitude_deg": 0.0}, "0/0"),
        ({"at": datetime(1980, 1, 6, tzinfo=UTC)}, "clock"),
        ({"at": datetime(2000, 1, 1, tzinfo=UTC)}, "clock"),
        ({"at": datetime(2038, 1, 19, tzinfo=UTC)}, "clock"),
        ({"latitude_deg": 95.0}, "off the globe"),
    ],
)
def test_an_absurd_position_is_counted(made: SimpleNamespace, given: dict[str, object], reason: str) -> None:
    """Each is said under its reason, and gives neither place nor time."""
    said = {"at": made.began, "latitude_deg": 31.0, "longitude_deg": 121.0} | given
    track = parse_nmea(made.rmc(**said).encode(), subject="a.nmea")
    assert ((), {reason: 1}, None) == (track.fixes, track.disbelieved, track.began_at)


def test_a_receiver_without_a_fix_sends_empty_fields(made: SimpleNamespace) -> None:
    """No position and no fix: counted once, as no fix."""
    track = parse_nmea(made.sentence("GPRMC,000000.00,V,,,,,,,010926,,,N").encode(), subject="a.nmea")
    assert {"no fix": 1} == track.disbelieved


@pytest.mark.parametrize(("quality", "expected"), [(0, None), (8, None), (1, "autonomous"), (2, "differential"), (6, "estimated")])
def test_the_least_that_is_said_of_a_fix_counts(made: SimpleNamespace, quality: int, expected: str | None) -> None:
    """GGA's no fix, simulation and dead reckoning hold against RMC's valid."""
    at = made.began
    track = parse_nmea((made.gga(at, 31.0, 121.0, quality=quality) + made.rmc(at, 31.0, 121.0)).encode(), subject="a.nmea")
    assert expected == (track.fixes[0].quality if track.fixes else None)


def test_gsa_gst_and_dtm_say_how_far_a_fix_can_be_trusted(made: SimpleNamespace) -> None:
    """Dimensions become the quality, the largest error counts, and a datum other than WGS-84 is an unknown one."""
    gsa = made.sentence("GPGSA,A,3,01,02,03,04,,,,,,,,,1.5,0.9,1.2")
    gst = made.sentence("GPGST,000000.00,1.0,1.0,1.0,0.0,3.0,4.0,9.0")
    track = parse_nmea(made.nmea(extra=gsa + gst), subject="a.nmea")
    assert ("3d", 5.0, "WGS-84") == (track.fixes[0].quality, track.gnss_error_m, track.datum)
    for name, datum in (("W84", "WGS-84"), ("999", "unknown"), ("P90", "unknown")):
        dtm = made.sentence(f"GPDTM,{name},,0.0,N,0.0,E,0.0,W84")
        assert datum == parse_nmea(made.nmea(extra=dtm), subject="a.nmea").datum


def test_gga_between_rmc_has_their_date_past_midnight_too(made: SimpleNamespace) -> None:
    """A position of GGA alone stands on the day of the last RMC, or the day after; before the first RMC it has no time."""
    at = datetime(2026, 9, 1, 23, 59, 58, tzinfo=UTC)
    following = at + timedelta(seconds=4)
    text = made.gga(at - timedelta(seconds=2), 31.0, 121.0) + made.rmc(at, 31.0, 121.0) + made.gga(following, 31.0, 121.0)
    track = parse_nmea(text.encode(), subject="a.nmea")
    assert ({"no time": 1}, [at, following]) == (track.disbelieved, [fix.at for fix in track.fixes])


def test_a_sentence_whose_checksum_fails_is_not_believed(made: SimpleNamespace) -> None:
    """One flipped digit costs the sentence, and is counted; so does a missing checksum."""
    text = made.rmc(made.began, 31.0, 121.0)
    broken = text.replace("3100.", "3200.")
    track = parse_nmea((broken + text.split("*", maxsplit=1)[0] + "\r\n" + text).encode(), subject="a.nmea")
    assert (1, {"sentence": 2}) == (len(track.fixes), track.malformed)


@pytest.mark.parametrize("data", [b"", b"hello", b"$GPRMC,1*00", b"\xff" * 1000, b"$GPRMC," * 250_000, b"x" * (2 * 1024 * 1024 + 1)])
def test_what_holds_no_sound_sentence_is_refused(data: bytes) -> None:
    """An error that names the file."""
    with pytest.raises(ClipUnreadable, match=r"a\.nmea"):
        parse_nmea(data, subject="a.nmea")
