"""The report of a period: what each stage conserved, what left under which rule and article, what came back, how counters stand, and which
shard sets were built, masked or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from curation import withdrawal_files
from curation.audit.overview import LedgerStanding, conservation, day_of, ledger_standing
from curation.audit.pack_register import PackPage
from curation.audit.recorded import Recorded
from curation.audit.releases import Release, release
from curation.audit.shard_register import ShardSetLine
from curation.audit.shard_register import lines as shard_sets
from curation.errors import EvidenceBroken, UsageError
from curation.records import LedgerEntry, StageCount
from curation.release_files import PUBLISHED, RELEASED
from curation.residency.forecast import Forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A withdrawal of the period: times are ISO 8601, `done_at` and `approver` empty where it is not finished or nobody confirmed it."""

    withdrawal_id: str
    cause: str
    asked_at: str
    done_at: str
    asked: int
    withdrawn: int
    approver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """A period, both days of Asia/Shanghai included, as the ledger knew it when the report was made.

    releases: cut or published in the period, in the order in which they were cut. shard_sets: built in it, in that order. refusal: why
    packs and counters could not be told, empty where they could. entry_count: of the period; `ledger` is the whole one.
    """

    since: date
    until: date
    made_at: datetime
    ways: tuple[StageCount, ...]
    releases: tuple[Release, ...]
    withdrawals: tuple[Withdrawal, ...]
    shard_sets: tuple[ShardSetLine, ...]
    counters: tuple[Forecast, ...]
    packs: tuple[PackPage, ...]
    refusal: str
    entry_count: int
    ledger: LedgerStanding


def report(
    on: Recorded,
    *,
    since: date,
    until: date,
    made_at: datetime,
    counters: Sequence[Forecast],
    packs: Sequence[PackPage],
    refusal: str = "",
) -> PeriodReport:
    """The report of the days `since` to `until`.

    Raises:
        UsageError: the period ends before it begins.
        EvidenceBroken: a document that it rests on is not what the ledger recorded.
    """
    if until < since:
        raise UsageError(f"ends on {until}, before it begins", subject=f"period from {since}", fix="give --since before --until")
    within = [entry for entry in on.entries if since <= day_of(entry.at) <= until]
    return PeriodReport(
        since=since,
        until=until,
        made_at=made_at,
        ways=conservation(within),
        releases=tuple(_releases(within, on)),
        withdrawals=tuple(_withdrawals(within, on)),
        shard_sets=tuple(line for line in reversed(shard_sets(on)) if since <= day_of(line.built_at) <= until),
        counters=tuple(counters),
        packs=tuple(packs),
        refusal=refusal,
        entry_count=len(within),
        ledger=ledger_standing(on.entries),
    )


def _releases(within: Sequence[LedgerEntry], on: Recorded) -> list[Release]:
    found = []
    for release_id in dict.fromkeys(entry.subject for entry in within if entry.kind in {RELEASED, PUBLISHED}):
        told = release(release_id, on)
        if told is None:
            raise EvidenceBroken("was published but never cut", subject=f"release {release_id}", fix="run `curation audit verify`")
        found.append(told)
    return sorted(found, key=lambda one: one.line.cut_at)


def _withdrawals(within: Sequence[LedgerEntry], on: Recorded) -> list[Withdrawal]:
    kinds = (withdrawal_files.ASKED_FOR, withdrawal_files.CONFIRMED, withdrawal_files.WITHDRAWN)
    asked, confirmed, done = (withdrawal_files.entries_of(kind, on.entries) for kind in kinds)
    found = []
    for withdrawal_id in dict.fromkeys(entry.subject for entry in within if entry.kind in kinds):
        request, finished = asked[withdrawal_id], done.get(withdrawal_id)
        approvals = [entry.facts.get("approver", "") for entry in (confirmed.get(withdrawal_id), finished) if entry is not None]
        found.append(
            Withdrawal(
                withdrawal_id=withdrawal_id,
                cause=withdrawal_files.cause_of(request),
                asked_at=request.at,
                done_at="" if finished is None else finished.at,
                asked=request.counts["rows_in"],
                withdrawn=0 if finished is None else finished.counts.get("withdrawn", 0),
                approver=next((name for name in approvals if name), ""),
            )
        )
    return found
