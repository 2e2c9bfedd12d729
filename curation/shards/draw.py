"""Which of the rows that pass are taken: quotas first, within caps and balance, up to the most that is wanted. The seed decides.

All of it works on whole columns of numbers, so that a million rows take less than a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from curation.shards.groups import Codes, Keys, Points
from curation.shards.request import TAGS, ShardRequest

Mask = npt.NDArray[np.bool_]


def draw(request: ShardRequest, ranks: Points, keys: Keys, rows: Codes, tags: Mapping[str, Codes]) -> tuple[Codes, dict[str, int]]:
    """Positions in `rows` that are taken, and how many rows went over which limit, in the order in which limits are held.

    Args:
        ranks: of each of `rows` its place in the draw, smallest first.
        keys: of all rows there are.
        rows: numbers in `keys` of those that may be taken.
        tags: per tag that quotas or balance name, of each of `rows` the position of its value in `TAGS`, -1 where it has none.
    """
    has_cap = request.max_per_drive is not None or request.max_per_vehicle is not None
    if not has_cap and not request.balance.ratios() and (request.max_samples is None or len(rows) <= request.max_samples):
        return np.arange(len(rows)), {"over_max_samples": 0}
    caps = [
        (name, codes[rows], cap)  # a drive's rows are a vehicle's, so what is over a drive's cap never fills a vehicle's
        for name, codes, cap in (
            ("over_max_per_drive", keys.drive, request.max_per_drive),
            ("over_max_per_vehicle", keys.vehicle, request.max_per_vehicle),
        )
        if cap is not None
    ]
    by_rank = np.argsort(ranks, kind="stable")
    wanted = _wanted(request, by_rank, caps, tags)
    is_wanted = np.zeros(len(rows), dtype=bool)
    is_wanted[wanted] = True
    order = np.concatenate([wanted, by_rank[~is_wanted[by_rank]]])
    over: dict[str, int] = {}
    for name, codes, cap in caps:
        kept = order[positions(codes[order]) < cap]
        over[name], order = len(order) - len(kept), kept
    if request.balance.ratios():
        kept = _balanced(request, order, tags)
        over["over_balance"] = len(order) - len(kept)
        order = _evenly(request, kept, is_wanted, tags)
    taken = order[: request.max_samples]
    over["over_max_samples"] = len(order) - len(taken)
    return taken, over


def positions(codes: Codes) -> Codes:
    """Of each row how many before it have its number; -1 for rows without one, which are under no cap."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(codes) else np.zeros(0, dtype=np.int64)
    found = np.empty(len(codes), dtype=np.int64)
    found[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    return np.where(codes >= 0, found, -1)


def _wanted(request: ShardRequest, by_rank: Codes, caps: list[tuple[str, Codes, int]], tags: Mapping[str, Codes]) -> Codes:
    """The rows that fill the quotas as far as the caps let them, so ordered that every beginning of them serves all quotas alike."""
    is_wanted = np.zeros(len(by_rank), dtype=bool)
    share = np.zeros(len(by_rank))
    for tag, value, count in request.quotas.wanted():
        has_value = tags[tag] == TAGS[tag].index(value)
        held = int((is_wanted & has_value).sum())
        if held >= count:
            continue
        found = by_rank[(has_value & ~is_wanted)[by_rank]]
        for _, codes, cap in caps:
            used = np.bincount(codes[is_wanted & (codes >= 0)], minlength=int(codes.max(initial=0)) + 1)
            found = found[(codes[found] < 0) | (positions(codes[found]) + used[codes[found]] < cap)]
        found = found[: count - held]
        is_wanted[found] = True
        share[found] = (held + 1 + np.arange(len(found))) / count
    chosen = by_rank[is_wanted[by_rank]]
    return chosen[np.argsort(share[chosen], kind="stable")]


def _balanced(request: ShardRequest, order: Codes, tags: Mapping[str, Codes]) -> Codes:
    """What is left once no value of a balanced tag outnumbers its rarest by more than the ratio, for all such tags at once."""
    while True:
        before = len(order)
        for tag, ratio in request.balance.ratios():
            codes = tags[tag][order]
            counts = np.bincount(codes[_says(tag, codes)])
            if counts.any():
                order = order[positions(codes + 1) < math.floor(ratio * int(counts[counts > 0].min()))]
        if len(order) == before:
            return order


def _says(tag: str, codes: Codes) -> Mask:
    return np.asarray((codes >= 0) & (codes != TAGS[tag].index("undefined")))


def _evenly(request: ShardRequest, order: Codes, is_wanted: Mask, tags: Mapping[str, Codes]) -> Codes:
    """The rows so ordered that every beginning of them, after what quotas want, is spread over the values of the balanced tags."""
    cell = np.zeros(len(order), dtype=np.int64)
    for tag, _ in request.balance.ratios():
        cell = cell * (len(TAGS[tag]) + 1) + tags[tag][order] + 1
    turn = np.where(is_wanted[order], -1, positions(cell))
    return order[np.argsort(turn, kind="stable")]
