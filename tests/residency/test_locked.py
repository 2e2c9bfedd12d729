"""What the rules' own database may touch: memory, and nothing else."""

from __future__ import annotations

import duckdb
import pytest

from curation.residency.expression import LOCKED


def test_rows_never_spill_into_the_folder_that_the_process_was_started_in(tmp_path, monkeypatch):
    """A sort that does not fit into memory ends with an error; no file is written, and the setting cannot be taken back."""
    monkeypatch.chdir(tmp_path)
    with duckdb.connect(":memory:", config={**LOCKED, "memory_limit": "20MB"}) as connection:
        with pytest.raises(duckdb.OutOfMemoryException):
            connection.execute("SELECT hash(range) AS h, repeat('x', 100) AS t FROM range(5_000_000) ORDER BY h").fetch_arrow_table()
        with pytest.raises(duckdb.InvalidInputException):
            connection.execute("SET temp_directory = 'here'")
    assert [] == list(tmp_path.iterdir())
