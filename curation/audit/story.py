"""The whole story of one clip or row: where it came in, what was said of it, whether it left and came back, and whether it was erased."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from curation import layout, schema
from curation.audit import shard_register
from curation.audit.recorded import Recorded
from curation.audit.shard_register import ShardSetLine
from curation.audit.trace import Trace, trace
from curation.errors import UsageError
from curation.records import REMOVED, LedgerEntry
from curation.tables import from_parquet

VEHICLE_ROWS: Final = 100
ID: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}", re.ASCII)  # of a clip, which is a digest, or of a row, which is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a clip came in: by which batch, when, and the verdict on it with its reasons; verdict is empty before inspection."""

    clip_id: str
    batch_id: str
    pulled_at: str
    verdict: str
    reasons: tuple[str, ...]
    validated_at: str
    erased_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSetStory:
    """A shard set: what was built, which withdrawal or erasure removed it (empty where it stands), and the others of its name."""

    line: ShardSetLine
    removed_at: str
    removed_by: str
    others: tuple[ShardSetLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What evidence says of an id; `trace` is None where no release speaks of it.

    subject: the id; empty for a vehicle, whose id is repeated nowhere. more_rows: rows of a vehicle that are not told here.
    """

    subject: str
    arrivals: tuple[Arrival, ...] = ()
    trace: Trace | None = None
    shard_set: ShardSetStory | None = None
    more_rows: int = 0


def story(subject: str, on: Recorded) -> Story | None:
    """Everything that the ledger and its files say of a clip id, a row id or a shard set; None where they know none of it.

    Raises:
        EvidenceBroken: a document that the answer rests on is not what the ledger recorded.
    """
    if ID.fullmatch(subject) is None:
        told = _shard_set(subject, on)
        return None if told is None else Story(subject=subject, shard_set=told)
    try:
        traced = trace(subject, store=on.store, entries=on.entries)
    except UsageError:
        traced = None
    clips = (subject,) if traced is None else traced.clip_ids
    arrivals = tuple(found for clip_id in clips if (found := _arrival(clip_id, on)) is not None)
    return None if traced is None and not arrivals else Story(subject=subject, arrivals=arrivals, trace=traced)


def vehicle_story(vehicle_id: str, on: Recorded, *, most: int = VEHICLE_ROWS) -> Story | None:
    """What left of a vehicle, the first `most` rows of it; None where no release speaks of it.

    Raises:
        EvidenceBroken: as `story`.
    """
    try:
        traced = trace(vehicle_id, store=on.store, entries=on.entries)
    except UsageError:
        return None
    if traced.kind != "vehicle":
        return None
    shown = replace(traced, subject="", rows=traced.rows[:most])
    return Story(subject="", trace=shown, more_rows=len(traced.rows) - len(shown.rows))


def _shard_set(shard_set_id: str, on: Recorded) -> ShardSetStory | None:
    sets = shard_register.lines(on)
    line = next((one for one in sets if one.shard_set_id == shard_set_id), None)
    if line is None:
        return None
    folder, name = layout.shard_key(shard_set_id, ""), shard_set_id.rpartition("-")[0]
    removals = [entry for entry in on.of_kind(REMOVED) if any(key.startswith(folder) for key in entry.files)] if line.is_removed else []
    return ShardSetStory(
        line=line,
        removed_at=_at(removals[-1] if removals else None),
        removed_by=removals[-1].subject if removals else "",
        others=tuple(one for one in sets if one is not line and one.shard_set_id.rpartition("-")[0] == name),
    )


def _arrival(clip_id: str, on: Recorded) -> Arrival | None:
    pulled = next((entry for entry in on.of_kind("pull") if clip_id in entry.files.values()), None)
    if pulled is None:
        return None
    verdict, reasons = _verdict(clip_id, pulled.subject, on)
    validated = on.about(pulled.subject).get("validate")
    erased = next((entry for entry in on.of_kind(REMOVED) if clip_id in entry.files.values()), None)
    return Arrival(
        clip_id=clip_id,
        batch_id=pulled.subject,
        pulled_at=pulled.at,
        verdict=verdict,
        reasons=reasons,
        validated_at=_at(validated) if validated is not None and not validated.counts.get("refused") else "",
        erased_at=_at(erased),
    )


def _at(entry: LedgerEntry | None) -> str:
    return "" if entry is None else entry.at


def _verdict(clip_id: str, batch_id: str, on: Recorded) -> tuple[str, tuple[str, ...]]:
    key = layout.manifest_key(batch_id)
    if key not in on.digests:
        return "", ()
    rows = from_parquet(on.read(key), schema.CLIPS).select(["clip_id", "verdict", "reasons"]).to_pylist()
    found = next((row for row in rows if row["clip_id"] == clip_id), None)
    return ("", ()) if found is None else (found["verdict"], tuple(found["reasons"]))
