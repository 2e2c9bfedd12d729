"""Finds 256-bit hashes that lie close together, with a multi-index hash of faiss instead of comparing every pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import faiss
import numpy as np
import numpy.typing as npt

_BYTES: Final = 32
_BANDS: Final = 16  # of 16 bits: 31 flipped bits leave one band with at most one of them, so that no pair within 31 is missed
_FLIPS: Final = 1
WITHIN_MAX: Final = _BANDS * (_FLIPS + 1) - 1


class FaissHashIndex:
    """Implements `ports.HashIndex`."""

    def __init__(self) -> None:
        self._index = faiss.IndexBinaryMultiHash(_BYTES * 8, _BANDS, _BYTES * 8 // _BANDS)
        self._index.nflip = _FLIPS

    def add(self, hashes: npt.NDArray[np.uint8]) -> None:
        """Take hashes in (rows x 32 bytes); they are numbered on from those that are in already."""
        if len(hashes):
            self._index.add(np.ascontiguousarray(hashes, dtype=np.uint8))

    def near(self, hashes: npt.NDArray[np.uint8], *, within: int) -> Iterator[tuple[int, int]]:
        """(row of `hashes`, number of a hash taken in) for every pair at most `within` bits apart, none left out.

        Raises:
            ValueError: `within` is above 31, where the index would leave pairs out.
        """
        if not 0 <= within <= WITHIN_MAX:
            raise ValueError(f"within must be 0 to {WITHIN_MAX} bits, got {within}")
        if not len(hashes) or not self._index.ntotal:
            return
        starts, _, numbers = self._index.range_search(np.ascontiguousarray(hashes, dtype=np.uint8), within + 1)
        for row in range(len(hashes)):
            for number in numbers[starts[row] : starts[row + 1]]:
                yield row, int(number)
