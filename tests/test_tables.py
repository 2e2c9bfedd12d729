"""Parquet bytes to tables and back: strict, refusing what is damaged, leaving no thread behind."""

import io
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError
from curation.tables import ParquetRows, from_parquet, to_parquet, write_parquet

SCHEMA = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("size", pa.int64())])
ROWS = pa.table({"name": [os.urandom(8).hex() for _ in range(1000)], "size": list(range(1000))}, schema=SCHEMA)


class _Held(io.BytesIO):
    """A file whose reader waits until it is let go."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reached, self.let_go = threading.Event(), threading.Event()

    def read(self, *size: int) -> bytes:
        if threading.current_thread().name.startswith("Dummy"):  # one of Arrow's own
            self.reached.set()
            self.let_go.wait(30)
        return super().read(*size)


def test_rows_come_back_as_they_were_written():
    """What is written is what is read."""
    assert ROWS.equals(from_parquet(to_parquet(ROWS, SCHEMA), SCHEMA))


def test_reading_hands_nothing_to_arrows_io_threads():
    """With every I/O thread of Arrow held up, a table is read all the same: none of them has anything of ours at the process's end."""
    data = to_parquet(ROWS, SCHEMA)
    threads = pa.io_thread_count()
    held = _Held(data)
    pa.set_io_thread_count(1)
    holding = threading.Thread(target=pq.read_table, args=(held,))
    holding.start()
    try:
        assert held.reached.wait(10)
        reading = threading.Thread(target=from_parquet, args=(data, SCHEMA), daemon=True)
        reading.start()
        reading.join(10)
        assert not reading.is_alive()
    finally:
        held.let_go.set()
        holding.join(30)
        pa.set_io_thread_count(threads)


def test_damaged_bytes_are_refused_by_name():
    """A page without its head, a foot that is cut off, no Parquet at all: one error that names the table, whatever Arrow raises."""
    data = to_parquet(ROWS, SCHEMA)
    for damaged in (data[:4] + bytes(600) + data[604:], data[:-9], b"PAR1", b""):
        with pytest.raises(CurationError, match="is not readable Parquet"):
            from_parquet(damaged, SCHEMA)


def test_a_file_from_before_a_column_is_read_with_nulls_in_it():
    """A table that got nullable columns since reads its own older files; a foreign file, and one without a needed column, are refused."""
    named = {"curation.table": "sizes"}
    later = [SCHEMA.field("name"), pa.field("note", pa.string()), SCHEMA.field("size"), pa.field("width", pa.int32())]
    old, wanted = to_parquet(ROWS, SCHEMA.with_metadata(named)), pa.schema(later, metadata=named)
    expected = ROWS.append_column("note", pa.nulls(1000, pa.string())).append_column("width", pa.nulls(1000, pa.int32()))
    assert expected.select(wanted.names).cast(wanted).equals(from_parquet(old, wanted), check_metadata=True)
    needed = pa.schema([*later, pa.field("must", pa.string(), nullable=False)], metadata=named)
    for data, schema in ((to_parquet(ROWS, SCHEMA), wanted), (old, needed)):
        with pytest.raises(CurationError, match="columns differ"):
            from_parquet(data, schema)


@pytest.mark.parametrize("row_count", [0, 1, 131_072, 300_000])
def test_rows_written_in_parts_make_the_same_bytes(row_count, tmp_path):
    """However the parts are cut, the file is the one that is made of all rows at once; and it is read back in stretches."""
    rows = pa.table({"name": [f"row {number % 999}" for number in range(row_count)], "size": list(range(row_count))}, schema=SCHEMA)
    parts = (rows.slice(begin, 50_001) for begin in range(0, max(1, row_count), 50_001))
    assert row_count == write_parquet(tmp_path / "rows.parquet", parts, SCHEMA)
    assert to_parquet(rows, SCHEMA) == (tmp_path / "rows.parquet").read_bytes()
    read = ParquetRows(tmp_path / "rows.parquet", SCHEMA)
    assert row_count == read.num_rows
    assert rows.equals(read.table())
    sizes = list(read.batches(["size"], row_count=1000))
    assert all(batch.num_rows <= 1000 and ["size"] == batch.schema.names for batch in sizes)
    assert row_count == sum(batch.num_rows for batch in sizes)


def test_parts_are_held_to_the_schema(tmp_path):
    """A part of other columns, or with a hole in a needed one, is refused; so is a file that is none, or is damaged farther on."""
    path = tmp_path / "rows.parquet"
    holed = pa.table({"name": pa.nulls(1, pa.string()), "size": [1]})
    for part in (ROWS.drop_columns(["size"]), holed):
        with pytest.raises(CurationError, match=r"columns differ|holds nulls"):
            write_parquet(path, [part], SCHEMA)
    data = to_parquet(ROWS, SCHEMA)
    path.write_bytes(data[:-9])
    with pytest.raises(CurationError, match="is not readable Parquet"):
        ParquetRows(path, SCHEMA)
    path.write_bytes(data)
    with pytest.raises(CurationError, match="columns differ"):
        ParquetRows(path, pa.schema([SCHEMA.field("size")]))
    path.write_bytes(data[:4] + bytes(600) + data[604:])
    with pytest.raises(CurationError, match="is not readable Parquet"):
        ParquetRows(path, SCHEMA).table()
