"""One release: cut, approved and published; and what leaves next."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import __version__, approval, proofs, wiring
from curation.audit.lineage import runs as lineage_of
from curation.errors import ApprovalRefused, CurationError, UsageError
from curation.pipeline.base import curated, today_at_home
from curation.records import StageCount
from curation.release_files import ReleaseFolder, cut_releases, left_releases, open_publications, published_cells, published_clip_ids
from curation.residency import counters, diff
from curation.residency import forecast as forecasting
from curation.residency import pack as packs
from curation.settings import Settings
from curation.stages import publish, release
from curation.withdrawal_files import barred_clip_ids

log = logging.getLogger(__name__)


def cut_release(settings: Settings, *, requesters: Sequence[str], as_of: date | None = None) -> str:
    """Id of this window's release, cut from main of curated.clips as it is now.

    Raises:
        PackRefused: the pack may allow nothing; zero fields leave.
    """
    home = wiring.home(settings)
    today = as_of or today_at_home(home.clock)
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
    digests = approval.recorded_digests(folder, home.ledger)
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
    approval.approve(
        folder,
        approver=approver,
        ticket=ticket,
        requesters=requesters,
        digests=digests or approval.recorded_digests(folder, home.ledger),
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
    """Rows of an approved release that are in the overseas catalog now; a published one changes nothing. Others are settled first.

    Raises:
        ApprovalRefused, PackRefused, GateRefused, EvidenceBroken: nothing left, or it was taken back.
    """
    settle(settings, but=release_id)
    return _publish(settings, release_id)


def settle(settings: Settings, *, but: str = "") -> tuple[str, ...]:
    """Ids of the releases whose publication broke off, now published or taken back; what cannot be settled is logged, and next time's.

    A process that was killed between commit and receipt leaves rows abroad that nobody has a receipt of. Whatever runs next ends that:
    every publication, the nightly review and upkeep, and a withdrawal that waits for it.

    Args:
        settings: the settings.
        but: a release that the caller publishes itself.
    """
    on, settled = wiring.ground(settings), []
    for release_id in open_publications(on.store, list(on.ledger.entries())):
        if release_id == but:
            continue
        try:
            _publish(settings, release_id)
        except CurationError as problem:
            log.warning("the publication of release %s broke off earlier: %s", release_id, problem)
        if release_id not in open_publications(on.store, list(on.ledger.entries())):
            settled.append(release_id)
    return tuple(settled)


def _publish(settings: Settings, release_id: str) -> StageCount:
    home = wiring.home(settings)
    folder = ReleaseFolder(home.store, release_id)
    wiring.lineage(settings)  # one that leads abroad is refused before anything leaves

    def check_law() -> None:
        evidence = folder.evidence()
        law, today = wiring.law_of_release(settings, evidence), today_at_home(home.clock)
        release.load_law(law, as_of=today)
        release.check_assessments(law, evidence, today=today)

    try:
        return publish.run(
            folder,
            home_rows=home.catalog.read(settings.curated_table),
            check_law=check_law,
            destination=publish.Destination(recipient=settings.residency.recipient, purpose=settings.residency.purpose),
            catalog=wiring.overseas(settings),
            table=settings.publish.table,
            store=home.store,
            ledger=home.ledger,
            clock=home.clock,
            approvers=settings.publish.approvers,
        )
    finally:
        tell_lineage(settings, home)


def tell_lineage(settings: Settings, home: wiring.Home) -> None:
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
    today = today_at_home(home.clock)
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
