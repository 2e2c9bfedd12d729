"""When each counter will be reached at the pace so far; without a pace it says so instead of guessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import pyarrow as pa

from curation.residency.counters import HOLD_TENTHS, WARN_TENTHS, Level, Limit, Reservation, amount, level_of, unit_of, used
from curation.residency.pack import Counted, Period

_FAR: Final = 100 * 366  # days; a date further away than that tells nobody anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where a counter stands, and the first days on which it will warn, hold and block; None for a day that cannot be told, or never comes.

    `used` is in whole units begun, `pace_per_day` in units. `unmeasured` says why there is no pace.
    """

    counter: str
    counts: Counted
    period: Period
    used: int
    limit: int
    level: Level
    assessment: str | None
    pace_per_day: float | None
    unmeasured: str | None
    warns_on: date | None
    holds_on: date | None
    blocks_on: date | None


def forecast(reservations: Sequence[Reservation], limits: Sequence[Limit], today: date) -> tuple[Forecast, ...]:
    """One forecast per counter. The pace is what came after the first day of releases, over the days since; the first may be a backlog.

    Args:
        reservations: every release that was ever cut.
        limits: today's.
        today: the day in Asia/Shanghai.
    """
    return tuple(_one(reservations, one, today) for one in limits)


def _one(reservations: Sequence[Reservation], one: Limit, today: date) -> Forecast:
    counts, unit = one.rule.counts, unit_of(one.rule.counts)
    period = [each for each in reservations if one.rule.period == "lifetime" or each.as_of.year == today.year]
    now = amount(counts, used(period, one.rule, today))
    pace, problem = _pace(period, one, now, today)
    marks = {"warns_on": WARN_TENTHS, "holds_on": HOLD_TENTHS, "blocks_on": 10}
    days = {name: _reached(now * 10, tenths * one.limit * unit, pace, one.rule.period, today) for name, tenths in marks.items()}
    return Forecast(
        counter=one.rule.id,
        counts=counts,
        period=one.rule.period,
        used=-(-now // unit),
        limit=one.limit,
        level=level_of(now, one.limit * unit),
        assessment=one.assessment,
        pace_per_day=None if pace is None else pace / unit,
        unmeasured=problem,
        **days,
    )


def _pace(period: Sequence[Reservation], one: Limit, now: int, today: date) -> tuple[float | None, str | None]:
    """What was added per day in smallest units, or why that is not known."""
    days = sorted({each.as_of for each in period})
    if not days:
        return None, "no history: nothing was released " + ("yet" if one.rule.period == "lifetime" else "this year")
    elapsed_days = (today - days[0]).days
    if len(days) < 2 or elapsed_days < 1:
        return None, f"no history: all releases are of one day, {days[0]}"
    first = pa.concat_tables([each.counted for each in period if each.as_of == days[0]])
    return (now - amount(one.rule.counts, first)) / elapsed_days, None


def _reached(now_tenths: int, mark_tenths: int, pace: float | None, period: Period, today: date) -> date | None:
    """The first day on which the counter stands at the mark: today where it does already, None where no day can be told."""
    if now_tenths >= mark_tenths:
        return today
    if not pace or (mark_tenths - now_tenths) / (pace * 10) > _FAR:
        return None
    day = today + timedelta(days=-int(-(mark_tenths - now_tenths) // (pace * 10)))
    return None if period == "calendar_year" and day.year != today.year else day
