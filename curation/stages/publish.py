"""Publish a release: approval bound to its bytes, gate, commit, read back, gate again, copies of what left, receipt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from curation import schema
from curation.digests import canonical_json, sha256_hex
from curation.errors import ApprovalRefused, EvidenceBroken, GateRefused
from curation.ports import Clock, Ledger, ObjectStore, OverseasCatalog
from curation.records import SnapshotInfo, StageCount
from curation.release_files import (
    APPROVAL_FILE,
    EVIDENCE_FILE,
    INTENT_FILE,
    RELEASE_FILE,
    SENT_FOLDER,
    SUPERSEDED_FILE,
    ReleaseFolder,
)
from curation.residency import gate
from curation.tables import from_parquet

RELEASE_PROPERTY: Final = "curation.release-id"
WITHDRAWN_PROPERTY: Final = "curation.withdrawn"
SCHEDULER: Final = "scheduler"


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
) -> None:
    """Write approval.json: the release's bytes, its pack, recipient and purpose, under an approver's name and ticket.

    Args:
        folder: the release.
        approver: who approves; must not be among those who asked for the release.
        ticket: reference of the transfer assessment the approver rests on.
        requesters: who triggered any run of the chain; `scheduler` where nobody did.
        digests: `release` and `evidence` as the approver saw them.
        valid_for: how long the approval holds.

    Raises:
        ApprovalRefused: no ticket, no requester named, approver among them, other bytes than the approver saw, or superseded.
    """
    evidence = folder.evidence()
    everybody = sorted({*requesters, *evidence["requesters"]})
    current = {"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)}
    checks = {
        "the ticket is empty": not ticket.strip(),
        "the approver is not named": not approver.strip(),
        "nobody is named as requester": not everybody,
        f"{approver} asked for this release": approver in everybody,
        "the release is not what the approver saw": dict(digests) != current,
        "it was superseded by a later cut": folder.has(SUPERSEDED_FILE),
    }
    _refuse(folder, checks)
    if not folder.has(APPROVAL_FILE):
        approval = {
            "release_id": folder.release_id,
            "digests": current,
            "pack_digest": evidence["pack"]["digest"],
            "recipient": evidence["recipient"],
            "purpose": evidence["purpose"],
            "ticket": ticket.strip(),
            "approver": approver,
            "requesters": everybody,
            "approved_at": clock.now().isoformat(),
            "expires_at": (clock.now() + valid_for).isoformat(),
        }
        store.create(folder.key(APPROVAL_FILE), canonical_json(approval))
    approval = dict(folder.document(APPROVAL_FILE))
    rows = evidence["counts"]["released"]
    ledger.record(
        StageCount(stage="approve", subject=folder.release_id, rows_in=rows, accounted={"approved": rows}),
        files={folder.key(APPROVAL_FILE): folder.digest(APPROVAL_FILE)},
        facts={"approver": approval["approver"], "ticket": approval["ticket"]},
    )


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


def check_approval(folder: ReleaseFolder, *, clock: Clock) -> Mapping[str, Any]:
    """The approval, if it covers the release's present bytes now.

    Raises:
        ApprovalRefused: missing, expired, bound to other bytes, or given by a requester.
    """
    if not folder.has(APPROVAL_FILE):
        _refuse(folder, {"it is not approved": True})
    approval, evidence = folder.document(APPROVAL_FILE), folder.evidence()
    current = {"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)}
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
            "the approver asked for this release": approval["approver"] in approval["requesters"],
            "the approval expired": datetime.fromisoformat(approval["expires_at"]) <= clock.now(),
            "it was superseded by a later cut": folder.has(SUPERSEDED_FILE),
        },
    )
    return approval


def run(
    folder: ReleaseFolder,
    *,
    home_rows: pa.Table,
    check_law: Callable[[], None],
    catalog: OverseasCatalog,
    table: str,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
) -> StageCount:
    """Rows published, counted; a release that is published already changes nothing.

    Args:
        folder: an approved release.
        home_rows: the clips whose raw values must not be found in anything that leaves, schema CLIPS.
        check_law: raises PackRefused if the release's pack may allow nothing any more.
        catalog: the overseas catalog.
        table: its table.

    Raises:
        ApprovalRefused: the approval does not hold.
        PackRefused: the pack expired since the release was cut.
        EvidenceBroken: a file of the release is not what its evidence says.
        GateRefused: what was about to leave, or what the catalog wrote, is not exactly what was approved; nothing stays abroad.
        OutsideError: the catalog failed; a retry goes on where this run stopped.
    """
    for entry in ledger.entries():
        if entry.kind == "publish" and entry.subject == folder.release_id:
            return StageCount(stage="publish", subject=folder.release_id, rows_in=entry.counts["rows_in"], accounted=_counts(entry.counts))
    check_approval(folder, clock=clock)
    _check_evidence(folder, store)
    check_law()
    release = folder.release()
    gate.check_table(release, home_rows)
    snapshot = catalog.find(table, folder.release_id)
    if snapshot is not None and WITHDRAWN_PROPERTY in snapshot.properties:
        raise GateRefused("was withdrawn; it is not committed again", subject=f"release {folder.release_id}", fix="cut a new release")
    if snapshot is None:
        snapshot = _commit(folder, release, catalog=catalog, table=table, store=store, ledger=ledger, clock=clock)
    files = _take_back_unless(folder, release, snapshot, home_rows, catalog=catalog, table=table, ledger=ledger)
    return _receipt(folder, snapshot, files, release.num_rows, store=store, ledger=ledger)


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: rows for name, rows in counts.items() if name != "rows_in"}


def _check_evidence(folder: ReleaseFolder, store: ObjectStore) -> None:
    for key, digest in folder.evidence()["files"].items():
        if sha256_hex(store.read(key)) != digest:
            raise EvidenceBroken(
                "is not what the release's evidence says", subject=key, fix="run `curation audit verify`; cut a new release"
            )


def _commit(
    folder: ReleaseFolder, release: pa.Table, *, catalog: OverseasCatalog, table: str, store: ObjectStore, ledger: Ledger, clock: Clock
) -> SnapshotInfo:
    store.create(folder.key(INTENT_FILE), canonical_json({"release_id": folder.release_id, "table": table}))
    # A cut that superseded this release between our check and our intent has seen no intent: whoever comes second stops.
    check_approval(folder, clock=clock)
    last = ledger.head()
    properties = {
        RELEASE_PROPERTY: folder.release_id,
        "curation.pack-digest": folder.evidence()["pack"]["digest"],
        "curation.evidence-digest": folder.digest(EVIDENCE_FILE),
        "curation.ledger-head": f"{last.sequence}:{last.digest()}" if last is not None else "",
    }
    return catalog.append(table, release, properties=properties)


def _take_back_unless(
    folder: ReleaseFolder,
    release: pa.Table,
    snapshot: SnapshotInfo,
    home_rows: pa.Table,
    *,
    catalog: OverseasCatalog,
    table: str,
    ledger: Ledger,
) -> list[bytes]:
    """The bytes that the catalog wrote, gated again; on a refusal the snapshot is withdrawn before the error goes on."""
    try:
        written = [(path.name, path.read_bytes()) for path in catalog.files(table, snapshot.snapshot_id)]
        for name, data in written:
            gate.check_file(data, name, home_rows)
        _same_rows(folder, release, [data for _, data in written])
    except GateRefused as refusal:
        catalog.withdraw(table, snapshot.snapshot_id)
        ledger.record(
            StageCount(
                stage="publish_refused", subject=folder.release_id, rows_in=release.num_rows, accounted={"withdrawn": release.num_rows}
            ),
            files={},
            facts={"reason": refusal.problem},
        )
        raise
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
    count = StageCount(stage="publish", subject=folder.release_id, rows_in=rows, accounted={"published": rows})
    intent = {folder.key(INTENT_FILE): folder.digest(INTENT_FILE)}
    ledger.record(count, files={**sent, **intent}, facts={"snapshot_id": str(snapshot.snapshot_id)})
    return count
