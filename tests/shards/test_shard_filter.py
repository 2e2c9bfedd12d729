"""A filter is one safe boolean expression over manifest columns, and nothing else passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from curation.errors import UsageError
from curation.schema import CLIPS
from curation.shards import filter as shard_filter
from curation.shards.filter import MAX_FILTER_CHARS, check_filter, passing
from curation.shards.request import from_mapping

HOSTILE = {
    "weather IN (SELECT 'rainy')": "a subquery",
    "EXISTS (SELECT 1)": "a subquery",
    "weather = ANY(['rainy'])": "a subquery",
    "read_csv('/etc/passwd') IS NULL": "may not call read_csv",
    "getenv('HOME') = 'x'": "may not call getenv",
    "current_setting('threads') = '1'": "may not call current_setting",
    "random() < 0.5": "may not call random",
    "now() > captured_at": "may not call now",
    "repeat('x', 1000000000) = weather": "may not call repeat",
    "main.lower(weather) = 'x'": "may not call lower",
    "count(*) > 1": "may not call count_star",
    "sum(sharpness) FILTER (WHERE true) > 1": "may not call sum",
    "row_number() OVER () > 1": "a window function",
    "list_filter(reasons, x -> x = 'a') = []": "may not call list_filter",
    "PRAGMA version": "not one SQL expression",
    "true; SELECT 1": "not one SQL expression",
    "true); SELECT (true": "clauses",
    "true) FROM clips WHERE (true": "clauses",
    "true) UNION SELECT (true": "clauses",
    "true) ORDER BY (1": "clauses",
    "true) LIMIT (1": "clauses",
    "true) AS x, (false": "clauses",
    "true) AS x --": "not one SQL expression",
    "/* open": "not one SQL expression",
    "current_date > captured_at": "no column 'current_date'",
    "clips.weather = 'rainy'": "is no column",
    'weather = "rainy"': "single quotes",
    "wether = 'rainy'": "did you mean weather",
    "sharpness": "yields DOUBLE",
    "NULL": "yields",
    "list_aggregate(reasons, 'max') = 'x'": "may not call list_aggregate",
    "list_transform(reasons, lambda x: x) = []": "may not call list_transform",
    "system.main.getenv('HOME') = 'x'": "may not call getenv",
    "query('SELECT 1') IS NULL": "may not call query",
    "uuid() = clip_id": "may not call uuid",
    "setseed(0.5) IS NULL": "may not call setseed",
    "range(100000000) = []": "may not call range",
    "lpad(weather, 100000000, 'x') = 'y'": "may not call lpad",
    "[x FOR x IN reasons IF x = 'a'] = []": "may not call list_",
    "true FROM clips": "not one SQL expression",
    "(SELECT max(sharpness) FROM clips) > 3": "a subquery",
    "true AS passes": "not one SQL expression",
    "true, false": "may not call row",
    "EXISTS (FROM read_text('/etc/passwd'))": "a subquery",
    "split = 'train'": "no column 'split'",
    "weather > 3": "does not fit the columns",
    "weather ~ '('": "does not fit the columns",
    "weather COLLATE nocase = 'x'": "a collation",
    "?": "parameter",
    "$1 = 'x'": "parameter",
    "*": "a star",
    "COLUMNS('w.*') = 'x'": "a star",
    "#1": "a positional reference",
    "": "empty",
    " ": "empty",
    "true\0": "zero byte",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_filter_is_refused(text: str) -> None:
    """Statements, subqueries, files, clocks, chance, unknown columns and non-booleans are refused by name."""
    with pytest.raises(ValueError, match=r"filter|column") as refused:
        check_filter(text)
    assert HOSTILE[text] in str(refused.value)
    with pytest.raises(UsageError):
        from_mapping({"name": "a", "filter": text})


def test_a_filter_of_endless_length_or_depth_is_refused() -> None:
    """Length is bounded, and depth that the parser cannot hold is a refusal, not a crash."""
    with pytest.raises(UsageError, match=str(MAX_FILTER_CHARS)):
        from_mapping({"name": "a", "filter": "true " + "AND true " * MAX_FILTER_CHARS})
    with pytest.raises(UsageError, match="filter"):
        from_mapping({"name": "a", "filter": "NOT " * 900 + "true"})


@pytest.mark.parametrize(
    ("text", "columns", "kept"),
    [
        ("weather = 'rainy'", {"weather"}, [0, 3]),
        ("weather NOT IN ('rainy') AND sharpness >= 2", {"weather", "sharpness"}, [2]),
        ("Sharpness BETWEEN 1 AND 2 -- whole ones", {"sharpness"}, [1, 2]),
        ("scene = 'highway'", {"scene"}, []),
        ("scene = 'highway' OR scene IS NULL", {"scene"}, [0, 1, 2, 3]),
        ("unmeasured['scene'] IS NOT NULL", {"unmeasured"}, [0, 1, 2, 3]),
        ("hour(captured_at) = 4 AND captured_at < '2026-03-02'", {"captured_at"}, [0, 1, 2, 3]),
        ("CASE WHEN sharpness > 2 THEN true ELSE false END", {"sharpness"}, [3]),
        ("weather LIKE 'cl%' OR lower(timeofday) = 'x'", {"weather", "timeofday"}, [1]),
        ("true", set(), [0, 1, 2, 3]),
    ],
)
def test_a_filter_keeps_the_rows_it_is_true_for(
    text: str, columns: set[str], kept: list[int], make_row: Callable[..., dict[str, Any]]
) -> None:
    """Only true keeps a row, null does not; order stays."""
    rows = pa.Table.from_pylist([make_row(number, f"{number:064x}", 1) for number in range(4)], schema=CLIPS)
    assert columns == check_filter(text)
    assert [float(number) for number in kept] == rows.filter(passing(text, rows)).column("sharpness").to_pylist()


def test_a_filter_that_fails_on_a_value_says_so(make_row: Callable[..., dict[str, Any]]) -> None:
    """A cast that does not fit some row is a wrong use, not a crash."""
    rows = pa.Table.from_pylist([make_row(1, "1" * 64, 1)], schema=CLIPS)
    with pytest.raises(UsageError, match="fails on a value"):
        passing("CAST(weather AS INTEGER) = 1", rows)


@pytest.mark.parametrize("query", ["SELECT * FROM read_csv('/etc/passwd')", "SET threads = 1", "SELECT * FROM secret", "INSTALL httpfs"])
def test_the_database_is_locked_even_if_the_check_were_not(query: str) -> None:
    """Files, settings, Python variables and extensions are out of reach of the connection itself."""
    secret = CLIPS.empty_table()
    assert secret.num_rows == 0
    with shard_filter._locked() as connection, pytest.raises(duckdb.Error):
        connection.execute(query).fetchall()
