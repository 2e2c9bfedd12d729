"""A request's filter: one safe boolean SQL expression over manifest columns, checked node by node, evaluated in a locked DuckDB."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import UsageError
from curation.schema import CLIPS

MAX_FILTER_CHARS: Final = 4_000
_TABLE: Final = "clips"
# Pure functions of their arguments: no clock, no chance, no file, no setting, and no result much larger than its input.
_FUNCTIONS: Final = frozenset(
    {
        "+", "-", "*", "/", "//", "%", "**", "^", "||",
        "~~", "!~~", "~~*", "!~~*", "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape",
        "abs", "round", "floor", "ceil", "ceiling", "trunc", "sqrt", "ln", "log10", "greatest", "least", "isnan", "isfinite",
        "lower", "upper", "length", "len", "trim", "substring", "substr", "contains", "starts_with", "ends_with", "prefix", "suffix",
        "regexp_matches", "regexp_full_match", "strpos",
        "list_value", "list_contains", "list_has", "list_has_any", "list_has_all", "map_contains", "map_keys", "map_values", "cardinality",
        "year", "month", "day", "hour", "minute", "second", "dayofweek", "isodow", "date_part", "date_trunc",
        "to_seconds", "to_minutes", "to_hours", "to_days", "to_weeks", "to_months", "to_years", "timezone",
    }
)  # fmt: skip
_EXPRESSIONS: Final = frozenset({"COLUMN_REF", "CONSTANT", "CONJUNCTION", "COMPARISON", "OPERATOR", "BETWEEN", "CASE", "CAST", "FUNCTION"})


def near_columns(word: str) -> str:
    """A hint at the manifest columns that look like `word`."""
    close = difflib.get_close_matches(word.lower(), CLIPS.names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "the columns stand in curation/schema.py"


def _locked() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that reaches no file, network, extension or Python variable, and cannot be unlocked."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",  # rows never spill beside whatever folder the process was started in
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _query(text: str, select: str) -> str:
    """SQL that selects `select` from the rows of `_TABLE` which the filter holds true."""
    return f"SELECT {select} FROM {_TABLE} WHERE (\n{text}\n)"  # noqa: S608 - check_filter let the text through as one expression


@cache
def check_filter(text: str) -> frozenset[str]:
    """The columns that a filter looks at, once it is known to be one safe boolean expression over manifest columns.

    Raises:
        ValueError: it is not; the message says what would be right.
    """
    with _locked() as connection:
        if not text.strip() or "\0" in text:
            raise ValueError("the filter is empty or holds a zero byte; leave it out to take every accepted clip")
        frame, expressions = _parsed(connection, text)
        if frame != _parsed(connection, "TRUE")[0] or len(expressions) != 1 or expressions[0].get("alias"):
            raise ValueError("the filter must be one expression, without clauses, lists, parameters or aliases")
        columns = frozenset(_columns(expressions[0]))
        connection.register(_TABLE, CLIPS.empty_table())
        try:
            connection.execute(_query(text, "clip_id")).fetchall()
            ((_, kind, *_),) = connection.execute(f"DESCRIBE SELECT (\n{text}\n) FROM {_TABLE}").fetchall()  # noqa: S608 - checked above
        except duckdb.Error as error:
            raise ValueError(f"the filter does not fit the columns: {_first_line(error)}") from error
    if kind != "BOOLEAN":
        raise ValueError(f"the filter yields {kind}, not true or false; compare it with something")
    return columns


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _parsed(connection: duckdb.DuckDBPyConnection, text: str) -> tuple[Any, list[dict[str, Any]]]:
    """The statement around the parenthesised text without its expressions, and these expressions."""
    try:
        ((serialised,),) = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{text}\n)"]).fetchall()
        tree = json.loads(serialised)
    except (duckdb.Error, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"the filter cannot be parsed: {_first_line(error)}") from error
    if tree.get("error", True):
        raise ValueError(f"the filter is not one SQL expression: {tree.get('error_message', 'unknown')}")
    expressions = tree["statements"][0]["node"].pop("select_list", None)
    return tree, expressions if isinstance(expressions, list) else []


def _columns(expression: Any) -> Iterator[str]:
    """Names of the columns in an expression; refuses every node that is not on the list of what a filter may hold."""
    pending = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            kind = node.get("class")
            if kind == "TYPE":
                continue
            if kind is not None and kind not in _EXPRESSIONS:
                raise ValueError(f"a filter may not hold {_NODE_WORDS.get(kind, kind)}")
            if kind == "FUNCTION":
                _refuse_function(node)
            if kind == "COLUMN_REF":
                yield _column(node["column_names"])
            pending.extend(node.values())


_NODE_WORDS: Final = {
    "SUBQUERY": "a subquery", "WINDOW": "a window function", "LAMBDA": "a lambda", "PARAMETER": "a parameter", "STAR": "a star",
    "POSITIONAL_REFERENCE": "a positional reference", "DEFAULT": "DEFAULT", "COLLATE": "a collation",
}  # fmt: skip


def _refuse_function(node: Mapping[str, Any]) -> None:
    name = str(node.get("function_name", "")).lower()
    path = (node.get("qualified_name") or {}).get("path", [name])
    if name not in _FUNCTIONS or len(path) != 1 or node.get("filter") or node.get("distinct"):
        raise ValueError(f"a filter may not call {name}; {_near_function(name)}")


def _near_function(name: str) -> str:
    words = sorted(word for word in _FUNCTIONS if word[0].isalpha())
    close = difflib.get_close_matches(name, words, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else "it may compare, calculate, match text and take a time apart"


def _column(parts: list[str]) -> str:
    if len(parts) != 1:
        raise ValueError(f"{'.'.join(parts)} is no column; an entry of a map is written unmeasured['sharpness']")
    name = parts[0].lower()
    if name not in CLIPS.names:
        raise ValueError(f"there is no column {parts[0]!r} ({near_columns(parts[0])}); text values stand in single quotes")
    return name


def passing(text: str | None, rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Per row whether the filter is true for it (not false, not null); always, where there is none.

    Raises:
        UsageError: the filter fails on a value, such as a cast that does not fit.
    """
    if text is None:
        return np.ones(rows.num_rows, dtype=bool)
    named = sorted(check_filter(text))
    numbered = rows.select(named).append_column("row_number", pa.array(np.arange(rows.num_rows)))
    with _locked() as connection:
        connection.register(_TABLE, numbered)
        try:
            kept = connection.sql(_query(text, "row_number")).to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(
                f"the filter fails on a value: {_first_line(error)}", subject="shard request", fix="mend the filter; TRY_CAST yields null"
            ) from error
    passes = np.zeros(rows.num_rows, dtype=bool)
    passes[kept.column("row_number").to_numpy()] = True
    return passes
