"""What left of one clip, row or vehicle: when, under which rule and pack, approved by whom, and whether it came back.

Read from the home store and the ledger alone. Large tables are looked through by DuckDB where they lie, so that one of ten million rows is
found in seconds; that the tables are what was recorded is for `audit verify` to prove, while the small documents are checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from curation import schema, withdrawal_files
from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, UsageError
from curation.layout import release_key, withdrawal_key
from curation.ports import ObjectStore
from curation.records import LedgerEntry
from curation.release_files import (
    APPROVAL_FILE,
    DECISIONS_FILE,
    EVIDENCE_FILE,
    MAPPING_FILE,
    PUBLISHED,
    REFUSED,
    RELEASE_FILE,
    RELEASED,
    ReleaseFolder,
)
from curation.table_search import OWNER, TableSearch, searching

Kind = Literal["clip", "row", "vehicle"]
_Cells = dict[str, Any]
State = Literal["published", "withdrawn", "refused", "under way", "not published"]
_ROW_ID: Final = "release_row_id"
_COLUMNS: Final[Mapping[Kind, str]] = {"clip": "clip_id", "row": _ROW_ID, "vehicle": "vehicle_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value that left, and the rule that let it."""

    column: str
    value: str | int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """How a row came back: withdrawn at a time, for a cause (`request`, `review`, `expiry`), under rules where rules took it back."""

    withdrawal_id: str
    at: str
    cause: str
    reason: str
    requester: str
    approver: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of one release: its fields, what became of it, under which pack, and on whose word.

    at and snapshot_id are those of the publication, empty where it never came to one. ticket and approver are empty where nobody approved.
    """

    release_id: str
    release_row_id: str
    clip_id: str
    state: State
    at: str
    snapshot_id: str
    pack: str
    pack_digest: str
    recipient: str
    purpose: str
    approver: str
    ticket: str
    requesters: tuple[str, ...]
    fields: tuple[Field, ...]
    came_back: Return | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A release that kept a clip at home, and the rules that did."""

    release_id: str
    at: str
    clip_id: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Everything that evidence says of an id, releases in the order in which they were cut; withheld is None where nobody looked for it."""

    subject: str
    kind: Kind
    clip_ids: tuple[str, ...]
    rows: tuple[Row, ...]
    withheld: tuple[Withheld, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approved:
    """On whose word a release left."""

    approver: str = ""
    ticket: str = ""
    requesters: tuple[str, ...] = ()


def trace(subject: str, *, store: ObjectStore, entries: Sequence[LedgerEntry], clip_ids: Sequence[str] | None = None) -> Trace:
    """What left of `subject`, a clip id, the id of a released row, or a vehicle; and which releases withheld the clip.

    Args:
        subject: the id.
        store: the home store.
        entries: the ledger's, in order, their chain already proved.
        clip_ids: of a vehicle, those that curated.clips holds. Without them what stayed of it is not told: releases know only the vehicles
            of rows that they let out.

    Raises:
        UsageError: no release speaks of it.
        EvidenceBroken: evidence or approval of a release is not what the ledger recorded.
    """
    with searching(store) as search:
        return _trace(subject, store=store, search=search, entries=entries, clip_ids=clip_ids)


def _trace(
    subject: str, *, store: ObjectStore, search: TableSearch, entries: Sequence[LedgerEntry], clip_ids: Sequence[str] | None
) -> Trace:
    cuts = [entry for entry in entries if entry.kind == RELEASED]
    kinds: tuple[Kind, ...] = ("vehicle",) if clip_ids else ("clip", "row", "vehicle")
    kind, found = _mapped(subject, [cut.subject for cut in cuts], store, search, kinds=kinds)
    clips = sorted({row["clip_id"] for rows in found.values() for row in rows} | set(clip_ids or ())) or [subject]
    row_ids = [row[_ROW_ID] for rows in found.values() for row in rows]
    returns = _returns(store, search, entries, row_ids)
    released = _look(search, RELEASE_FILE, list(found), _ROW_ID, row_ids)
    left = [cut for cut in cuts if cut.subject in found]
    told = (_rows(cut, found[cut.subject], released.get(cut.subject, ()), returns, store=store, entries=entries) for cut in left)
    traced = tuple(row for rows in told for row in rows)
    is_told = kind == "clip" or (kind == "vehicle" and clip_ids is not None)
    withheld = _withheld(cuts, clips, search) if is_told else () if kind == "row" else None
    if not traced and not withheld:
        fix = "give a clip id, the id of a released row, or a vehicle; what only stayed of a vehicle is told by --withheld"
        raise UsageError("no release speaks of it", subject=subject, fix=fix)
    return Trace(subject=subject, kind=kind, clip_ids=tuple(clips), rows=traced, withheld=withheld)


def _mapped(
    subject: str, cuts: Sequence[str], store: ObjectStore, search: TableSearch, *, kinds: Sequence[Kind]
) -> tuple[Kind, dict[str, list[_Cells]]]:
    """The first of the kinds that a release knows the subject as, and its rows of each release's mapping; a clip may have stayed at home.

    Decisions lie by clip, releases by row, mappings by vehicle: bounds of row groups find each there, and tell which mappings to read.
    """
    for kind in kinds:
        among, decided = list(cuts), dict[str, list[_Cells]]()
        if kind == "row":
            among = list(_look(search, RELEASE_FILE, cuts, _ROW_ID, [subject]))
        if kind == "clip":
            decided = _look(search, DECISIONS_FILE, cuts, "clip_id", [subject])
            lost = {cut for cut in cuts if store.size(release_key(cut, DECISIONS_FILE)) is None}
            among = [cut for cut in cuts if cut in lost or any(one["released"] for one in decided.get(cut, ()))]
        found = _look(search, MAPPING_FILE, among, _COLUMNS[kind], [subject])
        if found or decided:
            return kind, found
    return kinds[0], {}


def _rows(
    cut: LedgerEntry,
    mapped: Sequence[_Cells],
    released_rows: Sequence[_Cells],
    returns: Mapping[str, Return],
    *,
    store: ObjectStore,
    entries: Sequence[LedgerEntry],
) -> Iterator[Row]:
    folder = ReleaseFolder(store, cut.subject)
    evidence = recorded_document(folder, EVIDENCE_FILE, cut)
    rules = {one["column"]: one["rule"] for one in evidence["columns"]}
    own = {entry.kind: entry for entry in entries if entry.subject == cut.subject}
    approved = _approved(folder, own.get("approve"))
    publication = own.get(PUBLISHED)
    released = {row[_ROW_ID]: row for row in released_rows}
    for row in mapped:
        came_back = returns.get(row[_ROW_ID])
        values = released.get(row[_ROW_ID])
        if values is None:
            problem = f"does not hold row {row[_ROW_ID]} of its mapping"
            raise EvidenceBroken(problem, subject=folder.key(RELEASE_FILE), fix="run `curation audit verify`; restore the file from a copy")
        yield Row(
            release_id=cut.subject,
            release_row_id=row[_ROW_ID],
            clip_id=row["clip_id"],
            state=_state(folder, own, came_back),
            at="" if publication is None else publication.at,
            snapshot_id="" if publication is None else publication.facts["snapshot_id"],
            pack=f"{evidence['pack']['id']} {evidence['pack']['version']}",
            pack_digest=evidence["pack"]["digest"],
            recipient=evidence["recipient"],
            purpose=evidence["purpose"],
            approver=approved.approver,
            ticket=approved.ticket,
            requesters=approved.requesters or tuple(evidence["requesters"]),
            fields=tuple(Field(column=name, value=values[name], rule=rules[name]) for name in schema.RELEASE.names if name != _ROW_ID),
            came_back=came_back,
        )


def _state(folder: ReleaseFolder, own: Mapping[str, LedgerEntry], came_back: Return | None) -> State:
    if came_back is not None:
        return "withdrawn"
    if PUBLISHED in own:
        return "published"
    if REFUSED in own:
        return "refused"
    return "under way" if folder.is_begun() else "not published"


def _approved(folder: ReleaseFolder, entry: LedgerEntry | None) -> _Approved:
    if entry is None:
        return _Approved()
    said = recorded_document(folder, APPROVAL_FILE, entry)
    return _Approved(approver=said["approver"], ticket=said["ticket"], requesters=tuple(said["requesters"]))


def recorded_document(folder: ReleaseFolder, name: str, entry: LedgerEntry) -> Mapping[str, Any]:
    """A JSON file of the release, as the entry recorded it.

    Raises:
        EvidenceBroken: it is not.
    """
    store, key = folder.store, folder.key(name)
    data = store.read(key) if store.size(key) is not None else b""
    if entry.files.get(key) != sha256_hex(data):
        raise EvidenceBroken(
            "is not what the ledger recorded", subject=key, fix="run `curation audit verify`; restore the file from a copy"
        )
    value: Mapping[str, Any] = json.loads(data)
    return value


def _withheld(cuts: Sequence[LedgerEntry], clip_ids: Sequence[str], search: TableSearch) -> tuple[Withheld, ...]:
    by_bounds = "released = false"  # where NOT would skip no row group
    found = _look(search, DECISIONS_FILE, [cut.subject for cut in cuts], "clip_id", clip_ids, only=by_bounds)
    return tuple(
        Withheld(release_id=cut.subject, at=cut.at, clip_id=row["clip_id"], rules=tuple(row["withheld_by"]))
        for cut in cuts
        for row in found.get(cut.subject, ())
    )


def _returns(store: ObjectStore, search: TableSearch, entries: Sequence[LedgerEntry], row_ids: Sequence[str]) -> dict[str, Return]:
    """How each of the rows that was withdrawn came back, by its id."""
    done = withdrawal_files.entries_of(withdrawal_files.WITHDRAWN, entries)
    returns: dict[str, Return] = {}
    back = _look(search, withdrawal_files.ROWS_FILE, list(done), _ROW_ID, row_ids, key_of=withdrawal_key)
    for withdrawal_id, rows in back.items():
        receipt = withdrawal_files.read_document(
            withdrawal_id, withdrawal_files.RECEIPT_FILE, kind=withdrawal_files.WITHDRAWN, store=store, entries=entries
        )
        clips = [row["clip_id"] for row in rows]
        asked = _look(search, withdrawal_files.ASKED_FILE, [withdrawal_id], "clip_id", clips, key_of=withdrawal_key)
        rules = {row["clip_id"]: tuple(row["withheld_by"]) for row in asked.get(withdrawal_id, ())}
        said = {name: str(receipt[name]) for name in ("reason", "requester", "approver")}
        for row in rows:
            returns[row[_ROW_ID]] = Return(
                withdrawal_id=withdrawal_id,
                at=done[withdrawal_id].at,
                cause=receipt["cause"],
                rules=rules.get(row["clip_id"], ()),
                **said,
            )
    return returns


def _look(
    search: TableSearch,
    name: str,
    owners: Sequence[str],
    column: str,
    values: Sequence[str],
    *,
    only: str = "TRUE",
    key_of: Callable[[str, str], str] = release_key,
) -> dict[str, list[_Cells]]:
    """Owner -> its rows as the search finds them; owners without any are left out."""
    found = search.rows({owner: key_of(owner, name) for owner in owners}, column, values, only=only)
    rows: dict[str, list[_Cells]] = {}
    for row in found.to_pylist():
        rows.setdefault(row.pop(OWNER), []).append(row)
    return rows
