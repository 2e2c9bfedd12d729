"""The floors hold, and each contract that holds them can say no."""

import ast
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from curation import records, schema

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = [contract["name"] for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]]
BREACHES = {
    "Imports go down only": ("signals/picture.py", "from curation.pipeline import discover"),
    "Stages never import stages": ("stages/pull.py", "from curation.stages.publish import run as _run"),
    "Airflow only in dags and plugins": ("pipeline/batch.py", "import airflow"),
    "Great Expectations, PyIceberg, PyAV and boto3 only in their adapters": ("stages/validate.py", "import great_expectations"),
    "The command line calls the pipeline and nothing below it that works": ("cli_validate.py", "from curation import proofs as _proofs"),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over a copy of the package."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(folder / "pyproject.toml"), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    """The package and its contracts, to be broken."""
    shutil.copytree(ROOT / "curation", tmp_path / "curation", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_has_a_breach():
    """A contract that nobody tried to break is no contract."""
    assert sorted(CONTRACTS) == sorted(BREACHES)


@pytest.mark.parametrize("name", sorted(BREACHES))
def test_a_breach_is_refused(copy, name):
    """One forbidden import breaks just its contract, by name."""
    file, line = BREACHES[name]
    path = copy / "curation" / file
    path.write_text(path.read_text().replace("from __future__ import annotations\n", f"from __future__ import annotations\n{line}\n", 1))
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{name} BROKEN" in result.stdout


def test_listing_and_pulled_records_mirror_their_schemas():
    """A frozen record and its table hold the same columns in the same order."""
    own = [field.name for field in fields(records.ListingEntry) if field.name != "telemetry"]
    assert own + [field.name for field in fields(records.Telemetry)] == schema.LISTING.names
    assert [field.name for field in fields(records.PulledEntry)] == schema.PULLED.names


def test_functions_stay_short_and_excepts_named():
    """No function is over 60 lines without its docstring, and no except is blanket."""
    long, blanket = [], []
    for folder in ("curation", "dags", "plugins", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    doc = ast.get_docstring(node, clean=False)
                    length = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
                    if length > 60:
                        long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {length}")
                if isinstance(node, ast.ExceptHandler) and (
                    node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
                ):
                    blanket.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert long == []
    assert blanket == []
