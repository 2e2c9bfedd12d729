"""One batch: discovered, pulled, inspected, validated and made main."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import layout, proofs, schema, wiring
from curation.audit import validation_report
from curation.digests import sha256_hex
from curation.errors import UsageError
from curation.pipeline.base import today_at_home
from curation.records import StageCount
from curation.residency import sites
from curation.settings import Settings
from curation.stages import duplicates, inspect_clips, manifest, pull, validate
from curation.tables import from_parquet, to_parquet

log = logging.getLogger(__name__)

_RESTATEMENTS = 32  # as often as validation tries again
_DIGEST_DIGITS = 16


def discover(settings: Settings, source_name: str) -> list[str]:
    """Ids of the batches of a source that are still to do: new ones, and those that an earlier run left unfinished or unaudited.

    Raises:
        SiteRefused: the place where data rests may take no more.
    """
    return list(discovery(settings, source_name).batch_ids)


def discovery(settings: Settings, source_name: str) -> pull.Discovery:
    """What a source holds by fate, and the batches as `discover` names them.

    Raises:
        SiteRefused: the place where data rests may take no more.
    """
    source = wiring.source(settings, source_name)  # an unknown one is wrong use, and leaves no work folder behind
    home = wiring.ground(settings)
    _require_site(settings, home)
    found = pull.discover(source, store=home.store, batch_size=settings.pull.batch_size, settling=_settling(settings))
    log.info("source %s: %s", source_name, ", ".join(f"{count} {fate}" for fate, count in found.fates.items()))
    entries = list(home.ledger.entries())
    audited = {entry.subject for entry in entries if entry.kind == "validate"}
    written = [entry.subject for entry in entries if entry.kind == "manifest" and source_of(entry.subject) == source_name]
    # Those with a manifest first: they were listed before, and of a clip in two batches the row of the later one stands.
    to_do = dict.fromkeys([*(batch_id for batch_id in written if batch_id not in audited), *found.batch_ids])
    return replace(found, batch_ids=tuple(to_do))


def outlook(settings: Settings, source_name: str) -> pull.Outlook:
    """What a pull of the source would do with every entry; nothing is written."""
    source = wiring.source(settings, source_name)
    return pull.outlook(source, store=wiring.store(settings), settling=_settling(settings))


def _settling(settings: Settings) -> pull.Settling:
    return pull.Settling(settle_s=settings.pull.settle_s, wait_max_s=settings.pull.settle_wait_max_s, clock=wiring.clock())


def store_findings(settings: Settings) -> Mapping[str, str]:
    """What the home store is, and what was found out about it: how it writes once and checks, where it lies, who may read it."""
    return wiring.describe_store(settings)


def site_permissions(settings: Settings) -> tuple[sites.SitePermission, ...]:
    """The permissions that the declared site needs, as they stand today; none where no site is declared."""
    return () if settings.site is None else sites.permissions(settings.site, today=today_at_home(wiring.clock()))


def _require_site(settings: Settings, home: wiring.Ground) -> None:
    sites.require_site(settings.site, is_this_machine=settings.store.kind == "directory", today=today_at_home(home.clock))


def source_of(batch_id: str) -> str:
    """Name of the source that a batch was listed from."""
    return batch_id[: -_DIGEST_DIGITS - 1]


def ingest_batch(settings: Settings, batch_id: str) -> list[StageCount]:
    """Pull, inspect and write the manifest of one listed batch; what is done already is not done again."""
    home = wiring.ground(settings)  # once for both: whoever opens a ledger reads and checks all of it
    return [_pull_batch(settings, home, batch_id), _write_manifest(settings, home, batch_id)]


def pull_batch(settings: Settings, batch_id: str) -> StageCount:
    """Every entry of the batch's listing stored, quarantined or refused by name.

    Raises:
        SiteRefused: the place where data rests may take no more.
    """
    return _pull_batch(settings, wiring.ground(settings), batch_id)


def _pull_batch(settings: Settings, home: wiring.Ground, batch_id: str) -> StageCount:
    _require_site(settings, home)
    source = wiring.source(settings, source_of(batch_id))
    return pull.run(batch_id, source=source, store=home.store, video=wiring.video_reader(), ledger=home.ledger)


def write_manifest(settings: Settings, batch_id: str, *, progress: Callable[[int, int], None] | None = None) -> StageCount:
    """Inspect the batch's clips (going on from checkpoints) and write its manifest; `progress` hears how many are done, of how many."""
    return _write_manifest(settings, wiring.ground(settings), batch_id, tell=progress)


def _write_manifest(
    settings: Settings, home: wiring.Ground, batch_id: str, *, key: str | None = None, tell: Callable[[int, int], None] | None = None
) -> StageCount:
    if home.store.size(layout.pulled_key(batch_id)) is None:
        raise UsageError("was not pulled", subject=f"batch {batch_id}", fix="pull its source first (`curation pull SOURCE`)")
    pulled = from_parquet(home.store.read(layout.pulled_key(batch_id)), schema.PULLED)
    stored = pulled.filter(pc.equal(pulled["outcome"], "stored"))
    keys = dict(zip(stored["clip_id"].to_pylist(), stored["object_key"].to_pylist(), strict=True))
    wiring.tagger(settings.inspect.tagger)  # a model that does not fit stops the batch here, and quarantines no clip
    inspections = inspect_clips.run(
        keys,
        store=home.store,
        engine=wiring.engine(settings.engine, home=settings.home),
        policy=settings.inspect,
        clock=home.clock,
        limits=settings.engine.limits_digest(),
        tell=tell,
    )
    return manifest.run(
        batch_id,
        store=home.store,
        inspections=inspections,
        places=wiring.places(),
        ledger=home.ledger,
        policy=settings.inspect,
        clock=home.clock,
        stated=_stated_in_batch,
        key=key,
    )


def _stated_in_batch(rows: pa.Table) -> pa.Table:
    """A manifest knows its own batch only: its bytes must not depend on which batch was faster. Main knows all, `_restate_duplicates`."""
    return duplicates.stated(rows, duplicates.run(rows, rows.slice(0, 0), index=wiring.hash_index()))


def validate_batch(settings: Settings, batch_id: str) -> StageCount:
    """Audit the batch on a branch of curated.clips and make it main; what duplicates a clip of another batch is told so there.

    Raises:
        UsageError: there is no such batch.
        ValidationFailed: names the failing checks; main stays as it was.
    """
    home = wiring.home(settings)
    key = layout.manifest_key(batch_id)
    if home.store.size(key) is None:
        raise UsageError("has no manifest", subject=f"batch {batch_id}", fix="ingest it first (`curation manifest BATCH`)")
    proofs.of_listing(settings, home, batch_id)
    rows = from_parquet(home.store.read(key), schema.CLIPS)
    if not rows.num_rows:
        # The suite fails an empty table, rightly; a batch of sidecars and refused entries alone has nothing to audit, and says so.
        count = StageCount(stage="validate", subject=batch_id, rows_in=0, accounted={})
        home.ledger.record(count, files={key: sha256_hex(home.store.read(key))}, facts={"passed": "nothing to audit"})
        return count
    count = _validate(settings, home, batch_id, key)
    for _ in _settle_revisions(settings, home, f"manifests/batch={batch_id}/"):
        log.info("batch %s: took up a revision that an earlier run left", batch_id)
    _restate_duplicates(settings, home, batch_id)
    return count


def last_refusal(settings: Settings, batch_id: str) -> dict[str, Any] | None:
    """The result under which a batch, or its listing, was last refused, as its JSON says; None if it never was."""
    home = wiring.ground(settings)
    of_batch = [entry for entry in home.ledger.entries() if entry.subject == batch_id and entry.kind in {validate.STAGE, validate.PROOF}]
    refused = [entry for entry in of_batch if entry.facts.get("passed") == "false"]
    folder = layout.validation_key(batch_id, "")
    keys = [key for entry in refused[-1:] for key in entry.files if key.startswith(folder) and key.endswith(".json")]
    found: dict[str, Any] | None = json.loads(home.store.read(keys[0])) if keys else None
    return found


def _validate(settings: Settings, home: wiring.Home, batch_id: str, key: str) -> StageCount:
    return validate.run(
        batch_id,
        from_parquet(home.store.read(key), schema.CLIPS),
        catalog=home.catalog,
        table=settings.curated_table,
        validator=wiring.validator(settings),
        store=home.store,
        ledger=home.ledger,
        report=validation_report.render,
        key=key,
        related=proofs.held_against(settings, home, batch_id, key),
        turn=wiring.turn_at_main(settings),
    )


def _settle_revisions(settings: Settings, home: wiring.Home, prefix: str) -> Iterator[StageCount]:
    """Audit the revisions that a killed run wrote and the ledger knows no audit of."""
    keys = [key for key in home.store.keys(prefix) if layout.batch_of_revision(key) is not None]
    settled = {key for entry in home.ledger.entries() if entry.kind == validate.STAGE for key in entry.files} if keys else set()
    for key in keys:
        batch_id = layout.batch_of_revision(key)
        if batch_id is not None and key not in settled:
            yield _validate(settings, home, batch_id, key)


def _restate_duplicates(settings: Settings, home: wiring.Home, batch_id: str) -> None:
    """Set `duplicate_of` and `near_group` right on main after a batch, for its own clips and for those of other batches that they touch.

    Two batches may do so at once, and the last to write may have read before the other wrote: so each looks again after it has written.
    """
    for _ in range(_RESTATEMENTS):
        if not _restated(settings, home, batch_id):
            return
    log.warning("batch %s: other batches restated its duplicates %d times meanwhile", batch_id, _RESTATEMENTS)


def _restated(settings: Settings, home: wiring.Home, batch_id: str) -> bool:
    """Whether rows of main had to be restated.

    The restated rows are a revision of the batch that is the cause, named by its content, and audited as every other row.
    """
    known = home.catalog.read(settings.curated_table, columns=(*duplicates.COLUMNS, "batch_id"))
    is_mine = pc.equal(known["batch_id"], batch_id)
    told = duplicates.run(known.filter(is_mine), known.filter(pc.invert(is_mine)), index=wiring.hash_index())
    changed = sorted(told.survivors.keys() | told.groups.keys())
    if not changed:
        return False
    rows = duplicates.stated(home.catalog.read(settings.curated_table, clip_ids=changed), told)
    data = to_parquet(rows, schema.CLIPS)
    key = layout.revision_key(batch_id, sha256_hex(data))
    home.store.create(key, data)
    count = StageCount(stage="duplicates", subject=batch_id, rows_in=rows.num_rows, accounted={"restated": rows.num_rows})
    home.ledger.record(count, files={key: sha256_hex(data)})  # an erasure takes clips out of what the ledger knows
    _validate(settings, home, batch_id, key)
    return True


def reinspect(settings: Settings) -> Iterator[StageCount]:
    """Measure again what was measured under other settings or by another inspector, and replace those rows of curated.clips.

    Objects are written once, so a batch's first manifest stays; the new rows stand beside it as a revision named by the digest of the
    settings, and become main as every batch does: on a branch, audited, by compare-and-set. Inspections are checkpointed under the same
    digest. Killed anywhere, the next run goes on; where every row is of these settings, nothing happens.

    Raises:
        ValidationFailed: names the failing checks of the first batch that fails; main keeps its rows.
    """
    home = wiring.home(settings)
    _require_site(settings, home)
    yield from _settle_revisions(settings, home, "manifests/")
    digest = settings.inspect.digest()
    known = home.catalog.read(settings.curated_table, columns=("batch_id", "settings_digest"))
    stale = known.filter(pc.not_equal(known["settings_digest"], digest))
    for batch_id in sorted(set(stale["batch_id"].to_pylist())):
        key = layout.revision_key(batch_id, digest)
        yield _write_manifest(settings, home, batch_id, key=key)
        yield _validate(settings, home, batch_id, key)
        _restate_duplicates(settings, home, batch_id)
