"""The main job in processes that can be killed: imports once, then forks one child per line `WORK MARKS` of standard input.

Each child leads a session of its own, so that a kill of its family leaves nobody behind. Into MARKS it writes a line `TIME STAGE` at the
beginning of every stage, and what it said where it failed. For each line this process prints the child's pid, then its exit status.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from curation import pipeline
from curation.shards.request import from_mapping

PRELOADED = ("curation.adapters.catalog_home", "curation.adapters.source_folder", "curation.adapters.video_av", "great_expectations")
SOURCE = "demo"
STAGES = ("discover", "ingest", "validate", "release", "approve", "publish", "shards")
SHARD_REQUEST = {"name": "demo", "seed": 7, "splits": {"train": 0.8, "val": 0.2}}
Stage = Callable[[str], None]


def run_main_job(work: Path, enter: Stage = lambda _: None) -> tuple[list[str], str, str]:
    """Every stage in order, as the DAGs do; what it found to do, the release and the shard set. `enter` is told each stage."""
    settings = pipeline.open_settings(work)
    enter("discover")
    batches = pipeline.discover(settings, SOURCE)
    for batch_id in batches:
        enter("ingest")
        pipeline.ingest_batch(settings, batch_id)
        enter("validate")
        pipeline.validate_batch(settings, batch_id)
    enter("release")
    release_id = pipeline.cut_release(settings, requesters=["engineer"])
    enter("approve")
    if not pipeline.release_summary(settings, release_id)["published"]:
        pipeline.approve(settings, release_id, approver="officer", ticket="T-1")
    enter("publish")
    pipeline.publish_release(settings, release_id)
    enter("shards")
    return batches, release_id, pipeline.build_shards(settings, from_mapping(dict(SHARD_REQUEST)))


def _child(work: Path, marks: Path, job: Callable[[Path, Stage], object]) -> int:
    os.setsid()
    with marks.open("a", encoding="utf-8", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)

        def enter(stage: str) -> None:
            said.write(f"{time.monotonic()} {stage}\n")

        try:
            job(work, enter)
        except BaseException:  # noqa: BLE001 - the child has no caller; its parent reads this
            traceback.print_exc(file=said)
            return 1
        enter("end")
    return 0


def serve(job: Callable[[Path, Stage], object] = run_main_job) -> None:
    """Run a child with the job for each line until standard input ends."""
    for module in PRELOADED:
        importlib.import_module(module)
    print("ready", flush=True)  # noqa: T201 - the protocol
    for line in sys.stdin:
        work, marks = map(Path, line.split())
        pid = os.fork()
        if pid == 0:
            os._exit(_child(work, marks, job))
        print(pid, flush=True)  # noqa: T201 - the protocol
        print(os.waitpid(pid, 0)[1], flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    serve()
