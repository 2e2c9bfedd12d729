"""NMEA 0183: bytes of a receiver's log in, Track out. Pure.

Sentences of one moment make one position: RMC says where, when and how fast, GGA how good the fix is, GSA whether it has a height, GST its
error in metres, DTM a datum other than WGS-84. BlackVue's `[milliseconds]` before a sentence is skipped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import pynmea2

from curation.errors import ClipUnreadable
from curation.records import Track
from curation.telemetry.fixes import FIXES_MAX, Seen, believe, timed
from curation.telemetry.reading import is_of_a_clock

SOURCE: Final = "nmea"
MAX_BYTES: Final = 2 * 1024 * 1024  # four hours of RMC and GGA at one a second
_HALF_DAY: Final = timedelta(hours=12)
_LINE_MAX: Final = 128  # the standard allows 82
_MPS_PER_KNOT: Final = 1852.0 / 3600.0
_FIX: Final = "give the receiver's log as it wrote it, or leave it out"
_SENTENCE: Final = re.compile(r"(?:\[\d{1,16}\])?(\$[A-Z]{2}(?:RMC|GGA|GSA|GST|DTM),.*)", re.ASCII)
_MODE: Final = {
    "A": "autonomous",
    "D": "differential",
    "E": "estimated",
    "F": "rtk",
    "P": "3d",
    "R": "rtk",
    "N": "none",
    "S": "simulated",
    "M": "simulated",
}
_GGA: Final = {0: "none", 1: "autonomous", 2: "differential", 3: "3d", 4: "rtk", 5: "rtk", 6: "estimated", 7: "simulated", 8: "simulated"}


@dataclass(slots=True)
class _Moment:
    """The sentences of one time of day."""

    at_time: time | None
    rmc: Any = None
    gga: Any = None
    dimension: str = ""  # 1 none, 2 two, 3 three dimensions


@dataclass(slots=True)
class _Log:
    moments: list[_Moment]
    malformed: Counter[str]
    sentences: int = 0
    is_wgs84: bool = True
    error_m: float | None = None


def parse_nmea(data: bytes, *, subject: str) -> Track:
    """The way that a receiver's log tells. Only sentences whose checksum holds are believed.

    Before the first date (RMC carries it) a position has no time and is not believed. The datum is WGS-84, which receivers use unless a DTM
    sentence names another one; then it is unknown.

    Raises:
        ClipUnreadable: there is not one sound sentence with a position or time, or over 2 MiB or 100,000 positions.
    """
    if len(data) > MAX_BYTES:
        raise ClipUnreadable(f"is over {MAX_BYTES} bytes", subject=subject, fix="cut it to the time of its clip")
    log = _read(data)
    if not log.sentences:
        raise ClipUnreadable("holds no sound NMEA sentence", subject=subject, fix=_FIX)
    if len(log.moments) > FIXES_MAX:
        raise ClipUnreadable(f"holds over {FIXES_MAX} positions", subject=subject, fix=_FIX)
    seen = timed(list(_dated(log.moments)))
    belief = believe(seen, from_first=True)
    return Track(
        source=SOURCE,
        fixes=belief.fixes,
        datum="WGS-84" if belief.fixes and log.is_wgs84 else "unknown",
        gnss_error_m=log.error_m,
        began_at=belief.fixes[0].at if belief.fixes else None,
        clock="nmea",
        zone="UTC",
        seen_count=len(seen),
        disbelieved=belief.disbelieved,
        malformed=belief.malformed | dict(log.malformed),
    )


def _read(data: bytes) -> _Log:
    log = _Log(moments=[], malformed=Counter())
    for line in _lines(data):
        match = _SENTENCE.fullmatch(line)
        if match is None:
            continue  # other sentences, and what recorders write between them
        try:
            sentence = pynmea2.parse(match[1], check=True)
        except (pynmea2.ParseError, ValueError):
            log.malformed["sentence"] += 1
            continue
        log.sentences += 1
        _take(sentence, log)
    return log


def _lines(data: bytes) -> Iterator[str]:
    for line in data.splitlines():
        if len(line) <= _LINE_MAX:
            yield line.decode("ascii", "replace").strip()


def _take(sentence: Any, log: _Log) -> None:
    kind = sentence.sentence_type
    if kind == "DTM":
        log.is_wgs84 = log.is_wgs84 and str(sentence.datum) == "W84"
    elif kind == "GST":
        sides_m = [_number(sentence.std_dev_latitude), _number(sentence.std_dev_longitude)]
        if None not in sides_m:
            log.error_m = max(log.error_m or 0.0, math.hypot(*(side_m or 0.0 for side_m in sides_m)))
    elif kind == "GSA":
        if log.moments:
            log.moments[-1].dimension = str(sentence.mode_fix_type)
    else:
        at_time = sentence.timestamp if isinstance(sentence.timestamp, time) else None
        slot = kind.lower()
        last = log.moments[-1] if log.moments else None
        if last is None or last.at_time != at_time or getattr(last, slot) is not None:
            last = _Moment(at_time=at_time)
            log.moments.append(last)
        setattr(last, slot, sentence)


def _dated(moments: Sequence[_Moment]) -> Iterator[Seen]:
    """The positions with their dates; between two RMC the last one's date goes on, past midnight too."""
    last: datetime | None = None
    for moment in moments:
        day = None if moment.rmc is None else moment.rmc.datestamp
        if moment.rmc is None and last is not None:
            day = last.date()
        at = datetime.combine(day, moment.at_time, tzinfo=UTC) if isinstance(day, date) and moment.at_time is not None else None
        if at is not None and last is not None and moment.rmc is None and last - at > _HALF_DAY and is_of_a_clock(at):
            at += 2 * _HALF_DAY
        last = at or last
        yield _seen(moment, at)


def _seen(moment: _Moment, at: datetime | None) -> Seen:
    where = moment.rmc if moment.rmc is not None else moment.gga
    knots = None if moment.rmc is None else _number(moment.rmc.spd_over_grnd)
    return Seen(
        offset_s=None,
        at=at,
        latitude_deg=_degrees(where.lat, where.lat_dir, "NS"),
        longitude_deg=_degrees(where.lon, where.lon_dir, "EW"),
        speed_mps=None if knots is None else knots * _MPS_PER_KNOT,
        quality=_quality(moment),
    )


def _quality(moment: _Moment) -> str:
    """What GGA says, else RMC; less than a fix if any sentence says so."""
    said = []
    if moment.rmc is not None:
        mode = str(moment.rmc.mode_indicator or "") if len(moment.rmc.data) > moment.rmc.name_to_idx["mode_indicator"] else "A"
        said.append("none" if moment.rmc.status != "A" else _MODE.get(mode, "unknown"))
    if moment.gga is not None:
        said.append(_GGA.get(moment.gga.gps_qual, "unknown") if isinstance(moment.gga.gps_qual, int) else "none")
    if moment.dimension == "1":
        said.append("none")
    for worst in ("none", "simulated", "estimated"):
        if worst in said:
            return worst
    if moment.dimension in {"2", "3"} and set(said) <= {"autonomous", "3d"}:
        return f"{moment.dimension}d"
    return said[-1]


def _degrees(raw: object, side: object, sides: str) -> float | None:
    """Signed degrees from `dddmm.mmm` and a letter of `sides`, the second being negative; None for anything else."""
    match = re.fullmatch(r"(\d{1,3})(\d\d(?:\.\d{1,12})?)", str(raw), re.ASCII)
    if match is None or not isinstance(side, str) or len(side) != 1 or side not in sides or not float(match[2]) < 60.0:
        return None
    degrees = float(match[1]) + float(match[2]) / 60.0
    return degrees if side == sides[0] else -degrees


def _number(raw: object) -> float | None:
    try:
        found = float(str(raw))
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0.0 else None
