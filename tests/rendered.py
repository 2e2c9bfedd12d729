"""Small rendered fleets, and the shipped suites cut short, for tests that want a real work folder without waiting for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from curation import wiring
from curation.demo import fleet, run_demo

SMALL = fleet.ClipFormat(width_px=320, height_px=180, fps=8, duration_s=1.25)


def render(folder: Path, *clips: str) -> Path:
    """`folder`, with these clips of the demo's fleet in a size that is rendered and inspected at once; the fences stand beside it."""
    fleet.make_fleet(folder, writer=wiring.video_writer(), clip_format=SMALL, only=clips)
    shutil.copyfile(folder / "fences.geojson", folder.with_name("fences-test.geojson"))
    return folder


def few_checks(folder: Path, count: int) -> Path:
    """`folder`, with the first `count` checks of every shipped suite: all of them take seconds over any batch."""
    folder.mkdir()
    for file in (run_demo.ROOT / "expectations").glob("*.json"):
        suite = json.loads(file.read_text(encoding="utf-8"))
        (folder / file.name).write_text(json.dumps({**suite, "expectations": suite["expectations"][:count]}), encoding="utf-8")
    return folder
