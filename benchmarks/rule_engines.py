"""Deciding on rows from Arrow, as a rate: against the goal, and beside two engines that decide one row after another."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from benchmarks import residency, rows
from benchmarks.measure import RUNS, Figure, Work, figure, interleave, timed
from curation.errors import NotConserved
from curation.residency import evaluate, geofence
from curation.residency import pack as packs
from curation.residency.candidates import BATCH_ROWS, Candidates, columns_read
from curation.residency.expression import LOCKED
from curation.schema import CLIPS, PROVINCES, SCENE, TIMEOFDAY, WEATHER

ROWS: Final = 1_000_000
SAMPLE_S: Final = 5.0  # how long a peer decides row by row, over and over the same rows
SAMPLE_ROWS: Final = 200
# What the peers are not asked: what takes a map, or other rows than the one.
_NOT_SHARED: Final = ("combination.k", "geofence.gap", "geofence.inside", "row.unique_clip")
_CLOSED: Final = {"province": PROVINCES, "timeofday": TIMEOFDAY, "weather": WEATHER, "scene": SCENE}
_POSITIVE: Final = ("width_px", "height_px", "fps")
_NOT_NEGATIVE: Final = ("duration_s", "sharpness", "brightness", "contrast", "noise_sigma")
_COLUMNS: Final = (
    *("verdict", "vehicle_id", "captured_at", "inspect_depth", "datum", "gnss_error_m", "latitude_deg", "longitude_deg"),
    *("video_codec", *_CLOSED, *_POSITIVE, *_NOT_NEGATIVE),
)
_CEL: Final = " && ".join(
    [
        "row.verdict == 'accepted' && row.vehicle_id != '' && row.inspect_depth == 'full' && row.captured_at != ''",
        "row.datum == 'WGS-84' && row.gnss_error_m >= 0.0 && row.gnss_error_m <= 1000.0",
        "type(row.latitude_deg) == double && type(row.longitude_deg) == double && row.video_codec != ''",
        *(f"row.{name} in {json.dumps(words)}" for name, words in _CLOSED.items()),
        "row.width_px > 0 && row.height_px > 0 && row.fps > 0.0",
        *(f"row.{name} >= 0.0" for name in _NOT_NEGATIVE),
    ]
)
_REGO: Final = "\n".join(
    [
        "package law\nimport rego.v1\ndefault passes := false\npasses if {",
        'input.verdict == "accepted"\ninput.vehicle_id != ""\ninput.inspect_depth == "full"\ninput.captured_at != ""',
        'input.datum == "WGS-84"\ninput.gnss_error_m >= 0\ninput.gnss_error_m <= 1000',
        'input.latitude_deg != null\ninput.longitude_deg != null\ninput.video_codec != ""',
        *(f"input.{name} in {{{json.dumps(words)[1:-1]}}}" for name, words in _CLOSED.items()),
        *(f"input.{name} > 0" for name in _POSITIVE),
        *(f"input.{name} >= 0" for name in _NOT_NEGATIVE),
        "}",
    ]
)
Row = Mapping[str, Any]
Passes = Callable[[Row], bool]


def figures(_folder: Path, *, row_count: int = ROWS, sample_s: float = SAMPLE_S, runs: int = RUNS) -> Iterator[Figure]:
    """Rows that a second of CPU decides on, and the same beside the rows of each peer, which takes turns with ours."""
    clips = rows.clips(row_count)
    law, square = residency.pack(), residency.fences()
    sample = [row | {"captured_at": row["captured_at"].isoformat()} for row in clips.select(_COLUMNS).slice(0, SAMPLE_ROWS).to_pylist()]
    wanted = _wanted(clips.slice(0, len(sample)), law, square)
    sides: dict[str, Callable[[], float]] = {"ours": lambda: row_count / timed(lambda: _rules(clips, law, square))().cpu_s}
    for name, make in (("cel_python", _cel), ("regopy", _rego)):
        if importlib.util.find_spec({"cel_python": "celpy"}.get(name, name)) is None:
            print(f"residency: {name} is not installed (dependency group bench), so it is left out", file=sys.stderr)
            continue
        sides[name] = partial(_rate, make(), sample, wanted, sample_s, name)
    found = interleave(sides, runs=runs)
    # Issue D: >= 3 M rows/s for row and column rules from Arrow, on 2 cores.
    yield figure("residency.rules/limit", found["ours"], [1.5e6] * runs, unit="rows/CPU s", better="more", goal=1.0)
    for name in [name for name in sides if name != "ours"]:
        yield figure(f"residency.rules/{name}", found["ours"], found[name], unit="rows/CPU s", better="more", goal=500.0)


def _rules(clips: pa.Table, law: packs.Pack, fences: bytes) -> Work:
    """Every row and column rule, fences included, over Arrow to Arrow: outputs as places, broken rules as bits; no k, nothing written."""
    parsed, connection = geofence.parse_fences(fences, law.geofence), duckdb.connect(":memory:", config=LOCKED)
    columns, sql = columns_read(law, clips.schema), evaluate.judged_columns(law)
    none = CLIPS.empty_table()

    def work() -> pa.Table:
        candidates = Candidates(law, parsed, clips.schema)
        batches = clips.select(columns).to_batches(max_chunksize=BATCH_ROWS)
        connection.register("candidates", candidates.reader(batches, none, ()))
        return connection.sql(f"SELECT * EXCLUDE (bird, position, clip_id, vehicle_id) FROM ({sql})").to_arrow_table()  # noqa: S608

    return work


def _wanted(sample: pa.Table, law: packs.Pack, fences: bytes) -> list[bool]:
    """Per row of the sample whether it passes the shared rules, by our own decisions."""
    decisions = evaluate.decide(sample, pack=law, fences=fences).decisions.to_pylist()
    withheld_by = {row["clip_id"]: row["withheld_by"] for row in decisions}
    return [not set(withheld_by[clip_id]) - set(_NOT_SHARED) for clip_id in sample.column("clip_id").to_pylist()]


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
