"""Finding raw values of the home table in texts and bytes: millions of needles, streamed past what is searched, no value ever quoted.

What counts as a raw value: of every column that is not public, texts of at least five bytes (as they are, in lower and upper case, and
backwards), numbers with at least four decimals (cut and rounded to four, and their eight bytes), and times finer than a day (to the hour
and the minute in UTC and in Asia/Shanghai, as seconds since 1970, and as the eight bytes of micro-, milli- and nanoseconds).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.schema import CLIPS, sensitivity_of

MIN_TEXT_BYTES: Final = 5
MIN_DECIMALS: Final = 4
# How often, at most, any one needle of a row may be met by accident in text that is random.
_ACCIDENTS: Final = 1e-6
# A row brings at least these of its own: its clip_id as it is, in upper case and backwards.
_NEEDLES_PER_ROW: Final = 3
_ROWS: Final = 1 << 17  # home rows whose shapes are in memory at once
_CHUNK_BYTES: Final = 1 << 22
_KEY_BYTES: Final = 8
# Of a longer needle only so much is asked whether its first, last and middle bytes stand somewhere, before it is compared in full.
_TOLD_APART_BYTES: Final = 4096
_MIN_SLOT_BITS: Final = 12
_MAX_SLOT_BITS: Final = 28
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 / golden ratio, Knuth's multiplicative hashing
_MAX_CANDIDATES: Final = 1 << 17
_HOUR_US: Final = 3_600_000_000
_SHANGHAI_US: Final = 8 * _HOUR_US
_HEX_DIGITS: Final = b"0123456789abcdef"
# Digests that an id of 32 hexadecimal digits can be, or begin.
_DIGESTS: Final = tuple(functools.partial(kind, usedforsecurity=False) for kind in (hashlib.md5, hashlib.sha1, hashlib.sha256))
_DIGESTED: Final = {
    field.name for field in CLIPS if pa.types.is_string(field.type) and sensitivity_of(field) in {"vehicle", "device", "person"}
}
_SEAM: Final = b"\n"

Signs = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Raw values of one column in one shape, behind one another: `signs` ends with eight bytes that belong to none."""

    column: str
    signs: Signs
    begins: Positions
    lengths: Positions

    def at(self, index: int) -> bytes:
        """One value."""
        begin = int(self.begins[index])
        return self.signs[begin : begin + int(self.lengths[index])].tobytes()

    def each(self) -> Iterator[bytes]:
        """All values."""
        data = self.signs.tobytes()
        ends = (self.begins + self.lengths).tolist()
        return (data[begin:end] for begin, end in zip(self.begins.tolist(), ends, strict=True))


class Home(Protocol):
    """Rows of the clips table from which nothing may leave as it is: in memory, or in a file that is read a stretch at a time."""

    @property
    def schema(self) -> pa.Schema:
        """Must be CLIPS."""

    @property
    def num_rows(self) -> int:
        """How many there are."""

    def parts(self, row_count: int) -> Iterator[pa.Table]:
        """All rows, so many at a time; asked for as often as something is searched."""


@dataclass(frozen=True, slots=True)
class HomeTable:
    """A table in memory as `Home`."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """Of the table."""
        return self.table.schema

    @property
    def num_rows(self) -> int:
        """Of the table."""
        return int(self.table.num_rows)

    def parts(self, row_count: int) -> Iterator[pa.Table]:
        """Slices."""
        return (self.table.slice(start, row_count) for start in range(0, self.num_rows, row_count))


class Search(Protocol):
    """Something that is searched: it is shown all needles, and then says what it holds."""

    where: str

    def offer(self, values: Values) -> None:
        """Take note of those that may stand in it."""

    def found(self) -> str | None:
        """The column of a raw value that stands in it."""


def search(home: Home, searches: Sequence[Search], *, emitted: Iterable[str], vocabulary: Iterable[str]) -> tuple[str, str] | None:
    """Where a raw value of `home` was found, and of which column it is; None if it was found nowhere.

    Args:
        home: clips; streamed, so its size costs time and no memory.
        searches: what is searched; the first that holds a raw value is named.
        emitted: columns that a release holds as they are.
        vocabulary: words that a release may hold, which no one can tell from a raw value.
    """
    skipped, words = set(emitted), pa.array(sorted({word.encode() for word in vocabulary}), pa.binary())
    names = [field.name for field in CLIPS if field.name not in skipped and sensitivity_of(field) != "public"]
    for part in home.parts(_ROWS):
        for name in names:
            for shape in _shapes(part.column(name), words):
                if not len(shape):
                    continue
                values = _values(name, shape)
                for one in searches:
                    one.offer(values)
    found = ((one.where, one.found()) for one in searches)
    return next(((where, column) for where, column in found if column is not None), None)


class Hay:
    """Bytes or lines in which no raw value may stand."""

    def __init__(self, where: str, data: bytes, home: Home, *, alphabet: int, is_lines: bool = False) -> None:
        """Prepares a search of `data`.

        Needles so short that one of them would be met by accident in random text of this length over `alphabet` signs are passed over:
        of 256, any needle; of 16, needles of hexadecimal digits only; of 0, none.

        Args:
            where: what a refusal calls it.
            data: what is searched.
            home: the rows that the needles come from.
            alphabet: how many different signs the text was drawn from, 0 if it was not drawn at random.
            is_lines: whether it is lines; no needle is found across their ends.
        """
        self.where = where
        self._data, self._is_lines = data, is_lines
        chance = max(2.0, len(data) * home.num_rows * _NEEDLES_PER_ROW / _ACCIDENTS)
        self._least = max(MIN_TEXT_BYTES, math.ceil(math.log(chance, alphabet))) if alphabet else MIN_TEXT_BYTES
        self._has_others = alphabet == len(_HEX_DIGITS) and bool(data.translate(None, _HEX_DIGITS + _SEAM))
        self._floor = MIN_TEXT_BYTES if self._has_others else self._least
        self._longest = max(map(len, data.split(_SEAM))) if is_lines else len(data)
        self._width = min(_KEY_BYTES, self._floor)
        self._marks: Flags | None = None
        self._candidates: dict[bytes, str] = {}
        self._found: str | None = None

    def offer(self, values: Values) -> None:
        """Keep those whose first, last and middle bytes stand in it."""
        chosen = np.flatnonzero((values.lengths >= self._floor) & (values.lengths <= self._longest))
        if self._found is not None or not len(chosen):
            return
        if self._marks is None:
            self._marks = _marked(_windows(self._data, self._width), slot_count=8 * len(self._data))
        stretches = _strided(values.signs)
        rest = np.minimum(values.lengths, _TOLD_APART_BYTES) - self._width
        for skipped in (np.zeros_like(rest), rest, rest // 2):
            begins = values.begins[chosen] + skipped[chosen]
            chosen = chosen[_is_marked(self._marks, _cut(stretches[begins], self._width))]
        self._candidates.update((values.at(index), values.column) for index in chosen.tolist())
        if len(self._candidates) > _MAX_CANDIDATES:
            self._compare()

    def found(self) -> str | None:
        """The column of a raw value that stands in it."""
        self._compare()
        return self._found

    def _compare(self) -> None:
        candidates = {value: column for value, column in self._candidates.items() if self._is_evidence(value)}
        if self._found is None and candidates:
            value = _Texts(candidates, self._width).first_in(self._data)
            self._found = None if value is None else candidates[value]
        self._candidates = {}

    def _is_evidence(self, value: bytes) -> bool:
        is_no_accident = len(value) >= self._least or bool(self._has_others and value.translate(None, _HEX_DIGITS))
        return is_no_accident and not (self._is_lines and _SEAM in value)


class Stretches:
    """Texts of one length, at least eight bytes, none of which may be a part of a longer raw value."""

    def __init__(self, where: str, texts: Iterable[str]) -> None:
        """Prepares a search for `texts` in all longer raw values; `where` is what a refusal calls them."""
        self.where = where
        wanted = {text.encode() for text in texts}
        self._length = max(map(len, wanted), default=0)
        self._texts = _Texts(wanted, _KEY_BYTES) if wanted else None
        self._found: str | None = None

    def offer(self, values: Values) -> None:
        """Look for the texts in those that are longer."""
        if self._found is None and self._texts is not None and (values.lengths > self._length).any():
            self._found = None if self._texts.first_in(values.signs.tobytes()) is None else values.column

    def found(self) -> str | None:
        """The column of a raw value of which one of the texts is a part."""
        return self._found


class Digests:
    """Ids, 32 hexadecimal digits each, none of which may be a plain digest of an id of a vehicle, device or person.

    Whoever can list those (plates, VINs) can digest them too. A keyed digest cannot be told from a random id.
    """

    def __init__(self, where: str, ids: Iterable[str]) -> None:
        """Prepares a search for `ids` among all digests; `where` is what a refusal calls them."""
        self.where = where
        self._ids = set(ids)
        self._found: str | None = None

    def offer(self, values: Values) -> None:
        """Digest those that stand in a column of ids."""
        if self._found is None and self._ids and values.column in _DIGESTED:
            digests = (digest(value).hexdigest()[:32] for value in values.each() for digest in _DIGESTS)
            self._found = None if self._ids.isdisjoint(digests) else values.column

    def found(self) -> str | None:
        """The column of a raw value of which one of the ids is a digest."""
        return self._found


class _Texts:
    """Many texts, prepared to be looked for all at once; none shorter than `width`."""

    def __init__(self, texts: Collection[bytes], width: int) -> None:
        self._texts, self._width = texts, width
        self._lengths = sorted({len(text) for text in texts})
        padded = b"".join(text[:width].ljust(_KEY_BYTES, b"\0") for text in texts)
        self._keys = np.unique(np.frombuffer(padded, dtype="<u8"))
        self._marks = _marked([self._keys], slot_count=32 * len(self._keys))

    def first_in(self, data: bytes) -> bytes | None:
        """The text that stands first in `data`."""
        for number, keys in enumerate(_windows(data, self._width)):
            likely = np.flatnonzero(_is_marked(self._marks, keys))
            slots = np.minimum(np.searchsorted(self._keys, keys[likely]), len(self._keys) - 1)
            for begin in (likely[self._keys[slots] == keys[likely]] + number * _CHUNK_BYTES).tolist():
                for length in self._lengths:
                    if data[begin : begin + length] in self._texts:
                        return data[begin : begin + length]
        return None


def _strided(signs: Signs) -> Keys:
    """The eight bytes from every position on, as one number; a view."""
    return np.ndarray((max(0, len(signs) - _KEY_BYTES + 1),), "<u8", buffer=signs, strides=(1,))


def _cut(keys: Keys, width: int) -> Keys:
    return np.asarray(keys & np.uint64((1 << 8 * width) - 1), dtype=np.uint64)


def _windows(data: bytes, width: int) -> Iterator[Keys]:
    """Keys of all stretches of `width` bytes, for as many first positions at a time as a chunk has bytes."""
    for start in range(0, len(data) - width + 1, _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES + width - 1] + bytes(_KEY_BYTES - width)
        yield _cut(_strided(np.frombuffer(chunk, dtype=np.uint8)), width)


def _marked(keys: Iterable[Keys], *, slot_count: int) -> Flags:
    """A table in which the slots of `keys` are set: what is not set there is no key, what is set may be one."""
    bits = min(max(slot_count.bit_length(), _MIN_SLOT_BITS), _MAX_SLOT_BITS)
    marks = np.zeros(1 << bits, dtype=np.bool_)
    for some in keys:
        marks[_slots(some, bits)] = True
    return marks


def _is_marked(marks: Flags, keys: Keys) -> Flags:
    return np.asarray(marks[_slots(keys, len(marks).bit_length() - 1)], dtype=np.bool_)


def _slots(keys: Keys, bits: int) -> Keys:
    return np.asarray((keys * _SPREAD) >> np.uint64(64 - bits), dtype=np.uint64)


def _shapes(column: pa.ChunkedArray, words: pa.Array) -> Iterator[pa.Array]:
    """The raw values of a column in the shapes they are usually written in: texts, or their bytes."""
    kind = column.type
    if pa.types.is_list(kind):
        yield from _shapes(pc.list_flatten(column), words)
    elif pa.types.is_struct(kind):
        for child in range(kind.num_fields):
            yield from _shapes(pc.struct_field(column, [child]), words)
    else:
        written = next((shape for is_kind, shape in _WRITTEN if is_kind(kind)), None)
        for shape in () if written is None else written(pc.unique(pc.drop_null(column))):
            texts = shape.cast(pa.binary())
            yield texts.filter(
                pc.and_(pc.greater_equal(pc.binary_length(texts), MIN_TEXT_BYTES), pc.invert(pc.is_in(texts, value_set=words)))
            )


def _values(column: str, shape: pa.Array) -> Values:
    _, offsets, signs = shape.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(shape) + 1, offset=4 * shape.offset).astype(np.int64)
    bare = np.frombuffer(signs or b"", dtype=np.uint8)[: ends[-1]]
    return Values(column=column, signs=np.append(bare, np.zeros(_KEY_BYTES, np.uint8)), begins=ends[:-1], lengths=np.diff(ends))


def _text_shapes(values: pa.Array) -> Iterator[pa.Array]:
    is_ascii = pc.string_is_ascii(values)
    plain = values.filter(is_ascii)
    yield plain
    for turn in (pc.ascii_lower, pc.ascii_upper, pc.ascii_reverse):
        turned = turn(plain)
        yield turned.filter(pc.not_equal(turned, plain))
    # Outside ASCII, Python changes case as Unicode has it (one letter may become two); Arrow does not.
    others = values.filter(pc.invert(is_ascii)).to_pylist()
    yield pa.array([shape for value in others for shape in (value, value.lower(), value.upper(), value[::-1])], pa.string())


def _float_shapes(values: pa.Array) -> Iterator[pa.Array]:
    signed = values.to_numpy(zero_copy_only=False).astype(np.float64)
    signed = signed[np.isfinite(signed)]
    size = np.abs(signed)
    # In this range the products below are off by less than a thousandth, so away from ties they round as the decimal text does.
    is_plain = size < 2.0**43 / 1e9
    for scale in (1e9, 1e4):
        is_plain &= np.abs(np.mod(np.where(is_plain, size, 0.0) * scale, 1.0) - 0.5) > 1e-3
    billionths = np.rint(size[is_plain] * 1e9).astype(np.int64)
    is_fine = billionths % 10 ** (9 - MIN_DECIMALS + 1) != 0
    tenthousandths = np.unique([billionths[is_fine] // 10**5, np.rint(size[is_plain][is_fine] * 1e4).astype(np.int64)])
    whole, decimals = (pa.array(part).cast(pa.string()) for part in (tenthousandths // 10**4, tenthousandths % 10**4 + 10**4))
    yield pc.binary_join_element_wise(whole, pc.utf8_slice_codeunits(decimals, 1), ".")
    yield _eight_bytes(signed[is_plain][is_fine])
    yield pa.array([shape for value in signed[~is_plain].tolist() for shape in _float_texts(value)], pa.binary())


def _float_texts(value: float) -> Iterator[bytes]:
    text = f"{abs(value):.9f}".rstrip("0")
    decimals = text.partition(".")[2]
    if len(decimals) >= MIN_DECIMALS:
        yield text[: len(text) - len(decimals) + MIN_DECIMALS].encode()
        yield f"{abs(value):.{MIN_DECIMALS}f}".encode()
        yield np.float64(value).tobytes()


def _time_shapes(values: pa.Array) -> Iterator[pa.Array]:
    utc_us = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64()).to_numpy()
    for shift_us in (0, _SHANGHAI_US):
        minutes = np.unique((utc_us + shift_us) // 60_000_000)
        hours = pa.array(np.datetime_as_string(np.unique(minutes // 60).astype("M8[h]")), pa.string())
        yield hours
        yield pc.replace_substring(hours, "T", " ")
        yield pc.replace_substring(hours, "-", "")
        digits = pa.array(np.datetime_as_string(minutes.astype("M8[m]")), pa.string())
        digits = pc.replace_substring_regex(digits, "[-:]", "")
        yield pc.replace_substring(digits, "T", "")
        yield pc.replace_substring(digits, "T", "_")
    yield pa.array(np.unique(utc_us // 1_000_000)).cast(pa.string())
    for scaled in (utc_us, utc_us // 1000, utc_us * 1000):
        yield _eight_bytes(scaled)


def _eight_bytes(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * 8
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))])


_WRITTEN: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Iterator[pa.Array]]], ...]] = (
    (pa.types.is_string, _text_shapes),
    (pa.types.is_floating, _float_shapes),
    (pa.types.is_timestamp, _time_shapes),
)
