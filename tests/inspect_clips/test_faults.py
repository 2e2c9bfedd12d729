"""Every fault that the shared script derives from one good clip: verdicts and reasons stay where they are.

`CURATION_WRITE_GOLDEN=1` writes the golden verdicts anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from curation.adapters.engine_local import LocalEngine
from curation.settings import EngineSettings, InspectSettings

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"
BASE = CLIPS / "videos" / "S05_highway_day_udacity_960x540.mp4"
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "inspect_faults.json"

pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared real clips are not beside the project"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg, which makes the faults, is not installed"),
]


def test_every_fault_is_judged_as_it_was(tmp_path: Path):
    """All faults of one clip but that of its permissions, at the default depth: verdict and reasons by file."""
    command = [shutil.which("bash") or "/bin/bash", str(CLIPS / "make_faults.sh"), str(BASE), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "57 cases" in done.stdout
    rows = [line.split("\t")[:2] for line in (tmp_path / "faults.tsv").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row[1] != "no_permission"]  # whether it can be read is the user's matter, not the clip's
    policy = InspectSettings().model_dump(mode="json")
    items = [{"clip_id": fault, "path": str(tmp_path / file), "policy": policy} for file, fault in rows]
    outcomes = LocalEngine(EngineSettings(workers=2)).map("inspect", items)
    found = {}
    for (file, _), outcome in zip(rows, outcomes, strict=True):
        assert outcome.value is not None, (file, outcome.failure)
        found[file] = [outcome.value["verdict"], *outcome.value["reasons"]]
    if os.environ.get("CURATION_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))
