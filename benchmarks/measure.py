"""Figures from interleaved runs: medians of what two sides cost in one run, and whether the goal that an issue sets is met."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, Literal, TypeVar

from curation.errors import OutsideError

RUNS: Final = 5
PROJECT: Final = Path(__file__).resolve().parents[1]
T = TypeVar("T")
Work = Callable[[], object]
Side = Callable[[], Work]  # prepares outside the measurement, and returns what is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took: CPU of this process, its threads and its ended children; and time on the wall."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of `latest.json`. `ratio` is better when larger; `holds` is None where no issue sets a goal."""

    name: str
    ours: float
    other: float
    ratio: float
    unit: str
    runs: int
    goal: float | None
    holds: bool | None

    def __post_init__(self) -> None:
        if not (self.ours > 0 and self.other > 0 and self.ratio > 0 and self.runs > 0):
            raise ValueError(f"figure {self.name}: nothing was measured ({self.ours} against {self.other}, {self.runs} runs)")


def figure(
    name: str, ours: Sequence[float], other: Sequence[float], *, unit: str, better: Literal["less", "more"], goal: float | None = None
) -> Figure:
    """The figure of two sides' runs: medians, and their ratio turned so that larger is better for us.

    Args:
        name: `<benchmark>.<what>/<the other side>`.
        ours: what each of our runs gave, in `unit`.
        other: what each of the other side's runs gave.
        unit: of both.
        better: whether less of it is better (seconds, bytes) or more (rows a second).
        goal: the least ratio that the issue asks for, None where it sets none for this form.
    """
    mine, theirs = median(ours), median(other)
    ratio = theirs / mine if better == "less" else mine / theirs
    holds = None if goal is None else ratio >= goal
    return Figure(name=name, ours=mine, other=theirs, ratio=ratio, unit=unit, runs=min(len(ours), len(other)), goal=goal, holds=holds)


def within(name: str, ours: Sequence[float], limit: float, *, unit: str) -> Figure:
    """The figure of a quantity that an issue limits: the other side is the limit itself, and the goal is to stay within it."""
    return figure(name, ours, [limit] * len(ours), unit=unit, better="less", goal=1.0)


def interleave(sides: Mapping[str, Callable[[], T]], *, runs: int = RUNS) -> dict[str, list[T]]:
    """Side -> what each of its runs gave. Every second round goes backwards, so that no side always follows the same one."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(runs):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            found[name].append(sides[name]())
    return found


def timed(side: Side) -> Callable[[], Cost]:
    """A run of the side: prepared, then measured."""
    return partial(_timed, side)


def _timed(side: Side) -> Cost:
    work = side()
    gc.collect()
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    work()
    return Cost(wall_s=time.perf_counter() - wall_s, cpu_s=_cpu_s() - cpu_s)


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def cpu_s(costs: Sequence[Cost]) -> list[float]:
    """CPU seconds of each run."""
    return [cost.cpu_s for cost in costs]


def wall_s(costs: Sequence[Cost]) -> list[float]:
    """Seconds on the wall of each run: for input and output, which cost time and little CPU."""
    return [cost.wall_s for cost in costs]


def peak_mib(target: str, /, **arguments: object) -> Callable[[], float]:
    """A run of `module:function` in a fresh process of its own: its peak resident memory in MiB, interpreter and imports included."""
    return partial(_peak_mib, [sys.executable, "-m", "benchmarks.peak", target, json.dumps(arguments)])


def _peak_mib(command: Sequence[str]) -> float:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"failed: {done.stderr.strip()[-500:]}", subject=f"benchmark side {command[3]}", fix="run it alone")
    return float(done.stdout.split()[-1])
