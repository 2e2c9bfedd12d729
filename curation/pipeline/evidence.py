"""What can be proved and traced: whoever asks waits for it, so what only other work needs is not imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from curation import wiring
from curation.audit import trace as tracing
from curation.audit import verify as verification
from curation.choices import Clips
from curation.records import LedgerEntry
from curation.settings import Settings


def ledger_entries(settings: Settings) -> Iterator[LedgerEntry]:
    """All entries of the ledger, in order."""
    return wiring.home(settings).ledger.entries()


def verify(
    settings: Settings, *, head: str | None = None, clips: Clips | None = None, progress: Callable[[str], None] | None = None
) -> verification.Proof:
    """Proof that nothing the ledger covers has changed; `clips` says of which the bytes are read, None leaves it to their size.

    `progress` hears of each file before it is read.

    Raises:
        EvidenceBroken: names the first thing that does not hold.
    """
    return verification.verify(wiring.store(settings), wiring.ledger_public_key(settings), head=head, clips=clips, progress=progress)


def trace(settings: Settings, subject: str, *, withheld: bool = False) -> tracing.Trace:
    """What left of a clip, a released row or a vehicle, under which rule and pack, on whose word, and whether it came back.

    Args:
        subject: the id.
        withheld: whether it is a vehicle of which also what stayed is looked for: curated.clips is opened and read for that, which takes
            longer than the rest of the answer.

    Raises:
        UsageError: no release speaks of it.
        EvidenceBroken: the ledger, or a document that the answer rests on, is not what was recorded.
    """
    on, of_vehicle = wiring.ground(settings), None
    if withheld:
        of_vehicle = wiring.home(settings).catalog.clip_ids(settings.curated_table, "vehicle_id", subject).to_pylist()
    return tracing.trace(subject, store=on.store, entries=list(on.ledger.entries()), clip_ids=of_vehicle)


def published(settings: Settings) -> pa.Table:
    """All rows that are overseas now."""
    return wiring.overseas(settings).read(settings.publish.table)
