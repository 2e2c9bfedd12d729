"""`curation reinspect` on a work folder without rows."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from curation.cli import app


def test_nothing_stale_is_said(tmp_path: Path) -> None:
    """Without a stale row the command says so and succeeds; for programs it prints no line."""
    told = CliRunner().invoke(app, ["reinspect", "--work", str(tmp_path)])
    assert (0, "reinspect: every curated row was made under these settings\n") == (told.exit_code, told.output)
    told = CliRunner().invoke(app, ["reinspect", "--work", str(tmp_path), "--json"])
    assert (0, "") == (told.exit_code, told.output)
