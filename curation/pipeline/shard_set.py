"""One request: previewed, built, and built again without what was withdrawn."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from curation import layout, proofs, wiring
from curation.errors import ConcurrentChange, UsageError
from curation.pipeline.base import curated
from curation.settings import Settings
from curation.shards.card import FILTER_WITHHELD
from curation.shards.files import sets_holding
from curation.shards.preview import preview
from curation.shards.request import ShardRequest, from_mapping
from curation.stages import shards
from curation.withdrawal_files import SHARDS_FILE, barred_clip_ids

log = logging.getLogger(__name__)


def build_shards(settings: Settings, request: ShardRequest, *, snapshot_id: int | None = None) -> str:
    """Id of the request's shard set, built from main of curated.clips as it is now, or from that snapshot of it.

    Raises:
        ConcurrentChange: a clip of it was withdrawn while it was built.
    """
    home = wiring.home(settings)
    rows, at = curated(settings, snapshot_id=snapshot_id)
    withdrawn = barred_clip_ids(home.store, list(home.ledger.entries()))
    audit = partial(proofs.of_shards, settings, home, rows)
    made = shards.run(request, rows, at, store=home.store, ledger=home.ledger, withdrawn=withdrawn, audit=audit)
    shard_set_id = made.shard_set_id
    since = barred_clip_ids(home.store, list(home.ledger.entries()))
    if len(since) > len(withdrawn) and shard_set_id in sets_holding(since.to_pylist(), home.store):
        # A withdrawal is recorded and then looks for shard sets; we wrote one and then look for withdrawals: one of two sees the other.
        raise ConcurrentChange(
            "a clip of it was withdrawn while it was built", subject=f"shards {shard_set_id}", fix="ask for the withdrawal once more"
        )
    return shard_set_id


def preview_shards(settings: Settings, request: ShardRequest) -> dict[str, Any]:
    """What a request would give, before any copy."""
    on = wiring.ground(settings)
    return preview(request, curated(settings)[0], withdrawn=barred_clip_ids(on.store, list(on.ledger.entries())))


def rebuild_shard_sets(settings: Settings, withdrawal_id: str) -> dict[str, str | None]:
    """Shard set that a withdrawal removed -> the one that takes its place, built again from the same snapshot without the clips.

    None where nobody kept what it was asked for, or nothing of it is left. Done twice it gives the same sets.
    """
    store, key = wiring.store(settings), layout.withdrawal_key(withdrawal_id, SHARDS_FILE)
    removed: dict[str, Any] = {} if store.size(key) is None else json.loads(store.read(key))
    return {name: _rebuilt(settings, said) for name, said in sorted(removed.items())}


def _rebuilt(settings: Settings, said: Mapping[str, Any]) -> str | None:
    request = said["request"]
    if request is None or str(request.get("filter")).startswith(FILTER_WITHHELD):
        return None
    for snapshot_id in (int(said["snapshot_id"] or 0) or None, None):
        try:
            return build_shards(settings, from_mapping(request), snapshot_id=snapshot_id)
        except UsageError as problem:  # an erasure has taken the snapshot, or nothing is left to take
            log.info("%s", problem)
    return None
