"""The gate: what is about to leave, and what was written, is exactly a release and holds no raw value of the home table.

Written on its own: it knows the schema and the words a release may hold, and nothing of packs, rules or their evaluation.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import GateRefused
from curation.residency.needles import Digests, Hay, Home, HomeTable, Search, Stretches, search
from curation.residency.parquet_layout import hidden_in
from curation.schema import CLIPS, DATUMS, EGO_MOTION, PROVINCES, RELEASE, SCENE, TIMEOFDAY, VERDICTS, WEATHER

_FIVE: Final = ("1 lowest", "2 low", "3 middle", "4 high", "5 highest")
# Spelt out here a second time on purpose: a slip in the generalisations must not widen the gate.
VOCABULARY: Final[Mapping[str, tuple[str, ...]]] = {
    "province": PROVINCES,
    "resolution_class": ("below 480p", "480p", "720p", "1080p", "1440p", "2160p or more"),
    "video_codec": ("av1", "h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "vp8", "vp9", "other"),
    "fps_class": ("below 20", "20 to below 28", "28 to below 45", "45 or more"),
    "sharpness": _FIVE,
    "brightness": _FIVE,
    "contrast": _FIVE,
    "noise": _FIVE,
    "timeofday": TIMEOFDAY,
    "weather": WEATHER,
    "scene": SCENE,
}
SHAPES: Final[Mapping[str, str]] = {"release_row_id": r"^[0-9a-f]{32}$", "month": r"^20[0-9]{2}-(0[1-9]|1[0-2])$"}
MAX_DURATION_S: Final = 3600
_NAME: Final = re.compile(r"[0-9]{5}-[0-9]{1,6}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-[0-9]{1,6})?\.parquet")
_HEX: Final = 16
_BYTES: Final = 256
_ANY_LENGTH: Final = 0
_FIELD_ID: Final = b"PARQUET:field_id"
_SMALL_NUMBER: Final = re.compile(rb"[0-9]{1,3}")
_PLAIN_KEY: Final = re.compile(rb"[A-Za-z][A-Za-z_.:]{0,40}")
_NO_HEX_DIGIT: Final = re.compile("[^0-9a-f]")
_ARROW_SCHEMA: Final = b"ARROW:schema"
# Random ids rarely share their first or last eight signs; counters, clocks and machine ids do.
_MIN_DISTINCT_SHARE: Final = 0.99
_MIN_SIGNS: Final = 6


def check_table(table: pa.Table, home: pa.Table | Home) -> None:
    """Nothing, if the table about to leave is exactly a release.

    Args:
        table: what is about to be appended overseas.
        home: the clips it was made from, schema CLIPS, whose raw values must not stand in it.

    Raises:
        GateRefused: another column, order, type or metadata than RELEASE; a null; a word, shape or number out of bounds; a row id
            that stands twice, was not drawn at random, or is not in the order of the ids; or a raw value. Names the column, never the
            value.
    """
    subject = "table about to leave"
    rows = _home(home, subject)
    _check_schema(table.schema, subject)
    _check_rows(table, [], rows, subject)


def check_file(data: bytes, name: str, home: pa.Table | Home) -> None:
    """Nothing, if a Parquet file that was written is exactly a release: cells, dictionaries, statistics, metadata, name and bytes.

    Raises:
        GateRefused: as `check_table`, or the file is no Parquet, or its name, statistics, metadata or raw bytes say more.
    """
    rows = _home(home, "written file")
    if not _NAME.fullmatch(name):
        raise _refused("file name", "has another shape than a data file's, as 00000-0-<uuid>.parquet", "written file")
    subject = "written file"
    table = _read(data, subject)
    plain = _decoded(table)
    _check_dictionaries(table, subject)
    _check_rows(plain, _raw_file(data, name, rows), rows, subject)


def check_raw_bytes(data: bytes, name: str, home: pa.Table | Home) -> None:
    """Nothing, if neither the bytes nor the name of any other file hold a raw value of the home table.

    Raises:
        GateRefused: a raw value stands in them.
    """
    rows = _home(home, "written file")
    _refuse_raw(_raw_file(data, name, rows), rows, "written file")


def _check_rows(table: pa.Table, more: Sequence[Search], home: Home, subject: str) -> None:
    """Nothing, if the rows are a release's and neither they nor what `more` searches hold a raw value."""
    _check_cells(table, subject)
    row_ids = table.column("release_row_id")
    _check_row_ids(row_ids, subject)
    _refuse_raw([*_raw_cells(table, home), *more], home, subject)
    # Any other order could be that of the clips.
    if not pc.all(pc.less(row_ids.slice(0, max(0, table.num_rows - 1)), row_ids.slice(1))).as_py() and table.num_rows > 1:
        raise _refused("column release_row_id", "is not in the order of its ids", subject)


def _refused(where: str, problem: str, subject: str) -> GateRefused:
    return GateRefused(f"{where} {problem}", subject=subject, fix="nothing may leave; cut the release again and report this as a defect")


def _refuse_raw(searches: Sequence[Search], home: Home, subject: str) -> None:
    words = {word for values in VOCABULARY.values() for word in values} | {*VERDICTS, *EGO_MOTION, *DATUMS}
    found = search(home, searches, emitted=["province"], vocabulary=words)
    if found is not None:
        raise _refused(found[0], f"holds a raw value of column {found[1]}", subject)


def _raw_file(data: bytes, name: str, home: Home) -> list[Search]:
    return [
        Hay("file name", name.encode(), home, alphabet=_HEX),
        Hay("file name", _hex_bytes(name), home, alphabet=_BYTES),
        Hay("raw bytes", data, home, alphabet=_BYTES),
    ]


def _hex_bytes(text: str) -> bytes:
    """The bytes for which the hexadecimal digits of a text stand, from its first digit on and from its second."""
    digits = _NO_HEX_DIGIT.sub("", text)
    return bytes.fromhex(digits[: len(digits) // 2 * 2]) + bytes.fromhex(digits[1 : 1 + (len(digits) - 1) // 2 * 2])


def _home(home: pa.Table | Home, subject: str) -> Home:
    rows: Home = HomeTable(home) if isinstance(home, pa.Table) else home
    if rows.schema.names != CLIPS.names or rows.schema.types != CLIPS.types:
        raise _refused("home table", "is not the clips table, so nothing can be searched for", subject)
    return rows


def _check_schema(found: pa.Schema, subject: str) -> None:
    for name in found.names:
        if name not in RELEASE.names:
            raise _refused(f"column {name[:60]!a}", "is not of a release", subject)
    if found.names != RELEASE.names:
        missing = [name for name in RELEASE.names if name not in found.names]
        raise _refused(f"columns (missing: {missing})", "are not those of a release, in its order", subject)
    for have, want in zip(found, RELEASE, strict=True):
        if have.type != want.type:
            raise _refused(f"column {have.name}", f"has type {str(have.type)[:60]}, not {want.type}", subject)
        allowed = {**dict(want.metadata), _FIELD_ID: (have.metadata or {}).get(_FIELD_ID, b"")}
        for key, value in (have.metadata or {}).items():
            if allowed.get(key) != value or (key == _FIELD_ID and not _SMALL_NUMBER.fullmatch(value)):
                raise _refused(f"column {have.name}", "carries metadata that is not the schema's", subject)
    if found.metadata and dict(found.metadata) != dict(RELEASE.metadata):
        raise _refused("table metadata", "is not the schema's", subject)


def _check_cells(table: pa.Table, subject: str) -> None:
    for name in RELEASE.names:
        column = table.column(name)
        if column.null_count:
            raise _refused(f"column {name}", "holds nulls", subject)
        if name in VOCABULARY:
            is_good = pc.is_in(column, value_set=pa.array(VOCABULARY[name], pa.string()))
        elif name in SHAPES:
            is_good = pc.match_substring_regex(column, SHAPES[name])
        else:
            is_good = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, MAX_DURATION_S))
        if table.num_rows and not pc.all(is_good).as_py():
            raise _refused(f"column {name}", "holds a value outside its vocabulary, shape or range", subject)


def _check_row_ids(column: pa.ChunkedArray, subject: str) -> None:
    rows = len(column)
    if pc.count_distinct(column).as_py() != rows:
        raise _refused("column release_row_id", "holds an id twice", subject)
    for start, stop in ((0, 8), (24, 32)):
        distinct = pc.count_distinct(pc.utf8_slice_codeunits(column, start, stop)).as_py()
        if distinct < rows * _MIN_DISTINCT_SHARE:
            raise _refused("column release_row_id", "holds ids that share a part, so they were not drawn at random", subject)
    signs = np.frombuffer("".join(column.to_pylist()).encode(), dtype=np.uint8).reshape(rows, 32)
    if rows and int((np.diff(np.sort(signs, axis=1), axis=1) != 0).sum(axis=1).min()) + 1 < _MIN_SIGNS:
        raise _refused("column release_row_id", "holds an id of too few different signs to be random", subject)


def _raw_cells(table: pa.Table, home: Home) -> list[Search]:
    """Searches of all cells; of the ids also the other way round, for a clip's hash is longer than an id that was cut from it."""
    searches: list[Search] = [
        Hay(f"column {name}", "\n".join(pc.unique(table.column(name)).to_pylist()).encode(), home, alphabet=_ANY_LENGTH, is_lines=True)
        for name in (*VOCABULARY, "month")
    ]
    row_ids = table.column("release_row_id").to_pylist()
    joined = "\n".join(row_ids).encode()
    searches.append(Hay("column release_row_id", joined, home, alphabet=_HEX, is_lines=True))
    searches.append(Hay("column release_row_id", _hex_bytes(joined.decode()), home, alphabet=_BYTES))
    searches.append(Stretches("column release_row_id", row_ids))
    searches.append(Digests("column release_row_id", row_ids))
    return searches


def _check_key_values(metadata: pq.FileMetaData, subject: str) -> None:
    allowed = {_ARROW_SCHEMA, *dict(RELEASE.metadata)}
    for key, value in (metadata.metadata or {}).items():
        if key not in allowed or (key != _ARROW_SCHEMA and dict(RELEASE.metadata)[key] != value):
            said = repr(key.decode()) if _PLAIN_KEY.fullmatch(key) else "of its own"
            raise _refused("file metadata", f"holds a key {said}, or another value under it", subject)


def _read(data: bytes, subject: str) -> pa.Table:
    """The file's rows, words still in their dictionaries, after its schema, metadata and statistics were found to be a release's."""
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _check_key_values(file.metadata, subject)
        _check_schema(_as_strings(file.schema_arrow), subject)
        _check_statistics(file.metadata, subject)
        hidden = hidden_in(data)
        if hidden is not None:
            raise _refused("file", f"holds bytes that its readers pass over, in {hidden}", subject)
        return pq.ParquetFile(io.BytesIO(data), read_dictionary=list(VOCABULARY)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _refused("file", "is no readable Parquet", subject) from error


def _as_strings(schema: pa.Schema) -> pa.Schema:
    """The schema with large strings as strings: how a reader wants them, not what the file holds."""
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _decoded(table: pa.Table) -> pa.Table:
    columns = [column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.string()) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def _check_dictionaries(table: pa.Table, subject: str) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            if pa.types.is_dictionary(chunk.type) and not set(chunk.dictionary.to_pylist()) <= set(VOCABULARY[name]):
                raise _refused(f"dictionary of column {name}", "holds a word outside its vocabulary", subject)


def _check_statistics(metadata: pq.FileMetaData, subject: str) -> None:
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            statistics = chunk.statistics
            if statistics is not None and statistics.has_min_max:
                _check_bounds(chunk.path_in_schema, (statistics.min, statistics.max), subject)


def _check_bounds(name: str, bounds: Iterable[Any], subject: str) -> None:
    for bound in bounds:
        if name in VOCABULARY:
            is_good = bound in VOCABULARY[name]
        elif name in SHAPES:
            is_good = isinstance(bound, str) and re.fullmatch(SHAPES[name], bound) is not None
        else:
            is_good = isinstance(bound, int) and 0 <= bound <= MAX_DURATION_S
        if not is_good:
            raise _refused(f"statistics of column {name}", "hold a value outside its vocabulary, shape or range", subject)
