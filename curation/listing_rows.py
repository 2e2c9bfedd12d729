"""Rows of `schema.LISTING` and what tells one entry of a source from another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from curation.records import ListingEntry, Telemetry, TrackPoint

Row = dict[str, Any]
_OWN: Final = tuple(field.name for field in dataclasses.fields(ListingEntry) if field.name != "telemetry")
_TELEMETRY: Final = tuple(field.name for field in dataclasses.fields(Telemetry))
_NOT_OF_THE_ENTRY: Final = ("drive_id", "held_as")  # follow from other entries and from the store, so their change makes no entry new


def row_of(entry: ListingEntry) -> Row:
    """The row of an entry, telemetry beside its own fields."""
    telemetry = entry.telemetry
    row = {name: getattr(entry, name) for name in _OWN} | {name: getattr(telemetry, name) for name in _TELEMETRY}
    if telemetry.track is not None:
        row["track"] = [dataclasses.asdict(point) for point in telemetry.track]
    return row


def entry_of(row: Row) -> ListingEntry:
    """The entry of a row."""
    telemetry = {name: row[name] for name in _TELEMETRY}
    if telemetry["track"] is not None:
        telemetry["track"] = tuple(TrackPoint(**point) for point in telemetry["track"])
    return ListingEntry(**{name: row[name] for name in _OWN}, telemetry=Telemetry(**telemetry))


def entry_digest(row: Row) -> bytes:
    """SHA-256 over what the source says of an entry: another digest is another entry."""
    return digest_of([{name: value for name, value in row.items() if name not in _NOT_OF_THE_ENTRY}])


def digest_of(rows: Sequence[Row]) -> bytes:
    """SHA-256 over the rows' canonical JSON."""
    canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)
    return hashlib.sha256(canonical.encode()).digest()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")
