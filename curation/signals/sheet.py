"""A contact sheet: the frames that an inspection looked at, and its signals over time under them, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from curation.signals.picture import Picture

WIDTH_PX: Final = 1280
THUMBS_MAX: Final = 8
_MARGIN_PX: Final = 24
_GAP_PX: Final = 6
_HEAD_PX: Final = 58
_PLOT_PX: Final = 46
_LABEL_PX: Final = 190
_INK: Final = (52, 44, 40)
_FAINT: Final = (160, 152, 148)
_PAPER: Final = (250, 250, 250)
_PANEL: Final = (241, 238, 236)
_LINE: Final = (168, 96, 28)
_VERDICTS: Final[Mapping[str, tuple[int, int, int]]] = {"accepted": (88, 140, 40), "rejected": (48, 48, 200), "quarantined": (0, 132, 214)}
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strip:
    """What one clip shows on the sheet; text in ASCII, for the font knows no other."""

    title: str
    verdict: str
    facts: str
    length_s: float
    pictures: Sequence[tuple[float, Picture]]  # seconds and BGR
    curves: Mapping[str, Sequence[tuple[float, float]]]  # name -> seconds and value


def draw(strip: Strip) -> Picture:
    """The strip as a BGR picture of 1280 px width."""
    thumbs = _thumbs(strip)
    plots = [_plot(name, points, strip.length_s) for name, points in strip.curves.items() if points]
    parts = [_head(strip), thumbs, *plots]
    height = sum(part.shape[0] for part in parts) + _GAP_PX * len(parts) + _MARGIN_PX
    sheet = np.full((height, WIDTH_PX, 3), _PAPER, np.uint8)
    top = 0
    for part in parts:
        sheet[top : top + part.shape[0]] = part
        top += part.shape[0] + _GAP_PX
    return sheet


def stack(strips: Sequence[Picture]) -> Picture:
    """Strips under one another, a line between them."""
    line = np.full((2, WIDTH_PX, 3), _FAINT, np.uint8)
    return np.vstack([part for strip in strips for part in (strip, line)][:-1])


def _head(strip: Strip) -> Picture:
    band = np.full((_HEAD_PX, WIDTH_PX, 3), _PAPER, np.uint8)
    _text(band, strip.title, (_MARGIN_PX, 28), 0.62, _INK)
    colour = _VERDICTS.get(strip.verdict, _INK)
    (width, _), _ = cv2.getTextSize(strip.verdict, _FONT, 0.52, 1)
    left = WIDTH_PX - _MARGIN_PX - width - 20
    cv2.rectangle(band, (left, 10), (WIDTH_PX - _MARGIN_PX, 34), colour, cv2.FILLED, cv2.LINE_AA)
    _text(band, strip.verdict, (left + 10, 27), 0.52, (255, 255, 255))
    _text(band, strip.facts, (_MARGIN_PX, 50), 0.42, _FAINT)
    return band


def _thumbs(strip: Strip) -> Picture:
    every = max(1, -(-len(strip.pictures) // THUMBS_MAX))
    shown = strip.pictures[::every]
    columns = min(THUMBS_MAX, max(4, len(shown)))
    width = (WIDTH_PX - 2 * _MARGIN_PX - _GAP_PX * (columns - 1)) // columns
    scale = min([width / picture.shape[1] for _, picture in shown] + [2 * width / picture.shape[0] for _, picture in shown] + [1.0])
    height = max([round(picture.shape[0] * scale) for _, picture in shown] + [20])
    band = np.full((height, WIDTH_PX, 3), _PAPER, np.uint8)
    for number, (at_s, picture) in enumerate(shown):
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        left = _MARGIN_PX + number * (width + _GAP_PX)
        band[: size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        label = f"{at_s:.1f} s"
        (text_width, _), _ = cv2.getTextSize(label, _FONT, 0.38, 1)
        cv2.rectangle(band, (left, size[1] - 17), (left + text_width + 10, size[1] - 1), _INK, cv2.FILLED)
        _text(band, label, (left + 5, size[1] - 5), 0.38, (255, 255, 255))
    return band


def _plot(name: str, points: Sequence[tuple[float, float]], length_s: float) -> Picture:
    band = np.full((_PLOT_PX, WIDTH_PX, 3), _PAPER, np.uint8)
    left, right = _MARGIN_PX + _LABEL_PX, WIDTH_PX - _MARGIN_PX
    cv2.rectangle(band, (left, 0), (right, _PLOT_PX - 1), _PANEL, cv2.FILLED)
    values = [value for _, value in points]
    low, high = min(values), max(values)
    _text(band, name, (_MARGIN_PX, 19), 0.46, _INK)
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    _text(band, span, (_MARGIN_PX, 37), 0.38, _FAINT)
    reach = max(length_s, points[-1][0] - points[0][0], 1e-6)
    places = np.array(
        [
            (
                left + 8 + (right - left - 16) * min(1.0, (at_s - points[0][0]) / reach),
                _PLOT_PX - 8 - (_PLOT_PX - 16) * (value / high if high > 0 else 0.0),  # from 0 on: what hardly changes looks so
            )
            for at_s, value in points
        ]
    )
    cv2.polylines(band, [np.round(places * 16).astype(np.int32)], isClosed=False, color=_LINE, thickness=1, lineType=cv2.LINE_AA, shift=4)
    for x, y in places:
        cv2.circle(band, (round(x * 16), round(y * 16)), 40, _LINE, cv2.FILLED, cv2.LINE_AA, 4)
    return band


def _text(band: Picture, text: str, place: tuple[int, int], scale: float, colour: tuple[int, int, int]) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(band, ascii_text, place, _FONT, scale, colour, 1, cv2.LINE_AA)
