"""Whether what stands in names, index and card repeats a vehicle, person, device or place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UsageError
from curation.schema import CLIPS
from curation.shards.request import PUBLIC_COLUMNS, TELLING_COLUMNS, ShardRequest

_CLOSED_VOCABULARIES: Final = frozenset({"datum", "ego_motion"})  # their few values name nobody
TOLD_COLUMNS: Final = tuple(
    name for name in CLIPS.names if name in TELLING_COLUMNS - _CLOSED_VOCABULARIES and pa.types.is_string(CLIPS.field(name).type)
)


_QUOTED: Final = re.compile(r"'((?:[^']|'')*)'")  # a text in SQL
_HELD_MAX: Final = 2_000_000  # values of a column, most of them again and again, before they are gone through


class Told:
    """The values of `TOLD_COLUMNS` that rows hold, as words with a hyphen before, between and after them."""

    def __init__(self, rows: pa.Table | None = None) -> None:
        self._values: dict[str, list[pa.Array]] = {name: [] for name in TOLD_COLUMNS}
        for batch in () if rows is None else rows.to_batches():
            self.add(batch)

    def add(self, batch: pa.RecordBatch) -> None:
        for name, known in self._values.items():
            column = batch.column(name)
            values = column.dictionary if pa.types.is_dictionary(column.type) else pc.unique(column)
            known.append(values.drop_null())
            if sum(map(len, known)) > _HELD_MAX:
                known[:] = [pc.unique(pa.concat_arrays(known))]

    def seen(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches as they are, each taken in on its way."""
        for batch in batches:
            self.add(batch)
            yield batch

    def repeated(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts in which one of the values stands, word for word."""
        for values in filter(None, self._values.values()):
            values[:] = [pc.unique(pa.concat_arrays(values))]
        known = [_words(values[0]) for values in self._values.values() if values]
        lengths = {length for values in known for length in pc.unique(pc.count_substring(values, "-")).to_pylist()}
        return [text for text in texts if any(_holds(values, _runs(text, lengths)) for values in known)]


def check_nothing_told(request: ShardRequest, rows: pa.Table | Told) -> bool:
    """Whether the filter may stand in index and card: it looks at public columns only and repeats no value that tells.

    Raises:
        UsageError: the request's name, or the name of a split, repeats a vehicle, person, device or place of the rows.
    """
    told = rows if isinstance(rows, Told) else Told(rows)
    for text in told.repeated((request.name, *request.splits)):
        raise UsageError(
            f"the name {text!r} repeats a value of a column that tells a vehicle, person, device or place",
            subject=f"shard request {request.name}",
            fix="choose a name that says what the shards are for",
        )
    return request.filter_columns() <= set(PUBLIC_COLUMNS) and not told.repeated([request.filter or ""])


def names_any(filter_sql: str, values: Iterable[str]) -> bool:
    """Whether a text that the filter compares with (between single quotes) holds one of the values, word for word."""
    words = _words(pa.array(sorted(set(values)), pa.string()))
    words = words.filter(pc.not_equal(words, ""))
    lengths = set(pc.unique(pc.count_substring(words, "-")).to_pylist())
    return any(_holds(words, _runs(text, lengths)) for text in _QUOTED.findall(filter_sql))


def _words(values: pa.Array) -> pa.Array:
    """Each value in lower-case words of letters and digits of ASCII, hyphens between them."""
    return pc.utf8_trim(pc.replace_substring_regex(pc.utf8_lower(values), "[^a-z0-9]+", "-"), "-")


def _runs(text: str, lengths: Iterable[int]) -> pa.Array:
    """Every run of so many hyphens and the words between them."""
    each = _words(pa.array([text]))[0].as_py().split("-")
    found = {"-".join(each[begin : begin + length + 1]) for length in lengths for begin in range(len(each) - length)}
    return pa.array(sorted(found - {""}), pa.string())


def _holds(values: pa.Array, runs: pa.Array) -> bool:
    return bool(pc.any(pc.is_in(runs, value_set=values)).as_py())
