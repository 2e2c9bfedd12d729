"""Arrow tables to Parquet bytes and back, strictly under their schema; equal rows give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError

_ROW_GROUP_ROWS: Final = 131_072
_TABLE: Final = b"curation.table"  # key of a schema's metadata that names the table


def to_parquet(table: pa.Table, schema: pa.Schema) -> bytes:
    """Parquet bytes of `table`, deterministic for equal rows.

    Raises:
        CurationError: the table's columns differ from `schema` by name, order or type, or a required column holds a null.
    """
    _same_columns(table.schema, schema)
    _required_columns(table, schema)
    sink = io.BytesIO()
    pq.write_table(table.cast(schema).combine_chunks(), sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS, write_statistics=True)
    return sink.getvalue()


def write_parquet(path: Path, parts: Iterable[pa.Table], schema: pa.Schema) -> int:
    """How many rows were written to a new file: the bytes that `to_parquet` makes of all parts together, a row group in memory at a time.

    Raises:
        CurationError: as `to_parquet`.
    """
    waiting, rows = schema.empty_table(), 0
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True) as writer:
        for part in parts:
            _same_columns(part.schema, schema)
            _required_columns(part, schema)
            rows += part.num_rows
            waiting = pa.concat_tables([waiting, part.cast(schema)])
            while waiting.num_rows >= _ROW_GROUP_ROWS:
                writer.write_table(waiting.slice(0, _ROW_GROUP_ROWS).combine_chunks(), row_group_size=_ROW_GROUP_ROWS)
                waiting = waiting.slice(_ROW_GROUP_ROWS)
        if waiting.num_rows or not rows:
            writer.write_table(waiting.combine_chunks(), row_group_size=_ROW_GROUP_ROWS)
    return rows


class ParquetRows:
    """The rows of a Parquet file under a schema, a stretch in memory at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Opens the file.

        Raises:
            CurationError: as `from_parquet`, for what the file's footer tells.
        """
        self.schema = schema
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, memory_map=False)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error, schema) from error
        found = self._file.schema_arrow.empty_table()
        self._stored = set(found.column_names)
        _same_columns(with_later_columns(found, schema).schema if _is_ours(found.schema, schema) else found.schema, schema)
        self.num_rows: int = self._file.metadata.num_rows

    def batches(self, columns: Sequence[str], *, row_count: int = _ROW_GROUP_ROWS) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows.

        Raises:
            CurationError: a page is damaged.
        """
        wanted = pa.schema([self.schema.field(name) for name in columns])
        stored = [name for name in columns if name in self._stored]
        try:
            for batch in self._file.iter_batches(batch_size=row_count, columns=stored, use_threads=False):
                rows = with_later_columns(pa.Table.from_batches([batch]).select(stored), wanted).cast(wanted)
                yield from rows.combine_chunks().to_batches()
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error, self.schema) from error

    def parts(self, row_count: int) -> Iterator[pa.Table]:
        """All columns of all rows, so many rows at a time."""
        for batch in self.batches(self.schema.names, row_count=row_count):
            yield pa.Table.from_batches([batch]).cast(self.schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once, in all columns or some."""
        names = self.schema.names if columns is None else list(columns)
        read = pa.Table.from_batches(list(self.batches(names)), schema=pa.schema([self.schema.field(name) for name in names]))
        return read if columns is not None else read.cast(self.schema)


def from_parquet(data: bytes, schema: pa.Schema) -> pa.Table:
    """The rows of Parquet bytes under `schema`; nullable columns that the table got after they were written are null.

    Raises:
        CurationError: the bytes are not Parquet, or their columns differ from `schema`.
    """
    try:
        # Not pq.read_table: its I/O threads outlive it, want the interpreter once more to let go of the bytes, and at the end of a short
        # process abort or hang it (apache/arrow issues 33975 and 50482).
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:  # OSError: a page that does not decompress
        raise _unreadable(error, schema) from error
    if _is_ours(table.schema, schema):
        table = with_later_columns(table, schema)
    _same_columns(table.schema, schema)
    return table.cast(schema)


def as_written(rows: pa.Table, data: bytes) -> pa.Table:
    """The rows in the columns of Parquet bytes, and of the version of the schema that they say they are of."""
    found = pq.read_schema(pa.BufferReader(data))
    return rows.select(found.names).replace_schema_metadata(found.metadata)


def _is_ours(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether rows are of that table as `to_parquet` wrote it, and nobody else."""
    return bool((found.metadata or {}).get(_TABLE) == (schema.metadata or {}).get(_TABLE, b""))


def _unreadable(error: Exception, schema: pa.Schema) -> CurationError:
    return CurationError(f"is not readable Parquet: {error}", subject=_name(schema), fix="restore the file from its origin")


def _required_columns(table: pa.Table, schema: pa.Schema) -> None:
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise CurationError(
                f"column {field.name} holds nulls", subject=_name(schema), fix="report this as a defect of the stage that wrote the table"
            )


def with_later_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with each nullable column of `schema` that they lack, null, at its place; the rows as they are where they lack none."""
    for at, field in enumerate(schema):
        if field.nullable and field.name not in table.schema.names:
            table = table.add_column(min(at, table.num_columns), field, pa.nulls(table.num_rows, field.type))
    return table


def _name(schema: pa.Schema) -> str:
    return f"table {(schema.metadata or {}).get(_TABLE, b'?').decode()}"


def _same_columns(found: pa.Schema, wanted: pa.Schema) -> None:
    if found.names != wanted.names:
        extra, missing = sorted(set(found.names) - set(wanted.names)), sorted(set(wanted.names) - set(found.names))
        raise CurationError(
            f"columns differ (unknown: {extra}, missing: {missing}) or stand in another order",
            subject=_name(wanted),
            fix="use the columns of curation/schema.py",
        )
    for have, want in zip(found, wanted, strict=True):
        if have.type != want.type:
            raise CurationError(
                f"column {have.name} is {have.type}, not {want.type}", subject=_name(wanted), fix="use the types of curation/schema.py"
            )
