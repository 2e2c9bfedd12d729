"""A command waits for the libraries that it uses, and for no other."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {  # pydantic is not among them: Typer itself reads arguments by it
    *("av", "boto3", "cryptography", "cv2", "duckdb", "faiss", "fastapi", "fsspec", "google.protobuf", "great_expectations", "jinja2"),
    *("numpy", "openlineage", "pandas", "pyarrow", "pyiceberg", "scipy", "shapely", "sqlalchemy", "yaml"),
}
# Prints, last, the names of what was loaded.
_RUN = """
import json, sys
from curation.cli import main
sys.argv = ["curation", *sys.argv[1:]]
try:
    main()
    raise SystemExit(0)
except SystemExit as end:
    print(json.dumps({"exit": end.code, "loaded": sorted(sys.modules)}))
"""


def _run(*words: str) -> dict[str, Any]:
    """The exit code of a command in a process of its own, and which modules it had loaded by then."""
    done = subprocess.run([sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("words", [("--help",), ("audit", "trace", "--help")])
def test_help_loads_no_library_that_works(words: tuple[str, ...]) -> None:
    """What a command is for is told before anything that could do it is loaded."""
    done = _run(*words)
    assert {"exit": 0, "loaded": []} == {**done, "loaded": sorted(HEAVY & set(done["loaded"]))}


def test_a_trace_loads_what_it_reads_with_and_nothing_else(tmp_path: Path) -> None:
    """An auditor's question waits for no library of catalogs, rules or pictures."""
    done = _run("audit", "trace", "nobody", "--work", str(tmp_path))
    unread = HEAVY - {"cryptography", "duckdb", "fsspec", "numpy", "pyarrow"} | {"curation.residency.pack", "pyarrow.compute"}
    assert {"exit": 2, "loaded": []} == {**done, "loaded": sorted(unread & set(done["loaded"]))}


def test_a_preview_loads_nothing_that_only_builds(tmp_path: Path) -> None:
    """Who writes a request asks for its preview again and again, and waits for no library of pictures, pages or graphs."""
    request = tmp_path / "request.yaml"
    request.write_text("name: night\n")
    done = _run("shards", "preview", str(request), "--work", str(tmp_path))
    unread = {"cv2", "curation.proofs", "great_expectations", "jinja2", "scipy"}
    assert {"exit": 2, "loaded": []} == {**done, "loaded": sorted(unread & set(done["loaded"]))}


def test_a_parse_of_the_dags_loads_no_library_that_works() -> None:
    """Airflow reads the DAG files in a new process each, again and again, and each of its processes the settings as it starts."""
    files = [*ROOT.glob("dags/**/*.py"), ROOT / "plugins" / "airflow_local_settings.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    of_ours = {
        one.module for tree in trees for one in tree.body if isinstance(one, ast.ImportFrom) and str(one.module).startswith("curation")
    }
    assert "curation.airflow_guard" in of_ours
    read = f"import json, os, sys, {', '.join(sorted(filter(None, of_ours)))}; curation.airflow_guard.require_airflow_home(os.environ)"
    done = subprocess.run([sys.executable, "-c", f"{read}; print(json.dumps([*sys.modules]))"], capture_output=True, text=True, check=True)
    assert [] == sorted(HEAVY - {"yaml"} & set(json.loads(done.stdout)))  # Airflow itself reads YAML
