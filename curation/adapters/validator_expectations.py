"""The expectations that the domain needs and Great Expectations lacks. Importing this module makes them known to it, by class name.

All but the last are said of rows: `validator_counters` counts what they find column by column, and Great Expectations alone gives the same
answer over a DataFrame. The last is what is asked of the counts.
"""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False
# ruff: noqa: N805 - Great Expectations and pydantic hand the class in under this name

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from great_expectations.compatibility.pydantic import root_validator
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, ColumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import ColumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import column_condition_partial
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from curation.adapters.validator_forms import COARSE_TIME, version_of

TABLE: Final = MetricDomainTypes.TABLE


class _WordOf(ColumnMapMetricProvider):
    condition_metric_name = "column_values.word_of"
    condition_value_keys = ("words",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: Any, words: Sequence[str], **_: object) -> Any:
        return column.isin(words)


class ExpectColumnValuesToBeWordsOf(ColumnMapExpectation):
    """Every value is a word of a closed vocabulary, in the version that the suite was written for.

    The version is a digest of the words: a word slipped in without a new version is refused before any row is looked at.
    """

    map_metric: ClassVar[str] = "column_values.word_of"
    success_keys: ClassVar[tuple[str, ...]] = ("words", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "words")
    words: list[str]
    vocabulary_version: str

    @root_validator(skip_on_failure=True)
    def _is_that_version(cls, values: dict[str, Any]) -> dict[str, Any]:
        if version_of(values["words"]) != values["vocabulary_version"]:
            raise ValueError("the words are not those of the vocabulary's version")
        return values


class _CoarseTime(ColumnMapMetricProvider):
    condition_metric_name = "column_values.coarse_time"
    condition_value_keys = ()

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: Any, **_: object) -> Any:
        return column.map(lambda value: isinstance(value, str) and re.fullmatch(COARSE_TIME, value) is not None)


class ExpectColumnValuesToBeCoarseTime(ColumnMapExpectation):
    """Every value is a month, YYYY-MM, and no time finer than that."""

    map_metric: ClassVar[str] = "column_values.coarse_time"
    args_keys: ClassVar[tuple[str, ...]] = ("column",)


class _NothingSensitive(ColumnMapMetricProvider):
    condition_metric_name = "column_values.nothing_sensitive"
    condition_value_keys = ("forms",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: Any, forms: Mapping[str, str], **_: object) -> Any:
        return ~column.astype(str).str.contains("|".join(f"(?:{form})" for form in forms.values()))


class ExpectColumnValuesToHoldNothingSensitive(ColumnMapExpectation):
    """No value holds text in one of the forms that name a person, vehicle, place, device or file; `forms` maps a name to a pattern."""

    map_metric: ClassVar[str] = "column_values.nothing_sensitive"
    success_keys: ClassVar[tuple[str, ...]] = ("forms", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "forms")
    forms: dict[str, str]


class _ColumnOfTable(TableMetricProvider):
    metric_name = "table.column_as_list"  # without missing values
    value_keys = ("column_name",)

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(cls, execution_engine: Any, metric_domain_kwargs: Any, metric_value_kwargs: Any, **_: object) -> list[object]:
        frame, _domain, _accessor = execution_engine.get_compute_domain(domain_kwargs=metric_domain_kwargs, domain_type=TABLE)
        return list(frame[metric_value_kwargs["column_name"]].dropna())


class ExpectRowsToBeConserved(BatchExpectation):
    """Each row stands in another table too and, if `both_ways`, each row there stands here; rows are told apart by one column.

    `keys` are that column's values in the other table; asked of rows without them it raises, for nothing can be said.
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.column_as_list",)
    success_keys: ClassVar[tuple[str, ...]] = ("column_name", "other", "both_ways", "keys")
    args_keys: ClassVar[tuple[str, ...]] = ("column_name", "other")
    column_name: str
    other: str
    both_ways: bool = True
    keys: list[str] | None = None

    def _validate(self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None) -> dict[str, Any]:  # noqa: ARG002
        if self.keys is None:
            raise ValueError(f"the rows of {self.other} were not given")
        here = metrics["table.column_as_list"]
        there = set(self.keys)
        lost = there - set(here) if self.both_ways else set()
        count = sum(one not in there for one in here) + len(lost)
        return {"success": count == 0, "result": {"unexpected_count": count}}


class _Counters(TableMetricProvider):
    metric_name = "table.counters"

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(cls, execution_engine: Any, metric_domain_kwargs: Any, **_: object) -> dict[str, dict[str, int]]:
        frame, _domain, _accessor = execution_engine.get_compute_domain(domain_kwargs=metric_domain_kwargs, domain_type=TABLE)
        counters: dict[str, dict[str, int]] = {}
        for row in frame.to_dict("records"):
            if row["check"] in counters:
                raise ValueError("a check was counted twice")
            counters[row["check"]] = row
        return counters


class ExpectCheckToFindNothing(BatchExpectation):
    """A check was counted over every row that there is, at least one, and found none unexpected; raises if it was not counted."""

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.counters",)
    success_keys: ClassVar[tuple[str, ...]] = ("check_name",)
    args_keys: ClassVar[tuple[str, ...]] = ("check_name",)
    check_name: str

    def _validate(self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None) -> dict[str, Any]:  # noqa: ARG002
        counted = metrics["table.counters"][self.check_name]
        is_whole = counted["rows_examined"] == counted["rows_present"] > 0
        return {
            "success": bool(is_whole and counted["unexpected_count"] == 0),
            "result": {"unexpected_count": int(counted["unexpected_count"])},
        }
