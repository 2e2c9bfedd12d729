"""Which overseas table is this home's: recorded before the first row leaves, and asked for before anything is done there.

Ledger and table hold each other fast. The ledger names the table by its UUID and tells how far it had come; the table bears the newest head
of the ledger. So a catalog that was exchanged or restored from an older copy is seen at home, and a ledger that was cut off or rewritten
is seen overseas: else what was withdrawn could leave again, or be told of as gone where it still lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from curation.errors import EvidenceBroken, GateRefused, UsageError
from curation.ports import Ledger, ObjectStore, OverseasCatalog
from curation.records import LedgerEntry, OverseasTable, StageCount
from curation.release_files import FAILED, PUBLISHED, REFUSED, left_releases, open_publications
from curation.withdrawal_files import withdrawn_row_ids

OVERSEAS_TABLE: Final = "overseas_table"  # kind of ledger entries: from here on rows leave for this table and no other
_SUBJECT: Final = "overseas"  # one table at a time
_UUID: Final = "table_uuid"
_SEQUENCE: Final = "table_sequence"


def facts_of(where: OverseasTable | None, *, sequence: int | None = None) -> dict[str, str]:
    """What an entry of the ledger says of the table that it tells of: how far it had come; nothing where there is no table."""
    return {} if where is None else {_UUID: where.table_uuid, _SEQUENCE: str(where.sequence if sequence is None else sequence)}


def check(table: str, *, catalog: OverseasCatalog, store: ObjectStore, ledger: Ledger) -> OverseasTable | None:
    """The overseas table, if it is this home's and both know the same past; None where nothing has left for any, nor a table was begun.

    Raises:
        GateRefused: it is another than the ledger names, is gone, is older than the ledger, or the ledger names none. Nothing may be
            published, taken back or withdrawn there.
        EvidenceBroken: the ledger does not hold what was noted overseas, or home knows nothing of a release that lies there.
    """
    entries = list(ledger.entries())  # first: whatever the ledger tells of the table's past, the table has behind it
    found, known = catalog.identify(table), _known(entries)
    subject = f"overseas table {table}"
    if known is None:
        begun = any(entry.kind in {PUBLISHED, FAILED} for entry in entries) or open_publications(store, entries)
        if not begun and (found is None or found.is_unused):
            return None
        fix = "see that the settings name the right catalog; if they do, run `curation adopt`, which records this table"
        raise GateRefused("is not known to the ledger, so nothing is done there", subject=subject, fix=fix)
    named = f"table {known.facts['table']} of UUID {known.facts[_UUID]}"
    fix = "set [overseas_catalog] and [publish] table back to where the releases went, or restore that table"
    if found is None:
        raise GateRefused(f"is not there; the ledger knows {named}", subject=subject, fix=fix)
    if (known.facts["table"], known.facts[_UUID]) != (table, found.table_uuid):
        raise GateRefused(f"has the UUID {found.table_uuid}, but the ledger knows {named}", subject=subject, fix=fix)
    reached = _reached(known, entries)
    if found.sequence < reached:
        raise GateRefused(
            f"is at change {found.sequence}, but the ledger knows change {reached}: an older copy of it was restored",
            subject=subject,
            fix="restore the newest copy; if there is none, run `curation adopt`, which takes back again what that copy brought back",
        )
    _check_anchor(found, subject, ledger)
    _check_releases(found, subject, store, ledger)
    return found


def begin(table: str, *, catalog: OverseasCatalog, store: ObjectStore, ledger: Ledger) -> OverseasTable:
    """The table for the first rows that leave, made where there is none, and recorded; of several publications at once, by the first.

    Raises:
        GateRefused, EvidenceBroken: as `check`; nobody uses it without having recorded it.
    """
    found = catalog.make(table)
    if found.is_unused:
        _record(table, found, {"reason": "first publication"}, ledger, unless=frozenset({OVERSEAS_TABLE}))
    return check(table, catalog=catalog, store=store, ledger=ledger) or found


def note_head(table: str, *, catalog: OverseasCatalog, store: ObjectStore, ledger: Ledger) -> None:
    """Note the ledger's head in the overseas table, if it is this home's; where nothing has left yet there is nothing to note.

    Raises:
        GateRefused, EvidenceBroken: as `check`.
    """
    found, last = check(table, catalog=catalog, store=store, ledger=ledger), ledger.head()
    if found is not None and last is not None:
        catalog.anchor(table, f"{last.sequence}:{last.digest()}", table_uuid=found.table_uuid)


def adopt(
    table: str, *, reason: str, requester: str, catalog: OverseasCatalog, store: ObjectStore, ledger: Ledger
) -> tuple[OverseasTable, int]:
    """The table as it is now, recorded as this home's from here on, and how many rows of it had been withdrawn before and were so again.

    For a table from before tables were recorded, one that had to be restored from an older copy, and one that takes the place of a table
    in which no row stands any more. Done twice it changes nothing overseas.

    Raises:
        UsageError: reason or requester is missing.
        GateRefused: rows stand in another table, which would be out of reach.
        EvidenceBroken: it bears the head of a ledger that is not this one.
    """
    if not reason.strip() or not requester.strip():
        raise UsageError("needs a reason and the name of who asks", subject="adoption", fix="give --reason and --requester")
    subject, known = f"overseas table {table}", _known(list(ledger.entries()))
    found = catalog.make(table)
    is_another = known is not None and (known.facts["table"], known.facts[_UUID]) != (table, found.table_uuid)
    if is_another and any(folder.standing().num_rows for folder in left_releases(store, ledger)):
        raise GateRefused(
            "cannot take the place of one in which rows stand",
            subject=subject,
            fix="set [overseas_catalog] and [publish] table back, withdraw those rows, and adopt then",
        )
    if found.anchor is not None:
        _check_anchor(found, subject, ledger)
    count = catalog.withdraw_rows(table, withdrawn_row_ids(store, list(ledger.entries())))
    now = catalog.make(table)
    said = {"reason": reason.strip(), "requester": requester.strip(), "after": "" if known is None else str(known.sequence)}
    entry = _record(table, now, said, ledger)
    catalog.anchor(table, f"{entry.sequence}:{entry.digest()}", table_uuid=found.table_uuid)
    return now, count


def _record(table: str, found: OverseasTable, said: dict[str, str], ledger: Ledger, *, unless: frozenset[str] = frozenset()) -> LedgerEntry:
    count = StageCount(stage=OVERSEAS_TABLE, subject=_SUBJECT, rows_in=0, accounted={})
    return ledger.record(count, files={}, facts={"table": table, **facts_of(found), **said}, unless=unless)


def _known(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """The entry that says which table is this home's."""
    return next((entry for entry in reversed(entries) if entry.kind == OVERSEAS_TABLE), None)


def _reached(known: LedgerEntry, entries: Sequence[LedgerEntry]) -> int:
    """How far the table had come by all that the ledger tells since it was recorded."""
    since = entries[known.sequence :]
    return max(int(entry.facts[_SEQUENCE]) for entry in since if entry.facts.get(_UUID) == known.facts[_UUID])


def _check_releases(found: OverseasTable, subject: str, store: ObjectStore, ledger: Ledger) -> None:
    """Nothing, if home knows of every release that was committed there: one whose intent is gone would leave, or be looked for, again.

    Raises:
        EvidenceBroken: it does not.
    """
    entries = list(ledger.entries())
    known = {entry.subject for entry in entries if entry.kind in {PUBLISHED, FAILED, REFUSED}} | set(open_publications(store, entries))
    strangers = sorted(set(found.releases) - known)
    if strangers:
        raise EvidenceBroken(
            f"holds release {strangers[0]}, of whose publication home knows nothing",
            subject=subject,
            fix=f"restore releases/{strangers[0]}/intent.json from a copy if it is this home's; else find out who put it there",
        )


def _check_anchor(found: OverseasTable, subject: str, ledger: Ledger) -> None:
    """Nothing, if the head that is noted overseas stands in the ledger, which is read after the table: no note is newer than that.

    Raises:
        GateRefused: none is noted in a table that is in use.
        EvidenceBroken: it does not stand there.
    """
    if found.anchor is None:
        if found.sequence:
            fix = "find out who changes the overseas catalog; `curation adopt` notes it again"
            raise GateRefused("bears no note of the ledger's head", subject=subject, fix=fix)
        return
    number, _, digest = found.anchor.partition(":")
    entries = list(ledger.entries())
    if not number.isdigit() or int(number) >= len(entries):
        problem = f"ends at entry {len(entries) - 1}, but the overseas catalog bears the digest of entry {number}: its end was cut off"
    elif entries[int(number)].digest() != digest:
        problem = f"has another entry {number} than the one whose digest the overseas catalog bears: it was rewritten, or is another home's"
    else:
        return
    raise EvidenceBroken(
        problem,
        subject="ledger",
        fix="see that the settings name the right work folder and catalog; then restore the ledger's newest copy and prove it with "
        f"`curation audit verify --head {found.anchor}`",
    )
