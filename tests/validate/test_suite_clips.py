"""The clips suite: what it lets through, and that each kind of bad row is caught by the check that should catch it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curation import schema
from curation.adapters import validator_suites
from curation.adapters.validator_gx import GxValidator
from curation.privacy.census import COUNTS
from curation.records import ValidationResult
from tests.validate.bad_rows import A_VIN
from tests.validate.bad_rows import CLIPS as MUTATIONS

EXPECTATIONS = Path(__file__).resolve().parents[2] / "expectations"


@pytest.fixture(scope="module")
def validator() -> GxValidator:
    """The validator over the shipped suites."""
    return GxValidator(EXPECTATIONS)


@pytest.fixture(scope="module")
def mutated(validator, bad_clips) -> ValidationResult:
    """One run over all bad rows, one good row of each verdict, and one clip that stands twice."""
    return validator.validate("clips", bad_clips)


def test_the_file_is_what_the_schema_gives() -> None:
    """The files of `expectations/` equal what their generator makes, byte for byte, and there is no other one."""
    assert validator_suites.files() == {file.name: file.read_bytes() for file in EXPECTATIONS.iterdir()}


def test_every_check_says_why() -> None:
    """Each check of each suite has a name of its own and a sentence that says why it exists."""
    for file in EXPECTATIONS.glob("*.json"):
        checks = json.loads(file.read_bytes())["expectations"]
        assert len(checks) == len({check["meta"]["check"] for check in checks})
        assert [check["meta"]["check"] for check in checks if not check["meta"]["notes"].endswith(".")] == []


def test_good_rows_pass(validator, manifests) -> None:
    """Rows of all three verdicts pass, and the result proves that every check ran over every row."""
    result = validator.validate("clips", manifests.table(manifests.good(1), manifests.rejected(2), manifests.quarantined(3)))
    assert result.failures == ()
    assert result.passed
    assert (result.declared, 0, 0, 3, 3) == (result.executed, result.skipped, result.errored, result.rows_examined, result.rows_present)


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=[f"{check}-{number}" for number, (_, _, check) in enumerate(MUTATIONS)])
def test_each_bad_row_is_caught_by_its_check(mutated, number) -> None:
    """The check that should catch a kind of bad row fails, and names that row's clip where it has a clip id."""
    _, changes, check = MUTATIONS[number]
    failed = {failure.check: failure for failure in mutated.failures}
    assert check in failed
    assert failed[check].problem == "unexpected"
    if "clip_id" not in changes:
        assert f"{100 + number:064x}" in failed[check].clip_ids


def test_good_rows_among_bad_ones_are_not_named(mutated) -> None:
    """No check names a row that is right."""
    named = {clip_id for failure in mutated.failures for clip_id in failure.clip_ids}
    assert set() == named & {f"{number:064x}" for number in (1, 2, 3)}


def test_a_clip_that_stands_twice_is_caught(mutated) -> None:
    """Two rows of one clip fail the uniqueness check, which counts both and names the clip."""
    failure = next(failure for failure in mutated.failures if failure.check == "clip_id.unique")
    assert (2, (f"{4:064x}",)) == (failure.row_count, failure.clip_ids)


def test_no_check_that_should_be_quiet_fails(mutated) -> None:
    """Every failing check is one that some bad row was made for, or follows from such a row."""
    follow = {"clip_id.unique", "object_uri.names_clip", "latitude_deg.range", "accepted.no_reasons"}
    meant = {check for _, _, check in MUTATIONS} | follow
    assert set() == {failure.check for failure in mutated.failures} - meant


def test_results_hold_no_value(mutated) -> None:
    """Neither a value of a failing row nor a clip_id that is none stands in the result."""
    text = repr(mutated)
    assert [word for word in (A_VIN, "LSVAA", "90.5", "noon", "BD-09", "wetness", "boom", "F" * 64) if word in text] == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda rows: rows.append_column("extra", pa.nulls(1, pa.string())), "table.columns"),
        (lambda rows: rows.select([*rows.column_names[1:], rows.column_names[0]]), "table.columns"),
        (lambda rows: rows.rename_columns([name.replace("weather", "sky") for name in rows.column_names]), "table.columns"),
        (lambda rows: rows.set_column(rows.column_names.index("size_bytes"), "size_bytes", pa.array(["1"])), "table.types"),
        (lambda rows: rows.set_column(rows.column_names.index("width_px"), "width_px", pa.array([1280], pa.int64())), "table.types"),
    ],
    ids=["extra", "order", "renamed", "text", "wider"],
)
def test_another_shape_is_caught(validator, manifests, change, check) -> None:
    """A column more, elsewhere, under another name or of another type fails the check of the table's shape."""
    result = validator.validate("clips", change(manifests.table(manifests.good(1))))
    assert not result.passed
    assert check in {failure.check for failure in result.failures}


def test_at_least_forty_kinds_of_bad_rows_are_tried() -> None:
    """And each kind names the one check that must catch it."""
    assert 40 <= len({repr(kind) for kind in MUTATIONS})


def test_every_signal_and_count_has_its_checks() -> None:
    """A signal added to the schema gets a range and a measured-or-not check without an edit here."""
    names = {check["meta"]["check"] for check in json.loads(validator_suites.files()["clips.json"])["expectations"]}
    assert set() == {f"{name}.{kind}" for name in (*schema.SIGNALS, *COUNTS) for kind in ("range", "measured_or_not")} - names
