"""How many clips one run of `ingest_clips` takes on the real four components, in how many task instances and how much memory.

The DAG, its scheduler, the store, the ledger and the manifests are the real ones; only the video is invented (`airflow_reader`), so that
what is measured is the way of the clips and not their decoding.
"""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.airflow_reader import MAGIC, MARK
from benchmarks.measure import PROJECT, Figure, figure, within
from curation import pipeline
from curation.demo import process_tree
from curation.demo.airflow_stack import AirflowStack
from curation.errors import NotConserved

CLIPS: Final = 100_000
CLIPS_VARIABLE: Final = "BENCH_AIRFLOW_CLIPS"  # fewer, for a machine that is busy; the goal stays what it is
AT_ONCE_VARIABLE: Final = "BENCH_AIRFLOW_AT_ONCE"  # batches; as many as there are cores
MAX_TASKS: Final = 250
_PER_FOLDER: Final = 1000
_LIMIT_S: Final = 3300.0
_SAMPLE_S: Final = 2.0
_DAG: Final = """\
# The real DAG file, in a process that reads invented clips. airflow dag
from pathlib import Path
from benchmarks.airflow_reader import install
install()
exec(compile(Path({file!r}).read_text(encoding="utf-8"), {file!r}, "exec"))
"""


def figures(folder: Path) -> Iterator[Figure]:
    """Clips of one run against 100,000, its task instances against 250, wall and CPU, and peak memory of scheduler and workers."""
    count = int(os.environ.get(CLIPS_VARIABLE, CLIPS))
    work = _work_folder(folder / "work", folder / "clips")
    _write_clips(folder / "clips", count)
    at_once = int(os.environ.get(AT_ONCE_VARIABLE, os.cpu_count() or 1))
    pools, env = _pools(folder / "pools.json", at_once), {"CURATION_WORK": str(work)}
    stack = AirflowStack(work / "airflow", _dags(folder / "dags"), env=env, pools=pools, parallelism=at_once)
    used_before_s = _children_cpu_s()
    with stack, _peaks(stack) as peaks:
        started = time.monotonic()
        run_id = stack.trigger("ingest_clips", {"sources": ["invented"]})
        stack.require_success("ingest_clips", run_id, limit_s=_LIMIT_S)
        wall_s = time.monotonic() - started
        states = Counter(str(task["state"]) for task in stack.tasks("ingest_clips", run_id))
    pulled = sum(entry.counts.get("stored", 0) for entry in pipeline.ledger_entries(pipeline.open_settings(work)) if entry.kind == "pull")
    if pulled != count or set(states) != {"success"}:
        raise NotConserved(f"{pulled} of {count} clips, tasks {dict(states)}", subject="ingest_clips", fix="read the logs of the run")
    yield figure("airflow.clips/a_run", [pulled], [CLIPS], unit="clips", better="more", goal=1.0)
    yield within("airflow.task_instances/limit", [sum(states.values())], MAX_TASKS, unit="task instances")
    yield figure("airflow.wall/cpu_of_all_components", [wall_s], [_children_cpu_s() - used_before_s], unit="s", better="less")
    yield figure("airflow.memory/scheduler_and_workers", [peaks["scheduler"]], [peaks["workers"]], unit="MiB", better="less")


def _children_cpu_s() -> float:
    """CPU of the processes that this one started and has seen end, with all that those have seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _work_folder(work: Path, clips: Path) -> Path:
    work.mkdir(parents=True)
    (work / MARK).touch()
    text = f'[sources.invented]\npath = {json.dumps(str(clips))}\n[pull]\nsettle_s = 0.0\n[inspect]\ndepth = "packets"\n'
    (work / "curation.toml").write_text(text, encoding="utf-8")
    return work


def _pools(file: Path, at_once: int) -> Path:
    """The project's pools, with as many slots for ingesting as batches may run at once."""
    pools = json.loads((PROJECT / "deploy" / "pools.json").read_text(encoding="utf-8"))
    file.write_text(json.dumps({**pools, "ingest": {**pools["ingest"], "slots": at_once}}), encoding="utf-8")
    return file


def _write_clips(folder: Path, count: int) -> None:
    for number in range(count):
        file = folder / f"{number // _PER_FOLDER:04d}" / f"{number:06d}.mp4"
        if number % _PER_FOLDER == 0:
            file.parent.mkdir(parents=True)
        file.write_bytes(MAGIC + str(number).encode())


def _dags(folder: Path) -> Path:
    """A DAG folder that holds `ingest_clips` alone: validating 200 batches is measured elsewhere."""
    folder.mkdir()
    (folder / "shared").symlink_to(PROJECT / "dags" / "shared")
    (folder / ".airflowignore").write_text("shared\n", encoding="utf-8")
    (folder / "ingest_clips.py").write_text(_DAG.format(file=str(PROJECT / "dags" / "ingest_clips.py")), encoding="utf-8")
    return folder


@contextmanager
def _peaks(stack: AirflowStack) -> Iterator[Mapping[str, float]]:
    """Largest memory of the scheduler's own process, and of all that it grew, in MiB, while the block runs."""
    peaks, over = {"scheduler": 0.0, "workers": 0.0}, threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            leader, *grown = stack.pids()["scheduler"]
            peaks["scheduler"] = max(peaks["scheduler"], process_tree.memory_mib([leader]))
            peaks["workers"] = max(peaks["workers"], process_tree.memory_mib(grown))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
