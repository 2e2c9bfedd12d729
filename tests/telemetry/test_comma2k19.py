"""A real receiver's minute, written as GPX and NMEA and read back: what comes out is what went in, and agrees with the car's own wheels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from curation.records import Telemetry
from curation.telemetry import beside

SEGMENTS = Path(__file__).resolve().parents[3] / "shared" / "gps" / "comma2k19"
SEGMENT = next(iter(SEGMENTS.glob("Example_1/*/40/processed_log")), None) if SEGMENTS.exists() else None
pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(SEGMENT is None, reason="the shared comma2k19 segment is not beside the project"),
]
# Columns of live_gnss_ublox: latitude, longitude, speed, UTC in milliseconds, altitude, bearing.
LATITUDE, LONGITUDE, SPEED, UTC_MS = range(4)


@pytest.fixture(scope="module")
def receiver() -> np.ndarray:
    return np.load(SEGMENT / "GNSS" / "live_gnss_ublox" / "value")


def _gpx(rows: np.ndarray, made: SimpleNamespace) -> bytes:
    points = "".join(
        f'<trkpt lat="{row[LATITUDE]:.7f}" lon="{row[LONGITUDE]:.7f}">'
        f"<time>{_at(row).isoformat()}</time><speed>{row[SPEED]:.3f}</speed></trkpt>"
        for row in rows
    )
    return f'<gpx version="1.0"><trk><trkseg>{points}</trkseg></trk></gpx>'.encode()


def _nmea(rows: np.ndarray, made: SimpleNamespace) -> bytes:
    lines = [
        made.rmc(_at(row), row[LATITUDE], row[LONGITUDE], knots=f"{row[SPEED] / 0.514444:.3f}").replace("\r\n", "")
        for row in rows[:: len(rows) // 60]
    ]
    return "\r\n".join(lines).encode()


def _at(row: np.ndarray) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=float(row[UTC_MS]))


@pytest.mark.parametrize(("name", "make"), [("40.gpx", _gpx), ("40.nmea", _nmea)])
def test_a_real_minute_is_read_to_the_digit(receiver: np.ndarray, made: SimpleNamespace, name: str, make: object) -> None:
    """Place, time and speeds of the receiver; nothing of a real way is disbelieved."""
    reading = beside.read(name, make(receiver, made), subject=name)
    told: Telemetry = reading.telemetry
    assert {} == reading.malformed
    assert ("WGS-84", True) == (told.datum, abs(told.captured_at - _at(receiver[0])) < timedelta(seconds=1))
    assert pytest.approx(receiver[0, LATITUDE], abs=1e-6) == told.latitude_deg
    assert pytest.approx(receiver[:, SPEED].mean(), abs=0.2) == told.speed_mean_mps
    assert pytest.approx(receiver[:, SPEED].max(), abs=0.2) == told.speed_max_mps
    assert 59.0 <= told.track[-1].offset_s <= 61.0


def test_the_receiver_agrees_with_the_cars_own_wheels(receiver: np.ndarray, made: SimpleNamespace) -> None:
    """Without speeds in the file, the way over the time gives the mean speed that the car's bus gives, to 3 %."""
    data = _gpx(receiver, made)
    bare = data[: data.index(b"<speed>")] + b"".join(part.partition(b"</speed>")[2] for part in data.split(b"<speed>")[1:])
    told = beside.read("40.gpx", bare, subject="40.gpx").telemetry
    wheels_mps = float(np.load(SEGMENT / "CAN" / "speed" / "value").mean())
    assert None is told.speed_max_mps
    assert pytest.approx(wheels_mps, rel=0.03) == told.speed_mean_mps
