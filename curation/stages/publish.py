"""Publish a release: approval bound to its bytes, gate, commit, read back, gate again, copies of what left, receipt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation import schema
from curation.digests import canonical_json, sha256_hex
from curation.errors import ApprovalRefused, CurationError, EvidenceBroken, GateRefused, OutsideError
from curation.names import is_among
from curation.ports import Clock, Ledger, ObjectStore, OverseasCatalog
from curation.records import LedgerEntry, SnapshotInfo, StageCount
from curation.release_files import (
    APPROVAL_FILE,
    EVIDENCE_FILE,
    FAILED,
    INTENT_FILE,
    PUBLISHED,
    REFUSED,
    RELEASE_FILE,
    RELEASED,
    SENT_FOLDER,
    SUPERSEDED,
    SUPERSEDED_FILE,
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
EVIDENCE_PROPERTY: Final = "curation.evidence-digest"
WITHDRAWN_PROPERTY: Final = "curation.withdrawn"
SCHEDULER: Final = "scheduler"
_APPROVAL_FIELDS: Final = {
    *("release_id", "digests", "pack_digest", "recipient", "purpose"),
    *("ticket", "approver", "requesters", "approved_at", "expires_at", "signature"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """To whom the overseas catalog's rows go, and what for."""

    recipient: str
    purpose: str


def approve(
    folder: ReleaseFolder,
    *,
    approver: str,
    ticket: str,
    requesters: Sequence[str],
    digests: Mapping[str, str],
    valid_for: timedelta,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
    seal: Callable[[bytes], str] | None = None,
) -> None:
    """Write approval.json: the release's bytes, its pack, recipient and purpose, under an approver's name and ticket.

    Args:
        approver: who approves; must not be among those who asked for the release.
        ticket: reference of the transfer assessment the approver rests on.
        requesters: who triggered any run of the chain; `scheduler` where nobody did.
        digests: `release` and `evidence` as the approver saw them.
        seal: the approver's Ed25519 signature of some bytes, hex; None where somebody else vouches for who the approver is, as Airflow.

    Raises:
        UsageError: there is no such release.
        ApprovalRefused: no ticket, no requester named, approver among them, other bytes than the approver saw, or superseded.
    """
    _check_known(folder, ledger)
    check_clock(ledger, clock)
    evidence = folder.evidence()
    everybody = sorted({*requesters, *evidence["requesters"]})
    current = recorded_digests(folder, ledger)
    checks = {
        "the ticket is empty": not ticket.strip(),
        "the approver is not named": not approver.strip(),
        "nobody is named as requester": not everybody,
        f"{approver} asked for this release": is_among(approver, everybody),
        "the release is not what the approver saw": dict(digests) != current,
        "it was superseded by a later cut": folder.has(SUPERSEDED_FILE),
    }
    _refuse(folder, checks)
    now = clock.now()
    said = {"release_id": folder.release_id, "digests": current, "ticket": ticket.strip(), "approver": approver}
    said |= {"pack_digest": evidence["pack"]["digest"], "recipient": evidence["recipient"], "purpose": evidence["purpose"]}
    if not folder.has(APPROVAL_FILE):
        times = {"approved_at": now.isoformat(), "expires_at": (now + valid_for).isoformat()}
        body = {**said, "requesters": everybody, **times}
        store.create(folder.key(APPROVAL_FILE), canonical_json({**body, "signature": seal(canonical_json(body)) if seal else ""}))
    # A file that lies there already is this very approval, written by a run that died, or nothing that may be recorded as one.
    approval = _approval_document(folder)
    stands = {
        "another approval of it is there already": any(approval[name] != value for name, value in said.items()),
        "its approval was not written by `approve`": not approval["approved_at"] <= now < approval["expires_at"] <= now + valid_for,
    }
    _refuse(folder, stands)
    rows = evidence["counts"]["released"]
    ledger.record(
        StageCount(stage="approve", subject=folder.release_id, rows_in=rows, accounted={"approved": rows}),
        files={folder.key(APPROVAL_FILE): folder.digest(APPROVAL_FILE)},
        facts={"approver": approval["approver"], "ticket": approval["ticket"]},
    )


def _check_known(folder: ReleaseFolder, ledger: Ledger) -> None:
    """Nothing, if the release exists, or if the ledger says that it once did.

    Raises:
        UsageError: nobody ever heard of it.
    """
    if not folder.has(EVIDENCE_FILE) and RELEASED not in kinds_of(folder.release_id, ledger):
        folder.evidence()  # says so, and what to do


def _approval_document(folder: ReleaseFolder) -> Mapping[str, Any]:
    """approval.json with its times as times.

    Raises:
        ApprovalRefused: it cannot be read as one.
    """
    folder.digest(APPROVAL_FILE)  # from here on nobody exchanges it under our hands
    try:
        raw = dict(folder.document(APPROVAL_FILE))
        raw |= {name: datetime.fromisoformat(raw[name]) for name in ("approved_at", "expires_at")}
        is_whole = set(raw) == _APPROVAL_FIELDS and all(raw[name].tzinfo is not None for name in ("approved_at", "expires_at"))
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole, raw = False, {}
    _refuse(folder, {"its approval cannot be read": not is_whole})
    return raw


def recorded_digests(folder: ReleaseFolder, ledger: Ledger) -> dict[str, str]:
    """Digests of release.parquet and evidence.json as the ledger recorded them when the release was cut.

    Raises:
        EvidenceBroken: the cut is not in the ledger, or one of the files has changed since.
    """
    fix = "run `curation audit verify`; do not approve this release"
    for entry in ledger.entries():
        if entry.kind == "release" and entry.subject == folder.release_id:
            recorded = {"release": entry.files[folder.key(RELEASE_FILE)], "evidence": entry.files[folder.key(EVIDENCE_FILE)]}
            if recorded != {"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)}:
                raise EvidenceBroken("its files are not those that were cut", subject=f"release {folder.release_id}", fix=fix)
            return recorded
    raise EvidenceBroken("its cut is not in the ledger", subject=f"release {folder.release_id}", fix=fix)


def _refuse(folder: ReleaseFolder, checks: Mapping[str, bool]) -> None:
    for problem, hit in checks.items():
        if hit:
            raise ApprovalRefused(
                problem,
                subject=f"release {folder.release_id}",
                fix="have somebody who did not ask for it approve these very bytes, with a ticket (`curation approve`)",
            )


def check_approval(folder: ReleaseFolder, *, ledger: Ledger, clock: Clock, approvers: Mapping[str, str]) -> Mapping[str, Any]:
    """The approval, if it covers the release's present bytes now and is the one that the ledger recorded.

    Raises:
        ApprovalRefused: missing, unreadable, expired, bound to other bytes, given by a requester, or not recorded in the ledger.
    """
    approval = check_bound(folder, clock)
    kinds = kinds_of(folder.release_id, ledger)
    _refuse(
        folder,
        {
            "its publication was refused before": not {REFUSED, FAILED}.isdisjoint(kinds),
            "it was superseded by a later cut": SUPERSEDED in kinds,
            "the approval is not the one that the ledger recorded": not _is_recorded(folder, ledger),
            "the approval's signature is not its approver's": not _is_signed(folder, approvers),
        },
    )
    return approval


def check_bound(folder: ReleaseFolder, clock: Clock) -> Mapping[str, Any]:
    """The approval, if it covers the release's present bytes now; all that can be told from the release's folder alone.

    Raises:
        ApprovalRefused: missing, unreadable, expired, bound to other bytes, or given by a requester.
    """
    if not folder.has(APPROVAL_FILE):
        _refuse(folder, {"it is not approved": True})
    current = {"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)}
    approval, evidence = _approval_document(folder), folder.evidence()
    _refuse(
        folder,
        {
            "the approval is of another release": approval["release_id"] != folder.release_id,
            "the approval is bound to other bytes": approval["digests"] != current,
            "the approval is bound to another pack": approval["pack_digest"] != evidence["pack"]["digest"],
            "the approval names another recipient": approval["recipient"] != evidence["recipient"],
            "the approval names another purpose": approval["purpose"] != evidence["purpose"],
            "the approval carries no ticket": not approval["ticket"],
            "the approval names no requester": not approval["requesters"],
            "the approver asked for this release": is_among(approval["approver"], [*approval["requesters"], *evidence["requesters"]]),
            "the approval expired": approval["expires_at"] <= clock.now(),
            "it was superseded by a later cut": folder.has(SUPERSEDED_FILE),
        },
    )
    return approval


def _is_signed(folder: ReleaseFolder, approvers: Mapping[str, str]) -> bool:
    """Whether the key that the settings trust for the approver signed the approval; so too where nobody signed, but Airflow vouched."""
    body = dict(folder.document(APPROVAL_FILE))
    signature = body.pop("signature")
    if not signature:
        return True
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(approvers.get(body["approver"], "")))
        key.verify(bytes.fromhex(signature), canonical_json(body))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_recorded(folder: ReleaseFolder, ledger: Ledger) -> bool:
    key, digest = folder.key(APPROVAL_FILE), folder.digest(APPROVAL_FILE)
    return any(
        entry.kind == "approve" and entry.subject == folder.release_id and entry.files.get(key) == digest for entry in ledger.entries()
    )


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
        EvidenceBroken: a file of the release is not what its evidence says.
        GateRefused: what was about to leave, or what the catalog wrote, is not exactly what was approved, or decided otherwise now, or
            anything else failed after the commit. Nothing stays abroad that was not read back, gated and receipted.
        OutsideError: something failed before the commit, or in taking back; a retry goes on where this run stopped.
    """
    done = _published(folder, ledger)
    if done is not None:
        return done
    _check_known(folder, ledger)
    check_clock(ledger, clock)
    _check_destination(folder, table, destination)
    snapshot = catalog.find(table, folder.release_id)
    if snapshot is None:
        check_review(ledger)
    elif WITHDRAWN_PROPERTY in snapshot.properties:
        raise _closed(folder, snapshot, catalog=catalog, table=table, ledger=ledger)
    try:
        check_approval(folder, ledger=ledger, clock=clock, approvers=approvers)
        check_law()
        release = _decided_rows(folder, home_rows, store=store, ledger=ledger)
        if snapshot is None:
            _intend(folder, table, store=store, ledger=ledger)
            check_approval(folder, ledger=ledger, clock=clock, approvers=approvers)
            check_law()  # deciding on millions of rows may have taken it past its last day
        _check_not_withdrawn(folder, store=store, ledger=ledger)
        check_review(ledger)  # rows that are abroad without a receipt do not wait for one that succeeds
        if snapshot is None:
            snapshot = _commit(folder, release, catalog=catalog, table=table, ledger=ledger)
    except CurationError as refusal:
        done = None if refusal.retryable else _take_back(folder, snapshot, refusal, catalog=catalog, table=table, ledger=ledger)
        if done is None:
            raise
        return done
    try:
        files = _gated_again(folder, release, snapshot, home_rows, catalog=catalog, table=table)
        return _receipt(folder, snapshot, files, release.num_rows, store=store, ledger=ledger)
    except CurationError as failure:
        done = _take_back(folder, snapshot, failure, catalog=catalog, table=table, ledger=ledger)
        if done is None:
            raise _failed_abroad(folder, failure) from failure
        return done


def _check_destination(folder: ReleaseFolder, table: str, destination: Destination) -> None:
    """Nothing, if the catalog is that of the release's recipient, and the table the one in which its publication began.

    Raises:
        ApprovalRefused: it is another's. Nothing is taken back either: what was begun lies elsewhere.
        EvidenceBroken: the intent does not say where it began.
    """
    if not folder.has(EVIDENCE_FILE):  # refused with its approval, and taken back
        return
    folder.digest(EVIDENCE_FILE)
    evidence = folder.evidence()
    begun = folder.document(INTENT_FILE).get("table") if folder.has(INTENT_FILE) else table
    if begun is None:
        raise EvidenceBroken("names no table", subject=folder.key(INTENT_FILE), fix="restore it from a copy; then publish again")
    for what, meant, found in (
        ("recipient", evidence["recipient"], destination.recipient),
        ("purpose", evidence["purpose"], destination.purpose),
        ("table", begun, table),
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


def _closed(folder: ReleaseFolder, snapshot: SnapshotInfo, *, catalog: OverseasCatalog, table: str, ledger: Ledger) -> GateRefused:
    """Why a release that was taken back is not published, after that is in the ledger."""
    refusal = GateRefused("was withdrawn; it is not committed again", subject=f"release {folder.release_id}", fix="cut a new release")
    if REFUSED not in kinds_of(folder.release_id, ledger):  # whoever took it back, or closed it, ended before it was recorded
        was_committed = EVIDENCE_PROPERTY in snapshot.properties
        _take_back(folder, snapshot if was_committed else None, refusal, catalog=catalog, table=table, ledger=ledger)
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


def _commit(folder: ReleaseFolder, release: pa.Table, *, catalog: OverseasCatalog, table: str, ledger: Ledger) -> SnapshotInfo:
    last = ledger.head()
    properties = {
        RELEASE_PROPERTY: folder.release_id,
        "curation.pack-digest": folder.evidence()["pack"]["digest"],
        EVIDENCE_PROPERTY: folder.digest(EVIDENCE_FILE),
        "curation.ledger-head": f"{last.sequence}:{last.digest()}" if last is not None else "",
    }
    try:
        return catalog.append(table, release, properties=properties)
    except OutsideError:  # its answer may have got lost, or another publisher of this release was faster
        found = catalog.find(table, folder.release_id)
        if found is None or WITHDRAWN_PROPERTY in found.properties:
            raise
        return found


def _take_back(
    folder: ReleaseFolder, snapshot: SnapshotInfo | None, refusal: CurationError, *, catalog: OverseasCatalog, table: str, ledger: Ledger
) -> StageCount | None:
    """Leave nothing abroad, and close for good a release whose publication had begun; one that had not begun stays as it is.

    Where nothing is abroad yet, the release is closed there first: another publisher may be about to commit it, and might end before it
    looks here. What another publisher's receipt covers stays, and is returned. Receipt and failure are both recorded unless the other is:
    whichever the ledger takes first holds, so nothing that has a receipt is taken back, and nothing that is taken back gets one.
    """
    if snapshot is None and not folder.has(INTENT_FILE):
        return None
    if snapshot is None:
        closing = {RELEASE_PROPERTY: folder.release_id, WITHDRAWN_PROPERTY: "true"}
        known = catalog.append(table, schema.RELEASE.empty_table(), properties=closing)
        snapshot = None if WITHDRAWN_PROPERTY in known.properties else known
    if snapshot is not None:
        if _is_receipted(folder, refusal, ledger):
            return _published(folder, ledger)
        catalog.withdraw(table, snapshot.snapshot_id)
        catalog.withdraw_rows(table, _recorded_row_ids(folder, ledger))  # what was rewritten since is no more of that snapshot
    last = _record_failure(folder, REFUSED, "withheld" if snapshot is None else "withdrawn", refusal, ledger)
    return _published(folder, ledger) if last.kind == PUBLISHED else None


def _is_receipted(folder: ReleaseFolder, failure: CurationError, ledger: Ledger) -> bool:
    """Whether the release has a receipt; if not, it never gets one. Where nobody can tell, no: rows without a record are the worse harm."""
    try:
        return _record_failure(folder, FAILED, "taken_back", failure, ledger).kind == PUBLISHED
    except CurationError as error:
        log.warning("%s: %s; its rows are taken back all the same", folder.release_id, error)
        return False


def _record_failure(folder: ReleaseFolder, kind: str, outcome: str, failure: CurationError, ledger: Ledger) -> LedgerEntry:
    """The entry that tells it, or the release's receipt where there is one."""
    cut = (entry for entry in ledger.entries() if (entry.kind, entry.subject) == (RELEASED, folder.release_id))
    rows = sum(entry.counts.get("released", 0) for entry in cut)
    return ledger.record(
        StageCount(stage=kind, subject=folder.release_id, rows_in=rows, accounted={outcome: rows}),
        files={folder.key(INTENT_FILE): folder.digest(INTENT_FILE)} if folder.has(INTENT_FILE) else {},
        facts={"reason": failure.problem, "error": type(failure).__name__},
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
    folder: ReleaseFolder, snapshot: SnapshotInfo, files: Sequence[bytes], rows: int, *, store: ObjectStore, ledger: Ledger
) -> StageCount:
    sent: dict[str, str] = {}
    for number, data in enumerate(files):
        key = folder.key(f"{SENT_FOLDER}{number:05d}.parquet")
        store.create(key, data)
        sent[key] = sha256_hex(data)
    count = StageCount(stage=PUBLISHED, subject=folder.release_id, rows_in=rows, accounted={"published": rows})
    intent = {folder.key(INTENT_FILE): folder.digest(INTENT_FILE)}
    facts = {"snapshot_id": str(snapshot.snapshot_id)}
    entry = ledger.record(count, files={**sent, **intent}, facts=facts, unless={FAILED, REFUSED})
    if entry.kind != PUBLISHED:
        why = entry.facts["reason"]
        raise GateRefused(f"another publisher of it failed: {why}", subject=f"release {folder.release_id}", fix="cut a new release")
    return count
