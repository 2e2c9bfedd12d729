"""Deciding on rows from Arrow, as a rate: against the goal, and beside two engines that decide one row after another."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks import residency, rows
from benchmarks.measure import RUNS, Figure, cpu_s, figure, interleave, timed
from curation.errors import NotConserved
from curation.residency import evaluate
from curation.residency import pack as packs

ROWS: Final = 1_000_000
SAMPLE_S: Final = 5.0  # how long a peer decides row by row, over and over the same rows
SAMPLE_ROWS: Final = 200
# The rules that the peers are given, in each one's language: the row rules of cn-baseline, and those of the fix that need no map.
_SHARED: Final = (
    "row.accepted",
    "row.vehicle_known",
    "row.measured_whole",
    "geofence.datum",
    "geofence.gnss_error",
    "geofence.missing_fix",
)
_COLUMNS: Final = ("verdict", "vehicle_id", "inspect_depth", "datum", "gnss_error_m", "latitude_deg", "longitude_deg")
_CEL: Final = """
    row.verdict == 'accepted' && row.vehicle_id != '' && row.inspect_depth == 'full' && row.datum == 'WGS-84'
    && row.gnss_error_m >= 0.0 && row.gnss_error_m <= 1000.0 && type(row.latitude_deg) == double && type(row.longitude_deg) == double
"""
_REGO: Final = """
    package law
    import rego.v1
    default passes := false
    passes if {
        input.verdict == "accepted"
        input.vehicle_id != ""
        input.inspect_depth == "full"
        input.datum == "WGS-84"
        input.gnss_error_m >= 0
        input.gnss_error_m <= 1000
        input.latitude_deg != null
        input.longitude_deg != null
    }
"""
Row = Mapping[str, Any]
Passes = Callable[[Row], bool]


def figures(_folder: Path, *, row_count: int = ROWS, sample_s: float = SAMPLE_S, runs: int = RUNS) -> Iterator[Figure]:
    """Rows that a second of CPU decides on, and the same beside the rows of each peer."""
    clips = rows.clips(row_count)
    law, square = _without_k(residency.pack()), residency.fences()
    found = interleave({"rules": timed(lambda: lambda: evaluate.decide(clips, pack=law, fences=square))}, runs=runs)
    ours = [row_count / one for one in cpu_s(found["rules"])]
    # Issue D: >= 3 M rows/s for row and column rules from Arrow, on 2 cores. Ours also counts cells, tries canaries and sorts.
    yield figure("residency.rules/limit", ours, [1.5e6], unit="rows/CPU s", better="more", goal=1.0)
    sample = clips.select(_COLUMNS).slice(0, SAMPLE_ROWS).to_pylist()
    wanted = _wanted(clips.slice(0, len(sample)), law, square)
    for name, make in (("cel_python", _cel), ("regopy", _rego)):
        if importlib.util.find_spec({"cel_python": "celpy"}.get(name, name)) is None:
            print(f"residency: {name} is not installed (dependency group bench), so it is left out", file=sys.stderr)
            continue
        theirs = _rate(make(), sample, wanted, sample_s, name)
        yield figure(f"residency.rules/{name}", ours, [theirs] * len(ours), unit="rows/CPU s", better="more", goal=500.0)


def _without_k(law: packs.Pack) -> packs.Pack:
    """The law with a k that every cell reaches."""
    return law.model_copy(update={"combination": law.combination.model_copy(update={"min_vehicles": 1, "min_days": 1})})


def _wanted(sample: pa.Table, law: packs.Pack, fences: bytes) -> list[bool]:
    """Per row of the sample whether it passes the shared rules, by our own decisions."""
    decisions = evaluate.decide(sample, pack=law, fences=fences).decisions.to_pylist()
    withheld_by = {row["clip_id"]: row["withheld_by"] for row in decisions}
    return [not set(_SHARED) & set(withheld_by[clip_id]) for clip_id in sample.column("clip_id").to_pylist()]


def _rate(passes: Passes, sample: Sequence[Row], wanted: Sequence[bool], sample_s: float, name: str) -> float:
    """Rows per second of CPU of a peer over at least `sample_s` seconds of CPU.

    Raises:
        NotConserved: it decides otherwise than we do, so that rates cannot be compared.
    """
    if [passes(row) for row in sample] != list(wanted):
        raise NotConserved(f"{name} decides otherwise than the evaluator", subject="benchmark residency", fix="bring its rules up to ours")
    begun, done = time.process_time(), 0
    while time.process_time() - begun < sample_s:
        for row in sample:
            passes(row)
        done += len(sample)
    return done / (time.process_time() - begun)


def _cel() -> Passes:
    import celpy  # noqa: PLC0415 - of the dependency group bench

    environment = celpy.Environment()
    program = environment.program(environment.compile(_CEL))

    # A null compared with a number is an error in CEL, which passes nothing.
    def passes(row: Row) -> bool:
        try:
            return bool(program.evaluate({"row": celpy.json_to_cel(row)}))
        except celpy.CELEvalError:
            return False

    return passes


def _rego() -> Passes:
    import regopy  # noqa: PLC0415 - of the dependency group bench

    interpreter = regopy.Interpreter()
    interpreter.add_module("law", _REGO)
    bundle = interpreter.build("data.law.passes")

    def passes(row: Row) -> bool:
        interpreter.set_input(row)
        return str(interpreter.query_bundle(bundle)) == '{"expressions":[true]}'

    return passes
