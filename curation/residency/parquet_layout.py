"""Whether every byte of a Parquet file is one that its readers show: no gap, no trailer, no index, no field that they skip."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC: Final = b"PAR1"
_LENGTH_BYTES: Final = 4
_TAIL_BYTES: Final = _LENGTH_BYTES + len(_MAGIC)
# Thrift's compact form of "ordered as its type is", which stands at the end of a footer once for each column; then the footer stops.
# What may follow, a signing key's metadata, PyArrow would write again and show to nobody.
_COLUMN_ORDER: Final = b"\x1c\x00\x00"
_STOP: Final = b"\x00"
_ARROW_SCHEMA: Final = b"ARROW:schema"
_WRITER: Final = re.compile(r"parquet-cpp-arrow version [0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
_ROOT: Final = re.compile(r"group field_id=-?[0-9]+ (schema|table) \{")


def hidden_in(data: bytes) -> str | None:
    """Where a Parquet file holds bytes that its readers pass over, None where it holds none.

    Only files that PyArrow wrote are looked through to the last byte; of any other writer it is the writer's name that is told.

    Raises:
        OSError, ValueError, pa.ArrowException: the file is no readable Parquet.
    """
    file = pq.ParquetFile(io.BytesIO(data))
    metadata = file.metadata
    if not _WRITER.fullmatch(metadata.created_by or ""):
        return "its writer's name"
    if not _ROOT.search(str(metadata.schema)):
        return "the name of its root"
    footer_bytes = struct.unpack("<I", data[-_TAIL_BYTES : -len(_MAGIC)])[0]
    footer_begins = len(data) - _TAIL_BYTES - footer_bytes
    footer = data[footer_begins:-_TAIL_BYTES]
    if footer != _written_again(metadata) or not footer.endswith(_COLUMN_ORDER * metadata.num_columns + _STOP):
        return "a field of its footer that readers skip"
    return next(_hidden_in_chunks(metadata, footer_begins), None) or _hidden_in_arrow_schema(metadata)


def _written_again(metadata: pq.FileMetaData) -> bytes:
    """The footer as PyArrow writes what it read of it: a field that it does not know is not among that."""
    sink = io.BytesIO()
    metadata.write_metadata_file(sink)
    return sink.getvalue()[len(_MAGIC) : -_TAIL_BYTES]


def _hidden_in_chunks(metadata: pq.FileMetaData, footer_begins: int) -> Iterator[str]:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(metadata.num_columns)]
    if any(group.sorting_columns for group in groups):
        yield "its sorting columns"
    for chunk in chunks:
        if chunk.file_path:
            yield f"the file path of column {chunk.path_in_schema}"
        if chunk.metadata:
            yield f"the metadata of a chunk of column {chunk.path_in_schema}"
        if chunk.has_column_index or chunk.has_offset_index or chunk.bloom_filter_offset is not None:
            yield f"an index of column {chunk.path_in_schema}"
    position = len(_MAGIC)
    for begins, length in sorted(_extent(chunk) for chunk in chunks):
        if begins != position:
            break
        position += length
    if position != footer_begins:
        yield "a gap between its pages"


def _extent(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    offsets = [chunk.data_page_offset, *([chunk.dictionary_page_offset] if chunk.has_dictionary_page else [])]
    return min(offsets), chunk.total_compressed_size


def _hidden_in_arrow_schema(metadata: pq.FileMetaData) -> str | None:
    stored = (metadata.metadata or {}).get(_ARROW_SCHEMA)
    if stored is None:
        return None
    try:
        raw = base64.b64decode(stored, validate=True)
        is_whole = base64.b64encode(raw) == stored and pa.ipc.read_schema(pa.py_buffer(raw)).serialize().to_pybytes() == raw
    except (binascii.Error, pa.ArrowException):
        is_whole = False
    return None if is_whole else "its Arrow schema"
