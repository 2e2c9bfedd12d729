"""A command waits for the libraries that it uses, and for no other."""

import json
import subprocess
import sys

import pytest

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
except SystemExit as end:
    print(json.dumps({"exit": end.code, "loaded": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("words", [("--help",), ("audit", "trace", "--help")])
def test_help_loads_no_library_that_works(words: tuple[str, ...]) -> None:
    """What a command is for is told before anything that could do it is loaded."""
    done = subprocess.run([sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout.splitlines()[-1])
    assert {"exit": 0, "loaded": []} == {**told, "loaded": sorted(HEAVY & set(told["loaded"]))}
