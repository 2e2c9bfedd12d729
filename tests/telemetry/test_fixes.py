"""Which positions are believed: each is a fix, or counted under the one reason that speaks against it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import NotConserved
from curation.records import Track
from curation.telemetry.fixes import QUALITIES, REASONS, Seen, believe, timed
from curation.telemetry.reading import read_fields

GOOD = {"offset_s": 0.0, "latitude_deg": 31.2304, "longitude_deg": 121.4737, "speed_mps": 10.0, "quality": "3d"}
AT = datetime(2026, 9, 1, tzinfo=UTC)


def test_a_good_position_is_a_fix() -> None:
    """Nothing speaks against it, and nothing of it is lost."""
    belief = believe([Seen(**GOOD, at=AT)])
    assert ({}, {}) == (belief.disbelieved, belief.malformed)
    (fix,) = belief.fixes
    assert (0.0, AT, 31.2304, 121.4737, 10.0, "3d") == (
        fix.offset_s, fix.at, fix.latitude_deg, fix.longitude_deg, fix.speed_mps, fix.quality,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"quality": "none"}, "no fix"),
        ({"quality": "simulated"}, "simulated"),
        ({"latitude_deg": None}, "no position"),
        ({"longitude_deg": math.nan}, "no position"),
        ({"latitude_deg": 90.1}, "off the globe"),
        ({"longitude_deg": math.inf}, "off the globe"),
        ({"latitude_deg": 0.0, "longitude_deg": -0.0}, "0/0"),
        ({"latitude_deg": 1e-7, "longitude_deg": 1e-7}, "0/0"),
        ({"at": datetime(2000, 1, 1, tzinfo=UTC)}, "clock"),
        ({"at": datetime(1980, 1, 6, tzinfo=UTC)}, "clock"),
        ({"at": datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)}, "clock"),
        ({"at": datetime(2036, 2, 7, tzinfo=UTC)}, "clock"),
        ({"offset_s": None}, "no time"),
        ({"offset_s": math.nan}, "no time"),
    ],
)
def test_an_absurd_position_is_said_and_not_believed(changed: dict[str, object], reason: str) -> None:
    """Each absurdity has its reason; positions around it stand."""
    belief = believe([Seen(**GOOD), Seen(**(GOOD | changed)), Seen(**GOOD)])
    assert (2, {reason: 1}) == (len(belief.fixes), belief.disbelieved)


def _at(second: float, longitude_deg: float) -> Seen:
    return Seen(offset_s=second, latitude_deg=31.0, longitude_deg=longitude_deg)


def test_a_jump_there_and_back_is_left_out() -> None:
    """One position 100 km off between others is not believed; those before and after it are one way."""
    belief = believe([_at(0, 121.0), _at(1, 121.0001), _at(2, 122.0), _at(3, 121.0003)])
    assert ({"jump": 1}, [121.0, 121.0001, 121.0003]) == (belief.disbelieved, [fix.longitude_deg for fix in belief.fixes])


def test_without_a_majority_nobody_is_believed() -> None:
    """Two halves that contradict each other: neither is taken for the truth."""
    belief = believe([_at(0, 121.0), _at(1, 121.0), _at(2, 100.0), _at(3, 100.0)])
    assert ((), {"jump": 4}) == (belief.fixes, belief.disbelieved)


def test_time_that_runs_back_is_a_jump() -> None:
    """A position of an earlier time than the one before it belongs to no one way with it."""
    belief = believe([_at(0, 121.0), _at(1, 121.0), _at(2, 121.0), _at(-3600, 121.0)])
    assert (3, {"jump": 1}) == (len(belief.fixes), belief.disbelieved)


def test_a_speed_that_no_car_reaches_is_no_speed() -> None:
    """The place stands, the speed is None and counted."""
    belief = believe([Seen(**(GOOD | {"speed_mps": 151.0})), Seen(**(GOOD | {"speed_mps": math.nan}))])
    assert ([None, None], {"speed": 2}) == ([fix.speed_mps for fix in belief.fixes], belief.malformed)


def test_offsets_begin_with_the_first_fix_where_asked_and_never_before_the_clip() -> None:
    """A file beside a clip begins with it; a stream that begins before the picture does is shifted."""
    assert [0.0, 1.0] == [fix.offset_s for fix in believe([_at(5, 121.0), _at(6, 121.0)], from_first=True).fixes]
    assert [5.0, 6.0] == [fix.offset_s for fix in believe([_at(5, 121.0), _at(6, 121.0)]).fixes]
    assert [0.0, 1.0] == [fix.offset_s for fix in believe([_at(-0.5, 121.0), _at(0.5, 121.0)]).fixes]


def test_times_count_from_the_first_that_can_be_believed() -> None:
    """An unset clock at the beginning is not where time begins."""
    where = {"offset_s": None, "latitude_deg": 31.0, "longitude_deg": 121.0}
    found = timed([Seen(**where, at=datetime(2000, 1, 1, tzinfo=UTC)), Seen(**where, at=AT), Seen(**where, at=AT + timedelta(seconds=2))])
    assert [0.0, 2.0] == [one.offset_s for one in found[1:]]
    assert timed([Seen(**where)])[0].offset_s is None


def test_a_track_accounts_for_every_position() -> None:
    """A Track that lost a position cannot be made."""
    with pytest.raises(NotConserved, match="3 positions seen, 1 accounted for"):
        Track(source="gpx", seen_count=3, disbelieved={"0/0": 1})


NUMBER = st.one_of(st.none(), st.floats(), st.floats(-200, 200))
SEEN = st.builds(
    Seen,
    offset_s=st.one_of(st.none(), st.floats()),
    at=st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
    latitude_deg=NUMBER,
    longitude_deg=NUMBER,
    speed_mps=NUMBER,
    quality=st.sampled_from([*QUALITIES, "none", "simulated", "?"]),
)


@settings(deadline=None)
@given(seen=st.lists(SEEN, max_size=12), from_first=st.booleans())
def test_any_positions_are_believed_or_counted(seen: list[Seen], *, from_first: bool) -> None:
    """Whatever a file holds: no error, no position lost, no fix off the globe or before the clip, no reason without a name."""
    belief = believe(seen, from_first=from_first)
    assert len(seen) == len(belief.fixes) + sum(belief.disbelieved.values())
    assert set(belief.disbelieved) <= set(REASONS)
    for fix in belief.fixes:
        assert abs(fix.latitude_deg) <= 90
        assert abs(fix.longitude_deg) <= 180
        assert 0 <= fix.offset_s < math.inf
        assert fix.speed_mps is None or 0 <= fix.speed_mps <= 150
        assert fix.quality in QUALITIES


@pytest.mark.parametrize("year", [1970, 1980, 2000, 2004, 2036, 2038, 2099])
def test_an_unset_clock_is_no_time_in_a_sidecar_either(year: int) -> None:
    """One rule for all clocks: the fleet's row loses the time alone, and the key is counted."""
    reading = read_fields({"captured_at": f"{year}-01-19T03:14:07Z", "plate": "x"}, clock="fleet.csv")
    assert (None, "x", {"captured_at": 1}) == (reading.telemetry.captured_at, reading.telemetry.plate, reading.malformed)
