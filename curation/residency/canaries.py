"""Canaries: made-up clips that the rules must withhold, decided on together with the real ones, and kept apart from them.

Each is aimed at one rule, which must be among those that withhold it; and no output may hold what the canaries' columns hold. They live in
groups of their own, so they stand in no real cell, and no real row stands in theirs.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import PackRefused
from curation.residency.expression import compile_expression
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import GEOFENCE_REASONS, OUTPUT_NAMES, UNIQUE_CLIP, Pack, RowRule
from curation.schema import CLIPS, SENSITIVITIES, sensitivity_of

MARK: Final = "canary"
# Groups: real rows; canaries aimed at rules of a row; those aimed at k, from here on.
REAL: Final = 0
_LARGE_GROUP: Final = 1
_SMALL_GROUPS: Final = 2
_MAX_TRIALS: Final = 512
_LITERALS: Final = re.compile(r"'((?:[^']|'')*)'|(?<![\w.])(\d+(?:\.\d+)?)")
_NUMBER_MARK: Final = 79_191.123457
# Farther apart, and a larger error, than any buffer that a pack or fence may ask for (100 km).
_FAR_DEG: Final = 2.0
_FAR_M: Final = 1e6
_LONG_S: Final = 36_000.0  # nobody is anywhere near where he was
# The place in the ocean that is farthest from all land, where no fence stands.
_NEMO_DEG: Final = {"latitude_deg": -48.876667, "longitude_deg": -123.393333}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """Made-up rows, schema CLIPS; per row its group, above `REAL`, and the rule aimed at, None where outputs alone are looked at."""

    rows: pa.Table
    groups: tuple[int, ...]
    aims: tuple[str | None, ...]


def make(pack: Pack, fences: bytes, connection: duckdb.DuckDBPyConnection, clips: pa.Schema = CLIPS) -> Canaries:
    """Canaries for every rule of the pack, every sensitivity class and every fence.

    Args:
        pack: well-formed rules.
        fences: bytes of a well-formed fences file; its raw corners are taken, so that a fence lost in reading is missed.
        connection: a locked database, in which row rules are tried.
        clips: schema of the rows.

    Raises:
        PackRefused: a row rule lets every canary pass, or none: nothing would show that it can say no, or that k can.
    """
    base, aimed = _of_row_rules(pack, clips, connection)
    aimed += _of_required_rules()
    aimed += _of_outputs(pack, clips)
    aimed += [(f"{pack.geofence.id}.{reason}", changes) for reason, changes in _of_geofence(fences, pack)]
    aimed += [(None, _marked(sensitivity, clips)) for sensitivity in SENSITIVITIES]
    aimed += [(UNIQUE_CLIP, {"clip_id": f"{MARK}-twin"})] * 2
    # All stand in one group with a cell that is large enough, so that nothing but the rule aimed at withholds them.
    made = [(_LARGE_GROUP, aim, base | changes) for aim, changes in (*aimed, *((None, one) for one in _crowd(pack, base)))]
    made += [(group, pack.combination.id, base | changes) for group, changes in _of_combination(pack, base)]
    rows = [row if aim == UNIQUE_CLIP else row | {"clip_id": f"{MARK}-{number}"} for number, (_, aim, row) in enumerate(made)]
    return Canaries(rows=pa.Table.from_pylist(rows, schema=clips), groups=tuple(one[0] for one in made), aims=tuple(one[1] for one in made))


def check(canaries: Canaries, pack: Pack, decided: pa.Table, outputs: pa.Table) -> int:
    """How many canaries there were, if every one was decided on, withheld by the rule that it is aimed at, and gave nothing away.

    Args:
        canaries: those that went in.
        pack: the rules; each must have a canary of its own.
        decided: (position, released, withheld_by) of the canaries, position counted from 0.
        outputs: their output columns, released or not.

    Raises:
        PackRefused: a rule without a canary, or a canary that came out, under another rule, or in part. Nothing may leave then.
    """
    for rule_id in _aims(pack):
        if rule_id not in canaries.aims:
            raise _refused(pack, f"no canary was aimed at {rule_id}")
    found = {row["position"]: row for row in decided.to_pylist()}
    if sorted(found) != list(range(len(canaries.aims))):
        raise _refused(pack, f"{len(canaries.aims)} canaries went in, {len(found)} were decided on")
    for position, aim in enumerate(canaries.aims):
        if aim is not None and (found[position]["released"] or aim not in found[position]["withheld_by"]):
            raise _refused(pack, f"{aim} let a canary out")
    for name in OUTPUT_NAMES:
        column = outputs.column(name)
        if pa.types.is_string(column.type) and pc.any(pc.match_substring(column, MARK, ignore_case=True)).as_py():
            raise _refused(pack, f"output.{name} let out what a canary's column holds")
    return len(canaries.aims)


def _aims(pack: Pack) -> Iterator[str]:
    yield UNIQUE_CLIP
    yield from (rule.id for rule in (*pack.outputs, *pack.row_rules))
    yield from (f"{pack.geofence.id}.{reason}" for reason in GEOFENCE_REASONS)
    if max(pack.combination.min_vehicles, pack.combination.min_days) > 1:
        yield pack.combination.id


def _refused(pack: Pack, problem: str) -> PackRefused:
    return PackRefused(problem, subject=f"pack {pack.id} {pack.version}", fix="nothing may leave; report this as a defect")


def _base(pack: Pack, clips: pa.Schema) -> Row:
    """A clip that passes the shipped packs' rules but k; what no rule reads is marked."""
    row = {field.name: _mark(field) for field in clips}
    captured_at = datetime(pack.valid_from.year, pack.valid_from.month, 1, 4, tzinfo=UTC)
    row |= {"captured_at": captured_at, "inspected_at": captured_at, "unmeasured": [], "reasons": []}
    row |= {"verdict": "accepted", "inspect_depth": "full", "datum": "WGS-84", "gnss_error_m": 1.0, **_NEMO_DEG}
    row |= {"province": "CN-SH", "video_codec": "h264", "timeofday": "daytime", "weather": "clear", "scene": "highway"}
    row |= {"container": "mov,mp4", "camera": "front", "width_px": 1920, "height_px": 1080, "fps": 30.0, "duration_s": 10.0}
    row |= {"sharpness": 200.0, "brightness": 0.5, "contrast": 0.5, "noise_sigma": 2.0}
    return row


def _mark(field: pa.Field) -> Any:
    """A value of the column's type by which a canary is known again; None for types that carry no text or number of their own."""
    if pa.types.is_string(field.type):
        return f"{MARK}-{field.name}"
    if pa.types.is_integer(field.type):
        return int(_NUMBER_MARK)
    return _NUMBER_MARK if pa.types.is_floating(field.type) else None


def _marked(sensitivity: str, clips: pa.Schema) -> Row:
    marks = {field.name: _mark(field) for field in clips if sensitivity_of(field) == sensitivity}
    return {name: mark for name, mark in marks.items() if mark is not None}


def _of_required_rules() -> Iterable[tuple[str, Row]]:
    yield from (("row.accepted", {"verdict": verdict}) for verdict in ("rejected", "quarantined", ""))
    yield from (("row.vehicle_known", {"vehicle_id": vehicle_id}) for vehicle_id in (None, ""))
    yield ("row.captured_at_known", {"captured_at": None})


def _of_outputs(pack: Pack, clips: pa.Schema) -> Iterable[tuple[str, Row]]:
    for rule in pack.outputs:
        yield rule.id, dict.fromkeys(rule.inputs)
        if GENERALISATIONS[rule.generalisation].vocabulary and rule.generalisation != "video_codec":
            yield rule.id, {name: _mark(clips.field(name)) if pa.types.is_string(clips.field(name).type) else None for name in rule.inputs}


def _of_geofence(fences: bytes, pack: Pack) -> Iterable[tuple[str, Row]]:
    """Per reason, ways in which the place is in doubt; and a fix on a corner of every fence."""
    features = json.loads(fences)["features"]
    corners = [corner for feature in features if (corner := _corner(feature["geometry"]["coordinates"])) is not None]
    yield from (("missing_fix", {"latitude_deg": None}), ("missing_fix", {"longitude_deg": None}))
    yield ("missing_fix", {"latitude_deg": 0.0, "longitude_deg": 0.0})
    yield from (("datum", {"datum": datum}) for datum in ("GCJ-02", "unknown", None))
    yield from (("gnss_error", {"gnss_error_m": error_m}) for error_m in (None, -1.0, _FAR_M))
    yield from (("inside", {"longitude_deg": longitude_deg, "latitude_deg": latitude_deg}) for longitude_deg, latitude_deg in corners)
    if pack.geofence.track_covers is not None:
        early, late = {"offset_s": 0.0, **_NEMO_DEG}, {"offset_s": _LONG_S, **_NEMO_DEG}
        yield from (("gap", {"track": [early], "duration_s": duration_s}) for duration_s in (_LONG_S, None))
        yield ("gap", {"track": [late], "duration_s": _LONG_S})
    for longitude_deg, latitude_deg in corners[:1]:
        on_it = {"offset_s": 1.0, "longitude_deg": longitude_deg, "latitude_deg": latitude_deg}
        south_of_it, north_of_it = (
            {"offset_s": offset_s, "longitude_deg": longitude_deg, "latitude_deg": latitude_deg + step_deg}
            for offset_s, step_deg in ((0.0, -_FAR_DEG), (2.0, _FAR_DEG))
        )
        yield from (("inside", {"track": [on_it]}), ("inside", {"track": [south_of_it, north_of_it]}))
        yield from (("gap", {"track": [south_of_it, on_it]}), ("missing_fix", {"track": [on_it, on_it | {"latitude_deg": None}]}))


def _corner(coordinates: Any) -> tuple[float, float] | None:
    """The first place of a GeoJSON geometry that is not 0/0."""
    if isinstance(coordinates[0], int | float):
        return (coordinates[0], coordinates[1]) if any(coordinates[:2]) else None
    return next((corner for part in coordinates if (corner := _corner(part)) is not None), None)


def _of_combination(pack: Pack, base: Row) -> Iterable[tuple[int, Row]]:
    """Two cells that each fall short of k by one: one vehicle too few, and one day too few."""
    k = pack.combination
    for group, fewer in enumerate([{"min_vehicles": k.min_vehicles - 1}, {"min_days": k.min_days - 1}], start=_SMALL_GROUPS):
        yield from ((group, changes) for changes in _crowd(pack, base, **fewer))


def _crowd(pack: Pack, base: Row, *, min_vehicles: int | None = None, min_days: int | None = None) -> Iterable[Row]:
    """Clips of just as many vehicles, on just as many days, as k asks for, or as are given; none for no vehicle or no day."""
    vehicles = pack.combination.min_vehicles if min_vehicles is None else min_vehicles
    days = pack.combination.min_days if min_days is None else min_days
    for number in range(max(vehicles, days) if min(vehicles, days) > 0 else 0):
        yield {"vehicle_id": f"{MARK}-{number % vehicles}", "captured_at": base["captured_at"] + timedelta(days=number % days)}


def _of_row_rules(pack: Pack, clips: pa.Schema, connection: duckdb.DuckDBPyConnection) -> tuple[Row, list[tuple[str | None, Row]]]:
    """A clip that passes every row rule, and per rule some changes to it by which it does not."""
    base, aimed = _base(pack, clips), list[tuple[str | None, Row]]()
    for rule in pack.row_rules:
        passing, failing = _told_apart(rule, base, clips, connection)
        base |= passing
        aimed.extend((rule.id, changes) for changes in failing)
    # A later rule may have moved what an earlier one reads.
    if any(base[name] != value for rule in pack.row_rules for name, value in _told_apart(rule, base, clips, connection)[0].items()):
        raise _refused(pack, "row rules contradict each other on every canary, so nothing shows that k holds")
    return base, aimed


def _told_apart(rule: RowRule, base: Row, clips: pa.Schema, connection: duckdb.DuckDBPyConnection) -> tuple[Row, Sequence[Row]]:
    """Values of the rule's inputs that pass it, those of `base` if they do, and some that do not.

    Raises:
        PackRefused: none of the values tried passes, or all do, or one cannot be asked about.
    """
    literals = [text.replace("''", "'") or number for text, number in _LITERALS.findall(rule.require)]
    tried = [list(_values(clips.field(name), base[name], literals)) for name in rule.inputs]
    trials = [dict(zip(rule.inputs, values, strict=True)) for values in itertools.islice(itertools.product(*tried), _MAX_TRIALS)]
    trials.append(dict.fromkeys(rule.inputs))
    table = pa.Table.from_pylist(trials, schema=pa.schema([clips.field(name).with_nullable(True) for name in rule.inputs]))  # noqa: FBT003
    subject = f"rule {rule.id}"
    expression = compile_expression(rule.require, rule.inputs, subject=subject)
    try:
        connection.register("trials", table)
        answers = [one for (one,) in connection.execute(f"SELECT {expression} FROM trials").fetchall()]  # noqa: S608 - checked nodes only
    except duckdb.Error as error:
        problem = f"cannot be evaluated ({type(error).__name__})"
        raise PackRefused(problem, subject=subject, fix="compare columns with values of their own type") from error
    passing = [trial for trial, passes in zip(trials, answers, strict=True) if passes is True]
    failing = [trial for trial, passes in zip(trials, answers, strict=True) if passes is not True]
    if not passing or not failing:
        problem = "lets no canary pass, so nothing shows that k holds" if failing else "lets every canary pass: it can never say no"
        raise PackRefused(problem, subject=subject, fix="write the rule so that it can both pass and withhold a clip")
    return passing[0], [failing[0], failing[-1]]


def _values(field: pa.Field, known: Any, literals: Sequence[str]) -> Iterator[Any]:
    """Values to try for one input: the known one, null, those that the rule itself names and their neighbours, and extremes."""
    yield from (known, None)
    if pa.types.is_string(field.type):
        yield from (*literals, "")
    elif pa.types.is_boolean(field.type):
        yield from (True, False)
    elif pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
        numbers = [float(one) for one in literals if one.replace(".", "", 1).isdigit()]
        kind = int if pa.types.is_integer(field.type) else float
        yield from (kind(sign * one + step) for one in numbers for sign in (1, -1) for step in (0, 1, -1))
        yield from (kind(-1), kind(0), kind(2**30))
