"""Memory of deciding on 20 million rows, file to file, against the 2 GiB that are allowed: rows stream, and spill beside the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from benchmarks import rows
from benchmarks.measure import Figure, peak_mib, within
from curation.schema import CLIPS
from curation.tables import write_parquet

ROWS: Final = 20_000_000
LIMIT_MIB: Final = 2_048.0
_PART_ROWS: Final = 1_000_000


def figures(folder: Path, *, row_count: int = ROWS, runs: int = 1) -> Iterator[Figure]:
    """One run unless told otherwise: it takes minutes, and memory varies little."""
    manifest = folder / "clips.parquet"
    write_parquet(manifest, _parts(row_count), CLIPS)
    peak = peak_mib("benchmarks.residency:check", manifest=str(manifest))
    found = [peak() for _ in range(runs)]
    yield within(f"residency.peak_{row_count // 1_000_000}m/limit", found, LIMIT_MIB, unit="MiB")


def _parts(row_count: int) -> Iterator[pa.Table]:
    """The same rows again and again under ids of their own: what a column repeats costs the evaluator nothing less."""
    part = rows.clips(min(row_count, _PART_ROWS))
    at = CLIPS.get_field_index("clip_id")
    for number, begin in enumerate(range(0, row_count, _PART_ROWS)):
        size = min(_PART_ROWS, row_count - begin)
        yield part.slice(0, size).set_column(at, CLIPS.field("clip_id"), rows.clip_ids(size, seed=number))
