"""Which accepted rows a request takes, and in which split each stands. Pure: seed and content decide."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError, UsageError
from curation.schema import CLIPS
from curation.shards.filter import evaluated
from curation.shards.request import GROUP_COLUMNS, PUBLIC_COLUMNS, TELLING_COLUMNS, ShardRequest

NONE: Final = pa.nulls(0, pa.string())
SPLIT_COLUMN: Final = "split"
TAG_COLUMNS: Final = ("timeofday", "weather", "scene")
_CLIP_ID: Final = re.compile(r"[0-9a-f]{64}")
_CLOSED_VOCABULARIES: Final = frozenset({"datum", "ego_motion"})  # their few values name nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rows that a request takes, with their `split`, in shard order; and where the other accepted rows went."""

    rows: pa.Table
    considered: int
    withdrawn: int
    filtered_out: int
    over_max_samples: int


def select(rows: pa.Table, request: ShardRequest) -> pa.Table:
    """The accepted rows that the request takes: the columns that it needs and `split`, ordered by split and clip_id.

    Raises:
        UsageError: the filter fails on a value.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    return choose(rows, request).rows


def choose(rows: pa.Table, request: ShardRequest, withdrawn: pa.Array = NONE) -> Selection:
    """`select`, with the rows it left out accounted for, those of `withdrawn` clips first.

    Pure: seed and content decide, never the order of `rows`.
    """
    missing = sorted(set(CLIPS.names) - set(rows.schema.names))
    if missing:
        raise CurationError(f"lacks the columns {missing}", subject="table clips", fix="read the table under curation/schema.py")
    needed = {"clip_id", "object_uri", "size_bytes", "verdict", GROUP_COLUMNS[request.group_by], *TAG_COLUMNS}
    needed |= request.filter_columns() | set(request.columns)
    accepted = (
        rows.select([name for name in CLIPS.names if name in needed])
        .filter(pc.equal(rows.column("verdict"), "accepted"))
        .sort_by("clip_id")
    )
    _check_clip_ids(accepted.column("clip_id").to_pylist())
    may_be_used = accepted.filter(pc.invert(pc.is_in(accepted.column("clip_id"), value_set=withdrawn)))
    passed = evaluated(request.filter, may_be_used)
    drawn = _draw(passed, request)
    splits = pa.array(_split_names(drawn, request), type=pa.string())
    return Selection(
        rows=drawn.append_column(SPLIT_COLUMN, splits).sort_by([(SPLIT_COLUMN, "ascending"), ("clip_id", "ascending")]),
        considered=accepted.num_rows,
        withdrawn=accepted.num_rows - may_be_used.num_rows,
        filtered_out=may_be_used.num_rows - passed.num_rows,
        over_max_samples=passed.num_rows - drawn.num_rows,
    )


def _check_clip_ids(clip_ids: Sequence[str]) -> None:
    """Nothing, for ids in ascending order that are all of the right form and all different."""
    previous = ""
    for clip_id in clip_ids:
        if not _CLIP_ID.fullmatch(clip_id):
            raise CurationError("is no clip id", subject=repr(clip_id), fix="a clip_id is the SHA-256 of the clip's bytes, 64 hex digits")
        if clip_id == previous:
            raise CurationError("stands twice in the snapshot", subject=f"clip {clip_id}", fix="restore curated.clips: one row per clip")
        previous = clip_id


def _draw(rows: pa.Table, request: ShardRequest) -> pa.Table:
    """At most `max_samples` of the rows; a larger limit only adds rows, and another seed draws others."""
    if request.max_samples is None or rows.num_rows <= request.max_samples:
        return rows
    clip_ids = rows.column("clip_id").to_pylist()
    ranked = sorted(range(len(clip_ids)), key=lambda row: hashlib.sha256(f"{request.seed}|draw|{clip_ids[row]}".encode()).digest())
    return rows.take(pa.array(sorted(ranked[: request.max_samples]), type=pa.int64()))


def _split_names(rows: pa.Table, request: ShardRequest) -> list[str]:
    """A split per row by the hash of its group, so that a group never straddles splits nor moves when the table grows."""
    bounds, total = [], 0.0
    for split, ratio in request.splits.items():
        total += ratio
        bounds.append((split, int(total * 2**64)))
    bounds[-1] = (bounds[-1][0], 2**64)  # ratios may add up to a hair less than 1

    def split_of(group: str) -> str:
        point = int.from_bytes(hashlib.sha256(f"{request.seed}|{group}".encode()).digest()[:8], "big")
        return next(split for split, bound in bounds if point < bound)

    keys = rows.column(GROUP_COLUMNS[request.group_by]).to_pylist()
    clip_ids = rows.column("clip_id").to_pylist()
    groups = [f"clip|{clip}" if key is None else f"{request.group_by}|{key}" for key, clip in zip(keys, clip_ids, strict=True)]
    known = {group: split_of(group) for group in set(groups)}
    return [known[group] for group in groups]


def check_nothing_told(request: ShardRequest, rows: pa.Table) -> bool:
    """Whether the filter may stand in index and card: it looks at public columns only and repeats no value that tells.

    Raises:
        UsageError: the request's name, or the name of a split, repeats a vehicle, person, device or place of the rows.
    """
    values: set[str] = set()
    for column in sorted(TELLING_COLUMNS - _CLOSED_VOCABULARIES):
        if pa.types.is_string(CLIPS.field(column).type):
            values |= {_words(value) for value in pc.unique(rows.column(column)).to_pylist() if value is not None}
    values.discard("-")
    for text in (request.name, *request.splits):
        if any(value in _words(text) for value in values):
            raise UsageError(
                f"the name {text!r} repeats a value of a column that tells a vehicle, person, device or place",
                subject=f"shard request {request.name}",
                fix="choose a name that says what the shards are for",
            )
    if not request.filter_columns() <= set(PUBLIC_COLUMNS):
        return False
    text = _words(request.filter or "")
    return not any(value in text for value in values)


def _words(text: str) -> str:
    return f"-{re.sub(r'[^a-z0-9]+', '-', text.casefold()).strip('-')}-" if re.search(r"[a-z0-9]", text.casefold()) else "-"
