"""One request: built, and built again without what was withdrawn or erased."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from curation import layout, proofs, wiring
from curation.erasure_files import REQUEST_FILE
from curation.errors import ConcurrentChange, EvaluationRefused, MaskingRefused, ModelRefused, UsageError
from curation.pipeline.base import curated
from curation.pipeline.masking import masking_permit
from curation.ports import Engine, ObjectStore
from curation.records import REMOVED
from curation.settings import Settings
from curation.shards.files import SHARDS_FOLDER, erased_copies, set_of, sets_holding
from curation.shards.masked_copies import MaskingStep, Workers
from curation.shards.request import ShardRequest, from_mapping
from curation.stages import erase, shards, withdraw
from curation.withdrawal_files import SHARDS_FILE, barred_clip_ids

log = logging.getLogger(__name__)
_SHARD_LIMIT_S: Final = 6 * 3600.0  # a shard of a gigabyte of pictures comes of hours of video


def build_shards(
    settings: Settings, request: ShardRequest, *, snapshot_id: int | None = None, progress: Callable[[MaskingStep], None] | None = None
) -> str:
    """Id of the request's shard set, built from main of curated.clips as it is now, or from that snapshot of it.

    `progress` hears of each clip that is masked for it.

    Raises:
        EvaluationRefused, ModelRefused: faces and plates must be masked, and the models in use may not do it.
        MaskingRefused: they must be, and a clip was not looked at for them.
        ConcurrentChange: a clip of it was withdrawn while it was built.
    """
    permit = masking_permit(settings) if request.masked else None
    home = wiring.home(settings)
    rows, at = curated(settings, snapshot_id=snapshot_id, columns=shards.columns_of(request))
    withdrawn = barred_clip_ids(home.store, list(home.ledger.entries()))
    audit = partial(proofs.of_shards, settings, home, rows)
    workers = Workers(engine=_engine(settings), settings=settings.model_dump(mode="json"), tell=partial(_tell, progress))
    try:
        made = shards.run(
            request,
            rows,
            at,
            store=home.store,
            ledger=home.ledger,
            workers=workers,
            withdrawn=withdrawn,
            permit=permit,
            audit=audit,
        )
    finally:
        if permit is not None:
            _remove_copies_of_erased(settings, home.store)
    shard_set_id = made.shard_set_id
    if made.created:
        home.catalog.pin(settings.curated_table, f"{shards.STAGE}.{shard_set_id}", at)  # as upkeep will, each night
    since = barred_clip_ids(home.store, list(home.ledger.entries()))
    if len(since) > len(withdrawn) and shard_set_id in sets_holding(since.to_pylist(), home.store):
        # A withdrawal is recorded and then looks for shard sets; we wrote one and then look for withdrawals: one of two sees the other.
        withdraw.clear_late_sets(store=home.store, eraser=wiring.eraser(settings), ledger=home.ledger)
        raise ConcurrentChange("a clip of it was withdrawn while it was built", subject=f"shards {shard_set_id}", fix="build it again")
    return shard_set_id


def _tell(progress: Callable[[MaskingStep], None] | None, step: MaskingStep) -> None:
    log.info("%s", step)
    if progress is not None:
        progress(step)


def _remove_copies_of_erased(settings: Settings, store: ObjectStore) -> None:
    """Remove what this build, or one that was killed, masked of clips while they were erased."""
    eraser = wiring.eraser(settings)
    for key in erased_copies(store):
        eraser.remove(key)


def _engine(settings: Settings) -> Engine:
    """The engine of inspections, with the time that a shard of many clips takes instead of one clip's."""
    limit_s = max(settings.engine.time_limit_s, _SHARD_LIMIT_S)
    return wiring.engine(settings.engine.model_copy(update={"time_limit_s": limit_s}), home=settings.home)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The shard set that takes the place of one that was removed; None with the reason `why` there is none."""

    shard_set_id: str | None
    why: str = ""


def rebuild_shard_sets(settings: Settings, removal_id: str) -> dict[str, Rebuilt]:
    """Shard set that a withdrawal or erasure removed -> the one that takes its place, built again without the clips.

    From the same snapshot where it still stands, else from main. None takes its place where nobody knows what it was asked for, as of one
    that was never finished, where nothing of it is left, or where it must be masked and the models in use may no longer do that: what was
    removed stays removed. Done twice it gives the same sets.
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


def _rebuilt(settings: Settings, facts: Mapping[str, str], store: ObjectStore) -> Rebuilt:
    key = layout.shard_request_key(facts.get("request", "unknown"))
    if store.size(key) is None:
        named = "its request named what was erased; ask for it anew"
        return Rebuilt(shard_set_id=None, why=named if facts else "it was not finished, so nobody knows what it was asked for")
    request, why = from_mapping(json.loads(store.read(key))), ""
    for snapshot_id in (int(facts["snapshot"]), None):
        try:
            return Rebuilt(shard_set_id=build_shards(settings, request, snapshot_id=snapshot_id))
        except UsageError as problem:  # an erasure has taken the snapshot, or nothing is left to take
            why = str(problem)
        except (EvaluationRefused, MaskingRefused, ModelRefused) as refused:
            why = str(refused)
            break
    log.info("%s", why)
    return Rebuilt(shard_set_id=None, why=why)
