"""One request: previewed, built, and built again without what was withdrawn or erased."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import pyarrow as pa

from curation import layout, proofs, wiring
from curation.erasure_files import REQUEST_FILE
from curation.errors import ConcurrentChange, UsageError
from curation.pipeline.base import curated, pinned
from curation.ports import Engine, ObjectStore
from curation.records import REMOVED
from curation.settings import Settings
from curation.shards.files import SHARDS_FOLDER, set_of, sets_holding
from curation.shards.preview import ENCODED_COLUMNS, columns_of_preview, preview
from curation.shards.request import ShardRequest, from_mapping
from curation.shards.selection import NearPairs
from curation.stages import duplicates, erase, shards
from curation.withdrawal_files import SHARDS_FILE, barred_clip_ids

log = logging.getLogger(__name__)
# Clips of which all looks are compared, beside what `duplicate_of` tells: a second for a thousand, 166 CPU seconds for 60,000, four times
# that for twice as many; copying a hundred thousand clips takes longer.
_COMPARED_AHEAD_MAX: Final = 1_000
_COMPARED_MAX: Final = 100_000
_SHARD_LIMIT_S: Final = 6 * 3600.0  # a shard of a gigabyte of pictures comes of hours of video


def build_shards(settings: Settings, request: ShardRequest, *, snapshot_id: int | None = None) -> str:
    """Id of the request's shard set, built from main of curated.clips as it is now, or from that snapshot of it.

    Raises:
        ConcurrentChange: a clip of it was withdrawn while it was built.
    """
    home = wiring.home(settings)
    rows, at = curated(settings, snapshot_id=snapshot_id, columns=shards.columns_of(request))
    withdrawn = barred_clip_ids(home.store, list(home.ledger.entries()))
    audit = partial(proofs.of_shards, settings, home, rows)
    workers = shards.Workers(engine=_engine(settings), settings=settings.model_dump(mode="json"))
    made = shards.run(
        request,
        rows,
        at,
        store=home.store,
        ledger=home.ledger,
        workers=workers,
        withdrawn=withdrawn,
        near=_near(settings, home, at, most=_COMPARED_MAX),
        audit=audit,
    )
    shard_set_id = made.shard_set_id
    if made.created:
        home.catalog.pin(settings.curated_table, f"{shards.STAGE}.{shard_set_id}", at)  # as upkeep will, each night
    since = barred_clip_ids(home.store, list(home.ledger.entries()))
    if len(since) > len(withdrawn) and shard_set_id in sets_holding(since.to_pylist(), home.store):
        # A withdrawal is recorded and then looks for shard sets; we wrote one and then look for withdrawals: one of two sees the other.
        raise ConcurrentChange(
            "a clip of it was withdrawn while it was built", subject=f"shards {shard_set_id}", fix="ask for the withdrawal once more"
        )
    return shard_set_id


def preview_shards(settings: Settings, request: ShardRequest) -> dict[str, Any]:
    """What a request would give, before any copy, from main of curated.clips as it is now."""
    home = wiring.home(settings)
    at = pinned(settings, home)
    rows = home.catalog.stream(settings.curated_table, columns=columns_of_preview(request), encoded=ENCODED_COLUMNS, snapshot_id=at)
    withdrawn = barred_clip_ids(home.store, list(home.ledger.entries()))
    return preview(request, rows, withdrawn=withdrawn, near=_near(settings, home, at, most=_COMPARED_AHEAD_MAX))


def _near(settings: Settings, home: wiring.Home, snapshot_id: int, *, most: int) -> NearPairs:
    """Compares what clips look like, as their rows of that snapshot tell."""

    def find(clip_ids: pa.Array) -> set[tuple[str, str]]:
        columns = duplicates.COLUMNS
        rows = home.catalog.read(settings.curated_table, snapshot_id=snapshot_id, clip_ids=clip_ids.to_pylist(), columns=columns)
        return duplicates.pairs(rows, index=wiring.hash_index())

    return NearPairs(most=most, find=find)


def _engine(settings: Settings) -> Engine:
    """The engine of inspections, with the time that a shard of many clips takes instead of one clip's."""
    limit_s = max(settings.engine.time_limit_s, _SHARD_LIMIT_S)
    return wiring.engine(settings.engine.model_copy(update={"time_limit_s": limit_s}), home=settings.home)


def rebuild_shard_sets(settings: Settings, removal_id: str) -> dict[str, str | None]:
    """Shard set that a withdrawal or erasure removed -> the one that takes its place, built again without the clips.

    From the same snapshot where it still stands, else from main. None where nobody knows what it was asked for, as of one that was never
    finished, or nothing of it is left. Done twice it gives the same sets.
    """
    home = wiring.home(settings)
    entries = list(home.ledger.entries())
    is_erasure = home.store.size(layout.erasure_key(removal_id, REQUEST_FILE)) is not None
    if is_erasure and not erase.read_request(removal_id, store=home.store, ledger=home.ledger).clip_ids:
        return {}  # the sets themselves were past their term
    key = layout.withdrawal_key(removal_id, SHARDS_FILE)
    unfinished = [] if home.store.size(key) is None else json.loads(home.store.read(key))
    gone = (entry for entry in entries if (entry.kind, entry.subject) == (REMOVED, removal_id))
    finished = (set_of(key) for entry in gone for key in entry.files if key.startswith(SHARDS_FOLDER))
    made = {entry.subject: entry.facts for entry in entries if entry.kind == shards.STAGE}
    return {name: _rebuilt(settings, made.get(name, {}), home.store) for name in sorted({*unfinished, *finished})}


def _rebuilt(settings: Settings, facts: Mapping[str, str], store: ObjectStore) -> str | None:
    key = layout.shard_request_key(facts.get("request", "unknown"))
    if store.size(key) is None:
        return None
    request = from_mapping(json.loads(store.read(key)))
    for snapshot_id in (int(facts["snapshot"]), None):
        try:
            return build_shards(settings, request, snapshot_id=snapshot_id)
        except UsageError as problem:  # an erasure has taken the snapshot, or nothing is left to take
            log.info("%s", problem)
    return None
