"""Masked copies that were made by other models than those in use go, but for those of a kind that a shard set which stands was made of.

What will go is recorded before the first copy goes, and again once they are gone: a run that was killed is finished by the next, and the
ledger ends as that of a run that was not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from curation.layout import MASKED, shard_key
from curation.ports import Eraser, Ledger, ObjectStore
from curation.records import LedgerEntry, StageCount

SUPERSEDED: Final = "masked_superseded"  # kinds of ledger entries: what will go,
STAGE: Final = "masked_removed"  # and that it is gone
_SHARDS: Final = "shards"
_INDEX_FILE: Final = "index.json"
_COPIES: Final = "copies."  # before the identity of a kind of copies, in an entry's facts
# Pictures that a person was shown lie beside the copies and are none: they go with the clip alone.
_COPY: Final = re.compile(MASKED + r"[0-9a-f]{2}/(?P<clip_id>[0-9a-f]{64})/(?P<identity>[0-9a-f]{64})(\.json|/[0-9a-f]{64}\.mp4)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """The masked copy of a clip by models and way of masking: its objects, the one that tells of it last."""

    identity: str
    keys: tuple[str, ...]


def run(*, identity: str, store: ObjectStore, eraser: Eraser, ledger: Ledger, dry_run: bool = False) -> StageCount:
    """All copies at home, and where each went: `in_use`, `of_shard_sets`, `removed`.

    Args:
        identity: digest of the models in use and of how they mask.
        store: the home store.
        eraser: removes copies.
        ledger: says what shard sets that stand were made of, and what went.
        dry_run: nothing is removed and nothing recorded; `removed` are those that would be.
    """
    entries = list(ledger.entries())
    kept = {identity} | _of_standing_sets(entries, store)
    found = Counter(copy.identity for copy in _copies(store))
    going = {name: copies for name, copies in sorted(found.items()) if name not in kept}
    count = StageCount(
        stage=SUPERSEDED,
        subject=f"copies-{sum(entry.kind == SUPERSEDED for entry in entries):06d}",
        rows_in=found.total(),
        accounted={
            "in_use": found[identity],
            "of_shard_sets": sum(copies for name, copies in found.items() if name in kept - {identity}),
            "removed": sum(going.values()),
        },
    )
    if dry_run:
        return count
    begun = _begun(entries)
    if begun is not None:
        _finish(begun, kept, store=store, eraser=eraser, ledger=ledger)
        return run(identity=identity, store=store, eraser=eraser, ledger=ledger)
    if going:
        ledger.record(count, files={}, facts={f"{_COPIES}{name}": str(copies) for name, copies in going.items()})
        _finish(_begun(list(ledger.entries())), kept, store=store, eraser=eraser, ledger=ledger)
    return count


def _begun(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """The removal that was begun and not finished, None where there is none."""
    done = {entry.subject for entry in entries if entry.kind == STAGE}
    return next((entry for entry in entries if entry.kind == SUPERSEDED and entry.subject not in done), None)


def _finish(begun: LedgerEntry | None, kept: set[str], *, store: ObjectStore, eraser: Eraser, ledger: Ledger) -> None:
    """Remove what was recorded to go; of a kind that is needed again since then, nothing goes any more."""
    if begun is None:
        return
    told = {name.removeprefix(_COPIES): int(copies) for name, copies in begun.facts.items() if name.startswith(_COPIES)}
    for copy in _copies(store):
        for key in copy.keys if copy.identity in told.keys() - kept else ():
            eraser.remove(key)
    removed = sum(copies for name, copies in told.items() if name not in kept)
    accounted = {"removed": removed} | ({"called_off": sum(told.values()) - removed} if told.keys() & kept else {})
    ledger.record(StageCount(stage=STAGE, subject=begun.subject, rows_in=sum(told.values()), accounted=accounted), files={})


def _copies(store: ObjectStore) -> Iterator[_Copy]:
    """Every copy, clip by clip; one of which a kill left bytes alone is one, too."""
    objects = ((key, _COPY.fullmatch(key)) for key in store.keys(MASKED))
    matched = ((key, match["clip_id"], match["identity"]) for key, match in objects if match is not None)
    for (_, identity), keys in groupby(matched, key=lambda one: one[1:]):
        yield _Copy(identity=identity, keys=tuple(sorted((key for key, *_ in keys), key=lambda key: key.endswith(".json"))))


def _of_standing_sets(entries: Sequence[LedgerEntry], store: ObjectStore) -> set[str]:
    """Identities of what masked the shard sets that stand: their copies say on which frames each was looked at again."""
    last: Mapping[str, LedgerEntry] = {entry.subject: entry for entry in entries if entry.kind == _SHARDS}
    masked = {name: entry.facts["masking"] for name, entry in last.items() if entry.facts.get("masked") == "yes"}
    return {identity for name, identity in masked.items() if store.size(shard_key(name, _INDEX_FILE)) is not None}
