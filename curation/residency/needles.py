"""Finding raw values of the home table in texts and bytes: many needles, one pass, no value ever quoted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.schema import CLIPS, sensitivity_of

MIN_TEXT_CHARS: Final = 5
MIN_DECIMALS: Final = 4
_PREFIX_BYTES: Final = 5
_CHUNK_BYTES: Final = 1 << 22
# How often, at most, a search may hit by accident among values that look random.
_ACCIDENTS: Final = 1e-6
_HEX_DIGITS: Final = frozenset(b"0123456789abcdef")
_SHANGHAI: Final = timedelta(hours=8)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the wall clock of the shifted times below carries no zone either


@dataclass(frozen=True, slots=True, kw_only=True)
class Needles:
    """Raw values by their first five bytes: prefix -> (value, column)."""

    by_prefix: Mapping[bytes, Mapping[bytes, str]]
    count: int

    def find(self, hay: bytes, *, alphabet: int) -> str | None:
        """Column of a raw value that stands in `hay`, None if none does.

        Values so short that one of them would be met by accident in random text of this length over `alphabet` signs are passed over:
        of 256, any value; of 16, values of hexadecimal digits only; of 0, none.
        """
        if not self.count or len(hay) < _PREFIX_BYTES:
            return None
        least = math.ceil(math.log(max(2.0, len(hay) * self.count / _ACCIDENTS), alphabet)) if alphabet else MIN_TEXT_CHARS
        prefixes = np.sort(np.array([_key(prefix) for prefix in self.by_prefix], dtype=np.uint64))
        for start in range(0, len(hay), _CHUNK_BYTES):
            windows = _windows(hay[start : start + _CHUNK_BYTES + _PREFIX_BYTES - 1])
            slots = np.minimum(np.searchsorted(prefixes, windows), len(prefixes) - 1)
            for offset in np.flatnonzero(prefixes[slots] == windows):
                column = self._at(hay, start + int(offset), least, is_hex=alphabet == 16)
                if column is not None:
                    return column
        return None

    def _at(self, hay: bytes, position: int, least: int, *, is_hex: bool) -> str | None:
        values = self.by_prefix[hay[position : position + _PREFIX_BYTES]]
        for length in {len(value) for value in values}:
            value = hay[position : position + length]
            column = values.get(value)
            if column is not None and (length >= least or (is_hex and not _HEX_DIGITS.issuperset(value))):
                return column
        return None


def _key(prefix: bytes) -> int:
    return int.from_bytes(prefix, "big")


def _windows(hay: bytes) -> npt.NDArray[np.uint64]:
    signs = np.frombuffer(hay, dtype=np.uint8).astype(np.uint64)
    count = max(0, len(hay) - _PREFIX_BYTES + 1)
    keys = np.zeros(count, dtype=np.uint64)
    for step in range(_PREFIX_BYTES):
        keys = (keys << np.uint64(8)) | signs[step : step + count]
    return keys


def gather(home: pa.Table, *, emitted: Iterable[str], vocabulary: Iterable[str]) -> Needles:
    """Raw values of every column of `home` that is not public: texts of at least five characters, numbers with at least four
    decimals, times finer than a day, each in the shapes they are usually written in.

    Args:
        home: clips, schema CLIPS.
        emitted: columns that a release holds as they are.
        vocabulary: words that a release may hold, which no one can tell from a raw value.
    """
    skipped, words = set(emitted), {word.encode() for word in vocabulary}
    found: dict[bytes, dict[bytes, str]] = defaultdict(dict)
    for field in CLIPS:
        if field.name in skipped or sensitivity_of(field) == "public":
            continue
        for value in _shapes(home.column(field.name)):
            if len(value) >= MIN_TEXT_CHARS and value not in words:
                found[value[:_PREFIX_BYTES]][value] = field.name
    return Needles(by_prefix=dict(found), count=sum(len(values) for values in found.values()))


def _shapes(column: pa.ChunkedArray) -> Iterable[bytes]:
    kind = column.type
    if pa.types.is_list(kind):
        yield from _shapes(pc.list_flatten(column))
    elif pa.types.is_struct(kind):
        for child in range(kind.num_fields):
            yield from _shapes(pc.struct_field(column, [child]))
    else:
        written = next((shape for is_kind, shape in _WRITTEN if is_kind(kind)), None)
        if written is not None:
            for value in pc.unique(pc.drop_null(column)).to_pylist():
                yield from written(value)


def _text_shapes(value: str) -> Iterable[bytes]:
    yield from {value.encode(), value.lower().encode(), value.upper().encode(), value[::-1].encode()}


def _float_shapes(value: float) -> Iterable[bytes]:
    if not math.isfinite(value):
        return
    text = f"{abs(value):.9f}".rstrip("0")
    decimals = text.partition(".")[2]
    if len(decimals) >= MIN_DECIMALS:
        yield text[: len(text) - len(decimals) + MIN_DECIMALS].encode()
        yield f"{abs(value):.{MIN_DECIMALS}f}".encode()
        yield np.float64(value).tobytes()


def _time_shapes(value: datetime) -> Iterable[bytes]:
    utc = value.replace(tzinfo=None) - (value.utcoffset() or timedelta(0))
    for at in (utc, utc + _SHANGHAI):
        yield from (at.strftime(shape).encode() for shape in ("%Y-%m-%dT%H", "%Y-%m-%d %H", "%Y%m%dT%H", "%Y%m%d%H%M", "%Y%m%d_%H%M"))
    microseconds = (utc - _EPOCH) // timedelta(microseconds=1)
    yield str(microseconds // 1_000_000).encode()
    yield from (np.int64(scaled).tobytes() for scaled in (microseconds, microseconds // 1000, microseconds * 1000))


_WRITTEN: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Iterable[bytes]]], ...]] = (
    (pa.types.is_string, _text_shapes),
    (pa.types.is_floating, _float_shapes),
    (pa.types.is_timestamp, _time_shapes),
)
