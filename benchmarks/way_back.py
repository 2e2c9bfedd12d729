"""The way back at ten million published rows: what an auditor's trace and a withdrawal take, as commands, from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import published_home
from benchmarks.measure import PROJECT, RUNS, Figure, within
from curation.errors import OutsideError
from curation.layout import release_key
from curation.release_files import MAPPING_FILE
from curation.schema import MAPPING
from curation.tables import from_parquet

RELEASES: Final = 10
ROWS_EACH: Final = 1_000_000
TRACE_S: Final = 3.0  # issue E, both
WITHDRAW_S: Final = 60.0


def figures(
    folder: Path,
    *,
    release_count: int = RELEASES,
    rows_each: int = ROWS_EACH,
    runs: int = RUNS,
    traced: Sequence[str] = ("clip", "row", "vehicle"),
    withdrawn: Sequence[str] = ("clip", "vehicle", "device", "drive", "release"),
) -> Iterator[Figure]:
    """Seconds on the wall against their limits: traces by clip, row and vehicle; one withdrawal of each kind, asked and confirmed."""
    settings = published_home.make(folder, release_count=release_count, rows_each=rows_each)
    store = published_home.store_of(settings)
    last = max(key.split("/")[1] for key in store.keys("releases/"))
    rows = from_parquet(store.read(release_key(last, MAPPING_FILE)), MAPPING).slice(0, 10_000).to_pylist()
    columns = {"clip": "clip_id", "row": "release_row_id", "vehicle": "vehicle_id"}
    for what in traced:
        found = [_timed("audit", "trace", rows[17 * number % len(rows)][columns[what]], work=folder) for number in range(runs)]
        yield within(f"publish.trace_{what}/limit", [took_s for took_s, _ in found], TRACE_S, unit="s")
    clips = published_home.clips_of(settings, [row["clip_id"] for row in rows[:5]])
    asked = {
        "clip": clips[0]["clip_id"],
        "vehicle": clips[1]["vehicle_id"],
        "device": clips[2]["device_id"],
        "drive": clips[3]["drive_id"],
        "release": last,
    }
    for what in withdrawn:
        yield within(f"publish.withdraw_{what}/limit", [_withdrawn(what, asked[what], folder)], WITHDRAW_S, unit="s")


def _withdrawn(what: str, value: str, folder: Path) -> float:
    """Seconds that asking and confirming took.

    Raises:
        OutsideError: no row was withdrawn.
    """
    why = ("--reason", "benchmark", "--requester", "engineer")
    asking_s, asked = _timed("withdraw", "request", f"--{what}", value, *why, work=folder)
    doing_s, receipt = _timed("withdraw", "confirm", asked["withdrawal_id"], "--approver", "officer", work=folder)
    if not receipt["withdrawn"]:
        raise OutsideError("withdrew no row", subject=f"{what} {value}", fix="see what the benchmark published")
    return asking_s + doing_s


def _timed(*words: str, work: Path) -> tuple[float, Any]:
    """Seconds that a command took, start of the interpreter included, and what it said."""
    command = [sys.executable, "-c", "from curation.cli import main; main()", *words, "--json", "--work", str(work)]
    began_s = time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - began_s
    if done.returncode != 0:
        raise OutsideError(f"failed: {done.stderr.strip()[-500:]}", subject=" ".join(words[:2]), fix="run it alone")
    return took_s, json.loads(done.stdout)
