"""Approval of a release: bound to its bytes, given by somebody who did not ask for it, recorded, and asked again before anything leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation.digests import canonical_json
from curation.errors import ApprovalRefused, EvidenceBroken
from curation.names import is_among
from curation.ports import Clock, Ledger, ObjectStore
from curation.records import StageCount
from curation.release_files import (
    APPROVAL_FILE,
    EVIDENCE_FILE,
    FAILED,
    REFUSED,
    RELEASE_FILE,
    RELEASED,
    SUPERSEDED,
    SUPERSEDED_FILE,
    ReleaseFolder,
    check_clock,
    kinds_of,
)

_APPROVAL_FIELDS: Final = {
    *("release_id", "digests", "pack_digest", "recipient", "purpose"),
    *("ticket", "approver", "requesters", "approved_at", "expires_at", "signature"),
}


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
    check_known(folder, ledger)
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


def check_known(folder: ReleaseFolder, ledger: Ledger) -> None:
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
