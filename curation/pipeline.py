"""The stages in order, for one batch, one release, one request. The CLI and the DAGs call this and nothing below it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import __version__, layout, proofs, retention, schema, wiring
from curation.audit import trace as tracing
from curation.audit import validation_report
from curation.audit import verify as verification
from curation.audit.lineage import runs as lineage_of
from curation.digests import sha256_hex
from curation.erasure_files import RECEIPT_FILE
from curation.errors import ApprovalRefused, ConcurrentChange, CurationError, UsageError
from curation.ports import Clock
from curation.records import LedgerEntry, StageCount, UpkeepCount
from curation.release_files import ReleaseFolder, cut_releases, left_releases, published_cells, published_clip_ids
from curation.residency import counters, diff, sites
from curation.residency import forecast as forecasting
from curation.residency import pack as packs
from curation.settings import DataClass, Settings, read_settings
from curation.shard_files import sets_holding
from curation.shard_request import ShardRequest, from_mapping
from curation.stages import duplicates, erase, inspect_clips, manifest, publish, pull, release, shards, validate, withdraw
from curation.stages import review as reviewing
from curation.stages import upkeep as keeping
from curation.tables import from_parquet, to_parquet
from curation.withdrawal_files import SHARDS_FILE, barred_clip_ids

log = logging.getLogger(__name__)

HOME_ZONE = ZoneInfo("Asia/Shanghai")
_DIGEST_DIGITS = 16
_DRAWN_OR_HASHED = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")  # ids of released rows and of clips, for which no vehicle is looked up


def open_settings(work: Path | None = None) -> Settings:
    """The settings of `work`, else of `CURATION_WORK`."""
    return read_settings(work=work)


# --- one batch ------------------------------------------------------------------------------------------------------------------


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
    return () if settings.site is None else sites.permissions(settings.site, today=_today(wiring.clock()))


def _require_site(settings: Settings, home: wiring.Ground) -> None:
    sites.require_site(settings.site, is_this_machine=settings.store.kind == "directory", today=_today(home.clock))


def _today(clock: Clock) -> date:
    return clock.now().astimezone(HOME_ZONE).date()


def source_of(batch_id: str) -> str:
    """Name of the source that a batch was listed from."""
    return batch_id[: -_DIGEST_DIGITS - 1]


def ingest_batch(settings: Settings, batch_id: str) -> list[StageCount]:
    """Pull, inspect and write the manifest of one listed batch; what is done already is not done again."""
    return [pull_batch(settings, batch_id), write_manifest(settings, batch_id)]


def pull_batch(settings: Settings, batch_id: str) -> StageCount:
    """Every entry of the batch's listing stored, quarantined or refused by name.

    Raises:
        SiteRefused: the place where data rests may take no more.
    """
    home = wiring.ground(settings)
    _require_site(settings, home)
    source = wiring.source(settings, source_of(batch_id))
    return pull.run(batch_id, source=source, store=home.store, video=wiring.video_reader(), ledger=home.ledger)


def write_manifest(settings: Settings, batch_id: str) -> StageCount:
    """Inspect the batch's clips (going on from checkpoints) and write its manifest."""
    return _write_manifest(settings, wiring.ground(settings), batch_id)


def _write_manifest(settings: Settings, home: wiring.Ground, batch_id: str, *, key: str | None = None) -> StageCount:
    if home.store.size(layout.pulled_key(batch_id)) is None:
        raise UsageError("was not pulled", subject=f"batch {batch_id}", fix="pull its source first (`curation pull SOURCE`)")
    pulled = from_parquet(home.store.read(layout.pulled_key(batch_id)), schema.PULLED)
    stored = pulled.filter(pc.equal(pulled["outcome"], "stored"))
    keys = dict(zip(stored["clip_id"].to_pylist(), stored["object_key"].to_pylist(), strict=True))
    wiring.tagger(settings.inspect.tagger)  # a model that does not fit stops the batch here, and quarantines no clip
    inspections = inspect_clips.run(
        keys,
        store=home.store,
        engine=wiring.engine(settings.engine),
        policy=settings.inspect,
        clock=home.clock,
        limits=settings.engine.limits_digest(),
    )
    return manifest.run(
        batch_id,
        store=home.store,
        inspections=inspections,
        places=wiring.places(),
        ledger=home.ledger,
        policy=settings.inspect,
        clock=home.clock,
        survivors=_survivors_in_batch,
        key=key,
    )


def _survivors_in_batch(rows: pa.Table) -> Mapping[str, str | None]:
    """A manifest knows its own batch only: its bytes must not depend on which batch was faster. Main knows all, `_restate_duplicates`."""
    return duplicates.run(rows, rows.slice(0, 0), index=wiring.hash_index())


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
    """Set `duplicate_of` right on main after a batch, for its own clips and for those of other batches that it outdoes.

    The restated rows are a revision of the batch that is the cause, named by its content, and audited as every other row.
    """
    known = home.catalog.read(settings.curated_table, columns=(*duplicates.COLUMNS, "batch_id"))
    is_mine = pc.equal(known["batch_id"], batch_id)
    told = duplicates.run(known.filter(is_mine), known.filter(pc.invert(is_mine)), index=wiring.hash_index())
    standing = zip(known["clip_id"].to_pylist(), known["duplicate_of"].to_pylist(), is_mine.to_pylist(), strict=True)
    changed = [clip_id for clip_id, before, mine in standing if (mine or clip_id in told) and told.get(clip_id) != before]
    if not changed:
        return
    rows = home.catalog.read(settings.curated_table, clip_ids=changed)
    named = pa.array([told.get(clip_id) for clip_id in rows["clip_id"].to_pylist()], pa.string())
    rows = rows.set_column(rows.schema.get_field_index("duplicate_of"), schema.CLIPS.field("duplicate_of"), named)
    data = to_parquet(rows, schema.CLIPS)
    key = layout.revision_key(batch_id, sha256_hex(data))
    home.store.create(key, data)
    count = StageCount(stage="duplicates", subject=batch_id, rows_in=rows.num_rows, accounted={"restated": rows.num_rows})
    home.ledger.record(count, files={key: sha256_hex(data)})  # an erasure takes clips out of what the ledger knows
    _validate(settings, home, batch_id, key)


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


# --- one release ----------------------------------------------------------------------------------------------------------------


def cut_release(settings: Settings, *, requesters: Sequence[str], as_of: date | None = None) -> str:
    """Id of this window's release, cut from main of curated.clips as it is now.

    Raises:
        PackRefused: the pack may allow nothing; zero fields leave.
    """
    home = wiring.home(settings)
    today = as_of or _today(home.clock)
    snapshot_id = home.catalog.head(settings.curated_table)
    if snapshot_id is None:
        raise UsageError("is empty", subject=settings.curated_table, fix="ingest and validate a batch first")
    rows = home.catalog.read(settings.curated_table, snapshot_id=snapshot_id)
    return release.run(
        rows,
        law=wiring.law(settings),
        request=release.Request(
            window=release.window_of(today),
            as_of=today,
            snapshot_id=snapshot_id,
            recipient=settings.residency.recipient,
            purpose=settings.residency.purpose,
            requesters=tuple(sorted(set(requesters))) or (publish.SCHEDULER,),
            code_version=__version__,
        ),
        store=home.store,
        ledger=home.ledger,
        clock=home.clock,
        audit=partial(proofs.of_release, settings, home, rows),
    )


def release_summary(settings: Settings, release_id: str) -> dict[str, Any]:
    """What an approver needs to see of a release: counts, columns with the rules that let them out, recipient and digests.

    Raises:
        EvidenceBroken: the release's files are not those that the ledger recorded when it was cut.
    """
    home = wiring.home(settings)
    folder = ReleaseFolder(home.store, release_id)
    evidence = folder.evidence()
    digests = publish.recorded_digests(folder, home.ledger)
    return {
        "release_id": release_id,
        "window": evidence["window"],
        "rows": evidence["counts"]["released"],
        "withheld": evidence["counts"]["withheld"],
        "rules": evidence["rules"],
        "counters": evidence["counters"],
        "columns": evidence["columns"],
        "recipient": evidence["recipient"],
        "purpose": evidence["purpose"],
        "pack": evidence["pack"],
        "pack_digest": evidence["pack"]["digest"],
        "release_digest": digests["release"],
        "evidence_digest": digests["evidence"],
        "published": any(entry.kind == "publish" and entry.subject == release_id for entry in home.ledger.entries()),
    }


def releases(settings: Settings) -> list[dict[str, Any]]:
    """The summary of every release that was cut, by id."""
    return [release_summary(settings, folder.release_id) for folder in cut_releases(wiring.store(settings))]


def approve(
    settings: Settings,
    release_id: str,
    *,
    approver: str,
    ticket: str,
    digests: Mapping[str, str] | None = None,
    requesters: Sequence[str] = (),
    key: Ed25519PrivateKey | None = None,
) -> None:
    """Write the release's approval, bound to the digests (`release`, `evidence`) that the approver saw.

    With `key` it is signed; `approver_of` tells whose key that is. Without, the caller vouches for the approver, as Airflow's step does.
    Without `digests` it is bound to those that the ledger recorded when the release was cut, which are all that `release_summary` shows.

    Raises:
        ApprovalRefused: no ticket, other bytes, or the approver is among those who asked.
    """
    home = wiring.home(settings)
    folder = ReleaseFolder(home.store, release_id)
    publish.approve(
        folder,
        approver=approver,
        ticket=ticket,
        requesters=requesters,
        digests=digests or publish.recorded_digests(folder, home.ledger),
        valid_for=timedelta(days=settings.publish.approval_days),
        seal=None if key is None else lambda body: key.sign(body).hex(),
        store=home.store,
        ledger=home.ledger,
        clock=home.clock,
    )


def approver_of(settings: Settings, key: Ed25519PrivateKey) -> str:
    """Name of the person whose key it is, as the settings say.

    Raises:
        ApprovalRefused: nobody's.
    """
    public = key.public_key().public_bytes_raw().hex()
    names = [name for name, trusted in settings.publish.approvers.items() if trusted == public]
    if len(names) != 1:
        raise ApprovalRefused(
            "is the key of nobody who may approve, or of several", subject=f"key {public}", fix="name it once in [publish.approvers]"
        )
    return names[0]


def publish_release(settings: Settings, release_id: str) -> StageCount:
    """Rows of an approved release that are in the overseas catalog now; a published one changes nothing.

    Raises:
        ApprovalRefused, PackRefused, GateRefused, EvidenceBroken: nothing left, or it was taken back.
    """
    home = wiring.home(settings)
    today = _today(home.clock)
    folder = ReleaseFolder(home.store, release_id)
    wiring.lineage(settings)  # one that leads abroad is refused before anything leaves

    def check_law() -> None:
        evidence = folder.evidence()
        law = wiring.law_of_release(settings, evidence)
        release.load_law(law, as_of=today)
        release.check_assessments(law, evidence, today=today)

    try:
        return publish.run(
            folder,
            home_rows=home.catalog.read(settings.curated_table),
            check_law=check_law,
            catalog=wiring.overseas(settings),
            table=settings.publish.table,
            store=home.store,
            ledger=home.ledger,
            clock=home.clock,
            approvers=settings.publish.approvers,
        )
    finally:
        _tell_lineage(settings, home)


def _tell_lineage(settings: Settings, home: wiring.Home) -> None:
    """Tell lineage tools what the ledger knows and they do not; what fails now is told the next time, and undoes no publication."""
    tables = {"curated_table": settings.curated_table, "published_table": settings.publish.table}
    try:
        lineage = wiring.lineage(settings)
        for run in lineage_of(list(home.ledger.entries()), home.store, from_entry=lineage.next_entry(), **tables):
            lineage.tell(run)
    except CurationError as problem:
        log.warning("lineage was not told: %s", problem)


def forecast(settings: Settings) -> tuple[forecasting.Forecast, ...]:
    """When each counter of the pack in force will be reached at the pace of the releases so far."""
    home, law = wiring.home(settings), wiring.law(settings)
    today = _today(home.clock)
    limits = counters.limits(packs.parse(law.pack_bytes), trusted_keys=law.trusted_keys, today=today)
    return forecasting.forecast(release.reservations(home.store, home.ledger), limits, today)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What left a home before: what every release reserved of the counters, and the published cells that count towards k."""

    reservations: Sequence[counters.Reservation]
    published: pa.Table | None


def history(settings: Settings, pack: packs.Pack) -> History:
    """What left before, as a release cut now under `pack` would count it."""
    home = wiring.home(settings)
    cells = published_cells(left_releases(home.store, home.ledger), pack.quasi_identifiers())
    return History(reservations=release.reservations(home.store, home.ledger), published=cells)


def pack_diff_rows(settings: Settings, new: packs.Pack) -> diff.RowChanges:
    """What becomes of the published rows, and of those at home, if `new` takes the place of the pack in force; under today's fences."""
    home = wiring.home(settings)
    abroad = published_clip_ids(left_releases(home.store, home.ledger))
    barred = barred_clip_ids(home.store, list(home.ledger.entries()))
    return diff.rows(curated(settings)[0], abroad, new=new, fences=wiring.law(settings).fences_bytes, barred=barred)


# --- one request ----------------------------------------------------------------------------------------------------------------


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
    return shards.preview(request, curated(settings)[0], withdrawn=barred_clip_ids(on.store, list(on.ledger.entries())))


def curated(settings: Settings, *, snapshot_id: int | None = None) -> tuple[pa.Table, int]:
    """All rows of curated.clips, now or at a snapshot, and the snapshot they were read from.

    Raises:
        UsageError: nothing was validated yet, or there is no such snapshot any more.
    """
    home = wiring.home(settings)
    snapshot_id = home.catalog.head(settings.curated_table) if snapshot_id is None else snapshot_id
    if snapshot_id is None:
        raise UsageError("is empty", subject=settings.curated_table, fix="ingest and validate a batch first")
    return home.catalog.read(settings.curated_table, snapshot_id=snapshot_id), snapshot_id


# --- the way out of home --------------------------------------------------------------------------------------------------------


def retention_standings(settings: Settings) -> tuple[retention.Standing, ...]:
    """How long each class of data is kept, what is held of it, and what is past its term."""
    on = wiring.ground(settings)
    return retention.standings(list(on.ledger.entries()), settings.retention, now=on.clock.now())


def request_erasure(settings: Settings, selection: erase.Selection, *, reason: str, requester: str) -> erase.Request:
    """The recorded request to erase the selected clips.

    Raises:
        UsageError: nothing is held of what is named.
    """
    on = wiring.ground(settings)
    return erase.request(selection, reason=reason, requester=requester, store=on.store, ledger=on.ledger)


def request_expiry(settings: Settings, data_class: DataClass, *, reason: str, requester: str) -> erase.Request:
    """The recorded request to erase all of a class that is past the term that the settings set for it.

    Raises:
        UsageError: no term is set, or nothing is past it.
    """
    on, days = wiring.ground(settings), settings.retention.term_days(data_class)
    if days is None:
        fix = f"set {data_class}_days, or name a clip, vehicle or drive"
        raise UsageError(f"sets no term for {data_class}", subject="[retention]", fix=fix)
    if data_class == "clips":
        return request_erasure(settings, erase.past_term(days, on.clock), reason=reason, requester=requester)
    keys = retention.due_keys(list(on.ledger.entries()), settings.retention, data_class, now=on.clock.now())
    return erase.request_objects(keys, reason=reason, requester=requester, store=on.store, ledger=on.ledger)


def confirm_erasure(settings: Settings, erasure_id: str, *, approver: str) -> StageCount:
    """The clips erased from home; an interrupted erasure is finished.

    Raises:
        ApprovalRefused: who confirms is who asked.
    """
    home = wiring.home(settings)
    return erase.confirm(
        erasure_id,
        approver=approver,
        store=home.store,
        eraser=wiring.eraser(settings),
        catalog=home.catalog,
        table=settings.curated_table,
        ledger=home.ledger,
        clock=home.clock,
        retention=settings.retention,
    )


def erasure_receipt(settings: Settings, erasure_id: str) -> dict[str, Any]:
    """What an erasure removed, for whoever asked for it.

    Raises:
        UsageError: there is none, or it is not finished.
    """
    return _receipt(settings, layout.erasure_key(erasure_id, RECEIPT_FILE), f"erasure {erasure_id}", "curation erase confirm")


def _receipt(settings: Settings, key: str, subject: str, command: str) -> dict[str, Any]:
    store = wiring.store(settings)
    if store.size(key) is None:
        raise UsageError("is not finished", subject=subject, fix=f"a second person confirms it (`{command}`)")
    receipt: dict[str, Any] = json.loads(store.read(key))
    return receipt


# --- the way back from overseas -------------------------------------------------------------------------------------------------


def request_withdrawal(settings: Settings, selection: withdraw.Selection, *, reason: str, requester: str) -> withdraw.Request:
    """The recorded request to take the selected rows back from overseas.

    Raises:
        UsageError: nothing is known of what is named, or reason or requester is missing.
    """
    home = wiring.home(settings)
    return withdraw.request(
        selection,
        reason=reason,
        requester=requester,
        store=home.store,
        catalog=home.catalog,
        table=settings.curated_table,
        ledger=home.ledger,
    )


def confirm_withdrawal(settings: Settings, withdrawal_id: str, *, approver: str) -> StageCount:
    """The clips asked for: withdrawn, or not overseas; an interrupted withdrawal is finished.

    Raises:
        ApprovalRefused: who confirms is who asked.
    """
    home = wiring.home(settings)
    count = withdraw.confirm(
        withdrawal_id,
        approver=approver,
        store=home.store,
        eraser=wiring.eraser(settings),
        catalog=wiring.overseas(settings),
        table=settings.publish.table,
        ledger=home.ledger,
        clock=home.clock,
    )
    _tell_lineage(settings, home)
    return count


def rebuild_shard_sets(settings: Settings, withdrawal_id: str) -> dict[str, str | None]:
    """Shard set that a withdrawal removed -> the one that takes its place, built again from the same snapshot without the clips.

    None where nobody kept what it was asked for, or nothing of it is left. Done twice it gives the same sets.
    """
    store, key = wiring.store(settings), layout.withdrawal_key(withdrawal_id, SHARDS_FILE)
    removed: dict[str, Any] = {} if store.size(key) is None else json.loads(store.read(key))
    return {name: _rebuilt(settings, said) for name, said in sorted(removed.items())}


def _rebuilt(settings: Settings, said: Mapping[str, Any]) -> str | None:
    request = said["request"]
    if request is None or str(request.get("filter")).startswith(shards.FILTER_WITHHELD):
        return None
    for snapshot_id in (int(said["snapshot_id"] or 0) or None, None):
        try:
            return build_shards(settings, from_mapping(request), snapshot_id=snapshot_id)
        except UsageError as problem:  # an erasure has taken the snapshot, or nothing is left to take
            log.info("%s", problem)
    return None


def withdrawal_receipt(settings: Settings, withdrawal_id: str) -> dict[str, Any]:
    """What a withdrawal took away, for whoever asked for it.

    Raises:
        UsageError: there is none, or it is not finished.
    """
    return _receipt(
        settings, layout.withdrawal_key(withdrawal_id, RECEIPT_FILE), f"withdrawal {withdrawal_id}", "curation withdraw confirm"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What a review found and did: the withdrawal that it asked for, empty for none, and whether that was carried out."""

    found: reviewing.Review
    withdrawal_id: str
    withdrawn: bool


def review(settings: Settings, *, requester: str = publish.SCHEDULER) -> Reviewed:
    """Decide again on everything overseas under today's pack, and withdraw what may not stay, or ask for a second person.

    Raises:
        PackRefused, SettingsError, NotConserved, EvidenceBroken, GateRefused: the review failed; nothing was withdrawn, and nothing is
            published until one succeeds.
    """
    home = wiring.home(settings)
    catalog, table = wiring.overseas(settings), settings.publish.table
    pack_bytes = b""
    try:
        law = wiring.law(settings)
        pack_bytes = law.pack_bytes
        found = reviewing.decide(
            home.catalog.read(settings.curated_table),
            pack_bytes=law.pack_bytes,
            signatures_bytes=law.signatures_bytes,
            fences_bytes=law.fences_bytes,
            trusted_keys=law.trusted_keys,
            allow_demo_pack=law.allow_demo_pack,
            catalog=catalog,
            table=table,
            store=home.store,
            ledger=home.ledger,
            clock=home.clock,
        )
    except reviewing.FAILURES as problem:
        reviewing.record_failure(problem, pack_bytes=pack_bytes, clock=home.clock, ledger=home.ledger)
        raise
    withdrawal_id, withdrawn = "", False
    if found.asked.num_rows:
        asked = withdraw.ask(
            found.asked,
            cause=found.cause,
            reason=f"review under pack {found.pack}",
            requester=requester,
            alone=found.alone,
            facts={"pack_digest": found.pack_digest},
            store=home.store,
            ledger=home.ledger,
        )
        withdrawal_id, withdrawn = asked.withdrawal_id, found.alone
        if withdrawn:
            confirm_withdrawal(settings, withdrawal_id, approver="")
    reviewing.record(found, withdrawal_id=withdrawal_id, withdrawn=withdrawn, ledger=home.ledger)
    return Reviewed(found=found, withdrawal_id=withdrawal_id, withdrawn=withdrawn)


# --- evidence -------------------------------------------------------------------------------------------------------------------


def ledger_entries(settings: Settings) -> Iterator[LedgerEntry]:
    """All entries of the ledger, in order."""
    return wiring.home(settings).ledger.entries()


def verify(settings: Settings, *, head: str | None = None, clips: verification.Clips | None = None) -> verification.Proof:
    """Proof that nothing the ledger covers has changed; `clips` says of which the bytes are read, None leaves it to their size.

    Raises:
        EvidenceBroken: names the first thing that does not hold.
    """
    return verification.verify(wiring.store(settings), wiring.ledger_public_key(settings), head=head, clips=clips)


def trace(settings: Settings, subject: str) -> tracing.Trace:
    """What left of a clip, a released row or a vehicle, under which rule and pack, on whose word, and whether it came back.

    Raises:
        UsageError: no release speaks of it.
        EvidenceBroken: the ledger, or a document that the answer rests on, is not what was recorded.
    """
    on, of_vehicle = wiring.ground(settings), list[str]()
    if _DRAWN_OR_HASHED.fullmatch(subject) is None:  # a catalog takes longer to open than the answer to find
        of_vehicle = wiring.home(settings).catalog.clip_ids(settings.curated_table, "vehicle_id", subject).to_pylist()
    return tracing.trace(subject, store=on.store, entries=list(on.ledger.entries()), clip_ids=of_vehicle)


def upkeep(settings: Settings) -> tuple[UpkeepCount, UpkeepCount]:
    """What upkeep did to the home catalog and to the overseas one."""
    on = wiring.ground(settings)
    return keeping.run(
        home=wiring.home_upkeep(settings),
        curated_table=settings.curated_table,
        overseas=wiring.overseas(settings),
        published_table=settings.publish.table,
        keep=timedelta(hours=settings.upkeep.keep_hours),
        store=on.store,
        ledger=on.ledger,
        clock=on.clock,
    )


def published(settings: Settings) -> pa.Table:
    """All rows that are overseas now."""
    return wiring.overseas(settings).read(settings.publish.table)
