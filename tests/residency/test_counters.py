"""Volume caps and counters: who is counted, when rows are held, what blocks, and that only legal raises a limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import PackRefused
from curation.residency import assessment, counters, evaluate, signing
from curation.residency import pack as packs
from curation.residency.generalise import GENERALISATIONS, Generalisation, Input
from curation.schema import CLIPS, COUNTED

Row = dict[str, Any]
MakeRow = Callable[..., Row]
MakeTable = Callable[..., pa.Table]
DAY = date(2026, 11, 21)
WORDS = packs.Wording(en="x", zh="x")
BASIS: dict[str, Any] = {"article": "x", "source": "PRODUCT", "confidence": "U", "reason": WORDS}


def counter(counts: str, limit: int, *, period: str = "lifetime") -> packs.CounterRule:
    """A counter with the id `counter.c`."""
    return packs.CounterRule.model_validate(
        {**BASIS, "id": "counter.c", "counts": counts, "period": period, "limit": limit, "at_limit": WORDS}
    )


def with_rules(pack: packs.Pack, *rules: packs.CounterRule | packs.VolumeCap) -> packs.Pack:
    """The pack with these caps and counters and no others."""
    caps = tuple(rule for rule in rules if isinstance(rule, packs.VolumeCap))
    return pack.model_copy(update={"counters": tuple(rule for rule in rules if isinstance(rule, packs.CounterRule)), "volume_caps": caps})


@pytest.fixture
def cut(demo_pack: packs.Pack, fences: bytes) -> Callable[..., tuple[evaluate.Evaluation, tuple[counters.Standing, ...]]]:
    """Maker of decisions under the demo's k of two and the caps and counters given, after what earlier releases counted."""

    def make(table: pa.Table, *rules: Any, before: tuple[pa.Table, ...] = (), day: date = DAY, published: pa.Table | None = None) -> Any:
        pack = with_rules(demo_pack, *rules)
        held = [counters.Reservation(release_id=f"r{number}", as_of=DAY, counted=one) for number, one in enumerate(before)]
        return counters.limit(
            evaluate.decide(table, pack=pack, fences=fences, published=published),
            table,
            pack=pack,
            limits=counters.limits(pack, trusted_keys={}, today=day),
            reservations=held,
            as_of=day,
            published=published,
        )

    return make


def counted(demo_pack: packs.Pack, table: pa.Table) -> pa.Table:
    """What all rows of a table speak of."""
    return counters.counted_rows(table, table["clip_id"], demo_pack)


@pytest.mark.parametrize(
    ("amount", "limit", "level"),
    [(0, 1, "open"), (1, 1, "block"), (69, 100, "open"), (70, 100, "warn"), (89, 100, "warn"), (90, 100, "hold"), (99, 100, "hold"),
     (100, 100, "block"), (26, 30, "warn"), (27, 30, "hold"), (5, 7, "warn")],
)  # fmt: skip
def test_levels_begin_exactly_at_their_shares(amount: int, limit: int, level: str) -> None:
    """70 % warns, 90 % holds, the limit blocks, without rounding."""
    assert level == counters.level_of(amount, limit)


def test_each_kind_counts_what_it_says(demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Vehicles, drivers, hours, stills and the days of the furthest place are counted once each, whoever brings them twice."""
    table = clips(
        clip_row(1, driver_id="driver one", duration_s=3600.0, captured_at=datetime(2026, 9, 1, 20, tzinfo=UTC)),
        clip_row(2, driver_id="driver one", duration_s=1800.0, captured_at=datetime(2026, 9, 1, 10, tzinfo=UTC)),
        clip_row(3, driver_id=None, vehicle_id="fleet-0001", duration_s=0.001, fps=0.5, frame_count=7, province="CN-JS"),
    )
    rows = counted(demo_pack, table)
    twice = pa.concat_tables([rows, rows])
    found = {name: counters.amount(name, twice) for name in ("vehicles", "people", "raw_hours", "images", "prefecture_flow_days")}
    assert {"vehicles": 2, "people": 2, "raw_hours": 5_400_001, "images": 7, "prefecture_flow_days": 2} == found
    assert 0 == counters.amount("sensitive_people", twice)
    assert COUNTED == rows.schema
    assert "driver one" not in str(rows.to_pydict())


def test_unknown_driver_is_a_person_of_its_own(demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Where no driver is known each vehicle stands for one more person: nobody goes uncounted."""
    table = clips(clip_row(1, driver_id=None), clip_row(2, driver_id=""), clip_row(3, driver_id="d", vehicle_id="fleet-0001"))
    assert 3 == counters.amount("people", counted(demo_pack, table))


def test_stills_without_a_count_are_counted_from_their_length(demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Pictures whose number is not known are counted at the most there can be, and never at 0."""
    rows = counted(demo_pack, clips(clip_row(1, fps=1.0, duration_s=9.5, frame_count=None)))
    assert 11 == counters.amount("images", rows)


def test_an_output_of_a_picture_makes_people_sensitive(
    cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a generalisation ever read a picture, a limit of 1 person holds its rows, and after one that left nothing leaves."""
    leak = Generalisation(inputs=(Input(type=pa.float64(), sensitivity="picture"),), sql="'2 low'", says_en="", says_zh="")
    monkeypatch.setattr(counters, "GENERALISATIONS", {**GENERALISATIONS, "noise_band": leak})
    rows = counted(demo_pack, clips(clip_row(1), clip_row(2)))
    assert 2 == counters.amount("sensitive_people", rows)
    assert 0 == cut(clips(clip_row(1), clip_row(2)), counter("sensitive_people", 1))[0].released_count
    monkeypatch.undo()
    assert 2 == cut(clips(clip_row(1), clip_row(2)), counter("sensitive_people", 1))[0].released_count
    assert 0 == cut(clips(clip_row(3), clip_row(4)), counter("sensitive_people", 1), before=(rows,))[0].released_count


@pytest.mark.parametrize(
    ("counts", "limit", "released"),
    [
        ("vehicles", 10, 8),
        ("people", 10, 8),
        ("prefecture_flow_days", 10, 8),
        ("images", 100, 0),
        ("vehicles", 100, 12),
        ("vehicles", 1, 0),
    ],
)
def test_rows_that_would_reach_ninety_percent_stay(
    counts: str, limit: int, released: int, cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable
) -> None:
    """Of twelve rows only those leave that keep the counter below 90 % of its limit; the others name the counter."""
    stills = {"fps": 1.0, "duration_s": 100.0, "frame_count": 100} if counts == "images" else {}
    evaluation, standings = cut(clips(*(clip_row(number, **stills) for number in range(1, 13))), counter(counts, limit))
    assert released == evaluation.released_count
    assert 12 - released == evaluation.rule_counts["counter.c"]
    withheld = [row["withheld_by"] for row in evaluation.decisions.to_pylist() if not row["released"]]
    assert [["counter.c"]] * (12 - released) == withheld
    assert (0, released) == (standings[0].before, 0 if counts == "images" else standings[0].after)


def test_hours_are_summed_over_new_clips_alone(cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Half-hour clips fill a limit of five hours up to below 4.5; clips that were counted before cost nothing again."""
    table = clips(*(clip_row(number, duration_s=1800.0) for number in range(12)))
    evaluation, [standing] = cut(table, counter("raw_hours", 5))
    assert (8, 0, 4, "warn") == (evaluation.released_count, standing.before, standing.after, standing.level)
    again, [standing] = cut(
        table, counter("raw_hours", 5), before=(counted(demo_pack, table.slice(0, 4)), counted(demo_pack, table.slice(2, 4)))
    )
    ids = {*table.slice(0, 6)["clip_id"].to_pylist()}
    assert ids < {*again.outputs["clip_id"].to_pylist()}
    assert (8, 3, 4) == (again.released_count, standing.before, standing.after)


def test_a_counter_that_holds_lets_known_vehicles_leave(
    cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable
) -> None:
    """From 90 % on no new vehicle is added, but rows of vehicles that were counted go on leaving."""
    known = clips(*(clip_row(number) for number in range(9)))
    table = clips(*(clip_row(100 + number, vehicle_id=f"fleet-{number:04d}") for number in range(8, 11)), clip_row(7))
    evaluation, [standing] = cut(table, counter("vehicles", 10), before=(counted(demo_pack, known),))
    assert (2, 9, 9, "hold") == (evaluation.released_count, standing.before, standing.after, standing.level)


def test_at_the_limit_nothing_leaves(cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable) -> None:
    """Once the limit is reached every row is withheld, of known vehicles too."""
    known = clips(*(clip_row(number) for number in range(9)))
    evaluation, [standing] = cut(known, counter("vehicles", 9), before=(counted(demo_pack, known),))
    assert (0, 9, "block") == (evaluation.released_count, evaluation.rule_counts["counter.c"], standing.level)


def test_days_of_one_place_do_not_hold_another(cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable) -> None:
    """Each place has its own days: the one that is used up is held, the other leaves whole."""
    here = [clip_row(number, province="CN-SH") for number in range(12)]
    there = [clip_row(100 + number, province="CN-JS") for number in range(3)]
    evaluation, [standing] = cut(clips(*here, *there), counter("prefecture_flow_days", 10))
    provinces = evaluation.outputs["province"].to_pylist()
    assert (8, 3, 8) == (provinces.count("CN-SH"), provinces.count("CN-JS"), standing.after)


def test_a_calendar_year_begins_anew_and_a_lifetime_does_not(
    cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow, clips: MakeTable
) -> None:
    """What was released last year counts for ever, but not against this year's limit."""
    table = clips(*(clip_row(number) for number in range(4)))
    before, day = (counted(demo_pack, clips(*(clip_row(number) for number in range(50, 54)))),), date(2027, 1, 1)
    assert 4 == cut(table, counter("people", 5, period="calendar_year"), before=before, day=day)[0].released_count
    assert 0 == cut(table, counter("people", 5), before=before, day=day)[0].released_count


def test_k_is_counted_anew_after_rows_stayed(cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable) -> None:
    """A cell of two vehicles of which the counter keeps one does not leave as a cell of one."""
    pairs = [clip_row(number, province=("CN-SH", "CN-JS", "CN-ZJ")[number // 2], vehicle_id=f"v{number}") for number in range(6)]
    evaluation, _ = cut(clips(*pairs), counter("vehicles", 4))
    vehicles = dict.fromkeys(("CN-SH", "CN-JS", "CN-ZJ"), 0)
    for province in evaluation.outputs["province"].to_pylist():
        vehicles[province] += 1
    assert set(vehicles.values()) <= {0, 2}
    assert evaluation.released_count + sum(evaluation.rule_counts.values()) == 6


def test_a_cap_keeps_a_release_small(cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable) -> None:
    """A cap holds in all, or for each joint value of the outputs it names; what is over it names the cap."""
    rows = [clip_row(number, province=("CN-SH", "CN-JS")[number % 2]) for number in range(10)]
    cap = {**BASIS, "id": "volume.v", "max_rows": 3}
    evaluation, _ = cut(clips(*rows), packs.VolumeCap.model_validate({**cap, "max_rows": 8}))
    assert (8, 2) == (evaluation.released_count, evaluation.rule_counts["volume.v"])
    evaluation, _ = cut(clips(*rows), packs.VolumeCap.model_validate({**cap, "per": ("province",)}))
    assert [3, 3] == [evaluation.outputs["province"].to_pylist().count(name) for name in ("CN-SH", "CN-JS")]


def test_order_of_rows_changes_nothing(cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable) -> None:
    """The same rows in any order give the same decisions."""
    rows = [clip_row(number) for number in range(12)]
    first, _ = cut(clips(*rows), counter("vehicles", 10))
    second, _ = cut(clips(*reversed(rows)), counter("vehicles", 10))
    assert first.decisions.equals(second.decisions)
    assert first.outputs.equals(second.outputs)


# --- assessments ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def raised(demo_pack: packs.Pack) -> tuple[packs.Pack, dict[str, tuple[str, ...]]]:
    """A pack whose limit of 10 vehicles an assessment raises to 1,000 until the end of 2026, and legal's key."""
    pack = with_rules(demo_pack, counter("vehicles", 10))
    private_pem, public_hex = signing.keygen()
    entry = assessment.assess(pack, "counter.c", number="CAC-1", new_limit=1_000, expires=date(2026, 12, 31), private_pem=private_pem)
    return pack.model_copy(update={"assessments": (entry,)}), {"legal": (public_hex,)}


def test_an_assessment_raises_the_limit_until_its_last_day(raised: tuple[packs.Pack, dict[str, tuple[str, ...]]]) -> None:
    """Under legal's signature the new limit holds, named by its number; the day after it is the law's again."""
    pack, trusted = raised
    [one] = counters.limits(pack, trusted_keys=trusted, today=date(2026, 12, 31))
    assert (1_000, "CAC-1") == (one.limit, one.assessment)
    [one] = counters.limits(pack, trusted_keys=trusted, today=date(2027, 1, 1))
    assert (10, None) == (one.limit, one.assessment)


@pytest.mark.parametrize(
    "change",
    [{"new_limit": 1_001}, {"number": "CAC-2"}, {"expires": date(2030, 1, 1)}, {"signature": "0" * 128}, {"public_key": "0" * 64}],
)
def test_an_altered_assessment_is_refused(change: dict[str, Any], raised: tuple[packs.Pack, dict[str, tuple[str, ...]]]) -> None:
    """Whoever changes a word of it needs legal's key: otherwise nothing leaves."""
    pack, trusted = raised
    [entry] = pack.assessments
    forged = pack.model_copy(update={"assessments": (entry.model_copy(update=change),)})
    with pytest.raises(PackRefused, match="does not carry legal's signature"):
        counters.limits(forged, trusted_keys=trusted, today=DAY)


def test_only_legal_raises_a_limit(raised: tuple[packs.Pack, dict[str, tuple[str, ...]]]) -> None:
    """The key of another role, or of nobody, does not do; nor does another exporter's assessment."""
    pack, trusted = raised
    for keys in ({}, {"data-security": trusted["legal"]}):
        with pytest.raises(PackRefused, match="legal's signature"):
            counters.limits(pack, trusted_keys=keys, today=DAY)
    with pytest.raises(PackRefused, match="legal's signature"):
        counters.limits(pack.model_copy(update={"legal_entity": "another"}), trusted_keys=trusted, today=DAY)


ENTRY = """
assessments:
  - {counter: %s, number: CAC-1, new_limit: %s, expires: 2026-12-31, public_key: "%s", signature: "%s"}
"""


@pytest.mark.parametrize(
    ("name", "new_limit", "named"),
    [
        ("counter.nowhere", 3_000, "does not list"),
        ("counter.raw_hours_ever", 2_000, "does not raise"),
        ("counter.raw_hours_ever", 1, "does not raise"),
    ],
)
def test_an_assessment_of_nothing_or_downwards_is_refused(
    name: str, new_limit: int, named: str, pack_bytes: Callable[[str], bytes]
) -> None:
    """An assessment is of a counter of the pack, and raises it."""
    entry = ENTRY % (name, new_limit, "a" * 64, "b" * 128)
    with pytest.raises(PackRefused, match=named):
        packs.parse(pack_bytes("cn-baseline") + entry.encode())


def test_two_assessments_of_one_counter_are_refused(pack_bytes: Callable[[str], bytes]) -> None:
    """Which of two limits holds would be anybody's guess."""
    entry = ENTRY % ("counter.raw_hours_ever", 3_000, "a" * 64, "b" * 128)
    twice = entry + entry.split("\n", 2)[2]
    with pytest.raises(PackRefused, match="stands twice"):
        packs.parse(pack_bytes("cn-baseline") + twice.encode())


def test_a_cap_over_no_output_is_refused(pack_bytes: Callable[[str], bytes]) -> None:
    """A cap names columns that leave."""
    text = pack_bytes("cn-baseline").replace(b"max_rows: 1000000", b"max_rows: 1000000\n    per: [vin]")
    with pytest.raises(PackRefused, match="vin"):
        packs.parse(text)


def test_baseline_carries_the_counters_of_the_law(base_pack: packs.Pack) -> None:
    """Every threshold of the stateful rules stands in the baseline with its period, under the instrument that names it."""
    found = {(rule.counts, rule.period, rule.limit, rule.source) for rule in base_pack.counters}
    assert {
        ("people", "calendar_year", 100_000, "CBDF-16"),
        ("people", "calendar_year", 1_000_000, "CBDF-16"),
        ("people", "lifetime", 100_000, "AUTO-2021"),
        ("sensitive_people", "calendar_year", 1, "CBDF-16"),
        ("sensitive_people", "calendar_year", 10_000, "CBDF-16"),
        ("vehicles", "lifetime", 100_000, "GUIDE-2026"),
        ("raw_hours", "lifetime", 2_000, "GUIDE-2026"),
        ("images", "lifetime", 10_000_000, "GUIDE-2026"),
        ("prefecture_flow_days", "lifetime", 30, "GUIDE-2026"),
    } == found
    assert () == base_pack.assessments


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["CN-SH", "CN-JS"]), st.integers(1, 4)), min_size=1, max_size=24),
    split=st.integers(0, 24),
    limit=st.integers(1, 12),
    counts=st.sampled_from(["vehicles", "people", "raw_hours", "prefecture_flow_days"]),
)
def test_no_cut_ever_passes_the_hold_mark(
    rows: list[tuple[int, str, int]], split: int, limit: int, counts: str, cut: Callable[..., Any], demo_pack: packs.Pack, clip_row: MakeRow
) -> None:
    """Whatever was released before, a cut leaves a counter below 90 % or where it was, accounts for every row, and keeps k in each cell."""
    made = [
        clip_row(
            number,
            vehicle_id=f"v{vehicle}",
            driver_id=None,
            province=province,
            duration_s=900.0,
            captured_at=datetime(2026, 9, day, 4, tzinfo=UTC),
        )
        for number, (vehicle, province, day) in enumerate(rows)
    ]
    before = pa.Table.from_pylist(made[:split], schema=CLIPS)
    table = pa.Table.from_pylist(made[split:], schema=CLIPS)
    evaluation, [standing] = cut(table, counter(counts, limit), before=(counted(demo_pack, before),))
    assert standing.level in {"open", "warn"} or standing.after == standing.before
    assert standing.level != "block" or counts == "prefecture_flow_days" or 0 == evaluation.released_count
    assert table.num_rows == evaluation.row_count == evaluation.released_count + evaluation.decisions["released"].to_pylist().count(False)
    cells = evaluation.outputs.group_by(["province", "month"]).aggregate([("vehicle_id", "count_distinct")])
    assert all(vehicles >= 2 for vehicles in cells["vehicle_id_count_distinct"].to_pylist())


def test_what_leaves_leaves_by_whole_cells(cut: Callable[..., Any], clip_row: MakeRow, clips: MakeTable) -> None:
    """Of ten cells under a limit that half of them reach only the one at the mark is torn; the others leave or stay whole."""
    provinces = [f"CN-{name}" for name in ("AH", "BJ", "CQ", "FJ", "GD", "GS", "GX", "GZ", "HA", "HB")]
    rows = [clip_row(number, province=provinces[number % 10], duration_s=600.0) for number in range(60)]
    evaluation, [standing] = cut(clips(*rows), counter("raw_hours", 6))
    left = [evaluation.outputs["province"].to_pylist().count(province) for province in provinces]
    assert [0, 0, 0, 0, 2, 6, 6, 6, 6, 6] == sorted(left)
    assert (32, 6, "warn") == (evaluation.released_count, standing.after, standing.level)
