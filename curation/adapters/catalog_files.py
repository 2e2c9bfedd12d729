"""The files of an Iceberg table: which a snapshot refers to, what they hold, and what nothing refers to any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record


def path_of(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def remove_files(locations: set[str]) -> None:
    for location in locations:
        path_of(location).unlink(missing_ok=True)


def entries_of(found: Table, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    for manifest in snapshot.manifests(found.io):
        yield from manifest.fetch_manifest_entry(found.io, discard_deleted=True)


def data_files(found: Table, snapshot: Snapshot | None) -> set[Path]:
    """Data files live in `snapshot`."""
    return set() if snapshot is None else {path_of(entry.data_file.file_path) for entry in entries_of(found, snapshot)}


def among_in(file: Path, column: str, values: pa.Array) -> pa.BooleanArray:
    """Whether each row of a Parquet file holds one of the values; no rows where the file, or the column, is not there."""
    if not file.exists():  # an earlier try had removed it and was killed
        return pa.array([], pa.bool_())
    with pq.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            return pa.array([], pa.bool_())
        cells = parquet.read(columns=[column], use_threads=False)[column]
        return pa.concat_arrays(pc.is_in(cells, value_set=values).chunks)  # in one call: each builds an index of the values


def speaks_of(file: Path, column: str, values: pa.Array, wanted: frozenset[str], lengths: Sequence[int]) -> bool:
    """Whether a file holds one of the values, decoded in `column` if it is Parquet, and as bytes anywhere in any other."""
    if file.suffix == ".parquet":
        return bool(among_in(file, column, values).true_count)
    text = file.read_bytes().decode("latin-1")  # byte by byte; ids are plain ASCII
    if file.suffix == ".avro":  # its blocks are compressed
        with AvroFile[Record](PyArrowFileIO().new_input(f"file://{file}")) as records:
            text += "".join(map(repr, records))
    return any(text[at : at + length] in wanted for length in lengths for at in range(len(text) - length + 1))


def added_by(found: Table, snapshot: Snapshot | None, snapshot_id: int) -> set[str]:
    """Data files live in `snapshot` that `snapshot_id` added."""
    if snapshot is None:
        return set()
    return {entry.data_file.file_path for entry in entries_of(found, snapshot) if entry.snapshot_id == snapshot_id}


def sweep(found: Table, *, only: Callable[[Path], bool] = lambda _: True) -> None:
    """Remove data files, manifests and manifest lists that no snapshot refers to: withdrawn rows, and leftovers of killed writers."""
    kept = {path for snapshot in found.metadata.snapshots for path in files_of(found, snapshot)}
    root = path_of(found.location())
    for file in [*root.glob("data/**/*"), *root.glob("metadata/*.avro")]:
        if file.is_file() and file not in kept and only(file):
            file.unlink(missing_ok=True)


def files_of(found: Table, snapshot: Snapshot) -> Iterator[Path]:
    """The snapshot's manifest list, its manifests, and the data files that it shows."""
    yield path_of(snapshot.manifest_list)
    for manifest in snapshot.manifests(found.io):
        yield path_of(manifest.manifest_path)
        for entry in manifest.fetch_manifest_entry(found.io, discard_deleted=True):
            yield path_of(entry.data_file.file_path)
