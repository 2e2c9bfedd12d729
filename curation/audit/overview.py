"""One day on one page: what came in, was accepted, left, stays at home and why; what waits for a person; and how the ledger stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from curation import withdrawal_files
from curation.audit import releases
from curation.audit.recorded import Recorded, accounted
from curation.layout import release_key
from curation.records import LedgerEntry, StageCount
from curation.release_files import EVIDENCE_FILE, RELEASED, REVIEW_FAILED, REVIEWED

ZONE: Final = ZoneInfo("Asia/Shanghai")
DAYS_SHOWN: Final = 14
# The way of the data, in order; other kinds of entries speak about a stage and move no rows.
WAY: Final = ("pull", "manifest", "validate", RELEASED, "approve", "publish", "shards")


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What one day of Asia/Shanghai moved, in rows."""

    day: date
    came_in: int
    accepted: int
    left: int
    came_back: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStanding:
    """The ledger as it was read: each entry's signature and link were checked. `head` is SEQUENCE:DIGEST, empty for no entries."""

    entry_count: int
    head: str
    last_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the last release kept at home: its id, how many rows of how many, and each rule that withheld some."""

    release_id: str
    rows_in: int
    withheld: int
    rules: tuple[releases.RuleHits, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something that waits for a person: a release (`approve`, `publish`), a withdrawal (`confirm`), or a failed review (`review`)."""

    what: str
    subject: str
    row_count: int
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Today and the days before it, oldest first; what is held and waits; counts of the way ever since, one per stage that ran."""

    today: Day
    ever: Day
    days: tuple[Day, ...]
    ways: tuple[StageCount, ...]
    held: Held | None
    waiting: tuple[Waiting, ...]
    ledger: LedgerStanding


def overview(on: Recorded, *, today: date) -> Overview:
    """The overview of a day.

    Raises:
        EvidenceBroken: the evidence of a release or withdrawal is not what the ledger recorded.
    """
    shown = [today - timedelta(days=back) for back in range(DAYS_SHOWN - 1, -1, -1)]
    by_day: dict[date, list[LedgerEntry]] = {}
    for entry in on.entries:
        by_day.setdefault(day_of(entry.at), []).append(entry)
    days = tuple(_day(day, by_day.get(day, ())) for day in shown)
    return Overview(
        today=days[-1],
        ever=_day(today, on.entries),
        days=days,
        ways=conservation(on.entries),
        held=_held(on),
        waiting=tuple(_waiting(on)),
        ledger=ledger_standing(on.entries),
    )


def day_of(at: str) -> date:
    """The day in Asia/Shanghai of an entry's time."""
    return datetime.fromisoformat(at).astimezone(ZONE).date()


def ledger_standing(entries: Sequence[LedgerEntry]) -> LedgerStanding:
    """How the ledger stands."""
    if not entries:
        return LedgerStanding(entry_count=0, head="", last_at="")
    last = entries[-1]
    return LedgerStanding(entry_count=len(entries), head=f"{last.sequence}:{last.digest()}", last_at=last.at)


def conservation(entries: Iterable[LedgerEntry]) -> tuple[StageCount, ...]:
    """Rows in and where they went, summed for each stage of the way that ran."""
    sums: dict[str, dict[str, int]] = {}
    for entry in entries:
        if entry.kind in WAY:
            total = sums.setdefault(entry.kind, {})
            for name, rows in entry.counts.items():
                total[name] = total.get(name, 0) + rows
    return tuple(_summed(stage, sums[stage]) for stage in WAY if stage in sums)


def _summed(stage: str, counts: Mapping[str, int]) -> StageCount:
    return StageCount(
        stage=stage, subject="", rows_in=counts["rows_in"], accounted={name: rows for name, rows in counts.items() if name != "rows_in"}
    )


def _day(day: date, entries: Iterable[LedgerEntry]) -> Day:
    moved = {"pull": "stored", "manifest": "accepted", "publish": "published", withdrawal_files.WITHDRAWN: "withdrawn"}
    rows = dict.fromkeys(moved, 0)
    for entry in entries:
        if entry.kind in moved:
            rows[entry.kind] += entry.counts.get(moved[entry.kind], 0)
    return Day(
        day=day,
        came_in=rows["pull"],
        accepted=rows["manifest"],
        left=rows["publish"],
        came_back=rows[withdrawal_files.WITHDRAWN],
    )


def _held(on: Recorded) -> Held | None:
    cut = next((entry for entry in reversed(on.entries) if entry.kind == RELEASED), None)
    if cut is None:
        return None
    evidence = on.document(release_key(cut.subject, EVIDENCE_FILE))
    pack, _ = releases.pack_of(evidence, on)
    hits = tuple(one for one in releases.rule_hits(evidence["rules"], pack) if one.row_count)
    counts = accounted(cut)
    withheld = counts.get("withheld", 0) + counts.get("withdrawn", 0)  # what was published before is not at home alone
    return Held(release_id=cut.subject, rows_in=cut.counts["rows_in"], withheld=withheld, rules=hits)


def _waiting(on: Recorded) -> Iterable[Waiting]:
    for line in releases.lines(on):
        if line.state in {"waiting", "approved", "publishing"}:
            what = "approve" if line.state == "waiting" else "publish"
            yield Waiting(what=what, subject=line.release_id, row_count=line.released, since=line.cut_at)
    confirmed = withdrawal_files.entries_of(withdrawal_files.CONFIRMED, on.entries)
    for name, entry in withdrawal_files.entries_of(withdrawal_files.ASKED_FOR, on.entries).items():
        if name not in confirmed:
            yield Waiting(what="confirm", subject=name, row_count=entry.counts["rows_in"], since=entry.at)
    reviews = [entry for entry in on.entries if entry.kind in {REVIEWED, REVIEW_FAILED}]
    if reviews and reviews[-1].kind == REVIEW_FAILED:
        yield Waiting(what="review", subject=reviews[-1].subject, row_count=0, since=reviews[-1].at)
