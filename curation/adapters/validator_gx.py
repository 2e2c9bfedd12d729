"""Great Expectations as the language of checks; the proof that every declared check ran is ours, for GX passes what it skips.

`expectations/<table>.json` is data. GX knows each check's type and takes its arguments; `validator_counters` counts what it does not
expect, column by column; and GX says of the counts whether each check was counted over every row and found nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa

from curation import schema
from curation.adapters import validator_counters as counters
from curation.adapters.validator_suites import DRIFT, ROW_COUNT_CHECK
from curation.errors import ValidationFailed
from curation.records import CheckFailure, ValidationResult

_REMAKE: Final = "run `make expectations`"
_LACKS: Final = (
    "It lacks {}. Fix: write it with all columns; if these came after it was written, they need a version of their own (`since` and"
    " SCHEMA_VERSION in curation/schema.py), for a table is held against the version that it says it is of."
)
_LACKS_ZH: Final = "缺少 {}。处理:写全各列;若其为后增,须在 curation/schema.py 中以 since 与 SCHEMA_VERSION 另立版本,旧表按其自身版本检查。"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,3}")
_Check = Mapping[str, Any]


class GxValidator:
    """Runs the suites of a folder. Implements `ports.Validator`."""

    def __init__(self, expectations: Path, *, drift: Literal["warn", "fail"] = "warn") -> None:
        self._expectations = expectations
        self._drift = drift

    def validate(self, suite: str | None, rows: pa.Table | Path, related: Mapping[str, pa.Table] | None = None) -> ValidationResult:
        """The result of a suite over `rows`: counts and clip ids, no value of any other column.

        Never passes for lack of checks: one that GX does not know, or that raises, is told as skipped or errored. Checks against a table
        that is not `related` are not declared for this run; the result names these tables.

        Args:
            suite: name of the table, None for what the rows say of themselves, `clips` if they say nothing.
            rows: a table, or a Parquet file that is read a stretch at a time.
            related: name -> rows of other tables; the first column tells them apart.

        Raises:
            ValidationFailed: the suite's file is missing, malformed or empty, the rows are no readable Parquet, hold a column twice or
                are of a version of the schema that there is no suite for.
        """
        related = related or {}
        fields = _fields(rows)
        found = fields.metadata or {}
        table = suite or found.get(b"curation.table", b"clips").decode("utf-8", "replace")
        file = self._file(table, found.get(b"curation.schema_version", schema.SCHEMA_VERSION.encode()).decode("utf-8", "replace"))
        every, digest, version = _read_suite(file)
        without = sorted({str(check["meta"]["needs"]) for check in every if check["meta"].get("needs", "") not in {"", *related}})
        declared = [check for check in every if check["meta"].get("needs") not in without]
        known = _known(file, declared)
        try:
            counts = counters.count(rows, [check for check in known if _has_form(check)], related)
        except (pa.ArrowException, OSError, duckdb.Error) as error:
            raise _unreadable(rows) from error
        answers = _answers(table, known, counts)
        unknown = {_name(check) for check in declared} - answers.keys()
        failures = tuple(one for check in declared if (one := _failure(check, answers, counts, unknown)) is not None)
        told = {_name(check) for check in declared if self._drift == "warn" and check["meta"].get("needs") == DRIFT}
        return ValidationResult(
            suite=table,
            suite_digest=digest,
            declared=len(declared),
            executed=sum(not answer["errored"] for answer in answers.values()),
            skipped=len(unknown),
            errored=sum(bool(answer["errored"]) for answer in answers.values()),
            rows_examined=counts.rows_examined if any(_name(check) == ROW_COUNT_CHECK for check in known) else 0,
            rows_present=counts.rows_present,
            failures=tuple(one for one in failures if one.check not in told or one.problem != "unexpected"),
            warnings=tuple(one for one in failures if one.check in told and one.problem == "unexpected"),
            schema_version=version,
            without=tuple(without),
        )

    def _file(self, table: str, version: str) -> Path:
        """The suite of that version of a table: the present one under the table's own name, earlier ones beside it."""
        if not re.fullmatch(r"[a-z]{1,20}", table) or not _VERSION.fullmatch(version):
            raise ValidationFailed(
                "says that it is of a table that has no suite: nothing was checked", subject="the rows", fix="name a table of expectations/"
            )
        if version == schema.SCHEMA_VERSION:
            return self._expectations / f"{table}.json"
        earlier = self._expectations / f"{table}.v{version}.json"
        if not earlier.is_file():
            raise ValidationFailed(
                f"is of version {version} of its schema, for which there is no suite: nothing was checked",
                subject=f"table {table}",
                fix="validate it with the version of curation that wrote it, or a later one",
            )
        return earlier


def _fields(rows: pa.Table | Path) -> pa.Schema:
    try:
        fields = counters.schema_of(rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(rows) from error
    # DuckDB tells columns apart without regard to case, so two that differ in case alone would be taken for one.
    names = [name.casefold() for name in fields.names]
    twice = sorted({name for name in fields.names if names.count(name.casefold()) > 1})
    if twice:
        fix = "write the table with the columns of curation/schema.py"
        raise ValidationFailed(f"holds a column twice ({', '.join(twice)}): nothing was checked", subject="the rows", fix=fix)
    return fields


def _unreadable(rows: pa.Table | Path) -> ValidationFailed:
    subject = "the rows" if isinstance(rows, pa.Table) else str(rows)
    return ValidationFailed("is not readable Parquet: nothing was checked", subject=subject, fix="restore the file from its origin")


def _name(check: _Check) -> str:
    return str(check["meta"]["check"])


def _read_suite(file: Path) -> tuple[list[_Check], str, str]:
    """The declared checks, SHA-256 of the file, and the version of the schema that it is about."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValidationFailed("the suite's file is missing: nothing was checked", subject=str(file), fix=_REMAKE) from error
    try:
        suite = json.loads(data)
        checks: list[_Check] = suite["expectations"]
        names = [_name(check) for check in checks]
        version = str(suite.get("meta", {}).get("schema_version", ""))
        well_formed = all(isinstance(check["type"], str) and isinstance(check["kwargs"], dict) for check in checks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValidationFailed("the suite's file is malformed: nothing was checked", subject=str(file), fix=_REMAKE) from error
    if not well_formed or len(set(names)) != len(names):
        raise ValidationFailed("the suite's file is malformed: a check has no type, or no name of its own", subject=str(file), fix=_REMAKE)
    if not checks:
        raise ValidationFailed("the suite declares no check: nothing was checked", subject=str(file), fix=_REMAKE)
    return checks, hashlib.sha256(data).hexdigest(), version


def _has_form(check: _Check) -> bool:
    return check["type"] in counters.FORMS or check["type"] in counters.COUNTED_APART


# --- Great Expectations --------------------------------------------------------------------------------------------------------------


@contextmanager
def gx_noise_off() -> Iterator[None]:
    """GX logs each refusal (told here by count), and it and the libraries it imports still use what Python and pandas deprecate."""
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _known(file: Path, declared: Sequence[_Check]) -> list[_Check]:
    """The checks whose type GX knows; it takes their arguments.

    Raises:
        ValidationFailed: it does not take one's arguments.
    """
    with gx_noise_off():
        from great_expectations.exceptions import ExpectationNotFoundError, GreatExpectationsError  # noqa: PLC0415 - 4 s and 270 MiB
        from great_expectations.expectations.registry import get_expectation_impl  # noqa: PLC0415

        from curation.adapters import validator_expectations  # noqa: F401, PLC0415 - makes ours known

        known = []
        for check in declared:
            try:
                get_expectation_impl(check["type"])(**check["kwargs"])
            except ExpectationNotFoundError:
                continue
            except (GreatExpectationsError, ValueError, TypeError) as error:
                raise ValidationFailed(
                    f"Great Expectations could not run the suite: it does not take the arguments of {_name(check)}",
                    subject=str(file),
                    fix=_REMAKE,
                ) from error
            known.append(check)
    return known


def _answers(suite: str, known: Sequence[_Check], counts: counters.Counts) -> dict[str, dict[str, bool]]:
    """Check name -> whether GX, looking at the counts, says success, and whether it raised."""
    if not known:
        return {}
    with gx_noise_off():
        import great_expectations as gx  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415 - GX brings it
        from great_expectations.data_context.types.base import (  # noqa: PLC0415
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        rows = [(name, one.unexpected, counts.rows_examined, counts.rows_present) for name, one in counts.found.items()]
        frame = pd.DataFrame(rows, columns=["check", "unexpected_count", "rows_examined", "rows_present"])
        in_memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
        config = DataContextConfig(store_backend_defaults=in_memory, progress_bars=ProgressBarsConfig(globally=False))
        context = gx.get_context(mode="ephemeral", project_config=config)
        asset = context.data_sources.add_pandas("counters").add_dataframe_asset(suite)
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
        asked = [
            {"type": "expect_check_to_find_nothing", "kwargs": {"check_name": _name(check)}, "meta": {"check": _name(check)}}
            for check in known
        ]
        results = batch.validate(gx.ExpectationSuite(name=suite, expectations=asked)).results
    return {one.expectation_config.meta["check"]: {"success": bool(one.success), "errored": _raised(one)} for one in results}


def _raised(result: Any) -> bool:
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    return any(part.get("raised_exception") for part in parts)


# --- what is told --------------------------------------------------------------------------------------------------------------------


def _failure(check: _Check, answers: Mapping[str, Mapping[str, bool]], counts: counters.Counts, unknown: set[str]) -> CheckFailure | None:
    name, kwargs, meta = _name(check), check["kwargs"], check["meta"]
    column = meta.get("column", kwargs.get("column"))
    if name in unknown:
        said = f"was not run: Great Expectations knows no {check['type']}", f"未运行:Great Expectations 没有 {check['type']}"
        return _told(name, column, "skipped", counters.Count(unexpected=0), said)
    answer = answers[name]
    if answer["errored"]:
        return _told(name, column, "errored", counters.Count(unexpected=0), _why_errored(check, column, counts))
    is_whole = counts.rows_examined == counts.rows_present > 0
    if answer["success"] or (not is_whole and name != ROW_COUNT_CHECK and not counts.found[name].unexpected):  # that is told once
        return None
    if counts.rows_present == 0 and name == ROW_COUNT_CHECK:
        said = "the table is empty: no row was examined", "表为空:未检查任何行"
        return _told(name, None, "unexpected", counters.Count(unexpected=0), said)
    if not is_whole and name == ROW_COUNT_CHECK:
        examined, present = counts.rows_examined, counts.rows_present
        said = f"{examined} of {present} rows were examined", f"{present} 行中只检查了 {examined} 行"
        return _told(name, None, "unexpected", counters.Count(unexpected=abs(present - examined)), said)
    why, why_zh = str(meta.get("notes", "")), str(meta.get("notes_zh", ""))
    lacking = [one for one in kwargs.get("column_list", ()) if one not in counts.columns]
    if lacking:  # names of the suite, so none is a value
        why, why_zh = f"{why} {_LACKS.format(', '.join(lacking))}", f"{why_zh}{_LACKS_ZH.format('、'.join(lacking))}"
    return _told(name, column, "unexpected", counts.found[name], (why, why_zh))


def _why_errored(check: _Check, column: str | None, counts: counters.Counts) -> tuple[str, str]:
    if _name(check) in counts.missing:
        return f"column {column} is missing, or not of its type", f"列 {column} 缺失或类型不符"
    if not _has_form(check):
        return f"there is no count for {check['type']}", f"没有对应 {check['type']} 的计数"
    return "raised an exception instead of an answer", "抛出异常而未给出结果"


def _told(name: str, column: str | None, problem: str, found: counters.Count, said: tuple[str, str]) -> CheckFailure:
    return CheckFailure(
        check=name, column=column, problem=problem, row_count=found.unexpected, clip_ids=found.clip_ids, note=said[0], note_zh=said[1]
    )
