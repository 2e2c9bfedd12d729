"""How many rows each check of a suite does not expect, counted by DuckDB column by column: bounded memory, whatever the number of rows.

The rows are seen as the columns of the table, NaN as null (as Great Expectations sees it), and the columns of `derived`.
"""

# ruff: noqa: S608 - names of columns and values of a suite, quoted

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation import schema
from curation.adapters.validator_forms import COARSE_TIME, HEX64
from curation.adapters.validator_suites import type_text, types_of
from curation.privacy.census import COUNTS

CLIP_IDS_KEPT: Final = 100  # per failed check; the count beside them is whole
COUNTED_APART: Final = ("expect_column_values_to_be_unique", "expect_rows_to_be_conserved")
MEMORY_LIMIT: Final = "1GiB"  # of DuckDB; what does not fit goes to a temporary folder
DRIFT_BATCHES_MIN: Final = 5  # of a device in the history, below which nothing is usual
DRIFT_CLIPS_MIN: Final = 5  # of a device in a batch, below which its median says little
DRIFT_SIGMAS: Final = 6.0  # robust ones, 1.4826 x the median absolute deviation of the batches' medians
DRIFT_RATIO: Final = 0.25  # of the usual value: smaller steps are not worth a word
_SIGMA_PER_DEVIATION: Final = 1.4826

Check = Mapping[str, Any]
Rows: TypeAlias = pa.Table | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Rows that a check does not expect, and the ids of some of their clips, sorted."""

    unexpected: int
    clip_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted. `missing` names the checks whose column is not there, or not of its type; `failed` those that DuckDB refused."""

    rows_present: int
    rows_examined: int
    found: Mapping[str, Count]
    missing: frozenset[str]
    failed: frozenset[str]
    columns: tuple[str, ...]


def schema_of(rows: Rows) -> pa.Schema:
    """Columns and metadata of rows; of a Parquet file only its footer is read.

    Raises:
        pa.ArrowException, OSError: the file is not readable Parquet.
    """
    return rows.schema if isinstance(rows, pa.Table) else pq.read_schema(rows)


def count(rows: Rows, checks: Sequence[Check], related: Mapping[str, pa.Table]) -> Counts:
    """The counts of checks whose types are all in `FORMS` or `COUNTED_APART`, and whose related tables are all given."""
    fields = schema_of(rows)
    present = rows.num_rows if isinstance(rows, pa.Table) else pq.read_metadata(rows).num_rows
    added = derived(fields, related)
    known = {field.name: field.type for field in fields} | {name: kind for name, (kind, _) in added.items()}
    missing = frozenset(_name(check) for check in checks if not _has_its_columns(check, known))
    askable = [check for check in checks if _name(check) not in missing]
    with _connected(rows, fields, added, related) as connection:
        examined, found, failed = _counted(connection, [check for check in askable if check["type"] not in COUNTED_APART], fields)
        for check in askable:
            if check["type"] in COUNTED_APART:
                try:
                    found[_name(check)] = _apart(connection, check)
                except duckdb.Error:
                    failed.add(_name(check))
        names = {field.name for field in fields}
        bad = [check for check in askable if check["type"] in FORMS and found.get(_name(check), Count(unexpected=0)).unexpected]
        found |= _clip_ids(connection, bad, found) if "clip_id" in names and pa.types.is_string(known["clip_id"]) else {}
    return Counts(
        rows_present=present, rows_examined=examined, found=found, missing=missing, failed=frozenset(failed), columns=tuple(fields.names)
    )


def _name(check: Check) -> str:
    return str(check["meta"]["check"])


# --- the rows as checks see them -----------------------------------------------------------------------------------------------------


@contextmanager
def _connected(
    rows: Rows, fields: pa.Schema, added: Mapping[str, tuple[pa.DataType, str]], related: Mapping[str, pa.Table]
) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="validate-") as folder, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = {_text(folder)}")
        # A Parquet file's statistics know no NaN, and DuckDB 2.0 folds isnan(x) and x = 'nan' to false by them.
        connection.execute("SET disabled_optimizers = 'statistics_propagation'")
        for name, table in related.items():
            connection.register(f"related_{name}", table)
        if isinstance(rows, pa.Table):
            connection.register("given", rows)
        else:  # DuckDB takes *, ? and [ of a path for a pattern
            file = re.sub(r"([*?\[])", r"[\1]", str(rows))
            connection.execute(f"CREATE VIEW given AS FROM read_parquet({_text(file)})")
        floats = [field.name for field in fields if pa.types.is_floating(field.type)]
        known = ", ".join(f"{_number(_quoted(name))} AS {_quoted(name)}" for name in floats)
        replaced = f" REPLACE ({known})" if known else ""
        finite = " AND ".join(f"coalesce(isfinite({_quoted(name)}), TRUE)" for name in floats) or "TRUE"
        made = "".join(f", {sql} AS {_quoted(name)}" for name, (_, sql) in added.items() if name != "nonfinite")
        named = "coalesce(map_keys(unmeasured), [])" if _is(fields, "unmeasured", pa.types.is_map) else "NULL"
        connection.execute(
            f"CREATE VIEW checked AS SELECT *{replaced}, CASE WHEN {finite} THEN '' ELSE 'some' END AS nonfinite{made}"
            f" FROM (SELECT *, {named} AS named_ FROM given){_moved(fields, related)}"
        )
        yield connection


def derived(fields: pa.Schema, related: Mapping[str, pa.Table]) -> dict[str, tuple[pa.DataType, str]]:
    """Columns that say of nested or related ones what a check can be about: name -> Arrow type and SQL; none whose inputs are missing.

    - `arrow_types`: every column with its Arrow type
    - `nonfinite`: whether a float column holds NaN or infinity, empty text if none does
    - `reasons_count`, `reasons_blank_count`, `withheld_by_blank_count`: how many, and how many of them say nothing
    - `unmeasured_unknown`, `unmeasured_unexplained`, `unmeasured_with_value`: whether names in `unmeasured` are no column, have no reason,
      or have a value all the same; empty text if none is
    - `<signal>_state`: measured, unmeasured, both or neither; of counts of faces and plates also counted by none, without a detector
    - `<signal>_drift`: steady or moved; null where device or history say too little
    - `fix_state`: complete (both coordinates and a datum), none, or partial
    - `track_wrong_count`: fixes of the track outside the globe or before the clip
    - `object_names_clip`: whether object_uri contains clip_id
    - `released_state`, `released_clip_id`: released or withheld, or what contradicts it; the clip's id if it is released
    - `shard_state`: whether a shard is named by the sample's split
    """
    text, number = pa.string(), pa.int64()
    types = {"arrow_types": (text, f"{_text(types_of(fields))}"), "nonfinite": (text, "")}
    for name in ("reasons", "withheld_by"):
        if _is(fields, name, pa.types.is_list):
            types[f"{name}_count"] = (number, f"len({name})")
            types[f"{name}_blank_count"] = (number, f"len(list_filter(coalesce({name}, []), lambda one: coalesce(one, '') = ''))")
    if _is(fields, "unmeasured", pa.types.is_map):
        types |= {name: (text, sql) for name, sql in _excuses(fields)}
    if {"latitude_deg", "longitude_deg", "datum"} <= set(fields.names):
        parts = (_has_value(fields.field(name)) for name in ("latitude_deg", "longitude_deg", "datum"))
        given = " + ".join(f"({part})::INT" for part in parts)
        types["fix_state"] = (text, f"CASE {given} WHEN 3 THEN 'complete' WHEN 0 THEN 'none' ELSE 'partial' END")
    if _is(fields, "track", lambda kind: type_text(kind) == type_text(schema.CLIPS.field("track").type)):
        on_globe = "abs(fix.latitude_deg) <= 90 AND abs(fix.longitude_deg) <= 180 AND fix.offset_s >= 0 AND fix.offset_s < 'inf'"
        types["track_wrong_count"] = (number, f"len(list_filter(coalesce(track, []), lambda fix: NOT coalesce({on_globe}, FALSE)))")
    if _is(fields, "object_uri", pa.types.is_string) and _is(fields, "clip_id", pa.types.is_string):
        types["object_names_clip"] = (text, "CASE WHEN clip_id <> '' AND contains(object_uri, clip_id) THEN 'yes' ELSE 'no' END")
    if "withheld_by_count" in types and _is(fields, "released", pa.types.is_boolean):
        has_rules = "len(withheld_by) > 0"
        types["released_state"] = (
            text,
            f"CASE WHEN coalesce(released = ({has_rules}), TRUE) THEN 'contradicted' WHEN released THEN 'released' ELSE 'withheld' END",
        )
        types["released_clip_id"] = (text, "CASE WHEN released THEN clip_id END")
    if _is(fields, "shard", pa.types.is_string) and _is(fields, "split", pa.types.is_string):
        types["shard_state"] = (text, "CASE WHEN left(shard, -11) = split THEN 'of its split' ELSE 'of another' END")  # -000000.tar, .mds
    for name in _drifting(fields, related):
        types[f"{name}_drift"] = (text, f"{name}_moved_")
    return types


def _is(fields: pa.Schema, name: str, test: Callable[[pa.DataType], bool]) -> bool:
    return name in fields.names and bool(test(fields.field(name).type))


def _excuses(fields: pa.Schema) -> Iterator[tuple[str, str]]:
    names = ", ".join(_text(name) for name in fields.names)
    yield "unmeasured_unknown", f"CASE WHEN len(list_filter(named_, lambda one: one NOT IN ({names}))) = 0 THEN '' ELSE 'some' END"
    blank = "len(list_filter(coalesce(map_values(unmeasured), []), lambda one: coalesce(one, '') = ''))"
    yield "unmeasured_unexplained", f"CASE WHEN {blank} = 0 THEN '' ELSE 'some' END"
    others = [field for field in fields if field.name not in schema.SIGNALS and field.name != "unmeasured"]
    both = " OR ".join(f"({_has_value(field)} AND list_contains(named_, {_text(field.name)}))" for field in others)
    yield "unmeasured_with_value", f"CASE WHEN len(named_) > 0 AND ({both or 'FALSE'}) THEN 'some' ELSE '' END"
    for name in (one for one in schema.SIGNALS if one in fields.names):
        has, named = _has_value(fields.field(name)), f"list_contains(named_, {_text(name)})"
        state = f"WHEN {has} THEN CASE WHEN {named} THEN 'both' ELSE 'measured' END WHEN {named} THEN 'unmeasured' ELSE 'neither'"
        yield f"{name}_state", f"CASE {state} END"
    for name in (one for one in COUNTS if {one, "detector_versions"} <= set(fields.names)):
        has, named = _has_value(fields.field(name)), f"list_contains(named_, {_text(name)})"
        by_none = "coalesce(trim(detector_versions), '') = ''"
        state = f"WHEN {has} THEN CASE WHEN {named} THEN 'both' WHEN {by_none} THEN 'counted by none' ELSE 'measured' END"
        yield f"{name}_state", f"CASE {state} WHEN {named} THEN 'unmeasured' ELSE 'neither' END"


def _has_value(field: pa.Field) -> str:
    name = _quoted(field.name)
    if pa.types.is_floating(field.type):
        return f"{_number(name)} IS NOT NULL"
    return f"coalesce({name} <> 'undefined', FALSE)" if pa.types.is_string(field.type) else f"{name} IS NOT NULL"


# --- drift ---------------------------------------------------------------------------------------------------------------------------


def _drifting(fields: pa.Schema, related: Mapping[str, pa.Table]) -> list[str]:
    if "history" not in related or not _is(fields, "device_id", pa.types.is_string):
        return []
    numbers = {field.name for field in fields if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)}
    return [name for name in schema.SIGNALS if name in numbers and name in related["history"].column_names]


def _moved(fields: pa.Schema, related: Mapping[str, pa.Table]) -> str:
    """A join that brings, per device and signal, whether its median lies off what its last batches gave.

    Related `history` has the columns batch_id, device_id and the signals. Rows without a device count as one device's.
    """
    signals = _drifting(fields, related)
    if not signals:
        return ""

    def medians(name: str) -> str:
        value = _number(f"{name}::DOUBLE")
        return f"CASE WHEN count({value}) >= {DRIFT_CLIPS_MIN} THEN median({value}) END AS {name}"

    every = ", ".join(medians(name) for name in signals)
    usual = ", ".join(
        f"CASE WHEN count({name}) >= {DRIFT_BATCHES_MIN} THEN median({name}) END AS {name}, mad({name}) AS {name}_mad" for name in signals
    )
    moved = ", ".join(
        f"CASE WHEN abs(now.{name} - usual.{name}) > greatest({DRIFT_SIGMAS * _SIGMA_PER_DEVIATION} * usual.{name}_mad,"
        f" {DRIFT_RATIO} * abs(usual.{name})) THEN 'moved' WHEN now.{name} IS NOT NULL AND usual.{name} IS NOT NULL THEN 'steady' END"
        f" AS {name}_moved_"
        for name in signals
    )
    return f""" LEFT JOIN (
        SELECT now.device_ AS device_, {moved}
        FROM (SELECT coalesce(device_id, '') AS device_, {every} FROM given GROUP BY ALL) AS now
        JOIN (
            SELECT device_, {usual} FROM (
                SELECT coalesce(device_id, '') AS device_, batch_id, {every} FROM related_history GROUP BY ALL
            ) GROUP BY ALL
        ) AS usual ON usual.device_ = now.device_
    ) AS drift ON drift.device_ = coalesce(device_id, '')"""


# --- checks as conditions ------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _number(value: str) -> str:
    """The value, null if it is NaN."""
    return f"nullif({value}, 'nan')"


def _outside(column: str, kwargs: Mapping[str, Any]) -> str:
    words = ", ".join(_text(word) for word in kwargs["value_set"])
    return f"{column}::VARCHAR NOT IN ({words})"


def _beyond(column: str, kwargs: Mapping[str, Any]) -> str:
    limits = [f"{column} < {kwargs['min_value']}"] if kwargs.get("min_value") is not None else []
    limits += [f"{column} > {kwargs['max_value']}"] if kwargs.get("max_value") is not None else []
    return f"({' OR '.join(limits)})"


_Form = Callable[[str, Mapping[str, Any]], str]
# Type of a check -> rows of a column, under its arguments, that it does not expect; null, where the value is missing, is none of them.
FORMS: Final[Mapping[str, _Form]] = {
    "expect_column_values_to_be_in_set": _outside,
    "expect_column_values_to_be_words_of": lambda column, kwargs: _outside(column, {"value_set": kwargs["words"]}),
    "expect_column_values_to_be_between": _beyond,
    "expect_column_value_lengths_to_be_between": lambda column, kwargs: _beyond(f"length({column})", kwargs),
    "expect_column_values_to_match_regex": lambda column, kwargs: f"NOT regexp_matches({column}, {_text(kwargs['regex'])})",
    "expect_column_values_to_not_match_regex": lambda column, kwargs: f"regexp_matches({column}, {_text(kwargs['regex'])})",
    "expect_column_values_to_not_be_null": lambda column, _: f"{column} IS NULL",
    "expect_column_values_to_be_null": lambda column, _: f"{column} IS NOT NULL",
    "expect_column_values_to_be_coarse_time": lambda column, _: f"NOT regexp_full_match({column}, {_text(COARSE_TIME)})",
    "expect_column_values_to_hold_nothing_sensitive": lambda column, kwargs: (
        f"regexp_matches({column}, {_text('|'.join(f'(?:{form})' for form in kwargs['forms'].values()))})"
    ),
    "expect_table_row_count_to_be_between": lambda _, kwargs: f"bool_or(count(*) < {kwargs['min_value']})",
    "expect_table_columns_to_match_ordered_list": lambda *_: "",
}
_OF_TABLE: Final = ("expect_table_row_count_to_be_between", "expect_table_columns_to_match_ordered_list")
_NEEDS_TEXT: Final = (
    "expect_column_value_lengths_to_be_between", "expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex",
    "expect_column_values_to_be_coarse_time", "expect_column_values_to_hold_nothing_sensitive",
)  # fmt: skip


def _column(check: Check) -> str | None:
    named: str | None = check["kwargs"].get("column", check["kwargs"].get("column_name"))
    return named


def _has_its_columns(check: Check, known: Mapping[str, pa.DataType]) -> bool:
    column, where = _column(check), check["kwargs"].get("row_condition")
    if column is None:
        return True
    kind = known.get(column)
    if kind is None or (where is not None and where["column"]["name"] not in known):
        return False
    if check["type"] in _NEEDS_TEXT:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    is_number = bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
    return check["type"] != "expect_column_values_to_be_between" or is_number


def _condition(check: Check) -> str:
    column, where = _column(check), check["kwargs"].get("row_condition")
    condition = FORMS[check["type"]](_quoted(column or ""), check["kwargs"])
    if where is None:
        return condition
    operator = {"==": "=", "!=": "<>"}[where["operator"]]
    return f"{_quoted(where['column']['name'])} {operator} {_text(where['parameter'])} AND {condition}"


def _counted(connection: duckdb.DuckDBPyConnection, checks: Sequence[Check], fields: pa.Schema) -> tuple[int, dict[str, Count], set[str]]:
    """Rows examined, the counts, and the names of checks that DuckDB refused; one pass unless it refuses one."""
    of_rows = [check for check in checks if check["type"] not in _OF_TABLE]
    failed: set[str] = set()
    try:
        counts = _pass(connection, of_rows)
    except duckdb.Error:
        counts = _pass(connection, [])
        for check in of_rows:
            try:
                counts.append(_pass(connection, [check])[1])
            except duckdb.Error:
                failed.add(_name(check))
    examined, kept = counts[0], [check for check in of_rows if _name(check) not in failed]
    found = {_name(check): Count(unexpected=n) for check, n in zip(kept, counts[1:], strict=True)}
    for check in checks:
        if check["type"] == _OF_TABLE[0]:
            found[_name(check)] = Count(unexpected=int(examined < check["kwargs"]["min_value"]))
        elif check["type"] == _OF_TABLE[1]:
            found[_name(check)] = Count(unexpected=examined if fields.names != check["kwargs"]["column_list"] else 0)
    return examined, found, failed


def _pass(connection: duckdb.DuckDBPyConnection, checks: Sequence[Check]) -> list[int]:
    counts = ", ".join(["count(*)", *(f"count(*) FILTER (WHERE {_condition(check)})" for check in checks)])
    row = connection.execute(f"SELECT {counts} FROM checked").fetchone()
    return [int(one) for one in row or ()]


def _clip_ids(connection: duckdb.DuckDBPyConnection, checks: Sequence[Check], found: Mapping[str, Count]) -> dict[str, Count]:
    """The counts of failed checks with the ids of their clips; anything in clip_id that is none may be a value of another column."""
    rows = [check for check in checks if check["type"] not in _OF_TABLE]
    if not rows:
        return {}
    is_id = f"regexp_matches(clip_id, {_text(HEX64)})"
    least = ", ".join(f"min(clip_id, {CLIP_IDS_KEPT}) FILTER (WHERE {is_id} AND {_condition(check)})" for check in rows)
    row = connection.execute(f"SELECT {least} FROM checked").fetchone() or ()
    return {
        _name(check): Count(unexpected=found[_name(check)].unexpected, clip_ids=tuple(sorted(set(ids or ()))))
        for check, ids in zip(rows, row, strict=True)
    }


# --- checks about more than one row --------------------------------------------------------------------------------------------------


def _apart(connection: duckdb.DuckDBPyConnection, check: Check) -> Count:
    column = _quoted(_column(check) or "")
    if check["type"] == COUNTED_APART[0]:
        # Equal values have equal hashes, which are a tenth of the size of a clip's id; only rows whose hash stands twice are looked at.
        twice = f"SELECT hash({column}) FROM checked WHERE {column} IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
        standing = f"SELECT {column} AS key_, count(*) AS n FROM checked WHERE hash({column}) IN ({twice}) AND {column} IS NOT NULL"
        return _keyed(connection, f"{standing} GROUP BY 1 HAVING n > 1", column)
    other = f"related_{check['kwargs']['other']}"
    key = _quoted(connection.table(other).columns[0])
    here = f"SELECT {column} AS key_, 1 AS n FROM checked WHERE {column} IS NOT NULL"
    there = f"SELECT DISTINCT {key} AS key_, 1 AS n FROM {other} WHERE {key} IS NOT NULL"
    strange = f"SELECT h.* FROM ({here}) AS h ANTI JOIN ({there}) AS t ON h.key_ = t.key_"
    lost = f"SELECT t.* FROM ({there}) AS t ANTI JOIN ({here}) AS h ON h.key_ = t.key_"
    return _keyed(connection, f"({strange}) UNION ALL ({lost})" if check["kwargs"].get("both_ways", True) else strange, column)


def _keyed(connection: duckdb.DuckDBPyConnection, keys: str, column: str) -> Count:
    is_id = f"regexp_matches(key_::VARCHAR, {_text(HEX64)})" if column in {'"clip_id"', '"released_clip_id"'} else "FALSE"
    query = f"SELECT coalesce(sum(n), 0), min(key_::VARCHAR, {CLIP_IDS_KEPT}) FILTER (WHERE {is_id}) FROM ({keys})"
    total, ids = connection.execute(query).fetchone() or (0, None)
    return Count(unexpected=int(total), clip_ids=tuple(sorted(set(ids or ()))))
