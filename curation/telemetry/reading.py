"""What a telemetry file says, field by field: believed, or counted and named. Nothing is guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from curation.records import Telemetry

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
CLOCK_FROM_YEAR: Final = 2005  # no recorder of video files for cars is older
CLOCK_BEFORE_YEAR: Final = 2036  # to be raised in that year, together with a test for the overflow itself
_TEXT_MAX: Final = 200  # far beyond any id, plate or camera name; what is longer is not one
SPEED_MAX_MPS: Final = 150.0  # 540 km/h: no road vehicle is faster
_DATUMS: Final = {"WGS84": "WGS-84", "GCJ02": "GCJ-02", "UNKNOWN": "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Telemetry of one clip, and counts by key of what was not taken over: unknown keys, and values that cannot be believed."""

    telemetry: Telemetry = field(default_factory=Telemetry)
    dropped: Mapping[str, int] = field(default_factory=dict)
    malformed: Mapping[str, int] = field(default_factory=dict)


def text(raw: object) -> str | None:
    """The trimmed text of a string or whole number; None if it is anything else, too long, or holds what does not print."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        return None
    trimmed = raw.strip()
    return trimmed if trimmed.isprintable() and len(trimmed) <= _TEXT_MAX else None


def number(raw: object, low: float, high: float) -> float | None:
    """The number, from plain decimal text or a JSON number, if it lies in [low, high]; else None, for NaN and infinity too."""
    if isinstance(raw, str) and _NUMBER.fullmatch(raw.strip()):
        raw = float(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    return float(raw) if low <= raw <= high else None


def instant(raw: object) -> datetime | None:
    """The ISO 8601 time in UTC; None if it is malformed, names no zone, or is one that no dashcam's clock can show."""
    if not isinstance(raw, str):
        return None
    try:
        at = datetime.fromisoformat(raw.strip())
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo is not None and is_of_a_clock(at) else None


def is_of_a_clock(at: datetime) -> bool:
    """Whether a recorder's clock that was ever set can show the time.

    Unset clocks show 1970 (Unix), 1980 (GPS) or 2000 (most chips), and overflown ones 1999 (GPS weeks), 2036 (NTP) or 2038 (32 bits).
    """
    return CLOCK_FROM_YEAR <= at.year < CLOCK_BEFORE_YEAR


def datum(raw: object) -> str | None:
    """One of `schema.DATUMS`, whatever its case and hyphens; None for any other."""
    return _DATUMS.get(re.sub(r"[-_ ]", "", raw).upper()) if isinstance(raw, str) else None


# The keys of fleet.csv and <clip>.json (design.md, "Sidecars") and how each is believed.
FIELDS: Final[Mapping[str, Callable[[object], Any]]] = {
    "vehicle_id": text,
    "vin": text,
    "plate": text,
    "device_id": text,
    "driver_id": text,
    "captured_at": instant,
    "latitude_deg": lambda raw: number(raw, -90.0, 90.0),
    "longitude_deg": lambda raw: number(raw, -180.0, 180.0),
    "datum": datum,
    "gnss_error_m": lambda raw: number(raw, 0.0, 1e7),  # half the Earth's circumference is 2e7 m: beyond this nothing is known at all
    "speed_mps": lambda raw: number(raw, 0.0, SPEED_MAX_MPS),
    "camera": text,
}
FILE_KEY: Final = "file"


def read_fields(raw: Mapping[str, object], *, clock: str) -> Reading:
    """The telemetry under the keys of `FIELDS`; `clock` names the file that captured_at stands in.

    Absent, null and empty values are simply not there. A latitude without a longitude is no fix, and the other way round.
    A fix has a datum, be it `unknown`; without a fix there is neither datum nor error.
    """
    believed: dict[str, Any] = {}
    malformed: Counter[str] = Counter()
    for key, believe in FIELDS.items():
        value = raw.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        found = believe(value)
        if found is None:
            malformed[key] += 1
        else:
            believed[key] = found
    halves = {"latitude_deg", "longitude_deg"} & believed.keys()
    if len(halves) == 1:
        malformed["latitude_deg without longitude_deg" if "latitude_deg" in halves else "longitude_deg without latitude_deg"] += 1
        del believed[halves.pop()]
    if len(halves) == 2:
        believed.setdefault("datum", "unknown")  # a fix whose file does not say, or not believably, in which datum it stands
    else:
        for key in ("datum", "gnss_error_m"):  # they speak of a fix that is not there
            believed.pop(key, None)
    if "captured_at" in believed:
        believed["captured_at_source"] = clock
    if "speed_mps" in believed:
        believed["speed_mean_mps"] = believed.pop("speed_mps")
    dropped = Counter(shown(key) for key in raw if key not in FIELDS and key != FILE_KEY)
    return Reading(telemetry=Telemetry(**believed), dropped=dict(dropped), malformed=dict(malformed))


def shown(key: object) -> str:
    """A key of a foreign file, fit to be printed in a report: short, one line, no control characters."""
    plain = key if isinstance(key, str) and key and key.isprintable() else ascii(key)
    return plain if len(plain) <= _TEXT_MAX else f"{plain[: _TEXT_MAX - 1]}…"
