"""The way back at ten million published rows: what an auditor's trace and a withdrawal take, as commands, from start to end."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import published_home
from benchmarks.measure import PROJECT, RUNS, Cost, Figure, cpu_s, figure, wall_s, within
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
    """Seconds on the wall, and of CPU, against their limits: traces of each kind; one withdrawal of each kind, asked and confirmed."""
    settings = published_home.make(folder, release_count=release_count, rows_each=rows_each)
    store = published_home.store_of(settings)
    last = max(key.split("/")[1] for key in store.keys("releases/"))
    mapping = from_parquet(store.read(release_key(last, MAPPING_FILE)), MAPPING)
    rows = mapping.take(list(range(0, mapping.num_rows, max(mapping.num_rows // 1000, 1)))).to_pylist()  # they lie by vehicle
    columns = {"clip": "clip_id", "row": "release_row_id", "vehicle": "vehicle_id"}
    for what in traced:
        found = [_timed("audit", "trace", rows[17 * number % len(rows)][columns[what]], work=folder) for number in range(runs)]
        yield from _against(f"publish.trace_{what}", [cost for cost, _ in found], TRACE_S)
    clips = published_home.clips_of(settings, [row["clip_id"] for row in rows[:5]])
    asked = {
        "clip": clips[0]["clip_id"],
        "vehicle": clips[1]["vehicle_id"],
        "device": clips[2]["device_id"],
        "drive": clips[3]["drive_id"],
        "release": last,
    }
    for what in withdrawn:
        yield from _against(f"publish.withdraw_{what}", [_withdrawn(what, asked[what], folder)], WITHDRAW_S)


def _against(name: str, costs: Sequence[Cost], limit_s: float) -> Iterator[Figure]:
    yield within(f"{name}/limit", wall_s(costs), limit_s, unit="s")
    yield figure(f"{name}_cpu/limit", cpu_s(costs), [limit_s], unit="CPU s", better="less")


def _withdrawn(what: str, value: str, folder: Path) -> Cost:
    """What asking and confirming took together.

    Raises:
        OutsideError: no row was withdrawn.
    """
    why = ("--reason", "benchmark", "--requester", "engineer")
    asking, asked = _timed("withdraw", "request", f"--{what}", value, *why, work=folder)
    doing, receipt = _timed("withdraw", "confirm", asked["withdrawal_id"], "--approver", "officer", work=folder)
    if not receipt["withdrawn"]:
        raise OutsideError("withdrew no row", subject=f"{what} {value}", fix="see what the benchmark published")
    return Cost(wall_s=asking.wall_s + doing.wall_s, cpu_s=asking.cpu_s + doing.cpu_s)


def _timed(*words: str, work: Path) -> tuple[Cost, Any]:
    """What a command took, start of the interpreter and processes of its own included, and what it said."""
    command = [sys.executable, "-c", "from curation.cli import main; main()", *words, "--json", "--work", str(work)]
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    took_s, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise OutsideError(f"failed: {done.stderr.strip()[-500:]}", subject=" ".join(words[:2]), fix="run it alone")
    cost = Cost(wall_s=took_s, cpu_s=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return cost, json.loads(done.stdout)
