"""The other suites' bad rows, our own expectations one by one, and suites of other versions of a schema."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import plain_gx
from curation import schema
from curation.adapters import validator_counters, validator_suites
from curation.adapters.validator_forms import SENSITIVE_FORMS, version_of
from curation.adapters.validator_gx import GxValidator
from curation.errors import ValidationFailed
from curation.records import ValidationResult
from tests.validate.bad_rows import A_VIN, OTHERS

EXPECTATIONS = Path(__file__).resolve().parents[2] / "expectations"
BAD = [(table, number) for table, (_, bad, _) in OTHERS.items() for number in range(len(bad))]


@pytest.fixture(scope="module")
def mutated() -> dict[str, ValidationResult]:
    """One run per table over all its bad rows."""
    results = {}
    for table, (good, bad, related) in OTHERS.items():
        loose = pa.schema([field.with_nullable(nullable=True) for field in schema.TABLES[table]])
        rows = pa.Table.from_pylist([*good, *(row for row, _ in bad)], schema=loose)
        results[table] = GxValidator(EXPECTATIONS).validate(table, rows, related)
    return results


@pytest.mark.parametrize(("table", "number"), BAD, ids=[f"{table}-{OTHERS[table][1][number][1]}-{number}" for table, number in BAD])
def test_each_bad_row_is_caught_by_its_check(mutated, table, number) -> None:
    """The check that should catch a kind of bad row fails, and every declared check ran."""
    check = OTHERS[table][1][number][1]
    assert check in {failure.check for failure in mutated[table].failures if failure.problem == "unexpected"}
    assert (mutated[table].declared, 0, 0) == (mutated[table].executed, mutated[table].skipped, mutated[table].errored)


@pytest.mark.parametrize("table", OTHERS)
def test_results_hold_no_value(mutated, table) -> None:
    """Neither a name of the listing nor anything else of a bad row stands in a result."""
    told = repr(mutated[table])
    assert [
        word for word in (A_VIN, "../b", "/etc", "沪A", "31.2304", "1381234", "1920x", "unreadable", "BD-09", "812.4") if word in told
    ] == []


def test_every_check_has_a_count() -> None:
    """No suite holds a check that nothing counts, and each says why in both languages."""
    for file in EXPECTATIONS.iterdir():
        for check in json.loads(file.read_bytes())["expectations"]:
            assert check["type"] in {*validator_counters.FORMS, *validator_counters.COUNTED_APART}
            assert check["meta"]["notes_zh"].endswith("。")


WORDS = ["clear", "rainy"]
OWN = {
    "words": ("expect_column_values_to_be_words_of", {"words": WORDS, "vocabulary_version": version_of(WORDS)}, "rainy", "sunny"),
    "month": ("expect_column_values_to_be_coarse_time", {}, "2026-11", "2026-11-21"),
    "sensitive": ("expect_column_values_to_hold_nothing_sensitive", {"forms": dict(SENSITIVE_FORMS)}, "city street", "沪A12345"),
    "conserved": ("expect_rows_to_be_conserved", {"column_name": "weather", "other": "kept"}, "kept", "lost"),
}


@pytest.mark.parametrize("name", OWN)
def test_an_expectation_of_ours_passes_one_row_and_fails_a_sabotaged_one(tmp_path, name) -> None:
    """Great Expectations alone and the counters agree on both rows."""
    kind, kwargs, good, bad = OWN[name]
    kwargs = kwargs if "column_name" in kwargs else {"column": "weather", **kwargs}
    rows_check = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"check": "table.row_count"}}
    check = {"type": kind, "kwargs": kwargs, "meta": {"check": name, "notes": "Why."}}
    (tmp_path / "clips.json").write_text(json.dumps({"expectations": [rows_check, check]}))
    kept = pa.table({"weather": ["kept"]})
    for value, passes in ((good, True), (bad, False)):
        rows = pa.table({"weather": [value]})
        assert passes == GxValidator(tmp_path).validate("clips", rows, {"kept": kept}).passed
        assert passes == plain_gx.validate([check], rows.to_pandas(), {"kept": ["kept"]})[name].success


def test_a_word_without_a_new_version_is_refused(tmp_path) -> None:
    """A word slipped into a suite's vocabulary is refused before any row is looked at."""
    kwargs = {"column": "weather", "words": [*WORDS, "sunny"], "vocabulary_version": version_of(WORDS)}
    check = {"type": "expect_column_values_to_be_words_of", "kwargs": kwargs, "meta": {"check": "mine"}}
    (tmp_path / "clips.json").write_text(json.dumps({"expectations": [check]}))
    with pytest.raises(ValidationFailed, match="does not take the arguments of mine"):
        GxValidator(tmp_path).validate("clips", pa.table({"weather": ["sunny"]}))


def test_an_older_table_is_validated_by_the_suite_of_its_version(tmp_path, manifests, monkeypatch) -> None:
    """A column that came later is asked of tables of its version, and not of those before it; a later version is unknown."""
    later = pa.field("wetness", pa.float64(), metadata={"doc": "d", "unit": "ratio", "sensitivity": "public", "since": "2"})
    grown = schema.CLIPS.append(later)
    for name, data in validator_suites.files({"clips": grown}, current=2).items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "2")
    old = manifests.table(manifests.good(1)).replace_schema_metadata({"curation.schema_version": "1"})
    new = old.append_column(later, pa.array([0.5])).replace_schema_metadata({"curation.schema_version": "2"})
    validator = GxValidator(tmp_path)
    assert ("1", True) == (validator.validate("clips", old).schema_version, validator.validate("clips", old).passed)
    assert ("2", True) == (validator.validate("clips", new).schema_version, validator.validate("clips", new).passed)
    mislabelled = validator.validate("clips", old.replace_schema_metadata({"curation.schema_version": "2"}))
    shape = next(failure for failure in mislabelled.failures if failure.check == "table.columns")
    assert "It lacks wetness. Fix: write it with all columns; if these came after it was written, they need a version" in shape.note
    assert "缺少 wetness。处理:" in shape.note_zh
    wrong = new.set_column(new.num_columns - 1, later, pa.array([1.5]))
    assert ["wetness.range"] == [failure.check for failure in validator.validate("clips", wrong).failures]


def test_no_table_changes_without_a_new_version() -> None:
    """Every version of the schema is what it was when it was recorded, and the present one is recorded."""
    recorded = json.loads(validator_suites.VERSIONS.read_bytes())
    assert schema.SCHEMA_VERSION in recorded
    assert [] == validator_suites.unversioned(recorded), validator_suites._UNVERSIONED


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda clips: clips.append(pa.field("wetness", pa.float64())), False),
        (lambda clips: clips.remove(clips.get_field_index("camera")), False),
        (lambda clips: clips.set(0, clips.field(0).with_nullable(nullable=True)), False),
        (lambda clips: clips.set(7, pa.field(clips.field(7).name, pa.int16())), False),
        (lambda clips: clips.append(schema.column("wetness", pa.float64(), "public", "d", since=2)), True),
        (lambda clips: clips.set(0, clips.field(0).with_metadata({"doc": "another word"})), True),
    ],
    ids=["more", "less", "nullable", "type", "since", "doc"],
)
def test_a_change_without_a_new_version_is_refused(tmp_path, monkeypatch, capsys, change, passes) -> None:
    """A column more, less or of another type is refused by table and fix, and nothing is written; one with its own version passes."""
    versions = tmp_path / "schema_versions.json"
    run = ["--folder", str(tmp_path / "suites"), "--versions", str(versions), "--write"]
    assert 0 == validator_suites.main(run)
    before, _ = versions.read_bytes(), capsys.readouterr()
    monkeypatch.setattr(schema, "TABLES", {**schema.TABLES, "clips": change(schema.CLIPS)})
    assert int(not passes) == validator_suites.main(run)
    assert before == versions.read_bytes()
    assert passes != ("clips of version 1: changed without a new version of the schema" in capsys.readouterr().out)
    assert 0 == validator_suites.main([*run, "--unreleased"])
    assert (before == versions.read_bytes()) == passes
