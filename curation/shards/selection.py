"""Which accepted rows a request takes, and in which split each stands. Pure: seed and content decide, never the order of the rows."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError
from curation.schema import CLIPS
from curation.shards.draw import draw
from curation.shards.filter import passing
from curation.shards.groups import KEY_COLUMNS, Codes, Keys, keys_of, mixed, split_numbers, straddling
from curation.shards.masking import DETECTION_COLUMNS, REASON_COLUMN
from curation.shards.request import TAGS, ShardRequest

NONE: Final = pa.nulls(0, pa.string())
SPLIT_COLUMN: Final = "split"
TAG_COLUMNS: Final = ("timeofday", "weather", "scene")
_BATCH_ROWS: Final = 262_144
_DIGITS: Final = 64  # of a clip_id
_CLIP_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rows that a request takes, with their `split`, in shard order; and where the other accepted rows went.

    `left_out` names every reason that the request gives, with its rows: `considered` is their sum and the rows taken. `quotas` says what
    was wanted and what is taken, `groups` what never straddles two splits and that it does not.
    """

    rows: pa.Table
    considered: int
    left_out: Mapping[str, int]
    quotas: Sequence[Mapping[str, Any]]
    groups: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passing:
    """The accepted rows: their keys, and of those that pass filter and quality the columns that are kept."""

    accepted: pa.Table
    kept: pa.Table
    of_accepted: Codes  # row of `accepted` of each row of `kept`
    left_out: dict[str, int]


def sample_columns(request: ShardRequest) -> frozenset[str]:
    """The columns of a selection's rows, beside `split`."""
    pictures = {"fps", "duration_s", "width_px", "height_px"} if request.form == "frames" else set[str]()
    detection = {*DETECTION_COLUMNS, REASON_COLUMN} if request.masked else set[str]()
    return frozenset({"clip_id", "object_uri", "size_bytes", *TAG_COLUMNS, *request.columns, *pictures, *detection})


def columns_to_choose(request: ShardRequest) -> frozenset[str]:
    """The columns that decide which rows a request takes."""
    tags = {tag for tag, _, _ in request.quotas.wanted()} | {tag for tag, _ in request.balance.ratios()}
    return frozenset({*KEY_COLUMNS, "verdict", *request.filter_columns(), *request.quality, *tags})


def select(rows: pa.Table, request: ShardRequest) -> pa.Table:
    """The accepted rows that the request takes: the columns of its samples and `split`, ordered by split and clip_id.

    Raises:
        UsageError: the filter fails on a value.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    return choose(rows, request).rows


def choose(
    rows: pa.Table | Iterable[pa.RecordBatch],
    request: ShardRequest,
    withdrawn: pa.Array = NONE,
    *,
    columns: Iterable[str] | None = None,
    in_order: bool = True,
) -> Selection:
    """`select`, with the rows it left out accounted for, those of `withdrawn` clips first.

    Args:
        rows: with `columns_to_choose` and `columns` at least; batches are let go as soon as they are looked at.
        columns: what is kept of each row taken, `sample_columns` without it.
        in_order: False leaves the rows taken in any order, which costs less.
    """
    columns = sample_columns(request) if columns is None else frozenset(columns)
    found = _looked_at(_batches(rows, columns | columns_to_choose(request)), request, withdrawn, columns)
    ids = _whole_numbers(found.accepted.column("clip_id"))
    keys = keys_of(found.accepted, request)
    tags = _tag_numbers(found, request)
    kept = _without_near_duplicates(found, keys, ids) if request.near_duplicates == "drop" else np.arange(found.kept.num_rows)
    left_out = found.left_out | ({"near_duplicates": found.kept.num_rows - len(kept)} if request.near_duplicates == "drop" else {})
    in_all = found.of_accepted[kept]
    drawn, over = draw(request, mixed(ids[in_all], request.seed, "draw"), keys, in_all, {tag: codes[kept] for tag, codes in tags.items()})
    taken = kept[drawn]
    taken_of_all = found.of_accepted[taken]
    split, group = split_numbers(keys, request, ids[taken_of_all], taken_of_all)
    names = pa.array(list(request.splits), pa.string())
    order = np.argsort(taken)
    chosen = _at(found.kept.select([name for name in found.kept.column_names if name in columns]), taken[order])
    chosen = chosen.append_column(SPLIT_COLUMN, names.take(pa.array(split[order])))
    return Selection(
        rows=chosen.sort_by([(SPLIT_COLUMN, "ascending"), ("clip_id", "ascending")]) if in_order else chosen,
        considered=found.accepted.num_rows,
        left_out=left_out | over,
        quotas=_quotas(request, tags, taken),
        groups=_groups(keys, taken_of_all, split, group),
    )


def _batches(rows: pa.Table | Iterable[pa.RecordBatch], needed: frozenset[str]) -> Iterator[pa.Table]:
    """Tables of the needed columns, of many rows each: a filter costs as much to begin with as it takes for ten thousand rows."""
    held: list[pa.RecordBatch] = []
    for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
        _refuse_missing(batch.schema, needed)
        held.append(batch.select([name for name in CLIPS.names if name in needed]))
        if sum(one.num_rows for one in held) >= _BATCH_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if isinstance(rows, pa.Table):
        _refuse_missing(rows.schema, needed)
    yield pa.Table.from_batches(held, schema=held[0].schema if held else pa.schema([field for field in CLIPS if field.name in needed]))


def _refuse_missing(schema: pa.Schema, needed: frozenset[str]) -> None:
    if missing := sorted(needed - set(schema.names)):
        raise CurationError(f"lacks the columns {missing}", subject="table clips", fix="read the table under curation/schema.py")


def _looked_at(batches: Iterable[pa.Table], request: ShardRequest, withdrawn: pa.Array, columns: frozenset[str]) -> _Passing:
    left_out = {"withdrawn": 0, "filtered_out": 0, **dict.fromkeys(_quality_names(request), 0)}
    accepted, kept, numbers, row_count = [], [], [], 0
    for batch in batches:
        rows = batch.filter(pc.equal(_plain(batch.column("verdict")), "accepted"))
        usable = np.arange(rows.num_rows)
        if len(withdrawn):
            usable = np.flatnonzero(~pc.is_in(rows.column("clip_id"), value_set=withdrawn).to_numpy())
        passes = passing(request.filter, _at(rows, usable))
        left_out["withdrawn"] += rows.num_rows - len(usable)
        left_out["filtered_out"] += len(usable) - int(passes.sum())
        usable = _of_quality(rows, usable[passes], request, left_out)
        accepted.append(rows.select(KEY_COLUMNS))
        kept.append(_at(rows.select([name for name in rows.column_names if name in columns or name in TAGS]), usable))
        numbers.append(usable + row_count)
        row_count += rows.num_rows
    if not left_out["withdrawn"]:
        del left_out["withdrawn"]
    return _Passing(
        accepted=pa.concat_tables(accepted),
        kept=pa.concat_tables(kept),
        of_accepted=np.concatenate(numbers).astype(np.int64),
        left_out=left_out,
    )


def _at(rows: pa.Table, numbers: Codes) -> pa.Table:
    """The rows of these ascending numbers."""
    if len(numbers) == rows.num_rows:
        return rows
    is_in = np.zeros(rows.num_rows, dtype=bool)
    is_in[numbers] = True
    return rows.filter(pa.array(is_in))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _quality_names(request: ShardRequest) -> list[str]:
    names = []
    for signal, limit in request.quality.items():
        names.append(f"unmeasured_{signal}")
        names += [f"below_{signal}"] * (limit.min is not None) + [f"above_{signal}"] * (limit.max is not None)
    return names


def _of_quality(rows: pa.Table, usable: Codes, request: ShardRequest, left_out: dict[str, int]) -> Codes:
    """Those of the usable rows that keep all limits; the others are counted under the first limit that they do not keep."""
    for signal, limit in request.quality.items():
        values = rows.column(signal).cast(pa.float64()).fill_null(float("nan")).to_numpy()[usable]
        fails = {f"unmeasured_{signal}": ~np.isfinite(values)}
        if limit.min is not None:
            fails[f"below_{signal}"] = values < limit.min
        if limit.max is not None:
            fails[f"above_{signal}"] = np.isfinite(values) & (values > limit.max)
        failed = np.zeros(len(values), dtype=bool)
        for name, is_so in fails.items():
            left_out[name] += int((is_so & ~failed).sum())
            failed |= is_so
        usable = usable[~failed]
    return usable


def _whole_numbers(clip_ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The ids as four whole numbers each, once they are known to be all of the right form and all different."""
    ids = clip_ids.combine_chunks()
    if pc.any(pc.not_equal(pc.binary_length(ids), _DIGITS)).as_py():
        raise _no_clip_id(ids)
    fixed = ids.cast(pa.binary()).cast(pa.binary(_DIGITS))
    text = memoryview(fixed.buffers()[1])[fixed.offset * _DIGITS : (fixed.offset + len(ids)) * _DIGITS]
    try:
        digests = binascii.unhexlify(text)
    except binascii.Error:
        raise _no_clip_id(ids) from None
    plain = text.tobytes()
    if any(capital in plain for capital in b"ABCDEF"):
        raise _no_clip_id(ids)
    numbers = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 4)
    _refuse_twice(ids, numbers)
    return numbers


def _no_clip_id(ids: pa.Array) -> CurationError:
    wrong = min(one for one in ids.to_pylist() if not _CLIP_ID.fullmatch(one))
    return CurationError("is no clip id", subject=repr(wrong), fix="a clip_id is the SHA-256 of the clip's bytes, 64 hex digits")


def _refuse_twice(ids: pa.Array, numbers: npt.NDArray[np.uint64]) -> None:
    begins = np.sort(numbers[:, 0])
    if not (begins[1:] == begins[:-1]).any():
        return
    order = np.lexsort(numbers.T[::-1])
    again = np.flatnonzero((numbers[order][1:] == numbers[order][:-1]).all(axis=1))
    if len(again):
        clip_id = ids[int(order[again[0]])].as_py()
        raise CurationError("stands twice in the snapshot", subject=f"clip {clip_id}", fix="restore curated.clips: one row per clip")


def _tag_numbers(found: _Passing, request: ShardRequest) -> dict[str, Codes]:
    """Per tag that quotas or balance name, of each row kept the position of its value in `TAGS`, -1 where it has none."""
    asked = {tag for tag, _, _ in request.quotas.wanted()} | {tag for tag, _ in request.balance.ratios()}
    numbers = {}
    for tag in sorted(asked):
        at = pc.index_in(_plain(found.kept.column(tag)), value_set=pa.array(TAGS[tag]))
        numbers[tag] = at.fill_null(-1).to_numpy().astype(np.int64)
    return numbers


def _without_near_duplicates(found: _Passing, keys: Keys, ids: npt.NDArray[np.uint64]) -> Codes:
    """Rows kept, of each set of near-duplicates one alone: the best of those that pass, which duplicates none, else the first by id."""
    sets = keys.near[found.of_accepted]
    inside = np.flatnonzero(sets >= 0)
    rows = found.of_accepted[inside]
    is_second = found.accepted.column("duplicate_of").take(pa.array(rows)).is_valid().to_numpy()
    order = np.lexsort((*ids[rows].T[::-1], is_second, sets[inside]))
    _, first = np.unique(sets[inside][order], return_index=True)
    stays = sets < 0
    stays[inside[order[first]]] = True
    return np.flatnonzero(stays)


def _quotas(request: ShardRequest, tags: Mapping[str, Codes], taken: Codes) -> list[dict[str, Any]]:
    """What each quota wants, what passes filter and quality for it, what is taken, and what lacks."""
    told = []
    for tag, value, wanted in request.quotas.wanted():
        is_value = tags[tag] == TAGS[tag].index(value)
        count = int(is_value[taken].sum())
        row = {"tag": tag, "value": value, "wanted": wanted, "passing": int(is_value.sum()), "taken": count}
        told.append(row | {"shortfall": max(wanted - count, 0)})
    return told


def _groups(keys: Keys, rows: Codes, split: Codes, group: Codes) -> dict[str, int]:
    """Numbers of the groups that the rows taken stand in.

    Raises:
        CurationError: a drive, a vehicle-day or near-duplicates stand in two splits.
    """
    straddle = {
        "drives": straddling(keys.drive[rows], split),
        "vehicle_days": straddling(keys.vehicle_day[rows], split),
        "near_duplicates": straddling(keys.near[rows], split),
    }
    if any(straddle.values()):
        problem = ", ".join(f"{count} {name}" for name, count in straddle.items() if count)
        raise CurationError(f"{problem} stand in two splits", subject="selection", fix="report this as a defect of the groups")
    sizes = np.bincount(group)
    return {
        "groups": int(np.count_nonzero(sizes)),
        "largest_group": int(sizes.max(initial=0)),
        "clips_without_drive": int((keys.drive[rows] < 0).sum()),
        "clips_without_vehicle": int((keys.vehicle[rows] < 0).sum()),
        **{f"{name}_in_two_splits": count for name, count in straddle.items()},
    }


def split_counts(rows: pa.Table, request: ShardRequest) -> dict[str, dict[str, Any]]:
    """Per split, empty ones included: samples, bytes of their clips, and samples per tag value."""
    found: dict[str, dict[str, Any]] = {
        split: {"samples": 0, "clip_bytes": 0, "tags": {tag: {} for tag in TAG_COLUMNS}} for split in request.splits
    }
    for row in rows.group_by(SPLIT_COLUMN).aggregate([("size_bytes", "sum"), ([], "count_all")]).to_pylist():
        found[row[SPLIT_COLUMN]] |= {"samples": row["count_all"], "clip_bytes": row["size_bytes_sum"]}
    for tag in TAG_COLUMNS:
        named = pa.table({SPLIT_COLUMN: rows.column(SPLIT_COLUMN), tag: _plain(rows.column(tag))})
        counted = named.group_by([SPLIT_COLUMN, tag]).aggregate([([], "count_all")])
        for row in sorted(counted.to_pylist(), key=lambda row: row[tag] or "unmeasured"):
            found[row[SPLIT_COLUMN]]["tags"][tag][row[tag] or "unmeasured"] = row["count_all"]
    return found
