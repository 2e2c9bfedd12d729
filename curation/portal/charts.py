"""Charts as inline SVG: numbers in, markup out. Each names what it shows in `title`; the figures stand in a table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from markupsafe import Markup

_WIDTH: Final = 1000.0
_BAR: Final = 20
_GAP: Final = 3.0
_COLUMNS_WIDTH: Final = 840
_COLUMNS_HEIGHT: Final = 190
_PLOT_TOP: Final = 14
_PLOT_HEIGHT: Final = 140
_LEFT: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a whole: its name as shown, its size, and the tone (a CSS class `tone-…`) that it is drawn in."""

    name: str
    size: int
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One colour of a column chart: a value per group."""

    name: str
    values: Sequence[int]
    tone: str


def stacked_bar(parts: Sequence[Part], title: str) -> Markup:
    """A bar whose parts together are its whole length; nothing where all are 0. Parts too thin to see are drawn one gap wide."""
    sized = [part for part in parts if part.size > 0]
    total = sum(part.size for part in sized)
    if not total:
        return Markup()
    room = _WIDTH - _GAP * (len(sized) - 1)
    drawn, x = list[Markup](), 0.0
    for part in sized:
        width = max(_GAP, room * part.size / total)
        drawn.append(
            Markup('<rect class="tone-{}" x="{:.1f}" y="0" width="{:.1f}" height="{}"><title>{}: {:,}</title></rect>').format(
                part.tone, x, width, _BAR, part.name, part.size
            )
        )
        x += width + _GAP
    return _svg("bar", f"0 0 {max(x - _GAP, 1):.1f} {_BAR}", title, drawn, stretched=True)


def marked_bar(used: int, limit: int, marks: Sequence[tuple[float, str]], *, tone: str, title: str) -> Markup:
    """How much of a limit is used, with a line at each mark.

    Args:
        used: what is counted; drawn full at the limit and over.
        limit: the whole bar.
        marks: share of the limit in [0, 1] and name of each mark.
        tone: of what is used.
        title: what the bar shows.
    """
    share = min(1.0, used / limit) if limit > 0 else 1.0
    drawn = [Markup('<rect class="track" x="0" y="4" width="{:.0f}" height="{}"/>').format(_WIDTH, _BAR - 8)]
    if used > 0:
        width = max(_GAP, share * _WIDTH)
        drawn.append(Markup('<rect class="tone-{}" x="0" y="4" width="{:.1f}" height="{}"/>').format(tone, width, _BAR - 8))
    drawn += [
        Markup('<rect class="mark" x="{:.1f}" y="0" width="2" height="{}"><title>{}</title></rect>').format(
            min(at, 1.0) * _WIDTH - 2 * (at >= 1.0), _BAR, name
        )
        for at, name in marks
    ]
    return _svg("bar", f"0 0 {_WIDTH:.0f} {_BAR}", title, drawn, stretched=True)


def validity_bar(start: date, end: date, today: date, *, tone: str, title: str) -> Markup:
    """The days from `start` to `end`, what is over of them, and a line at today; the line stands at an end where today lies outside."""
    days = max(1, (end - start).days + 1)
    share = min(1.0, max(0.0, ((today - start).days + 0.5) / days))
    drawn = [
        Markup('<rect class="track" x="0" y="4" width="{:.0f}" height="{}"/>').format(_WIDTH, _BAR - 8),
        Markup('<rect class="tone-{}" x="{:.1f}" y="4" width="{:.1f}" height="{}"/>').format(
            tone, share * _WIDTH, _WIDTH * (1 - share), _BAR - 8
        ),
        Markup('<rect class="mark strong" x="{:.1f}" y="0" width="4" height="{}"><title>{}</title></rect>').format(
            min(share * _WIDTH, _WIDTH - 4), _BAR, today.isoformat()
        ),
    ]
    return _svg("bar", f"0 0 {_WIDTH:.0f} {_BAR}", title, drawn, stretched=True)


def day_columns(days: Sequence[date], series: Sequence[Series], title: str) -> Markup:
    """Columns side by side for each day, a line at the largest value; nothing where all are 0."""
    top = max((value for one in series for value in one.values), default=0)
    if not top:
        return Markup()
    step = (_COLUMNS_WIDTH - _LEFT) / len(days)
    width = step * 0.72 / len(series)
    base = _PLOT_TOP + _PLOT_HEIGHT
    drawn = [_level(top, 1.0), _level(top // 2, (top // 2) / top), _level(0, 0.0)] if top > 1 else [_level(top, 1.0), _level(0, 0.0)]
    for index, day in enumerate(days):
        left = _LEFT + index * step
        for place, one in enumerate(series):
            height = one.values[index] / top * _PLOT_HEIGHT
            if height:
                box = Markup('class="tone-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1.5"').format(
                    one.tone, left + step * 0.14 + place * width, base - height, width * 0.9, height
                )
                drawn.append(Markup("<rect {}><title>{} {}: {:,}</title></rect>").format(box, day, one.name, one.values[index]))
        drawn.append(Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{:%m-%d}</text>').format(left + step / 2, base + 20, day))
    return _svg("columns", f"0 0 {_COLUMNS_WIDTH} {_COLUMNS_HEIGHT}", title, drawn)


def _level(value: int, share: float) -> Markup:
    y = _PLOT_TOP + _PLOT_HEIGHT * (1 - share)
    return Markup(
        '<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" text-anchor="end">{:,}</text>'
    ).format(_LEFT, _COLUMNS_WIDTH, y, y, _LEFT - 8, y + 4, value)


def _svg(kind: str, view_box: str, title: str, drawn: Sequence[Markup], *, stretched: bool = False) -> Markup:
    stretch = Markup(' preserveAspectRatio="none"') if stretched else Markup()
    return Markup('<svg class="chart {}" viewBox="{}"{} role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        kind, view_box, stretch, title, title, Markup().join(drawn)
    )
