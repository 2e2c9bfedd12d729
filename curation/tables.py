"""Arrow tables to Parquet bytes and back, strictly under their schema; equal rows give equal bytes."""

from __future__ import annotations

import io
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
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise CurationError(
                f"column {field.name} holds nulls", subject=_name(schema), fix="report this as a defect of the stage that wrote the table"
            )
    sink = io.BytesIO()
    pq.write_table(table.cast(schema).combine_chunks(), sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS, write_statistics=True)
    return sink.getvalue()


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
        raise CurationError(f"is not readable Parquet: {error}", subject=_name(schema), fix="restore the file from its origin") from error
    if (table.schema.metadata or {}).get(_TABLE) == (schema.metadata or {}).get(_TABLE, b""):  # what `to_parquet` wrote, and nobody else
        table = with_later_columns(table, schema)
    _same_columns(table.schema, schema)
    return table.cast(schema)


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
