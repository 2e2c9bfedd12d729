"""The files of an Iceberg table, in a folder or a bucket: which a snapshot refers to, what they hold, and what nothing refers to any more.

A file is named by its location as Iceberg writes it: `file:///folder/…`, `s3://bucket/…`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

WRITING_S: Final = 3600.0  # longer than any commit takes: an older file that nothing refers to is nobody's work under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of a warehouse and its age."""

    location: str
    age_s: float


def opened(io: FileIO, location: str) -> tuple[Any, str]:
    """The pyarrow file system on which a location lies, and its path there."""
    scheme, rest = urlsplit(location).scheme, location.partition("://")[2]
    bucket = "" if scheme == "file" else rest.partition("/")[0]
    return cast("PyArrowFileIO", io).fs_by_scheme(scheme, bucket), rest


def stored_below(io: FileIO, location: str) -> Iterator[Stored]:
    """Every file below a location, by name."""
    system, path = opened(io, location)
    now_s, scheme = time.time(), urlsplit(location).scheme
    found = system.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    for info in sorted(found, key=lambda one: str(one.path)):
        if info.type == pafs.FileType.File:
            yield Stored(location=f"{scheme}://{info.path}", age_s=now_s - info.mtime_ns / 1e9)


def read_bytes(io: FileIO, location: str) -> bytes:
    """All bytes of a file."""
    with io.new_input(location).open() as file:
        return file.read()


def remove_files(io: FileIO, locations: set[str]) -> None:
    """Remove files; those that are gone already are fine."""
    for location in sorted(locations):
        with suppress(FileNotFoundError):
            io.delete(location)


def entries_of(found: Table, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    """Entries of the data files live in `snapshot`."""
    for manifest in snapshot.manifests(found.io):
        yield from manifest.fetch_manifest_entry(found.io, discard_deleted=True)


def data_files(found: Table, snapshot: Snapshot | None) -> set[str]:
    """Data files live in `snapshot`."""
    return set() if snapshot is None else {entry.data_file.file_path for entry in entries_of(found, snapshot)}


def added_by(found: Table, snapshot: Snapshot | None, snapshot_id: int) -> set[str]:
    """Data files live in `snapshot` that `snapshot_id` added."""
    if snapshot is None:
        return set()
    return {entry.data_file.file_path for entry in entries_of(found, snapshot) if entry.snapshot_id == snapshot_id}


def files_of(found: Table, snapshot: Snapshot) -> Iterator[str]:
    """The snapshot's manifest list, its manifests, and the data files that it shows."""
    yield snapshot.manifest_list
    for manifest in snapshot.manifests(found.io):
        yield manifest.manifest_path
        for entry in manifest.fetch_manifest_entry(found.io, discard_deleted=True):
            yield entry.data_file.file_path


def among_in(io: FileIO, location: str, column: str, values: pa.Array) -> pa.BooleanArray:
    """Whether each row of a Parquet file holds one of the values; no rows where the file, or the column, is not there."""
    system, path = opened(io, location)
    try:
        file = system.open_input_file(path)
    except FileNotFoundError:  # an earlier try had removed it and was killed
        return pa.array([], pa.bool_())
    with pq.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            return pa.array([], pa.bool_())
        cells = parquet.read(columns=[column], use_threads=False)[column]
        return pa.concat_arrays(pc.is_in(cells, value_set=values).chunks)  # in one call: each builds an index of the values


def cells_where(io: FileIO, location: str, wanted: str, column: str, value: str) -> pa.Array:
    """The texts in column `wanted` of the rows of a Parquet file whose `column` is `value`; only row groups with one are read for them."""
    found = [pa.array([], pa.string())]
    system, path = opened(io, location)
    with pq.ParquetFile(system.open_input_file(path)) as parquet:
        for number in range(parquet.num_row_groups if column in parquet.schema_arrow.names else 0):  # it may have come later
            hit = pc.equal(parquet.read_row_group(number, columns=[column], use_threads=False)[column], value)
            if pc.any(hit).as_py():
                cells = parquet.read_row_group(number, columns=[wanted], use_threads=False)[wanted]
                found += cells.filter(hit).cast(pa.string()).chunks
    return pa.concat_arrays(found)


def speaks_of(io: FileIO, location: str, column: str, values: pa.Array, wanted: Mapping[int, frozenset[str]]) -> bool:
    """Whether a file holds one of the values, decoded in `column` if it is Parquet, and as bytes anywhere in any other.

    A Parquet file that nobody can decode, as a killed writer's, may hold any. `wanted` holds the values once more, by their length.
    """
    if location.endswith(".parquet"):
        try:
            return bool(among_in(io, location, column, values).true_count)
        except pa.ArrowInvalid:
            return True
    text = read_bytes(io, location).decode("latin-1")  # byte by byte; ids are plain ASCII
    if location.endswith(".avro"):  # its blocks are compressed
        with AvroFile[Record](io.new_input(location)) as records:
            text += "".join(map(repr, records))
    return any(text[at : at + length] in words for length, words in wanted.items() for at in range(len(text) - length + 1))


def sweep(found: Table, *, only: Callable[[Stored], bool] = lambda _: True) -> None:
    """Remove data files, manifests and manifest lists that no snapshot refers to: withdrawn rows, and leftovers of killed writers."""
    kept = {path for snapshot in found.metadata.snapshots for path in files_of(found, snapshot)}
    root = found.location().rstrip("/")
    candidates = [
        *stored_below(found.io, f"{root}/data"),
        *(file for file in stored_below(found.io, f"{root}/metadata") if file.location.endswith(".avro")),
    ]
    remove_files(found.io, {file.location for file in candidates if file.location not in kept and only(file)})
