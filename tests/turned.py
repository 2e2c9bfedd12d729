"""Clips that ask players to be turned."""

from __future__ import annotations

import struct
from pathlib import Path

_MATRIX_AT = 44  # of a track header of version 0: behind its name, version, times, id, duration, layer and volume
_ONE = 1 << 16
_AGAINST_THE_CLOCK = {1: (0, -_ONE, _ONE, 0), 2: (-_ONE, 0, 0, -_ONE), 3: (0, _ONE, -_ONE, 0)}


def turned(clip: Path, target: Path, quarters: int) -> Path:
    """The same coded frames of an mp4 under a display matrix of so many quarters against the clock."""
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd") + _MATRIX_AT
    a, b, c, d = _AGAINST_THE_CLOCK[quarters]
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target
