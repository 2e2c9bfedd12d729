"""The project's own sidecars: bytes of fleet.csv or of <clip>.json in, readings out. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from curation.errors import ClipUnreadable, UsageError
from curation.telemetry.reading import FILE_KEY, Reading, read_fields

FLEET_CLOCK: Final = "fleet.csv"
SIDECAR_CLOCK: Final = "sidecar"
_FLEET_FIX: Final = "save it as UTF-8 CSV with a header line that names a column file (docs: sidecars)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Readings by the `file` they speak of; counts of unknown columns and of rows that name no file, or one that another row names."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    malformed: Mapping[str, int] = field(default_factory=dict)


def parse_sidecar(data: bytes, *, subject: str) -> Reading:
    """What a JSON object with the keys of `reading.FIELDS` says.

    Raises:
        ClipUnreadable: the bytes are no JSON object.
    """
    return read_fields(parse_object(data, subject=subject), clock=SIDECAR_CLOCK)


def parse_object(data: bytes, *, subject: str) -> Mapping[str, object]:
    """The JSON object in `data`.

    Raises:
        ClipUnreadable: the bytes are no JSON object.
    """
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ClipUnreadable("is not JSON", subject=subject, fix="write a JSON object in UTF-8") from error
    if not isinstance(found, dict):
        raise ClipUnreadable("is JSON, but no object", subject=subject, fix="write a JSON object in UTF-8")
    return found


def parse_fleet(data: bytes, *, subject: str = "fleet.csv") -> Fleet:
    """The rows of a fleet CSV by file. Two rows that disagree on one file are both disbelieved.

    Raises:
        UsageError: the bytes are not UTF-8 or no CSV, a column stands twice, or there is no column `file`.
    """
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(rows, [])]
        body = [row for row in rows if row]
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8", subject=subject, fix=_FLEET_FIX) from error
    except csv.Error as error:
        raise UsageError(f"is no CSV: {error}", subject=subject, fix=_FLEET_FIX) from error
    if FILE_KEY not in header:
        raise UsageError("has no column file", subject=subject, fix=_FLEET_FIX)
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise UsageError(f"has the column {twice[0]!r} twice", subject=subject, fix=_FLEET_FIX)
    return _fleet_of(header, body)


def _fleet_of(header: list[str], body: list[list[str]]) -> Fleet:
    readings: dict[str, Reading] = {}
    disputed: set[str] = set()
    dropped: Counter[str] = Counter()
    malformed: Counter[str] = Counter()
    for row in body:
        if len(row) != len(header):
            malformed["row with another number of columns than the header"] += 1
            continue
        raw = dict(zip(header, row, strict=True))
        reading = read_fields(raw, clock=FLEET_CLOCK)
        dropped.update(reading.dropped)
        malformed.update(reading.malformed)
        file = raw[FILE_KEY].strip()
        if not file:
            malformed[FILE_KEY] += 1
        elif file in readings and readings[file].telemetry != reading.telemetry:
            disputed.add(file)
        else:
            readings[file] = reading
    malformed.update({"file named by rows that disagree": len(disputed)} if disputed else {})
    kept = {file: reading for file, reading in readings.items() if file not in disputed}
    return Fleet(readings=kept, dropped=dict(dropped), malformed=dict(malformed))
