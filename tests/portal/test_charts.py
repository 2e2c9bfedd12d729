"""Charts: figures in, markup out, drawn to scale and named."""

from __future__ import annotations

import re
from datetime import date, timedelta

from curation.portal.charts import Part, Series, day_columns, marked_bar, stacked_bar, validity_bar


def widths(svg: str) -> list[float]:
    """Widths of all boxes."""
    return [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]


def test_parts_fill_the_bar_in_proportion():
    """A third and two thirds; a part of nothing is not drawn; nothing at all is no chart."""
    svg = str(
        stacked_bar([Part(name="a", size=1, tone="good"), Part(name="b", size=2, tone="bad"), Part(name="c", size=0, tone="odd")], "t")
    )
    left, right = widths(svg)
    assert abs(right / left - 2) < 0.01
    assert "c: 0" not in svg
    assert "" == stacked_bar([Part(name="a", size=0, tone="good")], "t")


def test_a_part_too_thin_to_see_is_still_drawn():
    """One in a million has a width."""
    assert min(widths(str(stacked_bar([Part(name="a", size=1, tone="good"), Part(name="b", size=10**6, tone="bad")], "t")))) >= 1


def test_names_cannot_leave_their_place():
    """What a chart is told is escaped wherever it stands."""
    hostile = "\"><script>alert('1')</script>"
    day = date(2026, 1, 1)
    drawn = (
        stacked_bar([Part(name=hostile, size=1, tone="good")], hostile),
        marked_bar(1, 2, [(0.5, hostile)], tone="good", title=hostile),
        validity_bar(day, day, day, tone="good", title=hostile),
        day_columns([day], [Series(name=hostile, values=[1], tone="good")], hostile),
    )
    assert not [svg for svg in drawn if "<script" in svg or '">' + "<s" in svg]
    assert all("&lt;script&gt;" in svg for svg in drawn)


def test_a_limit_is_full_when_it_is_reached_and_over():
    """Half, whole and twice the limit; a limit of nothing is full."""
    used = [widths(str(marked_bar(amount, 100, [], tone="good", title="t")))[1] for amount in (50, 100, 200)]
    assert [500.0, 1000.0, 1000.0] == used
    assert 1000.0 == widths(str(marked_bar(1, 0, [], tone="good", title="t")))[1]
    assert 1 == len(widths(str(marked_bar(0, 100, [], tone="good", title="t"))))


def test_what_is_left_of_a_validity_shrinks_to_nothing():
    """Before, within and after its days."""
    start, end = date(2026, 1, 1), date(2026, 12, 31)
    left = [
        widths(str(validity_bar(start, end, day, tone="good", title="t")))[1]
        for day in (date(2025, 1, 1), date(2026, 7, 2), date(2027, 5, 1))
    ]
    assert (1000.0, 0.0) == (left[0], left[2])
    assert 490 < left[1] < 510


def test_days_stand_side_by_side_with_their_largest_value():
    """Every day is named, the largest value is a line of its own, a day of nothing has no column."""
    days = [date(2026, 11, 8) + timedelta(days=number) for number in range(14)]
    svg = str(day_columns(days, [Series(name="in", values=[0] * 13 + [1234], tone="good")], "t"))
    assert 1 == len(widths(svg))
    assert "1,234" in svg
    assert "11-08" in svg
    assert "" == day_columns(days, [Series(name="in", values=[0] * 14, tone="good")], "t")
