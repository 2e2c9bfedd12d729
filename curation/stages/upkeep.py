"""Upkeep of the catalogs, each night: what shard sets and open releases were made of is pinned, all else that was superseded goes.

It changes no row and no object that the ledger covers, so the ledger has nothing to say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from curation.layout import shard_key
from curation.ports import Clock, Ledger, ObjectStore, Upkeep
from curation.records import LedgerEntry, UpkeepCount
from curation.release_files import PUBLISHED, REFUSED, SUPERSEDED_FILE, cut_releases

_SHARDS: Final = "shards"
_INDEX_FILE: Final = "index.json"


def run(
    *,
    home: Upkeep,
    curated_table: str,
    overseas: Upkeep,
    published_table: str,
    check_overseas: Callable[[], object],
    keep: timedelta,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
) -> tuple[UpkeepCount, UpkeepCount]:
    """What was done at home and overseas; a run that was interrupted is finished by the next.

    Args:
        home: the home catalog.
        curated_table: its table.
        overseas: the overseas catalog.
        published_table: its table.
        check_overseas: raises where that table is not this home's; then nothing is done to it.
        keep: how long superseded snapshots stay; a publication must not take longer.
        store: the home store.
        ledger: says what shard sets and releases were made of.
        clock: tells which releases were published over `keep` ago.
    """
    entries = list(ledger.entries())
    kept_s = keep.total_seconds()
    at_home = home.keep_up(curated_table, pins=pins(entries, store), keep_s=kept_s)
    check_overseas()
    abroad = overseas.keep_up(published_table, pins={}, keep_s=kept_s, settled=settled(entries, clock.now() - keep))
    return at_home, abroad


def pins(entries: Sequence[LedgerEntry], store: ObjectStore) -> dict[str, int]:
    """Name -> snapshot of curated.clips of every shard set that stands, and of every release that may still be published."""
    shard_sets = {f"{_SHARDS}.{entry.subject}": int(entry.facts["snapshot"]) for entry in entries if entry.kind == _SHARDS}
    standing = {name: at for name, at in shard_sets.items() if store.size(shard_key(name.partition(".")[2], _INDEX_FILE)) is not None}
    over = {entry.subject for entry in entries if entry.kind in {PUBLISHED, REFUSED}}
    still_open = [folder for folder in cut_releases(store) if folder.release_id not in over and not folder.has(SUPERSEDED_FILE)]
    return standing | {f"release.{folder.release_id}": int(folder.evidence()["home_snapshot_id"]) for folder in still_open}


def settled(entries: Sequence[LedgerEntry], before: datetime) -> frozenset[str]:
    """Releases whose receipt the ledger took before then: nothing looks for their snapshots by name any more."""
    return frozenset(entry.subject for entry in entries if entry.kind == PUBLISHED and datetime.fromisoformat(entry.at) < before)
