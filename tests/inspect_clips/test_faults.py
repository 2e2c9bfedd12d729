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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good clip of few pixels and of just the length that every fault needs: a third of the time, and the same verdicts."""
    path = tmp_path_factory.mktemp("base") / "base.mp4"
    picture = ["-vf", "scale=640:-2", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-pix_fmt", "yuv420p"]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(BASE), "-t", "6.4", *picture, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_every_fault_is_judged_as_it_was(base: Path, tmp_path: Path):
    """All faults of one clip, at the default depth: verdict and reasons by file."""
    command = [shutil.which("bash") or "/bin/bash", str(CLIPS / "make_faults.sh"), str(base), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "57 cases" in done.stdout
    (tmp_path / "fs" / "unreadable.mp4").chmod(0o644)  # whether it can be read is the user's matter, not the clip's
    files = [line.split("\t")[0] for line in (tmp_path / "faults.tsv").read_text(encoding="utf-8").splitlines()]
    policy = InspectSettings().model_dump(mode="json")
    items = [{"clip_id": file, "path": str(tmp_path / file), "policy": policy} for file in files]
    outcomes = LocalEngine(EngineSettings(workers=2)).map("inspect", items)
    found = {}
    for file, outcome in zip(files, outcomes, strict=True):
        assert outcome.value is not None, (file, outcome.failure)
        found[file] = [outcome.value["verdict"], *outcome.value["reasons"]]
    if os.environ.get("CURATION_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(found) == 57
