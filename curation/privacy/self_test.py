"""Numbers read off a model's outputs on a fixed picture: a runtime that computes something else than the model says is found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

WIDTH_PX: Final = 256
HEIGHT_PX: Final = 192
TOLERANCE: Final = 2e-4  # of the largest number of an output: four digits are kept, and OpenCV is off by 6e-6 where it computes the same
_SAMPLES: Final = 7


def picture(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> npt.NDArray[np.uint8]:
    """The fixed BGR picture, height x width x 3: edges and gradients at several scales, the same on every machine."""
    row, column = np.indices((height_px, width_px))
    blue = (column * 3 + row * row // 7) % 256
    green = ((column // 16 + row // 12) % 2) * 180 + (row * 5) % 64
    red = (column * row // 11 + 90) % 256
    return np.stack([blue, green, red], axis=-1).astype(np.uint8)


_GLYPHS: Final = {  # 5 x 7 pixels, a row in five bits from the left
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30), "8": (14, 17, 17, 14, 17, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 6, 8, 16, 31), "E": (31, 16, 16, 30, 16, 16, 31), "5": (31, 16, 30, 1, 1, 17, 14),
}  # fmt: skip


def writing(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> npt.NDArray[np.uint8]:
    """The fixed BGR picture with a line of characters over it, dark on light: models that look for text give nothing on the other one."""
    drawn = picture(width_px, height_px) // 4 + 190
    scale = max(1, min(height_px // 10, width_px // 44))
    top, left = (height_px - 7 * scale) // 2, (width_px - 42 * scale) // 2
    for place, name in enumerate("AB8125E"):
        bits = np.asarray([[row >> (4 - column) & 1 for column in range(5)] for row in _GLYPHS[name]], np.bool_)
        glyph = bits.repeat(scale, axis=0).repeat(scale, axis=1)
        x = left + place * 6 * scale
        drawn[top : top + 7 * scale, x : x + 5 * scale][glyph] = 20
    return drawn.astype(np.uint8)


def numbers(output: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """Mean, standard deviation, least, largest, and 7 values spread evenly over the output, in this order."""
    flat = np.asarray(output, np.float64).ravel()
    spread = flat[np.linspace(0, flat.size - 1, _SAMPLES).astype(np.intp)]
    return tuple(float(f"{value:.4g}") for value in (flat.mean(), flat.std(), flat.min(), flat.max(), *spread))


def differing(found: Mapping[str, npt.NDArray[np.float32]], expected: Mapping[str, Sequence[float]]) -> str | None:
    """What is not as it was written down, in words; None where all of it is.

    Every output that is written down must be there, with every number within `TOLERANCE` of the largest one of it.
    """
    for name, wanted in expected.items():
        if name not in found:
            return f"output {name} is missing; there are {', '.join(sorted(found))}"
        read = numbers(found[name])
        if len(read) != len(wanted):
            return f"output {name} gives {len(read)} numbers, {len(wanted)} are written down"
        off = np.abs(np.subtract(read, wanted)).max() / max(np.abs(wanted).max(), 1e-9)
        if not off <= TOLERANCE:  # not-a-number is no agreement
            return f"output {name} is off by {off:.2g} of its largest number"
    return None
