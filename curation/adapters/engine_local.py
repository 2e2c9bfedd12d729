"""Engines: supervised worker processes on this machine, and the caller's own process for tests.

Workers are plain subprocesses, since Airflow's task processes cannot spawn `multiprocessing` pools.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from curation.errors import OutsideError
from curation.ports import Outcome
from curation.settings import EngineSettings

DEFAULT_JOBS: Final = "curation.worker:JOBS"
START_LIMIT_S: Final = 60.0  # imports take about 1 s; a loaded machine needs several times that
_READ_BYTES: Final = 1 << 16
_QUOTED_CHARS: Final = 200


class LocalEngine:
    """Runs a job in up to `settings.workers` subprocesses; an item that kills its worker or overruns costs only itself."""

    def __init__(self, settings: EngineSettings, *, jobs: str = DEFAULT_JOBS) -> None:
        self._settings = settings
        self._jobs = jobs

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in input order, each as soon as it and all before it are known; the workers end with the iterator.

        Raises:
            OutsideError: no worker could be started.
        """
        with selectors.DefaultSelector() as ready:
            workers = [_Worker(self._settings, self._jobs, ready) for _ in range(min(self._settings.workers, len(items)))]
            try:
                yield from self._supervise(workers, ready, job, items)
            finally:
                for worker in workers:
                    worker.end()

    def _supervise(
        self, workers: Sequence[_Worker], ready: selectors.BaseSelector, job: str, items: Sequence[Mapping[str, Any]]
    ) -> Iterator[Outcome]:
        waiting = iter(enumerate(items))
        known: dict[int, Outcome] = {}
        for index in range(len(items)):
            while index not in known:
                for worker in workers:
                    if worker.is_idle and (following := next(waiting, None)) is not None:
                        worker.give(following[0], json.dumps({"job": job, "item": following[1]}))
                until_s = min(worker.deadline_s for worker in workers) - time.monotonic()
                for key, _ in ready.select(max(0.0, until_s)):
                    known.update(key.data.hear())
                for worker in workers:
                    known.update(worker.stop_if_late())
            yield known.pop(index)


class _Worker:
    """One subprocess, restarted after every death; holds at most one item."""

    def __init__(self, settings: EngineSettings, jobs: str, ready: selectors.BaseSelector) -> None:
        self._settings = settings
        self._ready = ready
        self._command = [
            sys.executable, "-m", "curation.worker", "--jobs", jobs,
            "--memory-limit-bytes", str(settings.memory_limit_bytes), "--time-limit-s", str(settings.time_limit_s),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._index: int | None = None
        self._line = b""
        self._heard = b""
        self._is_started = False
        self.deadline_s = float("inf")

    @property
    def is_idle(self) -> bool:
        """Whether it can be given an item."""
        return self._index is None

    def give(self, index: int, line: str) -> None:
        """Start on an item; a worker that died while it was idle is replaced first."""
        if self._process is not None and self._process.poll() is not None:
            self.end()
        self._index, self._line = index, line.encode() + b"\n"
        if self._process is None:
            self._start()
        else:
            self._send()

    def hear(self) -> Mapping[int, Outcome]:
        """The outcome that its output completes, if any."""
        process = self._running()
        data = os.read(_output(process).fileno(), _READ_BYTES)
        if not data:
            return self._died()
        self._heard += data
        if not self._heard.endswith(b"\n"):
            return {}
        answer, self._heard = json.loads(self._heard), b""
        if not self._is_started:
            self._is_started = True
            self._send()
            return {}
        return self._settle(Outcome(value=answer.get("value"), failure=answer.get("failure")))

    def stop_if_late(self) -> Mapping[int, Outcome]:
        """The outcome of an item that overran its time; the worker is killed."""
        if time.monotonic() < self.deadline_s:
            return {}
        started = self._is_started
        self.end()
        if not started:
            raise _no_worker(f"did not start within {START_LIMIT_S:g} s")
        return self._settle(Outcome(value=None, failure=f"took longer than {self._settings.time_limit_s:g} s"))

    def end(self) -> None:
        """Kill the process and all that it started; nothing happens where there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        output = _output(process)
        self._ready.unregister(output)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.close()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        if self._said is not None:
            self._said.close()
        self._heard, self._is_started, self.deadline_s = b"", False, float("inf")

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - lives as long as the process, closed in `end`
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # their thread pools would eat into the memory limit
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0,
                env={**os.environ, **quiet}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._said.close()
            raise _no_worker(f"cannot be started ({error.strerror})") from error
        self._ready.register(_output(self._process), selectors.EVENT_READ, self)
        self.deadline_s = time.monotonic() + START_LIMIT_S

    def _send(self) -> None:
        process = self._running()
        if self._said is not None:
            self._said.truncate(0)
        self.deadline_s = time.monotonic() + self._settings.time_limit_s
        with suppress(BrokenPipeError):  # the end of its output says the same, and is heard next
            if process.stdin is not None:
                process.stdin.write(self._line)

    def _died(self) -> Mapping[int, Outcome]:
        process, started = self._running(), self._is_started
        status = process.wait()
        last_words = self._last_words()
        self.end()
        if not started:
            raise _no_worker(f"died at its start ({_cause(status)}{last_words})")
        return self._settle(Outcome(value=None, failure=f"worker died: {_cause(status)}{last_words}"))

    def _settle(self, outcome: Outcome) -> Mapping[int, Outcome]:
        index, self._index = self._index, None
        self.deadline_s = float("inf")
        return {} if index is None else {index: outcome}

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f", {lines[-1][:_QUOTED_CHARS]}" if lines else ""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise _no_worker("is not running")
        return self._process


class InlineEngine:
    """Runs jobs in the caller's own process: no isolation, for tests and debugging."""

    def __init__(self, jobs: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]) -> None:
        self._jobs = jobs

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in input order; an exception of the job ends the iteration."""
        for item in items:
            yield Outcome(value=self._jobs[job](item), failure=None)


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise _no_worker("has no output")
    return process.stdout


def _cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _no_worker(problem: str) -> OutsideError:
    return OutsideError(
        problem, subject="inspection worker", fix="run `python -m curation.worker` with an empty standard input and mend what it reports"
    )
