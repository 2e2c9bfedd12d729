"""Plots as SVG that need nothing else: numbers in, markup out. Colours are classes of the page, which is light, dark or printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDTH_PX: Final = 300
_LABEL_PX: Final = 100
_COUNT_PX: Final = 52
_BAR_PX: Final = _WIDTH_PX - _LABEL_PX - _COUNT_PX
_ROW_PX: Final = 22
_PLOT_PX: Final = (_WIDTH_PX, 132)
_AXIS_PX: Final = 22
_LABEL_CHARS: Final = 16


def stacked_bars(title: str, counts: Mapping[str, Sequence[int]]) -> str:
    """A row for each value: a bar of its counts side by side, and their sum.

    Args:
        title: what the values are, for whoever cannot see it.
        counts: value -> a count per series, in the order of the classes s0, s1, …
    """
    most = max((sum(each) for each in counts.values()), default=0) or 1
    height = _ROW_PX * max(len(counts), 1) + 4
    drawn = [_svg(title, height)]
    for row, (value, each) in enumerate(counts.items()):
        y, x = row * _ROW_PX, float(_LABEL_PX)
        label = value if len(value) <= _LABEL_CHARS else f"{value[: _LABEL_CHARS - 1]}…"
        drawn.append(f'<text class="label" x="{_LABEL_PX - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>')
        for series, count in enumerate(each):
            width = _BAR_PX * count / most
            if count:
                drawn.append(f'<rect class="s{series % 6}" x="{x:.1f}" y="{y + 4}" width="{max(width, 1):.1f}" height="16"/>')
            x += width
        drawn.append(f'<text class="count" x="{x + 6:.1f}" y="{y + 16}">{sum(each):,}</text>')
    return "".join([*drawn, "</svg>"])


def histogram(title: str, edges: Sequence[float], counts: Sequence[Sequence[int]]) -> str:
    """Bars between the edges, each a stack of its counts; the first, middle and last edge are named.

    Args:
        title: what is measured, for whoever cannot see it.
        edges: ascending, one more than bins.
        counts: a row per series, in the order of the classes s0, s1, …; each a count per bin.
    """
    width, height = _PLOT_PX
    bins = len(edges) - 1
    most = max((sum(one[at] for one in counts) for at in range(bins)), default=0) or 1
    room, step = height - _AXIS_PX - 14, (width - 8) / bins
    drawn = [_svg(title, height)]
    for at in range(bins):
        y = float(height - _AXIS_PX)
        for series, one in enumerate(counts):
            tall = room * one[at] / most
            y -= tall
            if one[at]:
                drawn.append(
                    f'<rect class="s{series % 6}" x="{4 + at * step:.1f}" y="{y:.1f}" width="{step - 1.5:.1f}" height="{tall:.1f}"/>'
                )
    floor = height - _AXIS_PX
    drawn.append(f'<line class="axis" x1="4" x2="{width - 4}" y1="{floor}" y2="{floor}"/>')
    for at, anchor in ((0, "start"), (bins // 2, "middle"), (bins, "end")):
        drawn.append(f'<text class="count" x="{4 + at * step:.1f}" y="{height - 6}" text-anchor="{anchor}">{_axis(edges[at])}</text>')
    drawn.append(f'<text class="count" x="{width - 4}" y="10" text-anchor="end">most in a bar: {most:,}</text>')
    return "".join([*drawn, "</svg>"])


def _svg(title: str, height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH_PX} {height}" role="img"><title>{escape(title)}</title>'


def _axis(value: float) -> str:
    """Three digits at least, and none of a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
