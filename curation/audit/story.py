"""The whole story of one clip or row: where it came in, what was said of it, whether it left and came back, and whether it was erased."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from curation import layout, schema
from curation.audit.recorded import Recorded
from curation.audit.trace import Trace, trace
from curation.errors import UsageError
from curation.records import REMOVED, LedgerEntry
from curation.tables import from_parquet

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
class Story:
    """What evidence says of an id; `trace` is None where no release speaks of it."""

    subject: str
    arrivals: tuple[Arrival, ...]
    trace: Trace | None


def story(subject: str, on: Recorded) -> Story | None:
    """Everything that the ledger and its files say of a clip id or a row id; None where they know none of it.

    Raises:
        EvidenceBroken: a document that the answer rests on is not what the ledger recorded.
    """
    if ID.fullmatch(subject) is None:
        return None
    try:
        traced = trace(subject, store=on.store, entries=on.entries)
    except UsageError:
        traced = None
    clips = (subject,) if traced is None else traced.clip_ids
    arrivals = tuple(found for clip_id in clips if (found := _arrival(clip_id, on)) is not None)
    return None if traced is None and not arrivals else Story(subject=subject, arrivals=arrivals, trace=traced)


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
