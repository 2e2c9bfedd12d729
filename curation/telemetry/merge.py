"""Several readings of one clip become one, the more trusted first. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Final
from zoneinfo import ZoneInfo

from curation.records import Telemetry

# Values that mean nothing apart: a datum of one file does not hold for the fix of another, nor a clock's name for another's time.
_TOGETHER: Final = {
    "latitude_deg": ("longitude_deg", "datum", "gnss_error_m"),
    "captured_at": ("captured_at_source",),
}
_PLACE: Final = ("latitude_deg", *_TOGETHER["latitude_deg"], "track")
_FOLLOWERS: Final = {name for names in _TOGETHER.values() for name in names}


def merge(*ranked: Telemetry) -> Telemetry:
    """Field by field the first value in `ranked`; a fix with its datum and error, and a time with its clock, from one reading each.

    The fix and the track have one datum and one error between them: two datums are an unknown one, and of two errors the larger counts.
    """
    merged: dict[str, Any] = {}
    for field in dataclasses.fields(Telemetry):
        if field.name in _FOLLOWERS:
            continue
        origin = _first(ranked, field.name)
        if origin is not None:
            merged.update({name: getattr(origin, name) for name in (field.name, *_TOGETHER.get(field.name, ()))})
    return _under_one_datum(Telemetry(**merged), _first(ranked, "track"))


def without_place(telemetry: Telemetry) -> Telemetry:
    """The telemetry without fix, datum, error and track, where witnesses of the place contradict each other."""
    return dataclasses.replace(telemetry, **dict.fromkeys(_PLACE))


def _first(ranked: tuple[Telemetry, ...], name: str) -> Telemetry | None:
    return next((reading for reading in ranked if getattr(reading, name) is not None), None)


def _under_one_datum(merged: Telemetry, tracked: Telemetry | None) -> Telemetry:
    if tracked is None:
        return merged
    errors_m = [one.gnss_error_m for one in (merged, tracked) if one.gnss_error_m is not None]
    datum = merged.datum if merged.datum == tracked.datum else "unknown"
    return dataclasses.replace(merged, datum=datum, gnss_error_m=max(errors_m, default=None))


def with_drive(telemetry: Telemetry, *, event_folder: str | None, zone: str) -> Telemetry:
    """The telemetry with its drive: the recorder's event folder, else the vehicle's run of one day in `zone`, else none."""
    drive_id = event_folder
    if drive_id is None and telemetry.vehicle_id is not None and telemetry.captured_at is not None:
        drive_id = f"{telemetry.vehicle_id}/{telemetry.captured_at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"
    return dataclasses.replace(telemetry, drive_id=drive_id)
