"""Telemetry files made by the tests themselves: GPX, NMEA, GPMF and H.264 packets, from plain positions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

BEGAN = datetime(2026, 9, 1, 0, 0, 0, tzinfo=UTC)
# A way of 11 positions, one a second, east along a street of Shanghai at about 10 m/s.
WAY: tuple[tuple[float, float], ...] = tuple((31.2304, 121.4737 + 0.000105 * step) for step in range(11))


def gpx(points: Sequence[tuple[float, float]] = WAY, *, began: datetime = BEGAN, inner: str = "", times: bool = True) -> bytes:
    """A GPX 1.0 track, one position a second; `inner` stands in every point."""
    body = "".join(
        f'<trkpt lat="{latitude_deg}" lon="{longitude_deg}">'
        + (f"<time>{(began + timedelta(seconds=second)).isoformat().replace('+00:00', 'Z')}</time>" if times else "")
        + f"{inner}</trkpt>"
        for second, (latitude_deg, longitude_deg) in enumerate(points)
    )
    return f'<?xml version="1.0"?><gpx version="1.0" creator="test"><trk><trkseg>{body}</trkseg></trk></gpx>'.encode()


def sentence(text: str) -> str:
    """An NMEA sentence with its checksum."""
    checksum = 0
    for character in text:
        checksum ^= ord(character)
    return f"${text}*{checksum:02X}\r\n"


def _angle(degrees: float, digits: int, sides: str) -> str:
    whole = int(abs(degrees))
    return f"{whole:0{digits}d}{(abs(degrees) - whole) * 60.0:09.6f},{sides[int(degrees < 0)]}"


def rmc(at: datetime, latitude_deg: float, longitude_deg: float, *, status: str = "A", knots: str = "19.44", mode: str = "A") -> str:
    """An RMC sentence."""
    where = f"{_angle(latitude_deg, 2, 'NS')},{_angle(longitude_deg, 3, 'EW')}"
    return sentence(f"GPRMC,{at:%H%M%S}.00,{status},{where},{knots},90.0,{at:%d%m%y},,,{mode}")


def gga(at: datetime, latitude_deg: float, longitude_deg: float, *, quality: int = 1) -> str:
    """A GGA sentence."""
    where = f"{_angle(latitude_deg, 2, 'NS')},{_angle(longitude_deg, 3, 'EW')}"
    return sentence(f"GPGGA,{at:%H%M%S}.00,{where},{quality},08,0.9,10.0,M,8.0,M,,")


def nmea(points: Sequence[tuple[float, float]] = WAY, *, began: datetime = BEGAN, extra: str = "") -> bytes:
    """RMC and GGA of each position, one a second; `extra` stands behind each."""
    lines = []
    for second, (latitude_deg, longitude_deg) in enumerate(points):
        at = began + timedelta(seconds=second)
        lines.append(rmc(at, latitude_deg, longitude_deg) + gga(at, latitude_deg, longitude_deg) + extra)
    return "".join(lines).encode()


def klv(key: str, kind: str, size: int, data: bytes) -> bytes:
    """One GPMF element; kind `\\0` nests."""
    size, count = (1, len(data)) if kind == "\0" else (size, len(data) // size)
    return struct.pack(">4sBBH", key.encode(), ord(kind), size, count) + data + b"\0" * (-len(data) % 4)


def gps5(points: Sequence[tuple[float, float]], *, flag: int = 3, clock: str = "260901000000.000", speed_mps: float = 10.0) -> bytes:
    """A GPMF payload as a Hero 5 to 10 writes it."""
    scale = struct.pack(">5i", 10_000_000, 10_000_000, 1000, 1000, 100)
    rows = b"".join(
        struct.pack(">5i", round(latitude_deg * 1e7), round(longitude_deg * 1e7), 4000, round(speed_mps * 1000), round(speed_mps * 100))
        for latitude_deg, longitude_deg in points
    )
    inside = klv("GPSF", "L", 4, struct.pack(">I", flag)) + klv("GPSU", "U", 16, clock.encode()) + klv("SCAL", "l", 4, scale)
    return klv("DEVC", "\0", 1, klv("STRM", "\0", 1, inside + klv("GPS5", "l", 20, rows)))


def gps9(points: Sequence[tuple[float, float]], *, flag: int = 3, days: int = 9740) -> bytes:
    """A GPMF payload as a Hero 11 and later writes it; day 9740 since 2000 is 2026-09-01."""
    scale = struct.pack(">9i", 10_000_000, 10_000_000, 1000, 1000, 100, 1, 1000, 100, 1)
    rows = b"".join(
        struct.pack(">7i2H", round(point[0] * 1e7), round(point[1] * 1e7), 4000, 10_000, 1000, days, at * 1000, 150, flag)
        for at, point in enumerate(points)
    )
    return klv("DEVC", "\0", 1, klv("STRM", "\0", 1, klv("SCAL", "l", 4, scale) + klv("GPS9", "?", 32, rows)))


def sei_unit(user_data: bytes, *, kind: int = 5) -> bytes:
    """An H.264 SEI unit that holds the user data, emulation prevention applied."""
    size = b"\xff" * (len(user_data) // 255) + bytes([len(user_data) % 255])
    raw, escaped, zeros = bytes([kind]) + size + user_data + b"\x80", bytearray(), 0
    for byte in raw:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\x06" + bytes(escaped)


def avcc(*units: bytes) -> bytes:
    """The units as a packet of an mp4 holds them, each after its length in 4 bytes."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def annex_b(*units: bytes) -> bytes:
    """The units after start codes."""
    return b"".join(b"\0\0\0\1" + unit for unit in units)


@pytest.fixture
def made() -> SimpleNamespace:
    """The makers of telemetry files."""
    makers: dict[str, Callable[..., Any]] = {
        one.__name__: one for one in (gpx, sentence, rmc, gga, nmea, klv, gps5, gps9, sei_unit, avcc, annex_b)
    }
    return SimpleNamespace(began=BEGAN, way=WAY, **makers)
