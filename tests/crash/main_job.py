"""The main job in processes that can be killed: imports once, then forks one child per line `WORK MARKS` of standard input.

Each child leads a session of its own, so that a kill of its family leaves nobody behind. Into MARKS it writes a line `TIME STAGE` at the
beginning of every stage, and what it said where it failed. For each line this process prints the child's pid, then its exit status.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from curation import pipeline, publisher, wiring
from curation.adapters import catalog_process
from curation.shards.request import from_mapping

PRELOADED = (
    "curation.adapters.catalog_home", "curation.adapters.catalog_upkeep", "curation.adapters.source_folder", "curation.adapters.video_av",
    "great_expectations",
)  # fmt: skip
PUBLISHERS = 4  # that a run may start; any more are started as always
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


class Publisher:
    """What `subprocess.Popen` would give: a publishing process, here forked before the job begins, so that a kill finds it at work and not
    at its imports.
    """

    def __init__(self, env: Mapping[str, str], earlier: Sequence[Publisher]) -> None:
        """Forks it; `earlier` ones are not its own, and end only if it does not hold their pipes."""
        (asked, ask), (hear, said) = os.pipe(), os.pipe()
        self.pid, self._status = os.fork(), None
        if self.pid == 0:
            for file in (file for one in earlier for file in (one.stdin, one.stdout)):
                file.close()
            _publish(asked, said, env, unused=(ask, hear))
        os.close(asked)
        os.close(said)
        self.stdin, self.stdout = os.fdopen(ask, "wb"), os.fdopen(hear, "rb")

    def poll(self) -> int | None:
        """Its wait status, None while it lives."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status

    def wait(self, timeout: float = 60.0) -> int:
        """Its wait status, once it has ended."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("publisher", timeout)
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)


def _publish(asked: int, said: int, env: Mapping[str, str], *, unused: Sequence[int]) -> NoReturn:
    try:
        os.setsid()
        os.dup2(asked, 0)
        os.dup2(said, 1)
        for number in (asked, said, *unused):
            os.close(number)
        os.environ.clear()
        os.environ.update(env)
        sys.stdin = os.fdopen(0, encoding="utf-8")
        publisher.main()
    except BaseException:  # noqa: BLE001 - as in any child here
        traceback.print_exc()
    finally:
        os._exit(0)


def _keep_publishers(work: Path) -> None:
    """Publishing processes are taken from those that are forked now."""
    catalog = wiring.overseas(pipeline.open_settings(work))
    env, ready = catalog_process.environment(catalog._settings, os.environ), []
    for _ in range(PUBLISHERS):
        ready.append(Publisher(env, ready))

    def popen(command: list[str], **how: Any) -> Any:
        assert command[1:] == ["-m", "curation.publisher"]
        return ready.pop(0) if ready else subprocess.Popen(command, **how)

    catalog_process.subprocess = SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)


def _child(work: Path, marks: Path, job: Callable[[Path, Stage], object]) -> int:
    os.setsid()
    with marks.open("a", encoding="utf-8", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)

        def enter(stage: str) -> None:
            said.write(f"{time.monotonic()} {stage}\n")

        try:
            _keep_publishers(work)
            job(work, enter)
        except BaseException:  # noqa: BLE001 - the child has no caller; its parent reads this
            traceback.print_exc(file=said)
            return 1
        enter("end")
    return 0


def serve(job: Callable[[Path, Stage], object] = run_main_job, preloaded: Sequence[str] = PRELOADED) -> None:
    """Run a child with the job for each line until standard input ends."""
    for module in preloaded:
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
