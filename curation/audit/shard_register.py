"""Shard sets as the ledger and their indexes tell of them: of which snapshot and request, how many samples, whether masked or removed."""

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
class Masking:
    """What masked a set's faces and plates, and on whose word, as the ledger tells it: also of a set that was removed.

    models: what each found -> version and SHA-256 of the model. provers: the same of those that looked at the masked copies again, on
    `proved_frame_count` frames. evaluation: its id and SHA-256. result: `passed`. expires_at: until when it holds, ISO 8601.
    unmaskable: clips left out because they could not be masked. not_clean: because their copy was not clean when it was looked at again.
    """

    models: Mapping[str, str]
    provers: Mapping[str, str]
    evaluation: str
    result: str
    is_demo: bool
    expires_at: str
    mask_count: int
    frame_count: int
    proved_frame_count: int
    unmaskable: int
    not_clean: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSetLine:
    """A shard set. `request` is what was asked for, empty where the set was removed; `left_out` is why considered rows are in no split.

    `masking` is None where faces and plates are not masked.
    """

    shard_set_id: str
    built_at: str
    snapshot_id: str
    version: str
    rows_in: int
    splits: tuple[Split, ...]
    left_out: Mapping[str, int]
    request: Mapping[str, Any]
    masking: Masking | None
    is_removed: bool

    @property
    def sample_count(self) -> int:
        """Of all its splits."""
        return sum(split.sample_count for split in self.splits)


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
        masking=_masking(entry),
        is_removed=not index,
    )


def _masking(entry: LedgerEntry) -> Masking | None:
    facts = entry.facts
    if facts.get("masked") != "yes":
        return None
    models, provers = (
        {name.removeprefix(part): said for name, said in facts.items() if name.startswith(part)} for part in ("models.", "proof.")
    )
    return Masking(
        models=models,
        provers=provers,
        evaluation=facts["evaluation"],
        result=facts["evaluation_result"],
        is_demo=facts["evaluation_is_demo"] == "yes",
        expires_at=facts["evaluation_expires_at"],
        mask_count=int(facts["masks"]),
        frame_count=int(facts["frames"]),
        proved_frame_count=int(facts["proved_frames"]),
        unmaskable=entry.counts["unmaskable"],
        not_clean=entry.counts["not_clean"],
    )
