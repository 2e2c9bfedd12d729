"""GoPro's metadata stream (GPMF): its payloads in, Track out. Pure.

Key, length, value, nested, big endian, padded to 4 bytes (github.com/gopro/gpmf-parser). Of the streams only the GNSS is read: GPS5, which
has one flag and one time for a whole payload, and GPS9 of newer cameras, which has them for each position. Positions are WGS-84.
The dilution of precision judges nothing here: a Hero 6 with a full fix sends 99.99 in between.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from curation.errors import ClipUnreadable
from curation.records import TimedBytes, Track
from curation.telemetry.fixes import FIXES_MAX, Seen, believe
from curation.telemetry.reading import is_of_a_clock

SOURCE: Final = "gpmf"
MAX_BYTES: Final = 16 * 1024 * 1024  # all payloads together: a GoPro writes 5 kB a second, and begins a new file after some minutes
_DEPTH_MAX: Final = 8  # device, stream, payload: real ones nest three deep
_FIX: Final = "take the clip from the camera's card again"
_QUALITY: Final = {0: "none", 2: "2d", 3: "3d"}
_GPS5: Final = struct.Struct(">5i")
_GPS9: Final = struct.Struct(">7i2H")
_DAY_0: Final = datetime(2000, 1, 1, tzinfo=UTC)


def parse_gpmf(payloads: Sequence[TimedBytes], *, subject: str) -> Track:
    """The positions of all payloads, in order; those flagged as no fix are counted and not believed, however plausible they look.

    Raises:
        ClipUnreadable: a payload is no GPMF, or there are over 16 MiB or 100,000 positions.
    """
    if sum(len(payload.data) for payload in payloads) > MAX_BYTES:
        raise ClipUnreadable(f"holds over {MAX_BYTES} bytes of GPMF", subject=subject, fix=_FIX)
    seen: list[Seen] = []
    malformed: Counter[str] = Counter()
    began_at: datetime | None = None
    try:
        for payload in payloads:
            found = list(_positions(payload))
            seen.extend(found)
            if len(seen) > FIXES_MAX:
                raise ClipUnreadable(f"holds over {FIXES_MAX} positions", subject=subject, fix=_FIX)
            malformed["clock"] += any(one.at is not None and not is_of_a_clock(one.at) for one in found)
            began_at = began_at or next(filter(None, (_start(one) for one in found)), None)
    except (struct.error, ValueError) as error:
        raise ClipUnreadable("holds broken GPMF", subject=subject, fix=_FIX) from error
    belief = believe(seen)
    return Track(
        source=SOURCE,
        fixes=belief.fixes,
        datum="WGS-84" if belief.fixes else "unknown",
        began_at=began_at if belief.fixes else None,
        clock="gpmf",
        zone="UTC",
        seen_count=len(seen),
        disbelieved=belief.disbelieved,
        malformed=belief.malformed | dict(+malformed),
    )


def _start(one: Seen) -> datetime | None:
    """When the clip began, by the receiver's time of one position; a receiver without a fix shows a clock that nobody set."""
    if one.at is None or one.offset_s is None or one.quality == "none" or not is_of_a_clock(one.at):
        return None
    return one.at - timedelta(seconds=one.offset_s)


def _positions(payload: TimedBytes) -> Iterator[Seen]:
    for stream in _streams(payload.data, _DEPTH_MAX):
        scale = _scales(stream)
        if b"GPS9" in stream:
            yield from _gps9(stream, scale, payload)
        elif b"GPS5" in stream:
            yield from _gps5(stream, scale, payload)


def _streams(data: bytes, depth: int) -> Iterator[Mapping[bytes, tuple[int, bytes]]]:
    """Every level that holds values: key -> (bytes of one sample, all bytes); of a key that stands twice the last counts."""
    if depth == 0:
        raise ValueError("nested too deep")
    values: dict[bytes, tuple[int, bytes]] = {}
    at = 0
    while at < len(data):
        key, kind, size, count = struct.unpack_from(">4sBBH", data, at)
        end = at + 8 + size * count
        if end > len(data):
            raise ValueError("an element ends behind its parent")
        value = data[at + 8 : end]
        if kind == 0 and key != b"\0\0\0\0":
            if value:
                yield from _streams(value, depth - 1)
        else:
            values[key] = (size, value)
        at = (end + 3) & ~3
    yield values


def _scales(stream: Mapping[bytes, tuple[int, bytes]]) -> list[float]:
    size, value = stream.get(b"SCAL", (0, b""))
    if size not in {2, 4}:
        return []
    return [float(part[0]) for part in struct.iter_unpack(">h" if size == 2 else ">i", value)]


def _gps5(stream: Mapping[bytes, tuple[int, bytes]], scale: Sequence[float], payload: TimedBytes) -> Iterator[Seen]:
    size, value = stream[b"GPS5"]
    if size != _GPS5.size or len(scale) != 5 or 0.0 in scale:
        raise ValueError("GPS5 of another form")
    flag = _first(stream, b"GPSF", ">I")
    at = _utc(stream.get(b"GPSU", (0, b""))[1])
    count = len(value) // size
    step_s = (payload.duration_s or 1.0) / max(1, count)
    for index, (latitude, longitude, _, speed, _) in enumerate(_GPS5.iter_unpack(value)):
        yield Seen(
            offset_s=payload.start_s + index * step_s,
            at=None if at is None else at + timedelta(seconds=index * step_s),
            latitude_deg=latitude / scale[0],
            longitude_deg=longitude / scale[1],
            speed_mps=speed / scale[3],
            quality="none" if flag is None else _QUALITY.get(flag, "none"),
        )


def _gps9(stream: Mapping[bytes, tuple[int, bytes]], scale: Sequence[float], payload: TimedBytes) -> Iterator[Seen]:
    size, value = stream[b"GPS9"]
    if size != _GPS9.size or len(scale) != 9 or 0.0 in scale:
        raise ValueError("GPS9 of another form")
    step_s = (payload.duration_s or 1.0) / max(1, len(value) // size)
    for index, (latitude, longitude, _, speed, _, days, seconds, _, flag) in enumerate(_GPS9.iter_unpack(value)):
        try:
            at = _DAY_0 + timedelta(days=days / scale[5], seconds=seconds / scale[6])
        except OverflowError:
            at = None
        yield Seen(
            offset_s=payload.start_s + index * step_s,
            at=at,
            latitude_deg=latitude / scale[0],
            longitude_deg=longitude / scale[1],
            speed_mps=speed / scale[3],
            quality=_QUALITY.get(int(flag / scale[8]), "none"),
        )


def _first(stream: Mapping[bytes, tuple[int, bytes]], key: bytes, kind: str) -> int | None:
    _, value = stream.get(key, (0, b""))
    return int(struct.unpack_from(kind, value)[0]) if len(value) >= struct.calcsize(kind) else None


def _utc(raw: bytes) -> datetime | None:
    """The time of `yymmddhhmmss.sss`; None for anything else."""
    try:
        return datetime.strptime(raw.decode("ascii").strip("\0 "), "%y%m%d%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None
