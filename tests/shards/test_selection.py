"""A selection accounts for every row, keeps to what is asked, and lets nothing straddle two splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.schema import CLIPS
from curation.shards import groups, selection
from curation.shards.request import ShardRequest, from_mapping
from curation.shards.selection import Selection, choose
from curation.shards.telling import Told

MIDNIGHT_IN_CHINA = datetime(2026, 3, 1, 16, tzinfo=UTC)
WEATHER = ("rainy", "clear", "undefined", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What decides whether a clip is taken and where it goes."""

    number: int
    verdict: str = "accepted"
    drive: str | None = None
    vehicle: str | None = None
    at: datetime | None = None
    repeats: int | None = None
    weather: str | None = "clear"
    sharpness: float | None = 50.0

    @property
    def clip_id(self) -> str:
        """An id as SHA-256 gives it."""
        return clip_id(self.number)

    def row(self) -> dict[str, Any]:
        """Its row of curated.clips."""
        row: dict[str, Any] = {field.name: None for field in CLIPS}
        row |= {"clip_id": self.clip_id, "object_uri": "home:x", "size_bytes": 10, "verdict": self.verdict, "weather": self.weather}
        row |= {"drive_id": self.drive, "vehicle_id": self.vehicle, "captured_at": self.at, "sharpness": self.sharpness}
        return row | {"duplicate_of": None if self.repeats is None else clip_id(self.repeats)}


def clip_id(number: int) -> str:
    """The id of a numbered clip."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def table(clips: Iterable[Clip]) -> pa.Table:
    """Rows of curated.clips, nulls allowed where these tests do not look; every set of near-duplicates is named, one of one clip too."""
    schema = pa.schema([pa.field(field.name, field.type) for field in CLIPS])
    clips = list(clips)
    sets, names = sets_of(clips), dict[int, str]()
    for clip in clips:
        names[sets[clip.clip_id]] = min(f"near-{clip.clip_id}", names.get(sets[clip.clip_id], "near-x"))
    return pa.Table.from_pylist([clip.row() | {"near_group": names[sets[clip.clip_id]]} for clip in clips], schema=schema)


def ask(**asked: Any) -> ShardRequest:
    """A request with three splits."""
    return from_mapping({"name": "night", "seed": 7, "splits": {"a": 0.4, "b": 0.3, "c": 0.3}} | asked)


def splits(found: Selection) -> dict[str, str]:
    """clip_id -> split of the clips taken."""
    return dict(zip(found.rows.column("clip_id").to_pylist(), found.rows.column("split").to_pylist(), strict=True))


@st.composite
def fleets(draw: st.DrawFn) -> list[Clip]:
    """Clips of few drives and vehicles around midnight in China, some of which repeat one another or a clip that is not there."""
    some = st.none() | st.sampled_from("PQR")
    times = st.none() | st.sampled_from([MIDNIGHT_IN_CHINA + timedelta(hours=hours) for hours in (-30, -1, 1, 26)])
    count = draw(st.integers(0, 14))
    return [
        Clip(
            number=number,
            verdict=draw(st.sampled_from(("accepted", "accepted", "accepted", "rejected"))),
            drive=draw(some),
            vehicle=draw(some),
            at=draw(times),
            repeats=draw(st.none() | st.none() | st.integers(0, count + 1).filter(lambda other, own=number: other != own)),
            weather=draw(st.sampled_from(WEATHER)),
            sharpness=draw(st.none() | st.sampled_from((10.0, 50.0, 90.0, float("nan")))),
        )
        for number in range(count)
    ]


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "group_by": st.sampled_from(("drive", "vehicle", "vehicle_day", "time", "clip")),
        "near_duplicates": st.sampled_from(("drop", "keep_together")),
        "quality": st.sampled_from(({"sharpness": {"min": 20}}, {"sharpness": {"min": 20, "max": 60}})),
        "quotas": st.sampled_from(({"weather": {"rainy": 2}}, {"weather": {"rainy": 3, "clear": 1, "snowy": 1}})),
        "balance": st.sampled_from(({"weather": 1}, {"weather": 1.5})),
        "max_per_drive": st.integers(1, 3),
        "max_per_vehicle": st.integers(1, 4),
        "max_samples": st.integers(1, 12),
    },
)


def vehicle_day(clip: Clip) -> tuple[str, object] | None:
    """The vehicle and the day in China; clips of a vehicle without a time are a day of their own."""
    day = None if clip.at is None else clip.at.astimezone(ZoneInfo("Asia/Shanghai")).date()
    return None if clip.vehicle is None else (clip.vehicle, day)


def sets_of(clips: Sequence[Clip]) -> dict[str, int]:
    """clip_id -> number of its set of near-duplicates, by following links from each clip until nothing changes."""
    number = {clip.clip_id: position for position, clip in enumerate(clips)}
    for _ in clips:
        for clip in clips:
            if clip.repeats is not None:
                other = clip_id(clip.repeats)
                number[clip.clip_id] = number[other] = min(number[clip.clip_id], number.get(other, len(clips) + clip.repeats))
    return number


def straddling(keys: Mapping[str, object], split_of: Mapping[str, str]) -> list[object]:
    """Keys that stand in more than one split."""
    found: dict[object, set[str]] = defaultdict(set)
    for one, split in split_of.items():
        if keys[one] is not None:
            found[keys[one]].add(split)
    return [key for key, among in found.items() if len(among) > 1]


@settings(max_examples=100)
@given(clips=fleets(), asked=REQUESTS, withdrawn=st.sets(st.integers(0, 14), max_size=3))
def test_whatever_is_asked_holds(clips: list[Clip], asked: dict[str, Any], withdrawn: set[int]) -> None:
    """Every accepted row is counted once by name; caps, balance and limit hold; nothing that belongs together straddles two splits."""
    request = ask(**asked)
    accepted = {clip.clip_id: clip for clip in clips if clip.verdict == "accepted"}
    found = choose(table(clips), request, pa.array(sorted(clip_id(number) for number in withdrawn), pa.string()))
    taken = splits(found)
    assert len(accepted) == found.considered == len(taken) + sum(found.left_out.values())
    assert found.left_out.get("withdrawn", 0) == len(accepted.keys() & {clip_id(number) for number in withdrawn})
    limits = {f"over_{name}" for name in ("max_per_drive", "max_per_vehicle", "balance") if name in asked}
    named = {"filtered_out", "over_max_samples", *limits} | ({"near_duplicates"} if request.near_duplicates == "drop" else set())
    named |= {"unmeasured_sharpness", "below_sharpness"} if request.quality else set()
    assert named <= set(found.left_out)
    taken_clips = [accepted[one] for one in taken]
    assert len(taken) <= (request.max_samples or len(taken))
    for cap, key in ((request.max_per_drive, "drive"), (request.max_per_vehicle, "vehicle")):
        counts = Counter(getattr(clip, key) for clip in taken_clips if getattr(clip, key) is not None)
        assert max(counts.values(), default=0) <= (cap or len(taken))
    if request.balance.ratios() and request.max_samples is None:
        counts = Counter(clip.weather for clip in taken_clips)
        rarest = min((count for value, count in counts.items() if value in ("rainy", "clear")), default=len(taken))
        assert max(counts.values(), default=0) <= (request.balance.weather or 1) * rarest
    sets = sets_of(clips)
    if request.near_duplicates == "drop":
        assert len(taken) == len({sets[one] for one in taken})
    keys: dict[str, dict[str, object]] = {
        "drive": {one: clip.drive for one, clip in accepted.items()},
        "vehicle_day": {one: vehicle_day(clip) for one, clip in accepted.items()},
        "near": dict(sets),
        "vehicle": {one: clip.vehicle for one, clip in accepted.items()},
        "time": {one: clip.at and clip.at.astimezone(ZoneInfo("Asia/Shanghai")).date() for one, clip in accepted.items()},
    }
    for name in {"drive", "vehicle_day", "near", request.group_by} & keys.keys():
        assert [] == straddling(keys[name], taken), name
    assert {0} == {count for name, count in found.groups.items() if name.endswith("_in_two_splits")}
    for quota in found.quotas:
        count = sum(clip.weather == quota["value"] for clip in taken_clips)
        assert (count, max(quota["wanted"] - count, 0)) == (quota["taken"], quota["shortfall"])


@settings(max_examples=30)
@given(clips=fleets(), asked=REQUESTS, order=st.randoms(use_true_random=False))
def test_the_order_and_shape_of_the_rows_decide_nothing(clips: list[Clip], asked: dict[str, Any], order: Any) -> None:
    """The same rows shuffled, in small batches, with words as dictionaries, give the same selection."""
    request, shuffled = ask(**asked), list(clips)
    order.shuffle(shuffled)
    first, rows = choose(table(clips), request), table(shuffled)
    for name in ("weather", "drive_id", "vehicle_id", "verdict"):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, rows.column(at).dictionary_encode())
    again = choose(iter(rows.to_batches(max_chunksize=5) or [pa.RecordBatch.from_pylist([], schema=rows.schema)]), request)
    assert str(first.rows.to_pylist()) == str(again.rows.to_pylist())  # as text: a NaN equals none
    assert (first.considered, first.left_out, first.quotas, first.groups) == (
        again.considered,
        again.left_out,
        again.quotas,
        again.groups,
    )


@settings(max_examples=20)
@given(clips=fleets(), group_by=st.sampled_from(("drive", "vehicle", "vehicle_day", "clip")), seed=st.integers(0, 2**63 - 1))
def test_a_split_stays_when_unrelated_rows_come_and_filters_change(clips: list[Clip], group_by: str, seed: int) -> None:
    """Other vehicles' drives move nothing, and a clip is in the same split whatever else is asked for."""
    request = ask(group_by=group_by, seed=seed, near_duplicates="keep_together")
    others = [Clip(number=100 + number, drive=f"A{number % 3}", vehicle=f"A{number % 3}", at=MIDNIGHT_IN_CHINA) for number in range(9)]
    before = splits(choose(table(clips), request))
    assert before.items() <= splits(choose(table([*others, *clips]), request)).items()
    fewer = ask(group_by=group_by, seed=seed, near_duplicates="keep_together", filter="weather = 'rainy'", max_samples=5)
    assert splits(choose(table(clips), fewer)).items() <= before.items()


def test_quotas_go_first_and_share_what_there_is() -> None:
    """Of a hundred clips ten are wanted: both quotas are filled in like parts, and what lacks is told."""
    clips = [Clip(number=number, weather={0: "rainy", 1: "foggy", 2: "snowy"}.get(number % 20, "clear")) for number in range(200)]
    asked = {"weather": {"rainy": 8, "foggy": 4, "overcast": 3}}
    whole = choose(table(clips), ask(quotas=asked, max_samples=20))
    counts = Counter(whole.rows.column("weather").to_pylist())
    assert (8, 4) <= (counts["rainy"], counts["foggy"])
    assert {"overcast": 3, "rainy": 0, "foggy": 0} == {quota["value"]: quota["shortfall"] for quota in whole.quotas}
    assert (0, 10) == (whole.quotas[2 - 1]["passing"], next(one for one in whole.quotas if one["value"] == "rainy")["passing"])
    half = Counter(choose(table(clips), ask(quotas=asked, max_samples=6)).rows.column("weather").to_pylist())
    assert {"rainy": 4, "foggy": 2} == half


def test_caps_leave_room_for_what_quotas_want() -> None:
    """Under a cap per vehicle its wanted clips are taken before its others."""
    clips = [Clip(number=number, vehicle=f"V{number % 4}", weather="rainy" if number < 8 else "clear") for number in range(80)]
    found = choose(table(clips), ask(quotas={"weather": {"rainy": 8}}, max_per_vehicle=3))
    assert {"rainy": 8, "clear": 4} == Counter(found.rows.column("weather").to_pylist())
    assert found.left_out["over_max_per_vehicle"] == 68


def test_a_limit_draws_evenly_from_balanced_values() -> None:
    """Where values are balanced, fewer clips are spread over them too."""
    clips = [Clip(number=number, weather="rainy" if number % 4 == 0 else "clear") for number in range(80)]
    found = choose(table(clips), ask(balance={"weather": 3}, max_samples=20))
    assert {"rainy": 10, "clear": 10} == Counter(found.rows.column("weather").to_pylist())


def test_an_unmeasured_signal_is_no_low_one() -> None:
    """Missing and not finite values are counted under a name of their own, before the floor is looked at."""
    clips = [Clip(number=number, sharpness=value) for number, value in enumerate((None, float("nan"), float("-inf"), 5.0, 50.0, 500.0))]
    found = choose(table(clips), ask(quality={"sharpness": {"min": 10, "max": 100}}))
    assert [50.0] == [clip.sharpness for clip in clips if clip.clip_id in splits(found)]
    expected = {"filtered_out": 0, "unmeasured_sharpness": 3, "below_sharpness": 1, "above_sharpness": 1}
    assert expected == {name: found.left_out[name] for name in expected}


def test_the_best_that_passes_stands_for_its_near_duplicates() -> None:
    """The clip that others repeat stays; where it does not pass, one of them does; what links two need not pass itself."""
    clips = [Clip(number=1), Clip(number=2, repeats=1), Clip(number=3, repeats=1), Clip(number=4, repeats=3, weather="foggy")]
    assert {clip_id(1)} == splits(choose(table(clips), ask())).keys()
    without = splits(choose(table(clips[1:]), ask())).keys()
    assert 1 == len(without)
    assert {clip_id(4)} == splits(choose(table(clips), ask(filter="weather = 'foggy'"))).keys()


def test_a_group_is_kept_together_whatever_its_survivors_are() -> None:
    """Two clips that stand for themselves and are of one group go into one split, at any size of a set."""
    clips = [Clip(number=number, drive=f"D{number}") for number in range(12)]
    apart = splits(choose(table(clips), ask()))
    other = next(number for number in range(12) if apart[clip_id(number)] != apart[clip_id(0)])
    rows = table(clips)
    names = ["one" if number in {0, other} else None for number in range(12)]
    rows = rows.set_column(rows.schema.get_field_index("near_group"), "near_group", pa.array(names, pa.string()))
    together = splits(choose(rows, ask(near_duplicates="keep_together")))
    assert together[clip_id(0)] == together[clip_id(other)]


def test_blocks_of_days_are_never_cut() -> None:
    """Weeks of days stay whole: within a block all vehicles are in one split, and several blocks are not all in the same."""
    clips = [
        Clip(number=day * 3 + car, vehicle=f"V{car}", at=MIDNIGHT_IN_CHINA + timedelta(days=day)) for day in range(70) for car in range(3)
    ]
    found = splits(choose(table(clips), ask(group_by="time", time_block_days=7)))
    days_since_1970 = {clip.clip_id: (clip.at - datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=8)).days for clip in clips if clip.at}
    assert [] == straddling({one: day // 7 for one, day in days_since_1970.items()}, found)
    assert 1 < len(set(found.values()))


def test_a_leak_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were groups split by mistake, the selection would stop and say what straddles."""
    real: Callable[..., Any] = groups.split_numbers

    def torn(*given: Any) -> Any:
        split, group = real(*given)
        split[0] = (split[0] + 1) % 3
        return split, group

    monkeypatch.setattr(selection, "split_numbers", torn)
    with pytest.raises(CurationError, match="1 drives, 1 vehicle_days stand in two splits"):
        choose(table([Clip(number=number, drive="D", vehicle="V", at=MIDNIGHT_IN_CHINA) for number in range(3)]), ask())


@pytest.mark.parametrize("wrong", ["", "ab" * 31 + "a", "AB" * 32, "zz" * 32])
def test_what_is_no_clip_id_is_named(wrong: str) -> None:
    """Too short, in capitals or no digits: the id is refused by name."""
    rows = table([Clip(number=1), Clip(number=2)])
    ids = pa.array([clip_id(1), wrong])
    with pytest.raises(CurationError, match="is no clip id") as refused:
        choose(rows.set_column(0, "clip_id", ids), ask())
    assert repr(wrong) == refused.value.subject


def test_values_that_tell_are_found_word_for_word() -> None:
    """A value repeats where its words stand in a row in the text, whatever signs are between them, and nowhere else."""
    rows = pa.table({name: ["-", None] for name in Told()._values} | {"vehicle_id": ["Fleet 12/b", "Zhèjiāng"]})
    told = Told(rows)
    assert ["a-fleet-12-b", "FLEET.12.B"] == told.repeated(["a-fleet-12-b", "FLEET.12.B", "fleet-12-bc", "fleet-b-12", "fleet", "-", ""])
    assert [] == Told().repeated(["fleet"])
