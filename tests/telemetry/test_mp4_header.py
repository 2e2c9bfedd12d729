"""An mp4's header: places in ISO 6709 without a datum of their own, and times that only a set clock shows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from curation.errors import ClipUnreadable
from curation.telemetry.mp4_header import camera_model, parse_header, parse_location


@pytest.mark.parametrize(
    ("text", "latitude_deg", "longitude_deg", "datum"),
    [
        ("+31.2304+121.4737/", 31.2304, 121.4737, "unknown"),
        ("+31.2304+121.4737+004.000/", 31.2304, 121.4737, "unknown"),
        ("+31.2304+121.4737+4CRSWGS_84/", 31.2304, 121.4737, "WGS-84"),
        ("-33.5-070.25CRSEPSG:4326", -33.5, -70.25, "WGS-84"),
        ("+3113.824+12128.422/", 31.2304, 121.4737, "unknown"),
        ("+311349.44+1212825.32/", 31.2304, 121.4737, "unknown"),
        ("+27+086/", 27.0, 86.0, "unknown"),
    ],
)
def test_a_place_is_read_in_every_form(text: str, latitude_deg: float, longitude_deg: float, datum: str) -> None:
    """Degrees, minutes, seconds; the datum is WGS-84 only where the text says so."""
    track = parse_location(text.encode(), subject="a.mp4")
    (fix,) = track.fixes
    assert (pytest.approx(latitude_deg), pytest.approx(longitude_deg), datum) == (fix.latitude_deg, fix.longitude_deg, track.datum)


@pytest.mark.parametrize(
    ("text", "reason"), [("+00.0000+000.0000/", "0/0"), ("+91.0+121.0/", "off the globe"), ("+31.0+181.0/", "off the globe")]
)
def test_an_absurd_place_is_counted(text: str, reason: str) -> None:
    """It is read, and not believed."""
    track = parse_location(text.encode(), subject="a.mp4")
    assert ((), {reason: 1}, "unknown") == (track.fixes, track.disbelieved, track.datum)


@pytest.mark.parametrize(
    "text", [b"", b"here", b"31.2 121.4", b"+31.2", "+\uff13\uff11+121/".encode(), b"+31.2+121.4/" + b"0" * 300, b"\xff\xfe"]
)
def test_what_is_no_place_is_refused(text: bytes) -> None:
    """An error that names the clip."""
    with pytest.raises(ClipUnreadable, match=r"a\.mp4: is no place in ISO 6709"):
        parse_location(text, subject="a.mp4")


def test_minutes_beyond_59_are_no_position() -> None:
    """+3199 is no angle."""
    assert {"no position": 1} == parse_location(b"+3199.0+12128.4/", subject="a.mp4").disbelieved


def test_a_header_tells_place_and_time() -> None:
    """creation_time is UTC by the format alone, and says so; Apple's own time names its zone."""
    track = parse_header({"location": "+31.2304+121.4737/", "creation_time": "2026-09-01T00:00:00.000000Z"}, subject="a.mp4")
    assert (1, datetime(2026, 9, 1, tzinfo=UTC), "creation_time", "UTC assumed") == (
        len(track.fixes), track.began_at, track.clock, track.zone,
    )  # fmt: skip
    apple = {"com.apple.quicktime.creationdate": "2026-09-01T08:00:00+0800", "creation_time": "2026-09-01T00:00:09Z"}
    assert (datetime(2026, 9, 1, tzinfo=UTC), "UTC") == (
        parse_header(apple, subject="a").began_at,
        parse_header(apple, subject="a").zone,
    )


@pytest.mark.parametrize(
    "raw",
    ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "2038-01-19T03:14:07Z", "soon", "9999-12-31T23:59:59-14:00"],
)
def test_an_unset_clock_is_said_and_not_believed(raw: str) -> None:
    """The zero of mp4, of Unix and of most chips, the end of 32 bits, and what is no time."""
    track = parse_header({"creation_time": raw}, subject="a.mp4")
    assert (None, {"creation_time": 1}) == (track.began_at, track.malformed)


def test_a_broken_place_does_not_cost_the_time() -> None:
    """It is counted; a header that says nothing is an empty track."""
    track = parse_header({"location-eng": "home", "creation_time": "2026-09-01T00:00:00Z"}, subject="a.mp4")
    assert ({"location": 1}, False) == (track.malformed, track.began_at is None)
    assert (0, {}) == (parse_header({}, subject="a.mp4").seen_count, parse_header({}, subject="a.mp4").malformed)


@pytest.mark.parametrize(
    ("header", "model"),
    [
        ({}, None),
        ({"model": " \n"}, None),
        ({"com.apple.quicktime.model": "iPhone 15"}, "iPhone 15"),
        ({"firmware": "HD5.02.02.70.00", "model": "A\x1b[2J"}, "A[2J"),
        ({"firmware": "HD5.02.02.70.00"}, "HD5.02.02.70.00"),
        ({"model": "x" * 9000}, "x" * 64),
    ],
)
def test_the_camera_names_its_model_or_none(header: dict[str, str], model: str | None):
    """Known keys only, the model before the firmware, without terminal codes and of bounded length."""
    assert camera_model(header) == model
