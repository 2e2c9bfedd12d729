"""The stage that names duplicates: exact streams, windows, everywhere; and which clip survives."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.adapters.index_faiss import FaissHashIndex
from curation.signals.fingerprint import Moment, signature
from curation.stages import duplicates

AT = datetime(2026, 5, 1, 8, 0, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("clip_id", "verdict", "packet_digest", "signature", "duplicate_of", "near_group", "vehicle_id", "drive_id", "camera")
    ]
    + [(name, pa.float64()) for name in ("duration_s", "latitude_deg", "longitude_deg")]
    + [(name, pa.int64()) for name in ("width_px", "height_px", "size_bytes")]
    + [("captured_at", pa.timestamp("us", tz="UTC"))]
)


def _view(seed: int, *, flips: int = 0, moments: int = 4) -> str:
    """A signature of `moments` different pictures, `flips` bits off in each."""
    draw = random.Random(seed)  # noqa: S311 - pictures, not secrets
    shown = [draw.getrandbits(256) for _ in range(moments)]
    off = (1 << flips) - 1
    return signature([Moment(at_ms=1000 * at, bits=f"{bits ^ off:064x}") for at, bits in enumerate(shown)]) or ""


def _row(clip_id: str, **values: Any) -> dict[str, Any]:
    usual = {"verdict": "accepted", "duration_s": 60.0, "width_px": 1280, "height_px": 720, "size_bytes": 1000}
    return dict.fromkeys(SCHEMA.names) | usual | {"clip_id": clip_id} | values


def _found(new: list[dict[str, Any]], curated: list[dict[str, Any]] | None = None) -> duplicates.Found:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (new, curated or [])]
    return duplicates.run(tables[0], tables[1], index=FaissHashIndex())


def _run(new: list[dict[str, Any]], curated: list[dict[str, Any]] | None = None) -> Mapping[str, str | None]:
    return _found(new, curated).survivors


def _stated(new: list[dict[str, Any]], curated: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows as they stand once the new ones have come to the curated ones."""
    rows = [*new, *curated]
    return duplicates.stated(pa.Table.from_pylist(rows, schema=SCHEMA), _found(new, curated)).to_pylist()


def test_a_rewrapped_stream_is_a_duplicate_even_without_pictures() -> None:
    """Equal packets are enough, within the batch and against curated rows."""
    assert {"b": "a", "c": "a"} == _run([_row("b", packet_digest="p"), _row("c", packet_digest="p")], [_row("a", packet_digest="p")])


def test_a_reencoded_copy_of_another_batch_is_found() -> None:
    """A copy with some bits off is found without time, place or vehicle, and other clips are not."""
    others = [_row(f"x{seed}", signature=_view(seed)) for seed in range(10, 40)]
    assert {"b": "a"} == _run([_row("b", signature=_view(1, flips=10), size_bytes=400), *others], [_row("a", signature=_view(1))])


def test_the_better_clip_survives_whichever_came_first() -> None:
    """A curated low-resolution copy gives way to a new full-size one; at equal worth the smaller id stays."""
    small = _row("a", signature=_view(1), width_px=640, height_px=360)
    assert {"a": "b"} == _run([_row("b", signature=_view(1))], [small])
    assert {"b": "a"} == _run([_row("b", signature=_view(1))], [_row("a", signature=_view(1))])
    rejected = _row("a", signature=_view(1), verdict="rejected", width_px=3840, height_px=2160)
    assert {"a": "b"} == _run([_row("b", signature=_view(1))], [rejected])


def test_a_new_survivor_takes_over_what_the_old_one_stood_for() -> None:
    """Curated rows that change their survivor are told too."""
    curated = [_row("a", signature=_view(1), size_bytes=900), _row("b", signature=_view(1), size_bytes=100, duplicate_of="a")]
    assert {"a": "c", "b": "c"} == _run([_row("c", signature=_view(1), size_bytes=5000)], curated)


def test_a_clip_without_its_survivor_stands_for_itself() -> None:
    """Where the new best clip resembles the old survivor alone, what that one stood for is told to be no duplicate any more."""
    old = _row("a", packet_digest="p", signature=_view(1), size_bytes=900)
    curated = [old, _row("b", packet_digest="p", size_bytes=100, duplicate_of="a")]
    assert {"a": "c", "b": None} == _run([_row("c", signature=_view(1), size_bytes=5000)], curated)


def test_what_is_not_touched_is_not_told() -> None:
    """Curated duplicates that no new clip resembles are left alone."""
    curated = [_row("a", signature=_view(1)), _row("b", signature=_view(1), duplicate_of="a")]
    assert {} == _run([_row("c", signature=_view(2))], curated)


def test_a_parked_car_is_not_its_own_duplicate() -> None:
    """The same standing view a minute later is another recording; under one clock time it is the same."""
    here = {"signature": _view(1, moments=1), "vehicle_id": "v"}
    later = _row("b", **here, captured_at=AT + timedelta(minutes=1))
    assert {} == _run([_row("a", **here, captured_at=AT), later])
    assert {"b": "a"} == _run([_row("a", **here, captured_at=AT), {**later, "captured_at": AT + timedelta(seconds=1)}])


def test_a_view_that_stands_is_no_copy_for_its_looks() -> None:
    """Equal pictures throughout, no time of capture, no telemetry: two recordings of one parking place, unless the packets are the same."""
    standing = signature([Moment(at_ms=1000 * at, bits=f"{5:064x}") for at in range(4)])
    rows = [_row("a", signature=standing), _row("b", signature=standing, size_bytes=400)]
    assert {} == _run(rows)
    assert {} == _run(rows[1:], rows[:1])
    assert {"b": "a"} == _run([row | {"packet_digest": "p"} for row in rows])


def test_windows_allow_more_bits_than_the_world_does() -> None:
    """40 bits off is a copy where vehicle and time agree, and nothing where they are unknown."""
    where = {"vehicle_id": "v", "captured_at": AT}
    rows = [_row("a", signature=_view(1)), _row("b", signature=_view(1, flips=40))]
    assert {} == _run(rows)
    assert {"b": "a"} == _run([row | where for row in rows])
    by_place = {"latitude_deg": 31.2, "longitude_deg": 121.5, "captured_at": AT}
    assert {"b": "a"} == _run([row | by_place for row in rows])


@pytest.mark.parametrize("camera", ["rear", None])
def test_another_camera_of_the_same_moment_stays(camera: str | None) -> None:
    """Front and rear of one car show other pictures; with one picture each, a known other camera is no copy."""
    front = _row("a", signature=_view(1, moments=1), vehicle_id="v", captured_at=AT, camera="front")
    other = _row("b", signature=_view(1 if camera else 2, moments=1), vehicle_id="v", captured_at=AT, camera=camera)
    assert {} == _run([front, other])


def test_quarantined_clips_are_nobodys_duplicate() -> None:
    """What could not be measured neither survives nor is dropped."""
    assert {} == _run([_row("a", packet_digest="p", verdict="quarantined"), _row("b", packet_digest="p")])


def test_the_order_of_rows_changes_nothing() -> None:
    """Reversed rows give the same answer, and every survivor is no duplicate."""
    rows = [_row(f"{seed}{copy}", signature=_view(seed, flips=copy), size_bytes=100 + copy) for seed in range(5) for copy in range(3)]
    expected = _run(rows)
    rows.reverse()
    assert expected == _run(rows)
    assert {f"{seed}{copy}": f"{seed}2" for seed in range(5) for copy in range(2)} == expected
    assert set(expected).isdisjoint(expected.values())


def test_a_group_joins_what_survivors_do_not() -> None:
    """Neighbours in a chain are one group, whoever survives; what shows nothing of others is in none."""
    rows = [_row("a", packet_digest="p"), _row("b", packet_digest="p", signature=_view(1)), _row("c", signature=_view(1)), _row("d")]
    groups = _found(rows).groups
    assert {"a", "b", "c"} == groups.keys()
    assert 1 == len(set(groups.values()))


def test_a_later_batch_joins_two_older_groups() -> None:
    """A clip that shows what two groups show makes them one, in every row of both; said twice, nothing changes."""
    first = _stated([_row("a", packet_digest="p"), _row("b", packet_digest="p")], [])
    second = _stated([_row("c", signature=_view(1)), _row("d", signature=_view(1), size_bytes=400)], first)
    assert 2 == len({row["near_group"] for row in second})
    bridge = [_row("e", packet_digest="p", signature=_view(1))]
    third = _stated(bridge, second)
    assert 1 == len({row["near_group"] for row in third})
    assert duplicates.Found(survivors={}, groups={}) == _found([row for row in third if row["clip_id"] == "e"], third)


@settings(max_examples=25, deadline=None)
@given(shown=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9), order=st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_batches(shown: list[tuple[int, int]], order: random.Random) -> None:
    """Clips that come one by one, in any order, end up in the groups of the same clips at once; a survivor is in its duplicate's."""
    clips = [_row(f"{at:02d}", packet_digest=f"p{packets}", signature=_view(look)) for at, (packets, look) in enumerate(shown)]
    at_once = {row["clip_id"]: row["near_group"] for row in _stated(clips, [])}
    order.shuffle(clips)
    curated: list[dict[str, Any]] = []
    for clip in clips:
        curated = _stated([clip], curated)
    assert at_once == {row["clip_id"]: row["near_group"] for row in curated}
    assert [] == [row for row in curated if row["duplicate_of"] and at_once[row["duplicate_of"]] != row["near_group"]]


def test_a_group_outlives_the_clip_that_joined_it() -> None:
    """Once the clip between is erased, or measured again as something else, the two others stay together, under a name that tells no id."""
    rows = _stated([_row("a", packet_digest="p"), _row("b", packet_digest="p", signature=_view(1)), _row("c", signature=_view(1))], [])
    left = [row for row in rows if row["clip_id"] != "b"]
    after = _stated(
        [row | {"signature": _view(7)} for row in left if row["clip_id"] == "c"], [row for row in left if row["clip_id"] == "a"]
    )
    names = {row["near_group"] for row in after}
    assert 1 == len(names)
    assert not any(clip_id == name for clip_id in "abc" for name in names)
