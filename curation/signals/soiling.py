"""Parts of the picture that stay flat while the scene moves: a covered, dirty or misted lens.

A sky is flat as well, but it is no more than the upper part of a road's picture: what is judged is how much stays flat in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.signals.picture import Picture, tile_means

COLUMNS: Final = 16
ROWS: Final = 9
LOOKS_MIN: Final = 2
DARK_BELOW: Final = 32.0
Tiles = npt.NDArray[np.float32]  # ROWS x COLUMNS


@dataclass(frozen=True, slots=True, eq=False)
class TileLook:
    """What each tile of one picture shows."""

    gradient: Tiles  # mean step between neighbouring pixels, luma
    luma: Tiles  # mean


def tile_look(luma: Picture) -> TileLook:
    """The tiles of a height x width luma of at least 16 x 9 px.

    Raises:
        ValueError: the picture is smaller.
    """
    if luma.shape[0] < ROWS or luma.shape[1] < COLUMNS:
        raise ValueError(f"tiles need {COLUMNS} x {ROWS} px or more, not {luma.shape[1]} x {luma.shape[0]}")
    across = cv2.absdiff(luma[:-1, 1:], luma[:-1, :-1])
    down = cv2.absdiff(luma[1:, :-1], luma[:-1, :-1])
    gradient = tile_means(cv2.max(across, down), columns=COLUMNS, rows=ROWS)
    return TileLook(gradient=gradient, luma=tile_means(luma, columns=COLUMNS, rows=ROWS))


def soiled_ratio(
    looks: Sequence[TileLook], *, flat_below: float = 0.35, steady_below: float = 2.5, moving_min: float = 0.1
) -> float | None:
    """Share of the tiles, in [0, 1], that were flat in every look and kept their brightness while others changed theirs.

    None where fewer than two looks are given, where half of the tiles are dark (at night flat ground is all there is to see), or
    where less than `moving_min` of the tiles changed: then nothing tells dirt from a view that stands.

    Args:
        looks: tiles of pictures of one clip, moments apart.
        flat_below: a tile is flat below this mean gradient, luma.
        steady_below: a tile is steady while its mean luma spans less than this.
        moving_min: share of the tiles that must change by `steady_below` or more.
    """
    if len(looks) < LOOKS_MIN:
        return None
    gradient = np.max([look.gradient for look in looks], axis=0)
    lumas = np.stack([look.luma for look in looks])
    if np.median(lumas) < DARK_BELOW:
        return None
    changed = lumas.max(axis=0) - lumas.min(axis=0) >= steady_below
    if changed.mean() < moving_min:
        return None
    return float(((gradient < flat_below) & ~changed).mean())
