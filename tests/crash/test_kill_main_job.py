"""SIGKILL of the main job with its workers, at random times and in each stage: run again, it ends as an undisturbed run ends."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation import pipeline
from curation.demo import process_tree

pytestmark = pytest.mark.usefixtures("publisher_here")  # of this process; those of the killable runs are processes

LIMIT_S = 120.0
AIMS = ("discover", "ingest", "validate", "release", "approve", "publish", "shards")
KILLS_PER_FOLDER = 2
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When to kill: `delay_s` after the stage begins, or after the start of the run."""

    stage: str | None
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """What an undisturbed run ended as, and how long it and each of its stages took."""

    state: Mapping[str, Any]
    run_s: float
    stage_s: Mapping[str, float]


class Runs:
    """Runs the main job in children of one warm process."""

    def __init__(self, script: Path) -> None:
        self._process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert "ready\n" == self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        """Let the warm process end."""
        self._process.communicate(timeout=LIMIT_S)

    def run(self, work: Path, kill: Kill | None) -> int:
        """The wait status of one run; killed with all its descendants at that point, if it has not ended by then."""
        assert self._process.stdin is not None
        marks = marks_of(work)
        marks.write_text("", encoding="utf-8")
        self._process.stdin.write(f"{work} {marks}\n")
        pid = int(self._line())
        if kill is not None:
            _wait_for(kill, marks)
            process_tree.kill(process_tree.family([pid]))
        return int(self._line())


def marks_of(work: Path) -> Path:
    """Where a run writes when it entered which stage."""
    return work.with_name(f"{work.name}.marks")


def _wait_for(kill: Kill, marks: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while kill.stage is not None and f" {kill.stage}\n" not in (said := marks.read_text(encoding="utf-8")):
        assert "Traceback" not in said, said
        assert time.monotonic() < end
        time.sleep(0.001)
    time.sleep(kill.delay_s)


@pytest.fixture(scope="module")
def runs(crash: SimpleNamespace) -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", crash.now)
        found = Runs(crash.script)
    yield found
    found.end()


def undisturbed(crash: SimpleNamespace, runs: Runs, work: Path, *, all_checks: bool) -> Undisturbed:
    """An undisturbed run in a folder of its own."""
    crash.prepare(work, all_checks=all_checks)
    assert 0 == runs.run(work, None), marks_of(work).read_text(encoding="utf-8")
    times = [(float(at), stage) for at, stage in (line.split() for line in marks_of(work).read_text(encoding="utf-8").splitlines())]
    stage_s = {stage: following - at for (at, stage), (following, _) in pairwise(times)}
    return Undisturbed(state=crash.end_state(work), run_s=times[-1][0] - times[0][0], stage_s=stage_s)


def points(chance: random.Random, whole: Undisturbed) -> Iterator[Kill]:
    """Points for ever: one at any time of the whole run, then one within a stage, stages in turn from the last."""
    while True:
        for stage in reversed(AIMS):
            yield Kill(stage=None, delay_s=chance.uniform(0.0, whole.run_s))
            yield Kill(stage=stage, delay_s=chance.uniform(0.0, whole.stage_s[stage]))


def kill_and_run_again(crash: SimpleNamespace, runs: Runs, work: Path, kills: list[Kill], whole: Undisturbed, *, all_checks: bool) -> int:
    """How many of the kills found the run alive; afterwards the folder was run to its end and holds what an undisturbed one holds."""
    crash.prepare(work, all_checks=all_checks)
    statuses = [runs.run(work, kill) for kill in kills]
    assert {0, 9} >= set(statuses), marks_of(work).read_text(encoding="utf-8")
    for leftover in crash.leftovers(work):  # the store leaves what is younger than a minute to whoever may be writing it
        os.utime(leftover, times=(time.time() - _HOUR_S,) * 2)
    assert 0 == runs.run(work, None), (kills, marks_of(work).read_text(encoding="utf-8"))
    assert [] == crash.differences(whole.state, crash.end_state(work)), kills
    assert () == pipeline.verify(pipeline.open_settings(work)).uncovered, kills
    assert [] == crash.leftovers(work), kills
    return statuses.count(9)


def soak(crash: SimpleNamespace, runs: Runs, root: Path, wanted: int, seed: int, *, all_checks: bool) -> None:
    """Kill until `wanted` kills found a run alive, two in each folder."""
    whole = undisturbed(crash, runs, root / "whole", all_checks=all_checks)
    aims = points(random.Random(seed), whole)  # noqa: S311 - points of a kill, no secret
    hit, folder = 0, 0
    while hit < wanted:
        kills = [next(aims) for _ in range(KILLS_PER_FOLDER)]
        hit += kill_and_run_again(crash, runs, root / f"killed-{folder}", kills, whole, all_checks=all_checks)
        folder += 1
        assert folder <= wanted, "most kills come too late"


def test_four_kills_change_nothing_in_the_end(crash: SimpleNamespace, runs: Runs, tmp_path: Path) -> None:
    """Objects, tables and ledger are those of an undisturbed run, every file is covered, and nothing is left in staging."""
    soak(crash, runs, tmp_path, 4, 7, all_checks=False)


@pytest.mark.soak
def test_fifty_kills_change_nothing_in_the_end(crash: SimpleNamespace, runs: Runs, tmp_path: Path) -> None:
    """The same under the whole suite of checks, fifty times."""
    soak(crash, runs, tmp_path, 50, 11, all_checks=True)


def test_a_lost_object_a_changed_row_and_an_entry_too_many_are_named(crash: SimpleNamespace) -> None:
    """The comparison that these tests rest on says no, by name."""
    one = {"object clips/a": "1", "rows": ["x", "y"], "ledger": ["p"]}
    other = {"rows": ["x", "z"], "ledger": ["p", "p2"]}
    assert [] == crash.differences(one, dict(one))
    assert [
        "ledger: expected [], found ['p2']",
        "object clips/a: expected 1, found absent",
        "rows: expected ['y'], found ['z']",
    ] == crash.differences(one, other)
