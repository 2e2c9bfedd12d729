"""The way out of home, and the way back from overseas."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from curation import layout, overseas_table, retention, wiring
from curation.choices import DataClass
from curation.erasure_files import RECEIPT_FILE
from curation.errors import ConcurrentChange, CurationError, UsageError
from curation.pipeline.release import settle, tell_lineage
from curation.ports import OverseasCatalog
from curation.records import OverseasTable, StageCount
from curation.settings import Settings
from curation.stages import erase, publish, withdraw
from curation.stages import review as reviewing

log = logging.getLogger(__name__)


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


def ask_withdrawal(settings: Settings, *, by: str, value: str, reason: str, requester: str) -> str:
    """Id of the recorded request to take back the rows of a clip, vehicle, device, drive or release, as a form names it.

    Raises:
        UsageError: as `request_withdrawal`, or there is no such kind of thing.
    """
    kinds = get_args(get_type_hints(withdraw.Selection)["by"])
    if by not in kinds:
        raise UsageError("is nothing to withdraw by", subject=f"{by!a}", fix=f"name one of {', '.join(kinds)}")
    selection = withdraw.Selection(by=by, value=value)  # type: ignore[arg-type]  # just checked
    return request_withdrawal(settings, selection, reason=reason, requester=requester).withdrawal_id


def withdrawal_summary(settings: Settings, withdrawal_id: str) -> dict[str, Any]:
    """What who confirms needs to see of a recorded request: how many clips, named by what, why, and who asked.

    Raises:
        UsageError: there is none of that id.
        EvidenceBroken: it is not what the ledger recorded.
    """
    on = wiring.ground(settings)
    asked = withdraw.read_request(withdrawal_id, store=on.store, ledger=on.ledger)
    return {"withdrawal_id": withdrawal_id, "clips": asked.clip_count, "by": asked.by, "reason": asked.reason, "requester": asked.requester}


def confirm_withdrawal(settings: Settings, withdrawal_id: str, *, approver: str) -> StageCount:
    """The clips asked for: withdrawn, or not overseas; an interrupted withdrawal is finished, and a publication that it waits for settled.

    Raises:
        ApprovalRefused: who confirms is who asked.
    """
    home = wiring.home(settings)
    try:
        count = _withdraw(settings, home, withdrawal_id, approver)
    except ConcurrentChange:
        if not settle(settings):
            raise
        count = _withdraw(settings, home, withdrawal_id, approver)
    tell_lineage(settings, home)
    return count


def _withdraw(settings: Settings, home: wiring.Home, withdrawal_id: str, approver: str) -> StageCount:
    return withdraw.confirm(
        withdrawal_id,
        approver=approver,
        store=home.store,
        eraser=wiring.eraser(settings),
        catalog=wiring.overseas(settings),
        table=settings.publish.table,
        ledger=home.ledger,
        clock=home.clock,
    )


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
    """Settle publications that broke off, decide again on everything overseas under today's pack, and withdraw what may not stay, or ask
    for a second person.

    Raises:
        PackRefused, SettingsError, NotConserved, EvidenceBroken, GateRefused: the review failed; nothing was withdrawn, and nothing is
            published until one succeeds.
    """
    settle(settings)
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
        _note_head(settings, home, catalog)
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
    _note_head(settings, home, catalog)
    return Reviewed(found=found, withdrawal_id=withdrawal_id, withdrawn=withdrawn)


def _note_head(settings: Settings, home: wiring.Home, catalog: OverseasCatalog) -> None:
    """Note overseas how the review ended, so that cutting the ledger's end off undoes nothing of it; what fails is noted the next day."""
    try:
        overseas_table.note_head(settings.publish.table, catalog=catalog, store=home.store, ledger=home.ledger)
    except CurationError as problem:
        log.warning("the ledger's head was not noted overseas: %s", problem)


def adopt_table(settings: Settings, *, reason: str, requester: str) -> tuple[OverseasTable, int]:
    """The overseas table that the settings name, recorded as this home's, and how many rows withdrawn before were withdrawn again.

    Raises:
        UsageError: reason or requester is missing.
        GateRefused: rows stand in another table.
        EvidenceBroken: it bears the head of another ledger, or this one was cut off.
    """
    home = wiring.home(settings)
    return overseas_table.adopt(
        settings.publish.table,
        reason=reason,
        requester=requester,
        catalog=wiring.overseas(settings),
        store=home.store,
        ledger=home.ledger,
    )
