"""How a picture is laid before a model that looks at one working size: whole, and in overlapping tiles where it is larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Final

import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import Box, Boxes

OVERLAP: Final = 0.2  # of the working size: what is larger than this is seen whole in the picture as a whole
_EDGE_PX: Final = 2.0  # how near to a cut a box counts as cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A part of the picture, and how many pixels the model sees for each of its pixels; what is smaller than `least_px` does not count."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    zoom: float
    least_px: float = 0.0


def looks(
    picture_width_px: int,
    picture_height_px: int,
    *,
    width_px: int,
    height_px: int,
    max_zoom: float = 1.0,
    coarser: Sequence[float] = (),
    coarser_from_px: float = 0.0,
) -> tuple[Look, ...]:
    """The looks at a picture that together see all of it: the whole of it first, then its tiles at full resolution, row by row.

    Args:
        picture_width_px: of the picture, as its height.
        picture_height_px: see there.
        width_px: the working size; a portrait picture is looked at with the working size turned.
        height_px: see there.
        max_zoom: by how much a picture smaller than the working size is enlarged.
        coarser: fractions of the whole's zoom at which the whole is looked at again.
        coarser_from_px: the shorter side, as the model sees it, from which something counts in these.
    """
    if (picture_width_px < picture_height_px) != (width_px < height_px):
        width_px, height_px = height_px, width_px
    fit = min(width_px / picture_width_px, height_px / picture_height_px)
    zoom, all_of_it = min(fit, max_zoom), {"x_px": 0, "y_px": 0, "width_px": picture_width_px, "height_px": picture_height_px}
    coarse = [Look(**all_of_it, zoom=zoom * part, least_px=coarser_from_px / (zoom * part)) for part in coarser]
    whole = [Look(**all_of_it, zoom=zoom), *coarse]
    if fit >= 1 / (1 + OVERLAP):  # so little larger that tiles would show nothing new
        return tuple(whole)
    columns, rows = _starts(picture_width_px, width_px), _starts(picture_height_px, height_px)
    wide, high = min(width_px, picture_width_px), min(height_px, picture_height_px)
    return (*whole, *(Look(x_px=x, y_px=y, width_px=wide, height_px=high, zoom=1.0) for y in rows for x in columns))


def _starts(length_px: int, tile_px: int) -> list[int]:
    """Where tiles begin, evenly spread, so that neighbours share `OVERLAP` of a tile or more."""
    if length_px <= tile_px:
        return [0]
    count = ceil((length_px - tile_px * OVERLAP) / (tile_px * (1 - OVERLAP)))
    return [round(start) for start in np.linspace(0, length_px - tile_px, count)]


def cut_to(every: Sequence[Look], part: Box) -> tuple[Look, ...]:
    """The parts of looks that lie within a part of the picture, at the looks' own zoom; a look that has none is left out."""
    x, y, width, height = part
    cut = []
    for look in every:
        left, top = max(look.x_px, floor(x)), max(look.y_px, floor(y))
        right, bottom = min(look.x_px + look.width_px, ceil(x + width)), min(look.y_px + look.height_px, ceil(y + height))
        if right > left and bottom > top:
            cut.append(replace(look, x_px=left, y_px=top, width_px=right - left, height_px=bottom - top))
    return tuple(cut)


def uncut(boxes: Boxes, look: Look, picture_width_px: int, picture_height_px: int) -> npt.NDArray[np.bool_]:
    """Which boxes of a look, in pixels of the picture, are not cut off by an edge that the picture itself does not have.

    What a tile cuts off is seen whole by its neighbour, or in the whole picture.
    """
    right, bottom = look.x_px + look.width_px, look.y_px + look.height_px
    is_cut = np.zeros(len(boxes), np.bool_)
    if look.x_px > 0:
        is_cut |= boxes[:, 0] <= look.x_px + _EDGE_PX
    if look.y_px > 0:
        is_cut |= boxes[:, 1] <= look.y_px + _EDGE_PX
    if right < picture_width_px:
        is_cut |= boxes[:, 0] + boxes[:, 2] >= right - _EDGE_PX
    if bottom < picture_height_px:
        is_cut |= boxes[:, 1] + boxes[:, 3] >= bottom - _EDGE_PX
    return ~is_cut
