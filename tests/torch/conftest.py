"""Shard sets of rendered clips, made by the project's own environment: the one with torch only reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FORMS = ("clips", "frames")
FORMATS = ("webdataset", "mds")


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/torch/make_sets.py tells: `<form>-<format>` -> folder of the set, and the pictures as they must be read."""
    folder = tmp_path_factory.mktemp("sets")
    command = [str(PROJECT / ".venv" / "bin" / "python"), "-m", "tests.torch.make_sets", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
