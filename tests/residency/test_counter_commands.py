"""`curation residency forecast` and `assess`: what a fresh home is told, and an entry that legal's key makes and a pack takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli_residency import app
from curation.errors import UsageError
from curation.residency import assessment, signing
from curation.residency import pack as packs

runner = CliRunner()


def _run(*words: object) -> str:
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def test_a_fresh_home_has_no_history(tmp_path: Path) -> None:
    """Every counter of the shipped pack stands at 0 with its limit, and no day is made up."""
    lines = [json.loads(line) for line in _run("forecast", "--work", tmp_path, "--json").splitlines()]
    assert 9 == len(lines)
    assert {(0, None, None)} == {(line["used"], line["pace_per_day"], line["blocks_on"]) for line in lines}
    assert all(line["unmeasured"].startswith("no history") for line in lines)
    page = _run("forecast", "--work", tmp_path)
    assert "counter.raw_hours_ever: 0 of 2000 raw_hours (lifetime), open\n  pace unmeasured: no history: nothing was released yet" in page


def test_legal_makes_an_entry_that_the_pack_takes(tmp_path: Path, pack_bytes: Callable[[str], bytes]) -> None:
    """The printed YAML stands under `assessments:` as it is and is in force under legal's key."""
    path = tmp_path / "pack.yaml"
    path.write_bytes(pack_bytes("cn-baseline"))
    private_pem, public_hex = signing.keygen()
    (tmp_path / "legal.key").write_bytes(private_pem)
    words = ["assess", path, "--counter", "counter.raw_hours_ever", "--number", "CAC-1", "--limit", 5000, "--key", tmp_path / "legal.key"]
    entry = _run(*words, "--expires", "2027-01-31")
    path.write_bytes(path.read_bytes() + b"\nassessments:\n" + entry.encode())
    pack = packs.parse(path.read_bytes())
    assert yaml.safe_load(entry)[0]["public_key"] == public_hex
    found = assessment.in_force(pack, trusted_keys={"legal": (public_hex,)}, today=date(2027, 1, 31))
    assert 5000 == found["counter.raw_hours_ever"].new_limit
    with pytest.raises(UsageError):
        _run(*words, "--expires", "soon")
