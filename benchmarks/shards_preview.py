"""The preview of a shard request over a million curated clips, against the five seconds that are allowed: wall, CPU and memory.

The rows are invented, and written and read through the home catalog; every fiftieth clip repeats its neighbour.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import rows
from benchmarks.measure import PROJECT, RUNS, Figure, cpu_s, figure, interleave, peak_mib, timed, wall_s, within
from curation import pipeline, wiring
from curation.digests import canonical_json
from curation.schema import CLIPS
from curation.settings import read_settings
from curation.shards.request import from_mapping

ROWS: Final = 1_000_000
_PART_ROWS: Final = 250_000
_REPEATS_EVERY: Final = 50
LIMIT_S: Final = 5.0  # issue G: preview in < 5 s on 1 M rows
REQUEST: Final = {
    "name": "bench",
    "filter": "timeofday = 'night' OR weather = 'rainy'",
    "quality": {"sharpness": {"min": 40}},
    "quotas": {"weather": {"rainy": 20_000, "foggy": 50}},
    "balance": {"timeofday": 3},
    "max_per_vehicle": 60,
    "max_per_drive": 4,
    "splits": {"train": 0.8, "val": 0.1, "test": 0.1},
    "max_samples": 100_000,
}


def figures(folder: Path, *, row_count: int = ROWS, runs: int = RUNS) -> Iterator[Figure]:
    """Figures of a request that asks for everything, and of one that takes all clips; each side prepares nothing but the catalog."""
    work = folder / "work"
    _fill(work, row_count)
    request = folder / "request.yaml"
    request.write_bytes(canonical_json(REQUEST))
    sides = {
        "asked": lambda: lambda: previewed(str(work)),
        "all": lambda: lambda: previewed(str(work), everything=True),
        "command": lambda: lambda: _command(work, request),
    }
    costs = interleave({name: timed(side) for name, side in sides.items()}, runs=runs)
    for name, cost in costs.items():
        yield within(f"shards_preview.wall_{name}/limit", wall_s(cost), LIMIT_S, unit="s")
        yield figure(f"shards_preview.cpu_{name}/limit", cpu_s(cost), [LIMIT_S], unit="CPU s", better="less")  # the limit is the wall's
    peak = peak_mib("benchmarks.shards_preview:previewed", work=str(work))
    idle = peak_mib("benchmarks.shards_preview:previewed", work=str(work), no_rows=True)
    yield figure("shards_preview.peak/idle", [peak() for _ in range(runs)], [idle() for _ in range(runs)], unit="MiB", better="less")


def previewed(work: str, *, everything: bool = False, no_rows: bool = False) -> None:
    """A preview of the rows in a work folder; with `no_rows` all that it opens, and no row."""
    settings = read_settings({}, work=Path(work))
    if no_rows:
        wiring.home(settings).catalog.head(settings.curated_table)
        return
    pipeline.preview_shards(settings, from_mapping({"name": "bench"} if everything else REQUEST))


def _command(work: Path, request: Path) -> None:
    command = [str(Path(sys.executable).with_name("curation")), "shards", "preview", str(request), "--work", str(work)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)


def _fill(work: Path, row_count: int) -> None:
    settings = read_settings({}, work=work)
    catalog = wiring.home(settings).catalog
    part = rows.clips(min(row_count, _PART_ROWS))
    for number, begin in enumerate(range(0, row_count, _PART_ROWS)):
        ids = rows.clip_ids(min(_PART_ROWS, row_count - begin), seed=number)
        repeated = pa.array([row % _REPEATS_EVERY == 0 and row > 0 for row in range(len(ids))])
        before = pa.concat_arrays([ids.slice(0, 1), ids.slice(0, len(ids) - 1)])
        some = part.slice(0, len(ids))
        followed = pa.concat_arrays([repeated.slice(1), pa.array([False])])
        alike = pc.if_else(repeated, before, pc.if_else(followed, ids, None))
        for name, values in {"clip_id": ids, "duplicate_of": pc.if_else(repeated, before, None), "near_group": alike}.items():
            some = some.set_column(CLIPS.get_field_index(name), CLIPS.field(name), values)
        catalog.write_branch(settings.curated_table, f"part-{number}", some, replace=[], properties={})
        catalog.advance(settings.curated_table, f"part-{number}")
