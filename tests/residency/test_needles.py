"""Needles: the same shapes as spelt value by value, found wherever they stand, in memory that does not grow with the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.residency import needles
from curation.residency.needles import Hay, HomeTable, Stretches, search

Row = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = st.text(alphabet="0af-Z.浙ßİıK\n", max_size=12) | st.sampled_from(["clear", "Clear", "LRWMUZFYEAML00001", "x" * 40])  # noqa: RUF001 - letters whose case changes their number
NUMBERS = (
    st.floats()
    | st.integers(0, 10**8).map(lambda number: number * 1e-5)
    | st.integers(0, 10**6).map(lambda number: (number + 0.5) / 1e4)
    | st.sampled_from([31.24595, 0.00004999995, 8796.09302221, 99999.99999, -0.0])
)
TIMES = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone


def _spelt(value: Any) -> Iterator[bytes]:
    """The shapes of one value, as the gate's promise has them."""
    if isinstance(value, str):
        yield from (shape.encode() for shape in (value, value.lower(), value.upper(), value[::-1]))
    elif isinstance(value, float) and math.isfinite(value):
        text = f"{abs(value):.9f}".rstrip("0")
        if len(text.partition(".")[2]) >= 4:
            yield from (text[: text.index(".") + 5].encode(), f"{abs(value):.4f}".encode(), np.float64(value).tobytes())
    elif isinstance(value, datetime):
        for at in (value, value + timedelta(hours=8)):
            yield from (at.strftime(shape).encode() for shape in ("%Y-%m-%dT%H", "%Y-%m-%d %H", "%Y%m%dT%H", "%Y%m%d%H%M", "%Y%m%d_%H%M"))
        since_us = (value - EPOCH) // timedelta(microseconds=1)
        yield str(since_us // 10**6).encode()
        yield from (np.int64(scaled).tobytes() for scaled in (since_us, since_us // 1000, since_us * 1000))


@pytest.mark.parametrize(
    ("strategy", "kind"), [(TEXTS, pa.string()), (NUMBERS, pa.float64()), (TIMES, pa.timestamp("us", tz="UTC"))], ids=str
)
def test_shapes_are_those_spelt_value_by_value(strategy: st.SearchStrategy[Any], kind: pa.DataType) -> None:
    """Columns at once give exactly what Python gives for each value: long enough, and no word of a release."""

    @settings(max_examples=30, deadline=None)
    @given(st.lists(strategy, max_size=8))
    def same(raw: list[Any]) -> None:
        words = pa.array([b"clear"], pa.binary())
        shapes = [needles._values("x", shape) for shape in needles._shapes(pa.chunked_array([pa.array(raw, kind)]), words)]
        found = {values.at(index) for values in shapes for index in range(len(values.lengths))}
        assert {shape for value in raw for shape in _spelt(value) if len(shape) >= 5 and shape != b"clear"} == found

    same()


def _search(home: pa.Table, one: needles.Search) -> tuple[str, str] | None:
    return search(HomeTable(home), [one], emitted=[], vocabulary=[])


@pytest.fixture
def home(clips: Callable[..., pa.Table], clip_row: Callable[..., Row]) -> pa.Table:
    """Nine clips."""
    return clips(*(clip_row(number) for number in range(9)))


def test_every_slice_of_the_home_table_is_searched_for(home: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table larger than what is held at once loses no row, the last included."""
    monkeypatch.setattr(needles, "_ROWS", 2)
    for vin in home.column("vin").to_pylist():
        assert _search(home, Hay("here", vin.encode(), home, alphabet=0)) == ("here", "vin")


def test_more_candidates_than_are_kept_are_all_compared(home: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hay that holds the ends of many needles is compared again and again, and the whole one is found."""
    monkeypatch.setattr(needles, "_MAX_CANDIDATES", 0)
    assert _search(home, Hay("here", b"LRWMU, YEAML, 00003, LRWMUZFYEAML00003", home, alphabet=0)) == ("here", "vin")


def test_ends_alone_are_no_needle(home: pa.Table) -> None:
    """First, middle and last bytes may stand apart without the value standing there."""
    assert _search(home, Hay("here", b"LRWMU, UZFYEA, FYEAM, 00003, 0001", home, alphabet=0)) is None


def test_nothing_is_found_across_lines(home: pa.Table, clips: Callable[..., pa.Table], clip_row: Callable[..., Row]) -> None:
    """A value with a newline stands in bytes, and not in two neighbouring cells."""
    broken = clips(clip_row(1, camera="front\nrear"))
    assert _search(broken, Hay("here", b"front\nrear", broken, alphabet=0, is_lines=True)) is None
    assert _search(broken, Hay("here", b"front\nrear", broken, alphabet=0)) == ("here", "camera")


def test_long_needles_are_compared_in_full(clips: Callable[..., pa.Table], clip_row: Callable[..., Row]) -> None:
    """Beyond the bytes by which needles are told apart, every byte still counts."""
    long = clips(clip_row(1, error="decoder said " + "x" * 9000 + "!"))
    assert _search(long, Hay("here", b"decoder said " + b"x" * 9000 + b"!", long, alphabet=256)) == ("here", "error")
    assert _search(long, Hay("here", b"decoder said " + b"x" * 9000 + b"?", long, alphabet=256)) is None


def test_any_stretch_of_a_longer_value_is_found(home: pa.Table) -> None:
    """An id that was cut from anywhere in a clip's address is found, one that was not is none."""
    clip_id = home.column("clip_id")[4].as_py()
    for begin in (0, 1, 17, 32):
        assert _search(home, Stretches("ids", ["f" * 32, clip_id[begin : begin + 32]])) == ("ids", "clip_id")
    assert _search(home, Stretches("ids", ["f" * 32])) is None
    assert _search(home, Stretches("ids", [])) is None


def test_an_empty_home_table_or_hay_holds_nothing(home: pa.Table) -> None:
    """No rows, no needles; no bytes, nothing found."""
    assert _search(home.slice(0, 0), Hay("here", b"LRWMUZFYEAML00003", home, alphabet=0)) is None
    assert _search(home, Hay("here", b"", home, alphabet=256)) is None
