"""A forecast tells the day from the pace, and says so where there is none."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from curation.residency.counters import Limit, Reservation
from curation.residency.forecast import Forecast, forecast
from curation.residency.pack import CounterRule, Wording
from curation.schema import COUNTED

WORDS = Wording(en="x", zh="x")
DAY = date(2026, 11, 1)


def limit_of(most: int, counts: str = "vehicles", period: str = "lifetime") -> Limit:
    """A limit of a counter with the id `counter.c`."""
    said: dict[str, Any] = {"id": "counter.c", "counts": counts, "period": period, "limit": most, "at_limit": WORDS}
    basis = {"article": "x", "source": "x", "confidence": "U", "reason": WORDS}
    return Limit(rule=CounterRule.model_validate({**said, **basis}), limit=most, assessment=None)


def released(day: date, *vehicles: int, hours: int = 1) -> Reservation:
    """A release of that day, one clip per vehicle."""
    rows = [
        {
            "clip_id": f"{vehicle:064d}",
            "vehicle_id": f"v{vehicle}",
            "person": f"p{vehicle}",
            "is_sensitive": False,
            "place": "CN-SH",
            "captured_day": "2026-10-01",
            "raw_ms": hours * 3_600_000,
            "image_count": 0,
        }
        for vehicle in vehicles
    ]
    return Reservation(release_id=f"{day}", as_of=day, counted=pa.Table.from_pylist(rows, schema=COUNTED))


def one(history: list[Reservation], limit: Limit, today: date) -> Forecast:
    """The only forecast."""
    [found] = forecast(history, [limit], today)
    return found


def test_a_steady_pace_tells_the_days() -> None:
    """A backlog of 10 and then one vehicle a day reach 70, 90 and 100 of 100 on their days."""
    history = [released(DAY, *range(10)), *(released(DAY + timedelta(days=day), 9 + day) for day in range(1, 11))]
    found = one(history, limit_of(100), DAY + timedelta(days=10))
    assert (20, 1.0, "open") == (found.used, found.pace_per_day, found.level)
    assert [DAY + timedelta(days=days) for days in (60, 80, 90)] == [found.warns_on, found.holds_on, found.blocks_on]


def test_hours_have_a_pace_in_hours() -> None:
    """What is summed in milliseconds is told in hours."""
    found = one(
        [released(DAY, 1, hours=5), released(DAY + timedelta(days=4), 2, hours=2)], limit_of(10, "raw_hours"), DAY + timedelta(days=4)
    )
    assert (7, 0.5, "warn") == (found.used, found.pace_per_day, found.level)
    assert (DAY + timedelta(days=4), DAY + timedelta(days=10)) == (found.warns_on, found.blocks_on)


@pytest.mark.parametrize(
    ("history", "period", "why"),
    [
        ([], "lifetime", "no history: nothing was released yet"),
        ([released(date(2025, 12, 1), 1), released(date(2025, 12, 8), 2)], "calendar_year", "no history: nothing was released this year"),
        ([released(DAY, 1), released(DAY, 2)], "lifetime", "no history: all releases are of one day, 2026-11-01"),
    ],
)
def test_without_history_no_day_is_made_up(history: list[Reservation], period: str, why: str) -> None:
    """None or one day of releases has no pace, and the forecast says so."""
    found = one(history, limit_of(100, period=period), DAY + timedelta(days=9))
    assert (why, None, None, None) == (found.unmeasured, found.pace_per_day, found.holds_on, found.blocks_on)


def test_what_is_reached_is_reached_today_whatever_the_pace() -> None:
    """A mark that the counter passed already is told as of today, with or without a pace."""
    found = one([released(DAY, *range(9))], limit_of(10), DAY)
    assert (DAY, DAY, None, "hold") == (found.warns_on, found.holds_on, found.blocks_on, found.level)


def test_a_year_ends_before_a_mark_that_lies_in_the_next() -> None:
    """A counter that begins anew on 1 January is not told to block later than that; one for life is."""
    history = [released(DAY, 1), released(DAY + timedelta(days=10), 2)]
    today = DAY + timedelta(days=10)
    assert one(history, limit_of(100, period="calendar_year"), today).blocks_on is None
    assert date(2029, 7, 18) == one(history, limit_of(100), today).blocks_on


def test_a_counter_that_stands_still_reaches_nothing() -> None:
    """Releases of the same vehicle again add nothing."""
    found = one([released(DAY, 1), released(DAY + timedelta(days=10), 1)], limit_of(100), DAY + timedelta(days=10))
    assert (0.0, None, None) == (found.pace_per_day, found.unmeasured, found.blocks_on)
