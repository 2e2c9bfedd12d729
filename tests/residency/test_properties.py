"""Of every decision: only allowed columns and words leave, rows are conserved, order is no matter, and stricter is never more."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.residency import evaluate, gate
from curation.residency.pack import OUTPUT_NAMES, Pack, RowRule
from curation.schema import CLIPS, DECISIONS, RELEASE
from curation.tables import to_parquet

Row = dict[str, Any]

# What a row may hold beside what passes every rule; the empty change is drawn most, so that cells fill up.
_CHANGES = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "verdict": st.sampled_from(["rejected", "quarantined", "accepted"]),
            "vehicle_id": st.sampled_from([None, "", "fleet-0001", "fleet-0002"]),
            "province": st.sampled_from([None, "CN-JS", "CN-ZJ", "CN-TW", "31.2459,121.4731"]),
            "weather": st.sampled_from(["clear", "rainy", "foggy", None, "clear "]) | st.text(max_size=8),
            "scene": st.sampled_from(["tunnel", "LRWMUZFYEAML00001"]) | st.text(max_size=8),
            "video_codec": st.sampled_from(["hevc", "", None]) | st.text(max_size=8),
            "datum": st.sampled_from(["GCJ-02", None]),
            "gnss_error_m": st.floats(allow_nan=True) | st.none(),
            "fps": st.floats() | st.none(),
            "duration_s": st.floats() | st.none(),
            "sharpness": st.floats() | st.none(),
            "width_px": st.integers(-(2**31), 2**31 - 1) | st.none(),
            "latitude_deg": st.sampled_from([31.15, 30.0, math.nan, None, 0.0]),
            "captured_at": st.datetimes(datetime(1990, 1, 1), datetime(2110, 1, 1), timezones=st.just(UTC)) | st.none(),  # noqa: DTZ001
        },
    ),
)
_STRICTER: dict[str, Callable[[Pack], Pack]] = {
    "more vehicles": lambda pack: _with_k(pack, min_vehicles=pack.combination.min_vehicles + 1),
    "more days": lambda pack: _with_k(pack, min_days=pack.combination.min_days + 1),
    "finer cells": lambda pack: _with_k(pack, quasi_identifiers=(*pack.combination.quasi_identifiers, "weather", "scene")),
    "one more rule": lambda pack: pack.model_copy(update={"row_rules": (*pack.row_rules, _no_rain(pack))}),
}


def _with_k(pack: Pack, **changes: Any) -> Pack:
    return pack.model_copy(update={"combination": pack.combination.model_copy(update=changes)})


def _no_rain(pack: Pack) -> RowRule:
    said = pack.row_rules[0].model_dump(include={"article", "source", "confidence", "reason"})
    return RowRule(id="row.no_rain", inputs=("weather",), require="weather is null or weather <> 'rainy'", **said)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=st.lists(_CHANGES, min_size=1, max_size=10), stricter=st.sampled_from(sorted(_STRICTER)), data=st.data())
def test_decisions_have_their_properties(
    changes: list[Row], stricter: str, data: st.DataObject, demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row]
) -> None:
    """Of any rows: the columns and words of a release alone, one decision each, the same in any order, and none more if stricter."""
    rows = [clip_row(number, **one) for number, one in enumerate(changes)]
    first = _decide(rows, demo_pack, fences)
    _only_what_is_allowed_leaves(first)
    _every_row_has_one_decision(rows, first)
    second = _decide(data.draw(st.permutations(rows)), demo_pack, fences)
    assert to_parquet(first.decisions, DECISIONS) == to_parquet(second.decisions, DECISIONS)
    assert first.outputs.equals(second.outputs)
    strict = _decide(rows, _STRICTER[stricter](demo_pack), fences)
    assert set(strict.outputs["clip_id"].to_pylist()) <= set(first.outputs["clip_id"].to_pylist())


def _decide(rows: list[Row], pack: Pack, fences: bytes) -> evaluate.Evaluation:
    return evaluate.decide(pa.Table.from_pylist(rows, schema=CLIPS), pack=pack, fences=fences)


def _only_what_is_allowed_leaves(evaluation: evaluate.Evaluation) -> None:
    leaving = evaluation.outputs.select(OUTPUT_NAMES)
    assert set(leaving.column_names) == set(evaluation.columns) == set(RELEASE.names) - {"release_row_id"}
    for name, words in gate.VOCABULARY.items():
        assert set(leaving[name].to_pylist()) <= set(words)
    assert all(0 <= duration_s <= gate.MAX_DURATION_S for duration_s in leaving["duration_s"].to_pylist())


def _every_row_has_one_decision(rows: list[Row], evaluation: evaluate.Evaluation) -> None:
    decisions = evaluation.decisions.to_pylist()
    assert sorted(row["clip_id"] for row in rows) == [one["clip_id"] for one in decisions]
    assert all(one["released"] == (not one["withheld_by"]) and one["withheld_by"] == sorted(one["withheld_by"]) for one in decisions)
    assert [one["clip_id"] for one in decisions if one["released"]] == evaluation.outputs["clip_id"].to_pylist()
    assert sum(len(one["withheld_by"]) for one in decisions) == sum(evaluation.rule_counts.values())
