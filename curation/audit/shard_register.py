"""Shard sets as the ledger and their indexes tell of them: from which snapshot, for which request, how many samples, still there or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from curation.audit.recorded import Recorded, accounted
from curation.layout import shard_key
from curation.records import LedgerEntry

_BUILT: Final = "shards"  # kind of the entries, and the folder
_INDEX: Final = "index.json"
_NO_SPLIT: Final = frozenset({"withdrawn", "undecodable", "unmaskable"})  # all other names of what is left out hold an underscore


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split of a shard set: its samples and the bytes of its archives."""

    name: str
    sample_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSetLine:
    """A shard set. `request` is what was asked for, empty where the set was removed; `left_out` is why considered rows are in no split."""

    shard_set_id: str
    built_at: str
    snapshot_id: str
    version: str
    rows_in: int
    splits: tuple[Split, ...]
    left_out: Mapping[str, int]
    request: Mapping[str, Any]
    is_removed: bool


def lines(on: Recorded) -> tuple[ShardSetLine, ...]:
    """Every shard set that was built, the latest first.

    Raises:
        EvidenceBroken: an index is not what the ledger recorded.
    """
    last = {entry.subject: entry for entry in on.of_kind(_BUILT)}
    return tuple(_line(entry, on) for entry in reversed(last.values()))


def _line(entry: LedgerEntry, on: Recorded) -> ShardSetLine:
    key = shard_key(entry.subject, _INDEX)
    index = on.document(key) if key in on.digests else {}
    counts = accounted(entry)
    names = list(index["splits"]) if index else [name for name in counts if name not in _NO_SPLIT and "_" not in name]
    sizes = {name: sum(shard["bytes"] for shard in index.get("shards", ()) if shard["split"] == name) for name in names}
    return ShardSetLine(
        shard_set_id=entry.subject,
        built_at=entry.at,
        snapshot_id=entry.facts.get("snapshot", ""),
        version=entry.facts.get("version", ""),
        rows_in=entry.counts["rows_in"],
        splits=tuple(Split(name=name, sample_count=counts.get(name, 0), size_bytes=sizes[name]) for name in names),
        left_out={name: rows for name, rows in counts.items() if name not in names},
        request=index.get("request", {}),
        is_removed=not index,
    )
