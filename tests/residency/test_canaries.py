"""Canaries: a rule that is taken out, softened or skipped lets one out, and then nothing leaves; real rows are decided as without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from curation.errors import PackRefused
from curation.residency import canaries, evaluate, geofence
from curation.residency.expression import LOCKED
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import GEOFENCE_REASONS, OUTPUT_NAMES, Pack, RowRule, rule_ids
from curation.schema import CLIPS, RELEASE, SENSITIVITIES, sensitivity_of

Row = dict[str, Any]
Decide = Callable[[], evaluate.Evaluation]


@pytest.fixture
def decide(demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]) -> Decide:
    """Decides on two good clips under the demo pack."""
    return lambda: evaluate.decide(clips(clip_row(1), clip_row(2)), pack=demo_pack, fences=fences)


def _made(pack: Pack, fences: bytes) -> canaries.Canaries:
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        return canaries.make(pack, fences, connection)


@pytest.mark.parametrize("name", ["demo_pack", "base_pack"])
def test_every_rule_has_a_canary(name: str, fences: bytes, request: pytest.FixtureRequest) -> None:
    """Each rule that can withhold a row is aimed at, and every column's mark stands in some canary."""
    pack = request.getfixturevalue(name)
    made = _made(pack, fences)
    assert set(rule_ids(pack)) == set(made.aims) - {None}
    assert len(SENSITIVITIES) + pack.combination.min_vehicles == made.aims.count(None)
    texts = {field.name for field in CLIPS if pa.types.is_string(field.type)}
    marked = {name for name in texts for value in made.rows[name].to_pylist() if value is not None and value.startswith(canaries.MARK)}
    assert texts == marked


def test_canaries_are_counted_apart(decide: Decide) -> None:
    """They stand in no decision, output or count of rules, only in a count of their own."""
    evaluation = decide()
    assert (2, 2) == (evaluation.row_count, evaluation.released_count)
    assert {0} == set(evaluation.rule_counts.values())
    assert evaluation.canary_count > len(evaluation.rule_counts)
    assert not any(one.startswith(canaries.MARK) for one in evaluation.decisions["clip_id"].to_pylist())


def test_canaries_join_no_cell(base_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]) -> None:
    """49 vehicles in the very cell in which the canaries of k stand stay 49, and a clip under a canary's id is unique."""
    base = _made(base_pack, fences).rows.to_pylist()[-1]
    rows = [base | {"clip_id": f"{canaries.MARK}-{number}", "vehicle_id": f"fleet-{number}"} for number in range(49)]
    evaluation = evaluate.decide(clips(*rows), pack=base_pack, fences=fences)
    assert {"combination.k": 49} == {rule_id: count for rule_id, count in evaluation.rule_counts.items() if count}


def _edited(function: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A sabotage of the SQL that a function of the evaluator writes."""
    writes = getattr(evaluate, function)

    def edit(*arguments: Any) -> str:
        sql: str = writes(*arguments)
        assert old in sql
        return sql.replace(old, new)

    return lambda monkeypatch: monkeypatch.setattr(evaluate, function, edit)


def _generalised(name: str, sql: str) -> Callable[[pytest.MonkeyPatch], None]:
    sabotaged = {**GENERALISATIONS, name: replace(GENERALISATIONS[name], sql=sql)}
    return lambda monkeypatch: monkeypatch.setattr(evaluate, "GENERALISATIONS", sabotaged)


def _flagged(reason: str) -> Callable[[pytest.MonkeyPatch], None]:
    flags = geofence.flags

    def without(clips: pa.Table, fences: geofence.Fences, rule: Any) -> dict[str, geofence.Flags]:
        return flags(clips, fences, rule) | {f"geofence.{reason}": np.zeros(clips.num_rows, dtype=np.bool_)}

    return lambda monkeypatch: monkeypatch.setattr(geofence, "flags", without)


def _fences_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = geofence.parse_fences

    def lossy(data: bytes | None, rule: Any) -> geofence.Fences:
        parsed = parse(data, rule)
        return replace(parsed, buffered=parsed.buffered[:1])

    monkeypatch.setattr(geofence, "parse_fences", lossy)


def _points_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geofence, "_crossing_rows", lambda row, *_: row[:0])


def _without_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    none = canaries.Canaries(rows=CLIPS.empty_table(), groups=(), aims=())
    monkeypatch.setattr(canaries, "make", lambda *_: none)


def _without_some(monkeypatch: pytest.MonkeyPatch) -> None:
    make = canaries.make

    def fewer(*arguments: Any) -> canaries.Canaries:
        made = make(*arguments)
        kept = [position for position, aim in enumerate(made.aims) if aim != "geofence.datum"]
        groups, aims = (tuple(values[position] for position in kept) for values in (made.groups, made.aims))
        return canaries.Canaries(rows=made.rows.take(kept), groups=groups, aims=aims)

    monkeypatch.setattr(canaries, "make", fewer)


ACCEPTED = "NOT coalesce((\"verdict\" = 'accepted'), FALSE)"
SABOTAGES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a row rule is taken out": (_edited("judged_columns", ACCEPTED, "FALSE"), "row.accepted let a canary out"),
    "a row rule is turned round": (_edited("judged_columns", "'accepted'", "'rejected'"), "let a canary out"),
    "null passes a row rule": (_edited("judged_columns", "''), FALSE", "''), TRUE"), "row.vehicle_known let a canary out"),
    "the first pass is skipped": (_edited("_decided_sql", "mask_0 = 0 AND ", ""), "a row was let out that"),
    "what withholds is not told": (_edited("_decided_sql", "*", "* REPLACE (mask_0 & 0 AS mask_0)"), "let a canary out"),
    "k is taken out": (_edited("_decided_sql", "IN (FROM cells)", "IS NOT NULL"), "combination.k let a canary out"),
    "k is one vehicle lower": (_edited("_cells_sql", "vehicle_id) >= 2", "vehicle_id) >= 1"), "combination.k let a canary out"),
    "k counts rows, not vehicles": (_edited("_cells_sql", "count(DISTINCT vehicle_id)", "2 * count(vehicle_id)"), "combination.k"),
    "a clip may stand twice": (_edited("_twins_sql", "IN (FROM twice)", "IN (FROM twice) AND FALSE"), "row.unique_clip let a canary out"),
    "an output is not asked": (_edited("judged_columns", '"out weather" IS NULL', 'FALSE'), "output.weather let a canary out"),
    "fences are not asked": (_edited("judged_columns", '"fences mask_0" |', "0 |"), "geofence.missing_fix let a canary out"),
    "a tag leaves as it is": (_generalised("scene", "{0}"), "cannot be evaluated"),
    "an unknown codec leaves as it is": (_generalised("video_codec", "coalesce({place}, {0})"), "cannot be evaluated"),
    "a plate leaves beside a tag": (_generalised("weather", "{0} || max(clip_id) OVER ()"), "cannot be evaluated"),
    "any tag leaves as a word": (_generalised("scene", "coalesce({place}, 0)"), "output.scene let a canary out"),
    "a word leaves that is none": (_generalised("timeofday", "{place} + 90"), "output.timeofday yields what is no word"),
    "a month of any time": (_generalised("month_in_shanghai", "coalesce({day} // 31, 0)"), "output.month let"),
    **{f"geofence does not see {reason}": (_flagged(reason), f"geofence.{reason} let a canary out") for reason in GEOFENCE_REASONS},
    "a fence is lost in reading": (_fences_lost, "geofence.inside let a canary out"),
    "only points are looked at": (_points_only, "geofence.inside let a canary out"),
    "canaries are dropped": (_edited("judged_columns", "FROM candidates)", "FROM candidates WHERE bird = 0)"), "0 were decided on"),
    "canaries are doubled": (_edited("_decided_sql", "FROM judged", "FROM judged UNION ALL FROM decided_twice"), "cannot be evaluated"),
    "there are none": (_without_canaries, "no canary was aimed at"),
    "a rule has none": (_without_some, "no canary was aimed at geofence.datum"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotaged_evaluator_is_caught(name: str, decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves under an evaluator that skips, softens or loses a rule, and the refusal names the rule."""
    sabotage, named = SABOTAGES[name]
    sabotage(monkeypatch)
    with pytest.raises(PackRefused) as refusal:
        decide()
    assert named in str(refusal.value)


def test_days_of_k_have_a_canary_of_their_own(
    base_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluator that counts vehicles but not days lets out the cell of enough vehicles on six days."""
    _edited("_cells_sql", "count(DISTINCT captured_day) >= 7", "TRUE")(monkeypatch)
    with pytest.raises(PackRefused, match=r"combination\.k let a canary out"):
        evaluate.decide(clips(clip_row(1)), pack=base_pack, fences=fences)


def _with_rule(pack: Pack, require: str, *inputs: str) -> Pack:
    said = pack.row_rules[0].model_dump(include={"article", "source", "confidence", "reason"})
    return pack.model_copy(update={"row_rules": (*pack.row_rules, RowRule(id="row.extra", inputs=inputs, require=require, **said))})


@pytest.mark.parametrize(
    ("require", "inputs"),
    [
        ("camera in ('left', 'right')", ("camera",)), ("speed_max_mps between 1.5 and 33.3", ("speed_max_mps",)),
        ("weather is null or weather <> 'foggy'", ("weather",)), ("length(vin) = 10", ("vin",)),
        ("size_bytes > 500000000", ("size_bytes",)),
        ("not (scene = 'tunnel' and timeofday = 'night')", ("scene", "timeofday")), ("abs(latitude_deg) > 54.25", ("latitude_deg",)),
        ("latitude_deg between 18 and 54 and longitude_deg between 73.5 and 135", ("latitude_deg", "longitude_deg")),
        ("scene_confidence is null or scene_confidence >= 0.6", ("scene_confidence",)), ("lower(container) = 'it''s mp4'", ("container",)),
    ],
)  # fmt: skip
def test_canaries_are_found_for_a_rule_of_ones_own(
    require: str, inputs: tuple[str, ...], demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]
) -> None:
    """Whatever comparisons a pack's own rule makes, canaries that pass and that fail it are found among its own values."""
    pack = _with_rule(demo_pack, require, *inputs)
    assert evaluate.decide(clips(clip_row(1)), pack=pack, fences=fences).canary_count
    aims = dict.fromkeys(_made(pack, fences).aims)
    assert {"row.extra", "combination.k"} <= set(aims)


@pytest.mark.parametrize(
    ("require", "inputs", "named"),
    [
        ("scene is null or scene is not null", ("scene",), "can never say no"),
        ("scene = 'tunnel' and scene = 'highway'", ("scene",), "lets no canary pass"),
        ("verdict <> 'accepted'", ("verdict",), "contradict"),
        ("captured_at = 'not a time'", ("captured_at",), "cannot be evaluated"),
    ],
)
def test_rule_without_a_canary_refuses(
    require: str, inputs: tuple[str, ...], named: str, demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row],
    clips: Callable[..., pa.Table],
) -> None:  # fmt: skip
    """A rule that lets everything pass, nothing, or nothing that the others do, cannot be shown to hold, so nothing leaves."""
    with pytest.raises(PackRefused, match=named):
        evaluate.decide(clips(clip_row(1), clip_row(2)), pack=_with_rule(demo_pack, require, *inputs), fences=fences)


def test_every_fence_has_a_canary(demo_pack: Pack, fences: bytes) -> None:
    """A fix on a raw corner of each fence goes in; a corner at 0/0, which is no fix, is passed over."""
    raw = json.loads(fences)
    raw["features"][1]["geometry"] = {"type": "MultiPoint", "coordinates": [[0, 0], [120.0, 30.0]]}
    made = _made(demo_pack, json.dumps(raw).encode())
    places = {(row["longitude_deg"], row["latitude_deg"]) for row in made.rows.to_pylist()}
    assert {(121.78, 31.13), (120.0, 30.0)} <= places


def test_marks_are_of_no_vocabulary() -> None:
    """What a canary's columns hold is no word that a release may hold, so that meeting one can only be a leak."""
    assert not any(canaries.MARK in (word or "") for one in GENERALISATIONS.values() for word in one.vocabulary or ())
    assert set(OUTPUT_NAMES) < set(RELEASE.names)
    assert all(sensitivity_of(field) in SENSITIVITIES for field in CLIPS)
