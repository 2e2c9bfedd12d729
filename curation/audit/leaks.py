"""Search what lies overseas for raw values of home: in the bytes of every file, and in every cell of every table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path, PurePosixPath
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from curation.schema import RELEASE, sensitivity_of

_SECRET: Final = frozenset({"place", "person", "vehicle", "device"})
_MIN_TEXT: Final = 5  # shorter words (a camera's "front") stand in any file by chance
_MIN_DECIMALS: Final = 4  # a coordinate of fewer decimals is coarser than 10 m and, as bytes, common by chance
_ZONES: Final = (UTC, ZoneInfo("Asia/Shanghai"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A home column whose value stands in a file. The value itself is never repeated."""

    file: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSearch:
    """What was searched for, where, and what was found."""

    file_count: int
    value_count: int
    found: tuple[Leak, ...]


def find_home_values(folder: Path, rows: pa.Table) -> LeakSearch:
    """Every home value of `rows` that stands in a file below `folder`.

    Args:
        folder: everything under it counts as having left.
        rows: curated clips, schema CLIPS.
    """
    values = home_values(rows)
    found: list[Leak] = []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        text = path.name.encode() + b"\n" + path.read_bytes() + b"\n" + "\n".join(_cells(path)).encode()
        found += [Leak(file=str(path.relative_to(folder)), column=column) for value, column in values.items() if value in text]
    return LeakSearch(file_count=len(files), value_count=len(values), found=tuple(found))


def home_values(rows: pa.Table) -> Mapping[bytes, str]:
    """Raw values that must not be found abroad, as bytes, each with the column it comes from."""
    values: dict[bytes, str] = {}
    for field in rows.schema:
        secret = sensitivity_of(field) in _SECRET and field.name not in RELEASE.names
        if secret or field.name in {"clip_id", "packet_digest"}:
            for raw in rows[field.name].to_pylist():
                values.update((form.encode(), field.name) for form in _forms(raw))
    for raw in rows["source_uri"].to_pylist():
        values[PurePosixPath(raw).name.encode()] = "source_uri"
    return values


def _forms(raw: object) -> Iterator[str]:
    if isinstance(raw, str) and len(raw) >= _MIN_TEXT:
        yield raw
    elif isinstance(raw, float) and len(repr(raw).partition(".")[2]) >= _MIN_DECIMALS:
        yield repr(raw)
    elif hasattr(raw, "astimezone"):
        for zone in _ZONES:
            for pattern in ("%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"):
                yield raw.astimezone(zone).strftime(pattern)


def _cells(path: Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        for column in pq.read_table(path).columns:
            yield from (str(value) for value in column.to_pylist())
