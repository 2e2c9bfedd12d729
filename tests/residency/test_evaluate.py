"""Decisions: each rule says no, k counts what is still published, order does not matter, rows are conserved."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import PackRefused
from curation.residency import evaluate
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import Pack, RowRule
from curation.schema import CLIPS, DECISIONS, RELEASE

Row = dict[str, Any]
MakeRow = Callable[..., Row]
MakeTable = Callable[..., pa.Table]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "clips"


def _withheld(evaluation: evaluate.Evaluation) -> dict[str, list[str]]:
    return {row["clip_id"]: row["withheld_by"] for row in evaluation.decisions.to_pylist()}


def test_good_rows_leave_in_the_columns_of_a_release(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """Two vehicles in one cell leave, coarsened, under the rules that let them."""
    evaluation = evaluate.decide(clips(clip_row(1), clip_row(2)), pack=demo_pack, fences=fences)
    assert DECISIONS == evaluation.decisions.schema
    assert [*RELEASE.names[1:], "clip_id", "vehicle_id", "captured_day"] == evaluation.outputs.column_names
    assert {name: f"output.{name}" for name in RELEASE.names[1:]} == evaluation.columns
    row = next(one for one in evaluation.outputs.to_pylist() if one["vehicle_id"] == "fleet-0001")
    del row["clip_id"]
    wanted = {
        "province": "CN-SH", "month": "2026-09", "resolution_class": "720p", "video_codec": "h264", "fps_class": "28 to below 45",
        "duration_s": 12, "sharpness": "3 middle", "brightness": "3 middle", "contrast": "4 high", "noise": "2 low",
        "timeofday": "daytime", "weather": "clear", "scene": "highway", "vehicle_id": "fleet-0001", "captured_day": "2026-09-02",
    }  # fmt: skip
    assert wanted == row


SAYS_NO: list[tuple[Row, str]] = [
    ({"verdict": "rejected"}, "row.accepted"),
    ({"verdict": "quarantined"}, "row.accepted"),
    ({"vehicle_id": None}, "row.vehicle_known"),
    ({"vehicle_id": ""}, "row.vehicle_known"),
    ({"captured_at": None}, "row.captured_at_known"),
    ({"captured_at": datetime(1999, 1, 1, tzinfo=UTC)}, "output.month"),
    ({"captured_at": datetime(2100, 1, 1, tzinfo=UTC)}, "output.month"),
    ({"province": None}, "output.province"),
    ({"province": "CN-TW"}, "output.province"),
    ({"province": "cn-sh"}, "output.province"),
    ({"width_px": None}, "output.resolution_class"),
    ({"height_px": 0}, "output.resolution_class"),
    ({"video_codec": None}, "output.video_codec"),
    ({"video_codec": ""}, "output.video_codec"),
    ({"fps": None}, "output.fps_class"),
    ({"fps": math.nan}, "output.fps_class"),
    ({"fps": 0.0}, "output.fps_class"),
    ({"duration_s": None}, "output.duration_s"),
    ({"duration_s": math.inf}, "output.duration_s"),
    ({"duration_s": -1.0}, "output.duration_s"),
    ({"sharpness": None}, "output.sharpness"),
    ({"sharpness": math.nan}, "output.sharpness"),
    ({"brightness": -0.1}, "output.brightness"),
    ({"contrast": math.inf}, "output.contrast"),
    ({"noise_sigma": None}, "output.noise"),
    ({"timeofday": "LRWMUZFYEAML00001"}, "output.timeofday"),
    ({"weather": "沪A12345"}, "output.weather"),
    ({"scene": "31.2459,121.4731"}, "output.scene"),
    ({"scene": "hіghway"}, "output.scene"),  # noqa: RUF001 - the first i is Cyrillic, on purpose
    ({"scene": "highway\u200b"}, "output.scene"),
    ({"timeofday": "Daytime"}, "output.timeofday"),
    ({"weather": "clear "}, "output.weather"),
    ({"latitude_deg": None}, "geofence.missing_fix"),
    ({"datum": "GCJ-02"}, "geofence.datum"),
    ({"gnss_error_m": 850.0}, "geofence.gnss_error"),
    ({"latitude_deg": 31.15, "longitude_deg": 121.8}, "geofence.inside"),
]


@pytest.mark.parametrize(
    ("changes", "rule_id"), SAYS_NO, ids=[f"{rule_id} {sorted(changes)}{i}" for i, (changes, rule_id) in enumerate(SAYS_NO)]
)
def test_each_rule_says_no(changes: Row, rule_id: str, demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """One bad value withholds its row, under the rule that judges it, and no other row."""
    bad = clip_row(3, **changes)
    evaluation = evaluate.decide(clips(clip_row(1), clip_row(2), bad), pack=demo_pack, fences=fences)
    withheld = _withheld(evaluation)
    assert rule_id in withheld[bad["clip_id"]]
    assert 2 == evaluation.released_count
    assert evaluation.rule_counts[rule_id] == 1


def test_baseline_asks_for_whole_measurement(base_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """The baseline withholds a clip that was not decoded in full."""
    evaluation = evaluate.decide(clips(clip_row(1, inspect_depth="keyframes")), pack=base_pack, fences=fences)
    assert 1 == evaluation.rule_counts["row.measured_whole"]


def test_baseline_needs_fifty_vehicles_and_seven_days(base_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """49 vehicles stay, 50 on seven days leave, 50 on six days stay."""
    for vehicles, days, wanted in ((49, 7, 0), (50, 7, 50), (50, 6, 0)):
        rows = [clip_row(i, captured_at=datetime(2026, 9, 1 + i % days, 3, tzinfo=UTC)) for i in range(vehicles)]
        assert wanted == evaluate.decide(clips(*rows), pack=base_pack, fences=fences).released_count


def test_clip_that_stands_twice_is_withheld(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """Two rows of one clip leave neither, and count for no k."""
    evaluation = evaluate.decide(clips(clip_row(1), clip_row(2), clip_row(2)), pack=demo_pack, fences=fences)
    assert [["combination.k"], ["row.unique_clip"], ["row.unique_clip"]] == sorted(evaluation.decisions["withheld_by"].to_pylist())


def _published(vehicle_id: str, day: str = "2026-09-09") -> pa.Table:
    return pa.table({"province": ["CN-SH"], "month": ["2026-09"], "vehicle_id": [vehicle_id], "captured_day": [day]})


def test_k_counts_vehicles_still_published(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """A lone vehicle stays home, leaves beside another one that is still published, and not beside itself."""
    alone = clips(clip_row(1))
    for published, wanted in ((None, 0), (_published("fleet-0009"), 1), (_published("fleet-0001"), 0)):
        assert wanted == evaluate.decide(alone, pack=demo_pack, fences=fences, published=published).released_count


def test_withheld_rows_do_not_count_towards_k(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """A neighbour that another rule withholds helps no one over k."""
    evaluation = evaluate.decide(clips(clip_row(1), clip_row(2, verdict="rejected")), pack=demo_pack, fences=fences)
    assert 0 == evaluation.released_count


def test_month_and_day_are_those_of_shanghai(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """16:00 UTC on the last day of a month belongs to the next month."""
    rows = [clip_row(i, captured_at=datetime(2026, 9, 30, 16, 0, tzinfo=UTC)) for i in (1, 2)]
    outputs = evaluate.decide(clips(*rows), pack=demo_pack, fences=fences).outputs
    assert {("2026-10", "2026-10-01")} == {(row["month"], row["captured_day"]) for row in outputs.to_pylist()}


def test_empty_candidates_are_decided(demo_pack: Pack, fences: bytes) -> None:
    """No rows in, no rows out."""
    evaluation = evaluate.decide(CLIPS.empty_table(), pack=demo_pack, fences=fences)
    assert (0, 0) == (evaluation.row_count, evaluation.released_count)


def _retyped(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    position = table.column_names.index(name)
    return table.set_column(position, pa.field(name, kind), pa.nulls(table.num_rows, kind))


TABLE_MUTATIONS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "latitude_hint": lambda t: t.append_column("latitude_hint", pa.array([31.24] * t.num_rows)),
    "embedding": lambda t: t.append_column("embedding", pa.array([[0.1, 0.2]] * t.num_rows)),
    "thumbnail": lambda t: t.append_column("thumbnail", pa.array([b"\xff\xd8"] * t.num_rows)),
    "vin": lambda t: t.drop_columns(["vin"]),
    "Vin": lambda t: t.rename_columns(["Vin" if name == "vin" else name for name in t.column_names]),
    "scene": lambda t: _retyped(t, "scene", pa.struct([("name", pa.string()), ("at", pa.string())])),
    "weather": lambda t: _retyped(t, "weather", pa.list_(pa.string())),
    "duration_s": lambda t: _retyped(t, "duration_s", pa.string()),
    "captured_at": lambda t: _retyped(t, "captured_at", pa.timestamp("us")),
    "unknown: \\[\\]": lambda t: t.select([*t.column_names[1:], t.column_names[0]]),
    "stand twice": lambda t: t.append_column("scene", t.column("scene")),
    "clip_id": lambda t: _retyped(t, "clip_id", pa.string()),
}


@pytest.mark.parametrize("named", TABLE_MUTATIONS)
def test_other_columns_release_nothing(named: str, demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """A manifest with a column more, less, renamed, moved or retyped is refused whole, and the column is named."""
    with pytest.raises(PackRefused, match=named):
        evaluate.decide(TABLE_MUTATIONS[named](clips(clip_row(1), clip_row(2))), pack=demo_pack, fences=fences)


@pytest.mark.parametrize("fences_bytes", [None, b"", b"{}"])
def test_without_fences_nothing_leaves(fences_bytes: bytes | None, demo_pack: Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Missing or broken fences refuse the whole evaluation."""
    with pytest.raises(PackRefused, match="fences"):
        evaluate.decide(clips(clip_row(1), clip_row(2)), pack=demo_pack, fences=fences_bytes)


def test_published_cells_that_cannot_be_counted_refuse(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """Published rows without what k needs, or of other types, refuse the whole evaluation."""
    for published in (_published("x").drop_columns(["captured_day"]), _retyped(_published("x"), "vehicle_id", pa.int64())):
        with pytest.raises(PackRefused, match="published cells"):
            evaluate.decide(clips(clip_row(1)), pack=demo_pack, fences=fences, published=published)


def _with_rule(pack: Pack, require: str, inputs: tuple[str, ...]) -> Pack:
    rule = RowRule(
        id="row.extra",
        inputs=inputs,
        require=require,
        **pack.row_rules[0].model_dump(include={"article", "source", "confidence", "reason"}),
    )
    return pack.model_copy(update={"row_rules": (*pack.row_rules, rule)})


@pytest.mark.parametrize(
    ("require", "inputs", "named"),
    [
        ("vin = 'x'", ("scene",), "vin"),
        ("(select count(*) from candidates) > 0", ("scene",), "SUBQUERY"),
        ("case when latitude_deg > 31 then true else false end", ("latitude_deg",), "CASE"),
        ("length(scene)", ("scene",), "not a boolean"),
        ("abs(scene) > 1", ("scene",), "cannot be evaluated"),
        ("captured_day = '2026-09-01'", ("scene",), "captured_day"),
        ("read_text(scene) = ''", ("scene",), "read_text"),
    ],
)
def test_row_rule_out_of_bounds_refuses(require: str, inputs: tuple[str, ...], named: str, demo_pack: Pack, fences: bytes,
                                        clip_row: MakeRow, clips: MakeTable) -> None:  # fmt: skip
    """A row rule that reaches beyond its inputs, or yields no boolean, lets nothing out."""
    with pytest.raises(PackRefused, match=named):
        evaluate.decide(clips(clip_row(1), clip_row(2)), pack=_with_rule(demo_pack, require, inputs), fences=fences)


def test_unknown_does_not_pass(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """A row rule whose answer is null withholds the row."""
    pack = _with_rule(demo_pack, "container <> 'secret'", ("container",))
    rows = clips(clip_row(1), clip_row(2), clip_row(3, container=None))
    assert 1 == evaluate.decide(rows, pack=pack, fences=fences).rule_counts["row.extra"]


def test_refused_pack_withholds_every_row(clip_row: MakeRow, clips: MakeTable) -> None:
    """When the pack is refused, every row has a decision and none is released."""
    evaluation = evaluate.withhold_all(clips(clip_row(2), clip_row(1)))
    assert [["pack.refused"], ["pack.refused"]] == evaluation.decisions["withheld_by"].to_pylist()
    assert (2, 0) == (evaluation.row_count, evaluation.released_count)
    assert {"pack.refused": 2} == evaluation.rule_counts


def test_outputs_stay_in_their_vocabulary(demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """Whatever is measured, what comes out is a word of the closed vocabulary."""
    generator = np.random.default_rng(7)
    rows = [
        clip_row(i, province="CN-SH", width_px=int(generator.integers(1, 9000)), height_px=int(generator.integers(1, 9000)),
                 fps=float(generator.uniform(0.1, 300)), duration_s=float(generator.uniform(0, 9000)),
                 sharpness=float(generator.uniform(0, 5000)),
                 brightness=float(generator.uniform(0, 1)), noise_sigma=float(generator.uniform(0, 40)),
                 video_codec=str(generator.integers(0, 9)))
        for i in range(200)
    ]  # fmt: skip
    outputs = evaluate.decide(clips(*rows), pack=demo_pack, fences=fences).outputs
    assert 200 == outputs.num_rows
    for rule in demo_pack.outputs:
        vocabulary = GENERALISATIONS[rule.generalisation].vocabulary
        if vocabulary is not None:
            assert set(outputs[rule.name].to_pylist()) <= set(vocabulary)
    assert max(outputs["duration_s"].to_pylist()) <= 3600


@pytest.mark.clips
@pytest.mark.skipif(not (SHARED / "fleet.csv").exists(), reason="the shared clips are not beside the project")
def test_shared_fleet_is_withheld_for_the_right_reasons(demo_pack: Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """S04, S09, S12, S15 and S16 stay for their places; what leaves shares a province and month with another vehicle."""
    rows = []
    with (SHARED / "fleet.csv").open(encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file)):
            fix = {name: float(line[name]) if line[name] else None for name in ("latitude_deg", "longitude_deg", "gnss_error_m")}
            province = {31: "CN-JS" if (fix["longitude_deg"] or 0) < 121 else "CN-SH", 30: "CN-ZJ", 32: "CN-JS"}.get(
                int(fix["latitude_deg"] or 0)
            )
            at = datetime.fromisoformat(line["captured_at"])
            rows.append(clip_row(number, source_uri=line["file"], vehicle_id=line["vehicle_id"], datum=line["datum"] or None,
                                 captured_at=at, province=province, **fix))  # fmt: skip
    evaluation = evaluate.decide(clips(*rows), pack=demo_pack, fences=(SHARED / "fences-test.geojson").read_bytes())
    withheld = _withheld(evaluation)
    by_name = {row["source_uri"][:3]: withheld[row["clip_id"]] for row in rows}
    assert ["geofence.inside"] == by_name["S04"]
    assert ["geofence.gnss_error"] == by_name["S09"]
    assert ["geofence.datum"] == by_name["S12"]
    assert "geofence.missing_fix" in by_name["S15"]
    assert "geofence.missing_fix" in by_name["S16"]
    assert {"S02", "S03", "S06", "S08", "S11", "S14", "S18"} == {name for name, rules in by_name.items() if not rules}
