"""What must stay in one split, and which split that is: rows that share a drive, a vehicle-day or a near-duplicate are one group.

A group is named by its smallest key and its split is a hash of that name, so that a split does not move when unrelated rows come in.
Keys are tried from the one that covers most, and vehicle-days from the earliest, so that a fleet that drives on moves nothing either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.shards.request import ShardRequest

KEY_COLUMNS: Final = ("clip_id", "drive_id", "vehicle_id", "captured_at", "duplicate_of", "near_group")
Codes = npt.NDArray[np.int64]  # a number per row, -1 where there is none
Points = npt.NDArray[np.uint64]
_DAY_US: Final = 86_400_000_000
_CHINA_US: Final = 8 * 3_600_000_000  # Asia/Shanghai has had no summer time since 1991
_NO_DAY: Final = 2**40  # days of one vehicle that no clock tells are one day, after all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What rows share: per row a number of its drive, vehicle, day, vehicle-day and set of near-duplicates; numbers ascend with `names`."""

    drive: Codes
    vehicle: Codes
    vehicle_day: Codes
    block: Codes
    near: Codes
    names: Mapping[str, Sequence[str]]


def keys_of(rows: pa.Table, request: ShardRequest) -> Keys:
    """The keys of rows with `KEY_COLUMNS`."""
    drive, drives = _coded(rows.column("drive_id"))
    vehicle, vehicles = _coded(rows.column("vehicle_id"))
    day = _days(rows.column("captured_at"))
    vehicle_day, days = _vehicle_days(vehicle, day, vehicles)
    block, blocks = _blocks(day, request.time_block_days) if request.group_by == "time" else (np.full(len(day), -1), [])
    near, sets = _coded(rows.column("near_group"))  # transitive already, whether what joins two is among the rows or not
    names = {"drive": drives, "vehicle": vehicles, "vehicle_day": days, "time": blocks, "near": sets}
    return Keys(drive=drive, vehicle=vehicle, vehicle_day=vehicle_day, block=block, near=near, names=names)


def _coded(column: pa.ChunkedArray) -> tuple[Codes, list[str]]:
    """A number per row, -1 for null, and the values that they number, ascending."""
    is_encoded = pa.types.is_dictionary(column.type)
    encoded = column.unify_dictionaries().combine_chunks() if is_encoded else pc.dictionary_encode(column.combine_chunks())
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values) + 1, dtype=np.int64)
    rank[order] = np.arange(len(values))
    rank[-1] = -1
    return rank[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)], [values[one] for one in order]


def _days(captured_at: pa.ChunkedArray) -> Codes:
    """Days since 1970 in China, `_NO_DAY` where no clock tells."""
    us = captured_at.cast(pa.int64()).combine_chunks()
    days = (us.fill_null(0).to_numpy() + _CHINA_US) // _DAY_US
    return np.where(us.is_valid().to_numpy(zero_copy_only=False), days, _NO_DAY)


def _blocks(day: Codes, block_days: int) -> tuple[Codes, list[str]]:
    known, codes = np.flatnonzero(day != _NO_DAY), np.full(len(day), -1, dtype=np.int64)
    found, codes[known] = np.unique(day[known] // block_days, return_inverse=True)
    return codes, [str(one) for one in found.tolist()]


def _vehicle_days(vehicle: Codes, day: Codes, vehicles: Sequence[str]) -> tuple[Codes, list[str]]:
    known, codes = np.flatnonzero(vehicle >= 0), np.full(len(vehicle), -1, dtype=np.int64)
    count = max(len(vehicles), 1)
    found, codes[known] = np.unique(day[known] * count + vehicle[known], return_inverse=True)
    return codes, [f"{one // count}|{vehicles[one % count]}" for one in found.tolist()]


def _smallest(left: Codes, right: Codes, count: int) -> Codes:
    """For each of `count` nodes the smallest one that the edges connect it with."""
    first = np.arange(count)
    while len(left):
        ends = first[left], first[right]
        low = np.minimum(*ends)
        for end in ends:
            np.minimum.at(first, end, low)
        while not np.array_equal(further := first[first], first):  # each points at the smallest that is known so far
            first = further
        apart = first[left] != first[right]
        left, right = left[apart], right[apart]
    return first


def split_numbers(keys: Keys, request: ShardRequest, ids: npt.NDArray[np.uint64], rows: Codes) -> tuple[Codes, Codes]:
    """Per one of `rows` the number of its split, in the order of the request's, and the number of its group.

    Args:
        keys: of all rows there are: those that are not asked about may join two that are.
        ids: of `rows` x 4, the clip ids as whole numbers.
        rows: numbers in `keys`.
    """
    kinds = _kinds(keys, request)
    offsets = np.cumsum([0, *(len(keys.names[kind]) for kind, _ in kinds)])
    nodes = [np.where(codes >= 0, codes + offset, -1) for (_, codes), offset in zip(kinds, offsets[:-1], strict=True)]
    first = np.full(len(keys.near), -1, dtype=np.int64)
    edges: list[tuple[Codes, Codes]] = []
    for node in nodes:
        both = (first >= 0) & (node >= 0)
        edges.append((first[both], node[both]))
        first = np.where(first >= 0, first, node)
    left, right = (np.concatenate([edge[side] for edge in edges]) for side in (0, 1))
    smallest = _smallest(left, right, int(offsets[-1]))
    grouped = first[rows] >= 0
    group = np.arange(len(rows)) + int(offsets[-1])  # alone, unless a key says otherwise
    group[grouped] = smallest[first[rows][grouped]]
    of_group = np.zeros(int(offsets[-1]), dtype=np.uint64)
    is_asked = np.zeros(len(of_group), dtype=bool)
    is_asked[group[grouped]] = True
    for (kind, _), begin, end in zip(kinds, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        asked = np.flatnonzero(is_asked[begin:end])
        of_group[asked + begin] = _points(f"{request.seed}|{kind}|", [keys.names[kind][number] for number in asked.tolist()])
    points = mixed(ids, request.seed, "clip")
    points[grouped] = of_group[group[grouped]]
    return np.searchsorted(_bounds(request), points, side="right").astype(np.int64), group


def _kinds(keys: Keys, request: ShardRequest) -> list[tuple[str, Codes]]:
    """The keys that make groups, from the one that names a group."""
    asked = {"vehicle": [("vehicle", keys.vehicle)], "time": [("time", keys.block)]}.get(request.group_by, [])
    return [*asked, ("vehicle_day", keys.vehicle_day), ("drive", keys.drive), ("near", keys.near)]


def _points(purpose: str, names: Sequence[str]) -> Points:
    """An even, repeatable number from 0 to 2^64 - 1 for each name."""
    digests = b"".join(hashlib.sha256(f"{purpose}{name}".encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _bounds(request: ShardRequest) -> Points:
    """Where one split ends and the next begins on the line from 0 to 2^64; ratios may add up to a hair less or more than 1."""
    bounds, total = [], 0.0
    for ratio in list(request.splits.values())[:-1]:
        total += ratio
        bounds.append(min(int(total * 2**64), 2**64 - 1))
    return np.array(bounds, dtype=np.uint64)


def mixed(ids: npt.NDArray[np.uint64], seed: int, purpose: str) -> Points:
    """An even, repeatable number from 0 to 2^64 - 1 per row, which another seed or purpose draws anew (splitmix64's finaliser).

    Args:
        ids: rows x 4 whole numbers.
    """
    key = hashlib.sha256(f"{seed}|{purpose}".encode()).digest()
    state = np.zeros(len(ids), dtype=np.uint64)
    for column in range(ids.shape[1]):
        state = state ^ ids[:, column] ^ np.uint64(int.from_bytes(key[8 * column : 8 * column + 8], "big"))
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def straddling(codes: Codes, split: Codes) -> int:
    """How many of the keys stand in more than one split."""
    known = codes >= 0
    codes, split = codes[known], split[known]
    of_key = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    of_key[codes] = split
    return len(set(codes[of_key[codes] != split].tolist()))
