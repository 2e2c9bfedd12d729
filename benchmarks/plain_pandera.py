"""The checks of flat columns as Pandera runs them over a Polars frame, the fastest of its backends; NaN is null there beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
from pandera.api.polars.types import PolarsData
from pandera.errors import SchemaErrors

Check = Mapping[str, Any]


def frame(rows: pa.Table) -> pl.DataFrame:
    """The columns of the table that are not nested."""
    flat = rows.drop_columns([field.name for field in rows.schema if pa.types.is_nested(field.type)])
    made = pl.DataFrame(flat)
    return made.with_columns(pl.col(name).fill_nan(None) for name, kind in made.schema.items() if kind.is_float())


def schema_of(checks: Sequence[Check], columns: Sequence[str]) -> pandera.DataFrameSchema:
    """A schema that asks all of the checks, each by its name; all of one column, as Pandera wants it."""
    asked: dict[str, list[Check]] = {name: [] for name in columns}
    for check in checks:
        asked[check["kwargs"]["column"]].append(check)
    return pandera.DataFrameSchema(
        {name: pandera.Column(nullable=True, checks=[_check(one, name) for one in of_column]) for name, of_column in asked.items()}
    )


def failing(schema: pandera.DataFrameSchema, rows: pl.DataFrame) -> dict[str, int]:
    """Name of each failing check -> how many rows."""
    try:
        schema.validate(rows, lazy=True)
    except SchemaErrors as error:
        return dict(Counter(error.failure_cases["check"].to_list()))
    return {}


def _check(check: Check, column: str) -> pandera.Check:
    good = _good(check["type"], check["kwargs"], pl.col(column))
    where = check["kwargs"].get("row_condition")
    if where is not None:
        of, is_it = pl.col(where["column"]["name"]), where["parameter"]
        good |= of.is_null() | ((of != is_it) if where["operator"] == "==" else (of == is_it))

    def ask(data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(good)

    return pandera.Check(ask, name=check["meta"]["check"], error=check["meta"]["check"], ignore_na=False)


def _good(kind: str, kwargs: Mapping[str, Any], cell: pl.Expr) -> pl.Expr:
    words = kwargs.get("words", kwargs.get("value_set", ()))
    least, most = kwargs.get("min_value"), kwargs.get("max_value")
    return {
        "expect_column_values_to_not_be_null": cell.is_not_null,
        "expect_column_values_to_be_null": cell.is_null,
        "expect_column_values_to_be_unique": lambda: cell.is_unique() | cell.is_null(),
        "expect_column_value_lengths_to_be_between": lambda: (cell.str.len_chars() >= least).fill_null(value=True),
        "expect_column_values_to_match_regex": lambda: cell.str.contains(kwargs["regex"]).fill_null(value=True),
        "expect_column_values_to_be_between": lambda: cell.is_between(least, most).fill_null(value=True),
        "expect_column_values_to_be_words_of": lambda: cell.is_in(words).fill_null(value=True),
        "expect_column_values_to_be_in_set": lambda: cell.is_in(words).fill_null(value=True),
    }[kind]()
