"""What left of one clip, row or vehicle: when, under which rule and pack, approved by whom, and whether it came back.

Read from the home store and the ledger alone. Large tables are looked through by DuckDB where they lie, so that one of ten million rows is
found in seconds; that the tables are what was recorded is for `audit verify` to prove, while the small documents are checked here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa

from curation import schema, withdrawal_files
from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, UsageError
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

Kind = Literal["clip", "row", "vehicle"]
State = Literal["published", "withdrawn", "refused", "under way", "not published"]
_ROW_ID: Final = "release_row_id"
_NO_EXTENSIONS: Final = {
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}


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
    """Everything that evidence says of an id, releases in the order in which they were cut."""

    subject: str
    kind: Kind
    clip_ids: tuple[str, ...]
    rows: tuple[Row, ...]
    withheld: tuple[Withheld, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approved:
    """On whose word a release left."""

    approver: str = ""
    ticket: str = ""
    requesters: tuple[str, ...] = ()


def trace(subject: str, *, store: ObjectStore, entries: Sequence[LedgerEntry], clip_ids: Sequence[str] = ()) -> Trace:
    """What left of `subject`, a clip id, the id of a released row, or a vehicle.

    Args:
        subject: the id.
        store: the home store.
        entries: the ledger's, in order, their chain already proved.
        clip_ids: clips that curated.clips holds of it, where it is a vehicle; those that it released are found without.

    Raises:
        UsageError: no release speaks of it.
        EvidenceBroken: evidence or approval of a release is not what the ledger recorded.
    """
    cuts = [entry for entry in entries if entry.kind == RELEASED]
    found: dict[str, list[dict[str, Any]]] = {}
    kind: Kind = "vehicle" if clip_ids else "clip"
    for cut in cuts:
        folder = ReleaseFolder(store, cut.subject)
        for column in ("vehicle_id",) if clip_ids else ("clip_id", _ROW_ID, "vehicle_id"):
            rows = _where(folder, MAPPING_FILE, column, [subject])
            if rows:
                kind = {"clip_id": "clip", _ROW_ID: "row", "vehicle_id": "vehicle"}[column]  # type: ignore[assignment]
                found[cut.subject] = rows
                break
    wanted = {row["clip_id"] for rows in found.values() for row in rows} | set(clip_ids)
    clips = sorted(wanted) if wanted else [subject]
    returns = _returns(store, entries, {row[_ROW_ID] for rows in found.values() for row in rows})
    traced = tuple(row for cut in cuts for row in _rows(cut, found.get(cut.subject, []), store, entries, returns))
    withheld = () if kind == "row" else tuple(one for cut in cuts for one in _withheld(cut, clips, store))
    if not traced and not withheld:
        raise UsageError("no release speaks of it", subject=subject, fix="give a clip id, the id of a released row, or a vehicle")
    return Trace(subject=subject, kind=kind, clip_ids=tuple(clips), rows=traced, withheld=withheld)


def _rows(
    cut: LedgerEntry, mapped: Sequence[Mapping[str, Any]], store: ObjectStore, entries: Sequence[LedgerEntry], returns: Mapping[str, Return]
) -> Iterator[Row]:
    if not mapped:
        return
    folder = ReleaseFolder(store, cut.subject)
    evidence = recorded_document(folder, EVIDENCE_FILE, cut)
    rules = {one["column"]: one["rule"] for one in evidence["columns"]}
    own = {entry.kind: entry for entry in entries if entry.subject == cut.subject}
    approved = _approved(folder, own.get("approve"))
    publication = own.get(PUBLISHED)
    released = {row[_ROW_ID]: row for row in _where(folder, RELEASE_FILE, _ROW_ID, [row[_ROW_ID] for row in mapped])}
    for row in mapped:
        came_back = returns.get(row[_ROW_ID])
        values = released[row[_ROW_ID]]
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


def _withheld(cut: LedgerEntry, clip_ids: Sequence[str], store: ObjectStore) -> Iterator[Withheld]:
    for row in _where(ReleaseFolder(store, cut.subject), DECISIONS_FILE, "clip_id", clip_ids):
        if not row["released"]:
            yield Withheld(release_id=cut.subject, at=cut.at, clip_id=row["clip_id"], rules=tuple(row["withheld_by"]))


def _returns(store: ObjectStore, entries: Sequence[LedgerEntry], row_ids: set[str]) -> dict[str, Return]:
    """How each of the rows that was withdrawn came back, by its id."""
    if not row_ids:
        return {}
    returns: dict[str, Return] = {}
    for withdrawal_id, entry in withdrawal_files.entries_of(withdrawal_files.WITHDRAWN, entries).items():
        rows = _look(store, f"withdrawals/{withdrawal_id}/{withdrawal_files.ROWS_FILE}", _ROW_ID, sorted(row_ids))
        if not rows:
            continue
        receipt = withdrawal_files.read_document(
            withdrawal_id, withdrawal_files.RECEIPT_FILE, kind=withdrawal_files.WITHDRAWN, store=store, entries=entries
        )
        clips = [row["clip_id"] for row in rows]
        asked = _look(store, f"withdrawals/{withdrawal_id}/{withdrawal_files.ASKED_FILE}", "clip_id", clips)
        rules = {row["clip_id"]: tuple(row["withheld_by"]) for row in asked}
        said = {name: str(receipt[name]) for name in ("reason", "requester", "approver")}
        for row in rows:
            returns[row[_ROW_ID]] = Return(
                withdrawal_id=withdrawal_id, at=entry.at, cause=receipt["cause"], rules=rules.get(row["clip_id"], ()), **said
            )
    return returns


def _where(folder: ReleaseFolder, name: str, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
    return _look(folder.store, folder.key(name), column, values)


def _look(store: ObjectStore, key: str, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a Parquet object whose `column` holds one of the values, in its order; an object that is not there holds none."""
    if not values or store.size(key) is None:
        return []
    with store.local_path(key) as path, _reading(str(path)) as connection:
        if len(values) == 1:  # compared with a constant, row groups are skipped by their bounds
            sql = f'SELECT * FROM read_parquet(?) WHERE "{column}" = ?'  # noqa: S608 - a column of our schemas
            found = connection.sql(sql, params=[str(path), values[0]]).to_arrow_table()
        else:
            connection.register("wanted", pa.table({"value": pa.array(values, pa.string())}))
            sql = f'SELECT * FROM read_parquet(?) WHERE "{column}" IN (SELECT value FROM wanted)'  # noqa: S608 - same
            found = connection.sql(sql, params=[str(path)]).to_arrow_table()
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows


@contextmanager
def _reading(path: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that reaches this one file and nothing else.

    Raises:
        EvidenceBroken: the file is not readable Parquet.
    """
    with duckdb.connect(":memory:", config=_NO_EXTENSIONS) as connection:
        connection.execute("SET allowed_paths = ?", [[path]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            yield connection
        except duckdb.Error as error:
            raise EvidenceBroken(
                f"cannot be read as Parquet ({type(error).__name__})", subject=path, fix="run `curation audit verify`"
            ) from error
