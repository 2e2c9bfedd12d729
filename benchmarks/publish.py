"""Publishing a release: the commit beside PyIceberg's own append; the gate before it and the reading back after it, counted apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from benchmarks import rows
from benchmarks.measure import RUNS, Figure, Work, cpu_s, figure, interleave, timed
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID
from curation.residency import gate
from curation.schema import RELEASE
from curation.settings import CatalogSettings

ROWS: Final = 1_000_000
GATED_ROWS: Final = 100_000  # every raw value of as many home rows is searched for, three times a round
TABLE: Final = "published.clips"


def figures(folder: Path, *, row_count: int = ROWS, gated_row_count: int = GATED_ROWS, runs: int = RUNS) -> Iterator[Figure]:
    """Figures of append, gate and gated read-back; the last two say what safety costs beside the bare work on the same rows."""
    release, fresh = rows.releases(row_count), _fresh(folder)
    found = interleave({"ours": timed(partial(_append, fresh, release)), "other": timed(partial(_raw_append, fresh, release))}, runs=runs)
    # Issue E: >= 0.9 of a raw PyIceberg append of 1 M rows in the same run.
    yield figure("publish.append/pyiceberg", cpu_s(found["ours"]), cpu_s(found["other"]), unit="CPU s", better="less", goal=0.9)
    home, release = rows.clips(gated_row_count), rows.releases(gated_row_count)
    sides = {
        "append": timed(partial(_raw_append, fresh, release)),
        "gate": timed(lambda: lambda: gate.check_table(release, home)),
        "read": timed(partial(_read_back, fresh, release, home)),
        "scan": timed(partial(_raw_scan, fresh, release)),
    }
    found = interleave(sides, runs=runs)
    yield figure("publish.gate/pyiceberg_append", cpu_s(found["gate"]), cpu_s(found["append"]), unit="CPU s", better="less")
    yield figure("publish.gated_read_back/pyiceberg_scan", cpu_s(found["read"]), cpu_s(found["scan"]), unit="CPU s", better="less")


def _fresh(folder: Path) -> Callable[[], CatalogSettings]:
    """Each call: the settings of a catalog that is not there yet."""
    made: list[Path] = []

    def settings() -> CatalogSettings:
        made.append(folder / f"catalog-{len(made)}")
        return CatalogSettings(name="overseas", uri=f"sqlite:///{made[-1]}/catalog.db", warehouse=made[-1] / "warehouse")

    return settings


def _append(fresh: Callable[[], CatalogSettings], release: pa.Table) -> Work:
    catalog = _ours(fresh())
    return lambda: catalog.append(TABLE, release, properties={RELEASE_ID: "benchmark"})


def _ours(settings: CatalogSettings) -> IcebergOverseas:
    """The publish stage's catalog, its table made and empty."""
    catalog = IcebergOverseas(settings, {TABLE: RELEASE})
    catalog.append(TABLE, RELEASE.empty_table(), properties={RELEASE_ID: "empty"})
    return catalog


def _raw_append(fresh: Callable[[], CatalogSettings], release: pa.Table) -> Work:
    table, bare = _raw(fresh()), release.replace_schema_metadata(None)
    return lambda: table.append(bare)


def _raw(settings: CatalogSettings) -> Table:
    settings.warehouse.mkdir(parents=True)
    catalog = SqlCatalog(settings.name, uri=settings.uri, warehouse=f"file://{settings.warehouse}")
    catalog.create_namespace("published")
    table = catalog.create_table(TABLE, schema=RELEASE)
    table.append(RELEASE.empty_table())
    return table


def _read_back(fresh: Callable[[], CatalogSettings], release: pa.Table, home: pa.Table) -> Work:
    catalog = _ours(fresh())
    snapshot = catalog.append(TABLE, release, properties={RELEASE_ID: "benchmark"})

    def work() -> None:
        for name, data in catalog.written(TABLE, snapshot.snapshot_id):
            gate.check_file(data, name, home)
        catalog.read(TABLE)

    return work


def _raw_scan(fresh: Callable[[], CatalogSettings], release: pa.Table) -> Work:
    table = _raw(fresh())
    table.append(release.replace_schema_metadata(None))
    return lambda: table.scan().to_arrow()
