"""The validator never passes for lack of checks: each way not to check is a failure with its own words."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from curation import schema
from curation.adapters import validator_counters, validator_suites
from curation.adapters.validator_gx import GxValidator
from curation.errors import ValidationFailed

SHIPPED = GxValidator(Path(__file__).resolve().parents[2] / "expectations")
ROWS = {
    "type": "expect_table_row_count_to_be_between",
    "kwargs": {"min_value": 1},
    "meta": {"check": "table.row_count", "notes": "An empty table passes every check about rows."},
}


def suite(folder: Path, *checks: object) -> GxValidator:
    """A validator over a suite of the given checks."""
    (folder / "clips.json").write_text(json.dumps({"name": "clips", "expectations": list(checks)}))
    return GxValidator(folder)


def check(kind: str, name: str = "mine", **kwargs: object) -> dict[str, object]:
    """One check."""
    return {"type": kind, "kwargs": kwargs, "meta": {"check": name, "notes": "Why."}}


@pytest.fixture
def one_row(manifests) -> pa.Table:
    """A table of one good row."""
    return manifests.table(manifests.good(1))


def test_a_missing_suite_is_refused(tmp_path, one_row) -> None:
    """No file: nothing was checked, and the message says so."""
    with pytest.raises(ValidationFailed, match=r"missing: nothing was checked\. Fix: run `make expectations`"):
        GxValidator(tmp_path).validate("clips", one_row)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"expectations": [1]}', '{"expectations": [{"type": "x", "kwargs": {}}]}'])
def test_a_malformed_suite_is_refused(tmp_path, one_row, text) -> None:
    """A file that is no suite, or whose checks have no name, is refused."""
    (tmp_path / "clips.json").write_text(text)
    with pytest.raises(ValidationFailed, match="malformed"):
        GxValidator(tmp_path).validate("clips", one_row)


def test_two_checks_of_one_name_are_refused(tmp_path, one_row) -> None:
    """Two checks under one name could hide each other's result."""
    with pytest.raises(ValidationFailed, match="no name of its own"):
        suite(tmp_path, ROWS, ROWS).validate("clips", one_row)


def test_an_empty_suite_is_refused(tmp_path, one_row) -> None:
    """GX passes a suite without expectations; here nothing was checked."""
    with pytest.raises(ValidationFailed, match="declares no check"):
        suite(tmp_path).validate("clips", one_row)


def test_an_unknown_expectation_is_skipped_and_fails(tmp_path, one_row) -> None:
    """GX drops an expectation that it does not know and passes; here it is told as skipped."""
    result = suite(tmp_path, ROWS, check("expect_moon_to_be_full", column="vin")).validate("clips", one_row)
    assert not result.passed
    assert (result.declared, result.executed, result.skipped, result.errored) == (2, 1, 1, 0)
    assert [(one.check, one.problem, one.note) for one in result.failures] == [
        ("mine", "skipped", "was not run: Great Expectations knows no expect_moon_to_be_full")
    ]


def test_only_unknown_expectations_fail_too(tmp_path, one_row) -> None:
    """Nothing left to run is no pass."""
    result = suite(tmp_path, check("expect_moon_to_be_full")).validate("clips", one_row)
    assert (result.passed, result.executed, result.skipped, result.rows_examined) == (False, 0, 1, 0)


def test_arguments_that_gx_refuses_are_refused(tmp_path, one_row) -> None:
    """An expectation without the column it needs does not run, so the suite fails."""
    with pytest.raises(ValidationFailed, match="could not run the suite"):
        suite(tmp_path, ROWS, check("expect_column_values_to_not_be_null")).validate("clips", one_row)


def test_a_missing_column_errs_by_name(tmp_path, one_row) -> None:
    """A check on a column that is not there is an error, not a finding about rows."""
    result = suite(tmp_path, ROWS, check("expect_column_values_to_not_be_null", column="moon")).validate("clips", one_row)
    assert (result.passed, result.errored) == (False, 1)
    assert [(one.problem, one.row_count, one.note) for one in result.failures] == [
        ("errored", 0, "column moon is missing, or not of its type")
    ]


def test_a_check_that_raises_errs(tmp_path, one_row) -> None:
    """An exception inside an expectation is told as one, without its text: that can hold values."""
    result = suite(tmp_path, ROWS, check("expect_column_values_to_match_regex", column="vin", regex="(")).validate("clips", one_row)
    assert (result.passed, result.errored) == (False, 1)
    assert [one.note for one in result.failures] == ["raised an exception instead of an answer"]


def test_an_empty_table_fails(tmp_path) -> None:
    """No row, no proof."""
    result = SHIPPED.validate("clips", schema.CLIPS.empty_table())
    assert (result.passed, result.rows_examined, result.rows_present) == (False, 0, 0)
    assert [("table.row_count", "the table is empty: no row was examined")] == [(one.check, one.note) for one in result.failures]
    lost = SHIPPED.validate("clips", schema.CLIPS.empty_table(), {"stored": pa.table({"clip_id": [f"{1:064x}"]})})
    assert [("table.row_count", 0), ("clips.conserved", 1)] == [(one.check, one.row_count) for one in lost.failures]


@pytest.mark.parametrize("examined", [1, 3])
def test_rows_that_were_not_examined_fail(manifests, monkeypatch, examined) -> None:
    """Two rows present, fewer or more examined: nothing unexpected was found, and the table is refused in words of its own."""
    real = validator_counters.count
    monkeypatch.setattr(validator_counters, "count", lambda *args: dataclasses.replace(real(*args), rows_examined=examined))
    result = SHIPPED.validate("clips", manifests.table(manifests.good(1), manifests.good(2)))
    assert (False, examined, 2) == (result.passed, result.rows_examined, result.rows_present)
    assert [("table.row_count", f"{examined} of 2 rows were examined")] == [(one.check, one.note) for one in result.failures]


def test_a_check_that_was_not_counted_errs(one_row, monkeypatch) -> None:
    """A count that was lost is no count of nothing."""
    real = validator_counters.count

    def without(*args: object) -> validator_counters.Counts:
        counts = real(*args)
        return dataclasses.replace(counts, found={name: one for name, one in counts.found.items() if name != "fps.range"})

    monkeypatch.setattr(validator_counters, "count", without)
    result = SHIPPED.validate("clips", one_row)
    assert (False, 1) == (result.passed, result.errored)
    assert [("fps.range", "errored")] == [(one.check, one.problem) for one in result.failures]


def test_a_suite_that_counts_no_rows_fails(tmp_path, one_row) -> None:
    """Without the row count nobody knows how many rows were examined, so the result does not pass."""
    result = suite(tmp_path, check("expect_column_values_to_not_be_null", column="clip_id")).validate("clips", one_row)
    assert (result.passed, result.failures, result.rows_examined) == (False, (), 0)


def test_a_column_that_stands_twice_is_refused(tmp_path, one_row) -> None:
    """A DataFrame would keep one of the two and check only that."""
    with pytest.raises(ValidationFailed, match=r"holds a column twice \(vin\)"):
        suite(tmp_path, ROWS).validate("clips", one_row.append_column("vin", pa.array(["x"])))


def test_results_are_equal_again(tmp_path, one_row) -> None:
    """The same rows under the same suite give the same result: no time, no random id, no order of chance."""
    assert SHIPPED.validate("clips", one_row) == SHIPPED.validate("clips", one_row)


def test_gx_says_nothing(tmp_path, one_row, capfd, caplog) -> None:
    """No log line and no progress bar of GX reaches the operator."""
    with caplog.at_level(logging.INFO):
        suite(tmp_path, ROWS, check("expect_moon_to_be_full")).validate("clips", one_row)
    assert (capfd.readouterr(), caplog.messages) == (("", ""), [])


def test_importing_the_adapter_does_not_import_gx() -> None:
    """GX costs 4 s and 270 MiB, which only a validation pays."""
    code = "import sys, curation.adapters.validator_gx; raise SystemExit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_write_mends_a_stale_suite(tmp_path, capsys) -> None:
    """Without --write a stale suite is told and exits 1; --write rewrites it; then there is nothing to say."""
    there = ["--folder", str(tmp_path), "--versions", str(tmp_path / "versions.json")]
    assert validator_suites.main(there) == 1
    assert validator_suites.main([*there, "--write"]) == 0
    assert validator_suites.main(there) == 0
    assert (tmp_path / "clips.json").read_bytes() == validator_suites.files()["clips.json"]
    assert capsys.readouterr().out.count("clips.json") == 2
