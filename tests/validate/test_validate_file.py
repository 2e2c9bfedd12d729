"""`curation validate PATH.parquet`: any file of a table, without a store or settings."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation import schema
from curation.cli import app
from curation.errors import UsageError, ValidationFailed
from curation.tables import to_parquet
from tests.validate.bad_rows import OTHERS

run = CliRunner().invoke


@pytest.fixture
def manifest(tmp_path, manifests) -> Path:
    """A manifest file of three good rows, its name a pattern to whoever takes it for one."""
    file = tmp_path / "clips[1]*.parquet"
    rows = manifests.table(manifests.good(1), manifests.rejected(2), manifests.quarantined(3)).cast(schema.CLIPS)
    file.write_bytes(to_parquet(rows, schema.CLIPS))
    return file


def test_a_good_file_passes(manifest) -> None:
    """Exit 0; the line says how many checks ran over how many rows, and which were not asked."""
    said = run(app, ["validate", str(manifest)])
    assert 0 == said.exit_code
    assert re.search(r"passed; suite clips, (1[0-9]{2}) of \1 checks ran over 3 of 3 rows", said.stdout)
    assert "not asked, for want of other tables: history, stored" in said.stdout


def test_a_bad_file_is_told(tmp_path, manifests) -> None:
    """Exit 1 names each failing check with its rows, NaN behind a file's statistics included; --json says the same, and no value."""
    rows = [
        manifests.good(1, {"vin": "LSVNV2182E2100001", "brightness": math.nan}),
        manifests.good(2, {"brightness": 2.0}),
        manifests.good(3),
    ]
    file = tmp_path / "bad.parquet"
    pq.write_table(manifests.table(*rows), file)
    said = run(app, ["validate", str(file)])
    assert 1 == said.exit_code
    assert [
        part for part in ("failed brightness.range: 1 rows", f"clip {2:064x}", "failed values.finite: 1 rows") if part not in said.stdout
    ] == []
    told = run(app, ["validate", str(file), "--json"])
    result = json.loads(told.stdout)
    assert (1, False) == (told.exit_code, result["passed"])
    assert {"brightness.range": 1, "brightness.measured_or_not": 1, "values.finite": 1} == {
        one["check"]: one["row_count"] for one in result["failures"]
    }
    assert "LSVNV" not in said.stdout + told.stdout


@pytest.mark.parametrize("table", ["listing", "decisions", "release", "shards"])
def test_a_file_says_of_which_table_it_is(tmp_path, table) -> None:
    """The suite is that of the table which the file's own metadata names."""
    arrow = schema.TABLES[table]
    file = tmp_path / "some.parquet"
    file.write_bytes(to_parquet(pa.Table.from_pylist(OTHERS[table][0], schema=arrow), arrow))
    assert f"passed; suite {table}," in run(app, ["validate", str(file)]).stdout


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, UsageError, "is no file"),
        (b"PAR1", ValidationFailed, "not readable Parquet: nothing was checked"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, error, words) -> None:
    """A file that is not there is wrong use; one that is no Parquet fails."""
    file = tmp_path / "some.parquet"
    if content is not None:
        file.write_bytes(content)
    refused = run(app, ["validate", str(file)]).exception
    assert isinstance(refused, error)
    assert words in str(refused)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"curation.table": "../../etc/passwd"}, "of a table that has no suite"),
        ({"curation.table": "moon"}, "file is missing: nothing was checked"),
        ({"curation.schema_version": "999"}, "version 999 of its schema, for which there is no suite: nothing was checked"),
        ({"curation.schema_version": "x"}, "of a table that has no suite"),
    ],
)
def test_a_table_or_version_without_a_suite_is_refused(tmp_path, manifests, metadata, words) -> None:
    """A file that claims to be of another table, or of a version that this program does not know, was not checked."""
    file = tmp_path / "some.parquet"
    pq.write_table(manifests.table(manifests.good(1)).replace_schema_metadata(metadata), file)
    refused = run(app, ["validate", str(file)]).exception
    assert isinstance(refused, ValidationFailed)
    assert words in str(refused)
