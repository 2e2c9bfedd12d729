"""Publish a release: approval bound to its bytes, gate, commit, read back, gate again, copies of what left, receipt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import overseas_table, schema
from curation.approval import check_approval, check_known, recorded_digests
from curation.digests import canonical_json, sha256_hex
from curation.errors import ApprovalRefused, CurationError, EvidenceBroken, GateRefused, OutsideError
from curation.ports import Clock, Ledger, ObjectStore, OverseasCatalog
from curation.records import LedgerEntry, OverseasTable, SnapshotInfo, StageCount
from curation.release_files import (
    EVIDENCE_FILE,
    FAILED,
    INTENT_FILE,
    PUBLISHED,
    REFUSED,
    RELEASE_FILE,
    RELEASED,
    SENT_FOLDER,
    ReleaseFolder,
    check_clock,
    check_review,
    kinds_of,
    left_releases,
    published_cells,
    published_clip_ids,
)
from curation.residency import evaluate, gate
from curation.residency import pack as packs
from curation.tables import from_parquet
from curation.withdrawal_files import barred_clip_ids

log = logging.getLogger(__name__)

RELEASE_PROPERTY: Final = "curation.release-id"
TABLE_PROPERTY: Final = "curation.table-uuid"
HEAD_PROPERTY: Final = "curation.ledger-head"
EVIDENCE_PROPERTY: Final = "curation.evidence-digest"
WITHDRAWN_PROPERTY: Final = "curation.withdrawn"
SCHEDULER: Final = "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """To whom the overseas catalog's rows go, and what for."""

    recipient: str
    purpose: str


def run(
    folder: ReleaseFolder,
    *,
    home_rows: pa.Table,
    check_law: Callable[[], None],
    destination: Destination,
    catalog: OverseasCatalog,
    table: str,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
    approvers: Mapping[str, str] = MappingProxyType({}),
) -> StageCount:
    """Rows published, counted; a release that is published already changes nothing.

    Args:
        home_rows: the clips whose raw values must not be found in anything that leaves, schema CLIPS.
        check_law: raises PackRefused if the release's pack may allow nothing any more.
        destination: whose catalog it is, and what for; a release that was approved for others stays at home.
        table: of the overseas catalog.
        approvers: public keys, hex, of those who may sign an approval, by name.

    Raises:
        UsageError, ApprovalRefused: there is no such release, or its approval does not hold, or is for another recipient, purpose or table.
        PackRefused: the pack expired, or was replaced, since the release was cut.
        EvidenceBroken: a file of the release is not what its evidence says, or the ledger is not what was noted of it overseas.
        GateRefused: the overseas table is not the one that the ledger knows: nothing leaves, and nothing is taken back. Or what was about
            to leave, or what the catalog wrote, is not exactly what was approved, or decided otherwise now, or anything else failed after
            the commit. Nothing stays abroad that was not read back, gated and receipted.
        OutsideError: something failed before the commit, or in taking back; a retry goes on where this run stopped.
    """
    done = _published(folder, ledger)
    if done is not None:
        return done
    check_known(folder, ledger)
    check_clock(ledger, clock)
    _check_destination(folder, destination)
    where = overseas_table.check(table, catalog=catalog, store=store, ledger=ledger)
    snapshot = catalog.find(table, folder.release_id)
    if snapshot is None:
        check_review(ledger)
    elif WITHDRAWN_PROPERTY in snapshot.properties:
        raise _closed(folder, snapshot, where, catalog=catalog, table=table, ledger=ledger)
    try:
        check_approval(folder, ledger=ledger, clock=clock, approvers=approvers)
        check_law()
        release = _decided_rows(folder, home_rows, store=store, ledger=ledger)
        if snapshot is None:
            where = where or overseas_table.begin(table, catalog=catalog, store=store, ledger=ledger)
            _intend(folder, table, store=store, ledger=ledger)
            check_approval(folder, ledger=ledger, clock=clock, approvers=approvers)
            check_law()  # deciding on millions of rows may have taken it past its last day
        _check_not_withdrawn(folder, store=store, ledger=ledger)
        check_review(ledger)  # rows that are abroad without a receipt do not wait for one that succeeds
        if snapshot is None:
            snapshot = _commit(folder, release, where, catalog=catalog, table=table, ledger=ledger)
    except CurationError as refusal:
        done = None if refusal.retryable else _take_back(folder, snapshot, refusal, where, catalog=catalog, table=table, ledger=ledger)
        if done is None:
            raise
        return done
    try:
        files = _gated_again(folder, release, snapshot, home_rows, catalog=catalog, table=table)
        return _receipt(folder, snapshot, files, release.num_rows, where, store=store, ledger=ledger)
    except CurationError as failure:
        done = _take_back(folder, snapshot, failure, where, catalog=catalog, table=table, ledger=ledger)
        if done is None:
            raise _failed_abroad(folder, failure) from failure
        return done


def _check_destination(folder: ReleaseFolder, destination: Destination) -> None:
    """Nothing, if the catalog is that of the release's recipient; whether the table is the one where it began, the ledger says.

    Raises:
        ApprovalRefused: it is another's. Nothing is taken back either: what was begun lies elsewhere.
    """
    if not folder.has(EVIDENCE_FILE):  # refused with its approval, and taken back
        return
    folder.digest(EVIDENCE_FILE)
    evidence = folder.evidence()
    for what, meant, found in (
        ("recipient", evidence["recipient"], destination.recipient),
        ("purpose", evidence["purpose"], destination.purpose),
    ):
        if meant != found:
            raise ApprovalRefused(
                f"is for {what} {meant!a}, but the settings say {found!a}",
                subject=f"release {folder.release_id}",
                fix=f"set the {what} back; or cut a release for the one that is set, and have it approved",
            )


def _intend(folder: ReleaseFolder, table: str, *, store: ObjectStore, ledger: Ledger) -> None:
    """Write the intent, and look another time: of two writers that meet, at least one sees the other's file and stops."""
    store.create(folder.key(INTENT_FILE), canonical_json({"release_id": folder.release_id, "table": table}))
    _check_left_once(folder, store=store, ledger=ledger)


def _failed_abroad(folder: ReleaseFolder, failure: CurationError) -> GateRefused:
    if isinstance(failure, GateRefused):
        return failure
    return GateRefused(
        f"failed after its commit and was taken back: {failure}",
        subject=f"release {folder.release_id}",
        fix="mend what failed; then cut a new release and have it approved",
    )


def _closed(
    folder: ReleaseFolder, snapshot: SnapshotInfo, where: OverseasTable | None, *, catalog: OverseasCatalog, table: str, ledger: Ledger
) -> GateRefused:
    """Why a release that was taken back is not published, after that is in the ledger."""
    refusal = GateRefused("was withdrawn; it is not committed again", subject=f"release {folder.release_id}", fix="cut a new release")
    if REFUSED not in kinds_of(folder.release_id, ledger):  # whoever took it back, or closed it, ended before it was recorded
        was_committed = EVIDENCE_PROPERTY in snapshot.properties
        _take_back(folder, snapshot if was_committed else None, refusal, where, catalog=catalog, table=table, ledger=ledger)
    return refusal


def _decided_rows(folder: ReleaseFolder, home_rows: pa.Table, *, store: ObjectStore, ledger: Ledger) -> pa.Table:
    """The rows to publish: those that were approved, that the gate lets through, and that the rules let out of today's curated clips.

    Raises:
        EvidenceBroken, GateRefused: they are not.
    """
    recorded_digests(folder, ledger)
    _check_evidence(folder, store)
    release = folder.release()
    gate.check_table(release, home_rows)
    _check_still_decided(folder, release, home_rows, store=store, ledger=ledger)
    return release


def _published(folder: ReleaseFolder, ledger: Ledger) -> StageCount | None:
    """What its receipt says, None where there is none."""
    for entry in ledger.entries():
        if entry.kind == PUBLISHED and entry.subject == folder.release_id:
            counts = {name: rows for name, rows in entry.counts.items() if name != "rows_in"}
            return StageCount(stage=PUBLISHED, subject=folder.release_id, rows_in=entry.counts["rows_in"], accounted=counts)
    return None


def _check_evidence(folder: ReleaseFolder, store: ObjectStore) -> None:
    for key, digest in folder.evidence()["files"].items():
        if (folder.digest(key.rpartition("/")[2]) if key.startswith(folder.key("")) else sha256_hex(store.read(key))) != digest:
            raise EvidenceBroken(
                "is not what the release's evidence says", subject=key, fix="run `curation audit verify`; cut a new release"
            )


def _check_still_decided(folder: ReleaseFolder, release: pa.Table, home_rows: pa.Table, *, store: ObjectStore, ledger: Ledger) -> None:
    """Nothing, if the release's own rules, asked again about its clips as they are curated now, let out exactly its rows.

    Between cut and publication a corrected manifest may have moved a clip into a fence, to another vehicle or out of the table.

    Raises:
        GateRefused: they do not.
    """
    mapping = folder.mapping()
    others = _others_that_left(folder, store, ledger)
    [pack_name] = [key for key in folder.evidence()["files"] if key.startswith("packs/") and key.endswith(".yaml")]
    fences = [store.read(key) for key in folder.evidence()["files"] if key.startswith("fences/")]
    pack = packs.parse(store.read(pack_name))
    decided = evaluate.decide(
        home_rows.filter(pc.is_in(home_rows["clip_id"], value_set=mapping["clip_id"].combine_chunks())),
        pack=pack,
        fences=fences[0] if fences else None,
        published=published_cells(others, pack.quasi_identifiers()),
    ).outputs
    again = decided.join(mapping, ["clip_id", "vehicle_id", "captured_day"], join_type="inner").select(schema.RELEASE.names)
    if not again.cast(schema.RELEASE).sort_by("release_row_id").equals(release.sort_by("release_row_id")):
        raise GateRefused(
            "the rules decide otherwise on its clips as they are curated now",
            subject=f"release {folder.release_id}",
            fix="cut a new release and have it approved",
        )


def _others_that_left(folder: ReleaseFolder, store: ObjectStore, ledger: Ledger) -> list[ReleaseFolder]:
    return [other for other in left_releases(store, ledger) if other.release_id != folder.release_id]


def _check_left_once(folder: ReleaseFolder, *, store: ObjectStore, ledger: Ledger) -> None:
    """Nothing, unless a clip of it is in another release that left or is on its way.

    Raises:
        GateRefused: one is.
    """
    others = published_clip_ids(_others_that_left(folder, store, ledger))
    if pc.any(pc.is_in(folder.mapping()["clip_id"], value_set=others)).as_py():
        raise GateRefused("a row of it left in another release", subject=f"release {folder.release_id}", fix="cut a new release")


def _check_not_withdrawn(folder: ReleaseFolder, *, store: ObjectStore, ledger: Ledger) -> None:
    """Nothing, if nobody had a clip of it withdrawn since the cut.

    A withdrawal is recorded and then looks for publications under way; we wrote the intent and now look for a withdrawal. So of two that
    meet, at least one sees the other.

    Raises:
        GateRefused: somebody had.
    """
    barred = barred_clip_ids(store, list(ledger.entries()))
    if pc.any(pc.is_in(folder.mapping()["clip_id"], value_set=barred)).as_py():
        raise GateRefused("a clip of it was withdrawn since it was cut", subject=f"release {folder.release_id}", fix="cut a new release")


def _commit(
    folder: ReleaseFolder, release: pa.Table, where: OverseasTable | None, *, catalog: OverseasCatalog, table: str, ledger: Ledger
) -> SnapshotInfo:
    properties = {
        **_marks(folder, where, ledger),
        "curation.pack-digest": folder.evidence()["pack"]["digest"],
        EVIDENCE_PROPERTY: folder.digest(EVIDENCE_FILE),
    }
    try:
        return catalog.append(table, release, properties=properties)
    except OutsideError:  # its answer may have got lost, or another publisher of this release was faster
        found = catalog.find(table, folder.release_id)
        if found is None or WITHDRAWN_PROPERTY in found.properties:
            raise
        return found


def _marks(folder: ReleaseFolder, where: OverseasTable | None, ledger: Ledger) -> dict[str, str]:
    """What every snapshot of a release bears: its release, the table that is meant, and the ledger's head."""
    last = ledger.head()
    return {
        RELEASE_PROPERTY: folder.release_id,
        TABLE_PROPERTY: "" if where is None else where.table_uuid,
        HEAD_PROPERTY: "" if last is None else f"{last.sequence}:{last.digest()}",
    }


def _take_back(
    folder: ReleaseFolder,
    snapshot: SnapshotInfo | None,
    refusal: CurationError,
    where: OverseasTable | None,
    *,
    catalog: OverseasCatalog,
    table: str,
    ledger: Ledger,
) -> StageCount | None:
    """Leave nothing abroad, and close for good a release whose publication had begun; one that had not begun stays as it is.

    Where nothing is abroad yet, the release is closed there first: another publisher may be about to commit it, and might end before it
    looks here. What another publisher's receipt covers stays, and is returned. Receipt and failure are both recorded unless the other is:
    whichever the ledger takes first holds, so nothing that has a receipt is taken back, and nothing that is taken back gets one.
    """
    if snapshot is None and not folder.has(INTENT_FILE):
        return None
    if snapshot is None:
        # Where there was no table yet when this run looked, whoever wrote the intent has made it.
        where = where or overseas_table.check(table, catalog=catalog, store=folder.store, ledger=ledger)
        closing = {**_marks(folder, where, ledger), WITHDRAWN_PROPERTY: "true"}
        known = catalog.append(table, schema.RELEASE.empty_table(), properties=closing)
        snapshot = None if WITHDRAWN_PROPERTY in known.properties else known
    if snapshot is not None:
        if _is_receipted(folder, refusal, ledger):
            return _published(folder, ledger)
        catalog.withdraw(table, snapshot.snapshot_id)
        catalog.withdraw_rows(table, _recorded_row_ids(folder, ledger))  # what was rewritten since is no more of that snapshot
    outcome = "withheld" if snapshot is None else "withdrawn"
    last = _record_failure(folder, REFUSED, outcome, refusal, ledger, where=catalog.identify(table))
    return _published(folder, ledger) if last.kind == PUBLISHED else None


def _is_receipted(folder: ReleaseFolder, failure: CurationError, ledger: Ledger) -> bool:
    """Whether the release has a receipt; if not, it never gets one. Where nobody can tell, no: rows without a record are the worse harm."""
    try:
        return _record_failure(folder, FAILED, "taken_back", failure, ledger).kind == PUBLISHED
    except CurationError as error:
        log.warning("%s: %s; its rows are taken back all the same", folder.release_id, error)
        return False


def _record_failure(
    folder: ReleaseFolder, kind: str, outcome: str, failure: CurationError, ledger: Ledger, *, where: OverseasTable | None = None
) -> LedgerEntry:
    """The entry that tells it, or the release's receipt where there is one."""
    cut = (entry for entry in ledger.entries() if (entry.kind, entry.subject) == (RELEASED, folder.release_id))
    rows = sum(entry.counts.get("released", 0) for entry in cut)
    return ledger.record(
        StageCount(stage=kind, subject=folder.release_id, rows_in=rows, accounted={outcome: rows}),
        files={folder.key(INTENT_FILE): folder.digest(INTENT_FILE)} if folder.has(INTENT_FILE) else {},
        facts={"reason": failure.problem, "error": type(failure).__name__, **overseas_table.facts_of(where)},
        unless={PUBLISHED, kind},
    )


def _recorded_row_ids(folder: ReleaseFolder, ledger: Ledger) -> pa.Array:
    """Ids of the rows that were cut; none where the file is another now, which could name rows of other releases."""
    key, folder = folder.key(RELEASE_FILE), ReleaseFolder(folder.store, folder.release_id)  # as it is now
    recorded = {entry.files.get(key) for entry in ledger.entries() if (entry.kind, entry.subject) == ("release", folder.release_id)}
    if not folder.has(RELEASE_FILE) or folder.digest(RELEASE_FILE) not in recorded:
        return pa.array([], pa.string())
    return folder.release()["release_row_id"].combine_chunks()


def _gated_again(
    folder: ReleaseFolder,
    release: pa.Table,
    snapshot: SnapshotInfo,
    home_rows: pa.Table,
    *,
    catalog: OverseasCatalog,
    table: str,
) -> list[bytes]:
    """The bytes that the catalog wrote, gated again."""
    written = catalog.written(table, snapshot.snapshot_id)
    for name, data in written:
        gate.check_file(data, name, home_rows)
    _same_rows(folder, release, [data for _, data in written])
    return [data for _, data in written]


def _same_rows(folder: ReleaseFolder, release: pa.Table, written: Sequence[bytes]) -> None:
    parts = [from_parquet(data, schema.RELEASE) for data in written]
    found = pa.concat_tables(parts).sort_by("release_row_id") if parts else schema.RELEASE.empty_table()
    if not found.equals(release.sort_by("release_row_id")):
        raise GateRefused(
            "the catalog wrote other rows than were approved", subject=f"release {folder.release_id}", fix="find out what changed them"
        )


def _receipt(
    folder: ReleaseFolder,
    snapshot: SnapshotInfo,
    files: Sequence[bytes],
    rows: int,
    where: OverseasTable | None,
    *,
    store: ObjectStore,
    ledger: Ledger,
) -> StageCount:
    sent: dict[str, str] = {}
    for number, data in enumerate(files):
        key = folder.key(f"{SENT_FOLDER}{number:05d}.parquet")
        store.create(key, data)
        sent[key] = sha256_hex(data)
    count = StageCount(stage=PUBLISHED, subject=folder.release_id, rows_in=rows, accounted={"published": rows})
    intent = {folder.key(INTENT_FILE): folder.digest(INTENT_FILE)}
    facts = {"snapshot_id": str(snapshot.snapshot_id), **overseas_table.facts_of(where, sequence=snapshot.sequence)}
    entry = ledger.record(count, files={**sent, **intent}, facts=facts, unless={FAILED, REFUSED})
    if entry.kind != PUBLISHED:
        why = entry.facts["reason"]
        raise GateRefused(f"another publisher of it failed: {why}", subject=f"release {folder.release_id}", fix="cut a new release")
    return count
