"""Withdraw rows from overseas, asked for by one person and confirmed by another: rows, snapshots and files go, and a receipt stays at home.

What a person had withdrawn never leaves again: the clips are no candidates of any later release or shard set, and shard sets that hold them
are removed. What today's rules do not let out any more is withdrawn from overseas, too (`curation review`), and may leave again under a
later pack. What a release reserved of counters is not given back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation import overseas_table
from curation.coverage import covered
from curation.digests import canonical_json, sha256_hex
from curation.errors import ApprovalRefused, ConcurrentChange, OutsideError, UsageError
from curation.layout import shard_key, withdrawal_key
from curation.names import is_among
from curation.ports import Clock, Eraser, HomeCatalog, Ledger, ObjectStore, OverseasCatalog
from curation.records import REMOVED, LedgerEntry, StageCount
from curation.release_files import (
    MAPPING_FILE,
    PUBLISHED,
    ReleaseFolder,
    kinds_of,
    left_releases,
    recorded_folder,
)
from curation.shards.files import copies_of, is_of, objects_of, sets_holding
from curation.table_search import OWNER, searching
from curation.tables import to_parquet
from curation.withdrawal_files import (
    ASKED,
    ASKED_FILE,
    ASKED_FOR,
    CONFIRMED,
    ON_REQUEST,
    RECEIPT_FILE,
    REQUEST_FILE,
    ROWS,
    ROWS_FILE,
    SHARDS_FILE,
    WITHDRAWN,
    cause_of,
    entries_of,
    read_asked,
    read_document,
    withdrawn_row_ids,
)

_ID_DIGITS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Whose rows: those of one clip, of all clips of a vehicle, device or drive, or of one release."""

    by: Literal["clip", "vehicle", "device", "drive", "release"]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for, and `by` what. `cause` is one of withdrawal_files; one that is `alone` needs no second person."""

    withdrawal_id: str
    clip_count: int
    by: str
    cause: str
    reason: str
    requester: str
    alone: bool


# --- asking -------------------------------------------------------------------------------------------------------------------------


def request(
    selection: Selection, *, reason: str, requester: str, store: ObjectStore, catalog: HomeCatalog, table: str, ledger: Ledger
) -> Request:
    """The recorded request; asking for the same again, with the same reason and by the same person, gives the same one.

    Args:
        selection: whose rows. Clips that are at home and not overseas are asked for as well: they will not leave either.
        reason: why, for the record.
        requester: who asks.
        store: the home store.
        catalog: tells which clips are of a device or drive; of one that was erased since, only its id and vehicle are still known.
        table: curated.clips.
        ledger: the ledger.

    Raises:
        UsageError: nothing is known of what is named, or reason or requester is missing.
    """
    if not reason.strip() or not requester.strip():
        raise UsageError("needs a reason and the name of who asks", subject="withdrawal", fix="give --reason and --requester")
    clip_ids = _clips_of(selection, store=store, catalog=catalog, table=table, ledger=ledger)
    if not clip_ids:
        raise UsageError(
            "nothing is known of it", subject=f"{selection.by} {selection.value}", fix="check the id against curated.clips and releases"
        )
    nulls = pa.nulls(len(clip_ids), pa.string())
    asked = pa.table({"clip_id": sorted(clip_ids), "release_row_id": nulls, "withheld_by": [[]] * len(clip_ids)}, schema=ASKED)
    facts = {"by": selection.by}
    return ask(asked, cause=ON_REQUEST, reason=reason, requester=requester, alone=False, facts=facts, store=store, ledger=ledger)


def ask(
    asked: pa.Table,
    *,
    cause: str,
    reason: str,
    requester: str,
    alone: bool,
    facts: Mapping[str, str],
    store: ObjectStore,
    ledger: Ledger,
) -> Request:
    """The recorded request for rows of schema ASKED.

    Args:
        asked: one row a clip.
        cause: one of withdrawal_files.
        reason: why.
        requester: who asks.
        alone: whether nobody need confirm it.
        facts: what else the request says.
        store: the home store.
        ledger: the ledger.
    """
    data = to_parquet(asked, ASKED)
    body = {"cause": cause, "reason": reason.strip(), "requester": requester.strip(), "alone": alone, "asked": sha256_hex(data), **facts}
    withdrawal_id = sha256_hex(canonical_json(body))[:_ID_DIGITS]
    files = {REQUEST_FILE: canonical_json(body), ASKED_FILE: data}
    for name, content in files.items():
        store.create(withdrawal_key(withdrawal_id, name), content)
    ledger.record(
        StageCount(stage=ASKED_FOR, subject=withdrawal_id, rows_in=asked.num_rows, accounted={"asked": asked.num_rows}),
        files={withdrawal_key(withdrawal_id, name): sha256_hex(content) for name, content in files.items()},
        facts={"cause": cause},
    )
    return _request_of(withdrawal_id, body, asked)


def read_request(withdrawal_id: str, *, store: ObjectStore, ledger: Ledger) -> Request:
    """A request as it was recorded.

    Raises:
        UsageError: there is none of that id.
        EvidenceBroken: it is not what the ledger recorded.
    """
    entries = list(ledger.entries())
    body = read_document(withdrawal_id, REQUEST_FILE, kind=ASKED_FOR, store=store, entries=entries)
    return _request_of(withdrawal_id, body, read_asked(withdrawal_id, store=store, entries=entries))


def _request_of(withdrawal_id: str, body: Mapping[str, Any], asked: pa.Table) -> Request:
    said = {name: body[name] for name in ("cause", "reason", "requester", "alone")}
    return Request(withdrawal_id=withdrawal_id, clip_count=asked.num_rows, by=body.get("by", "review"), **said)


def _clips_of(selection: Selection, *, store: ObjectStore, catalog: HomeCatalog, table: str, ledger: Ledger) -> set[str]:
    """Clips that curated.clips or the mapping of a release names."""
    if selection.by == "release":
        folder = recorded_folder(store, selection.value, ledger)
        folder.evidence()  # says so where there is none
        return set(folder.mapping()["clip_id"].to_pylist())
    column = f"{selection.by}_id"
    found = set(catalog.clip_ids(table, column, selection.value).to_pylist())
    if selection.by in {"clip", "vehicle"}:
        left = _mapped(left_releases(store, ledger), column, [selection.value], store)
        found.update(left["clip_id"].to_pylist())
    return found


def _mapped(releases: Sequence[ReleaseFolder], column: str, values: Sequence[str] | pa.Array, store: ObjectStore) -> pa.Table:
    """The rows of the releases' mappings whose `column` holds one of the values, schema ROWS, by release_row_id.

    Raises:
        EvidenceBroken: a mapping is not the one that the ledger recorded, so that rows would be missed.
    """
    for folder in releases:
        folder.digest(MAPPING_FILE)
    with searching(store) as search:
        found = search.rows({folder.release_id: folder.key(MAPPING_FILE) for folder in releases}, column, values)
    if not found.num_rows:
        return ROWS.empty_table()
    return found.rename_columns({OWNER: "release_id"}).select(ROWS.names).cast(ROWS).sort_by("release_row_id")


# --- doing --------------------------------------------------------------------------------------------------------------------------


def confirm(
    withdrawal_id: str,
    *,
    approver: str,
    store: ObjectStore,
    eraser: Eraser,
    catalog: OverseasCatalog,
    table: str,
    ledger: Ledger,
    clock: Clock,
) -> StageCount:
    """The clips asked for: withdrawn, or not overseas. One that was done changes nothing, one that was interrupted is finished.

    Args:
        withdrawal_id: a recorded request.
        approver: who confirms; empty where the request needs nobody.
        store: the home store.
        eraser: removes shard sets from it that hold a clip which a person had withdrawn.
        catalog: the overseas catalog.
        table: its table.
        ledger: the ledger.
        clock: the time of the receipt.

    Raises:
        ApprovalRefused: who confirms is who asked, or is not named.
        ConcurrentChange: another withdrawal, or a publication of one of the clips, was begun and not finished.
        OutsideError: a file overseas still holds one of the rows.
        GateRefused, EvidenceBroken: the overseas table is not this home's, or the ledger not the one that is noted there. The clips are
            barred from leaving all the same.
        UsageError, EvidenceBroken: as `read_request`.
    """
    asked_for = read_request(withdrawal_id, store=store, ledger=ledger)
    if not asked_for.alone and (not approver.strip() or is_among(approver, [asked_for.requester])):
        raise ApprovalRefused(
            "is confirmed by nobody else than who asked for it",
            subject=f"withdrawal {withdrawal_id}",
            fix="a second person must confirm it",
        )
    entries = list(ledger.entries())
    done = entries_of(WITHDRAWN, entries).get(withdrawal_id)
    if done is not None:
        return _count(withdrawal_id, asked_for.clip_count, done.counts.get("withdrawn", 0))
    asked = read_asked(withdrawal_id, store=store, entries=entries)
    confirmed_by = _confirmed(asked_for, approver, entries=entries, ledger=ledger)
    overseas_table.note_head(table, catalog=catalog, store=store, ledger=ledger)  # nobody forgets that these clips may not leave
    _check_no_publication(asked, withdrawal_id, store=store, ledger=ledger)
    rows = _rows(asked, store=store, ledger=ledger)
    key = withdrawal_key(withdrawal_id, ROWS_FILE)
    store.create(key, to_parquet(rows, ROWS))
    _take(rows["release_row_id"].combine_chunks(), withdrawal_id, catalog=catalog, table=table)
    where = overseas_table.check(table, catalog=catalog, store=store, ledger=ledger)
    if asked_for.cause == ON_REQUEST:  # rules speak of what may leave, and shard sets stay
        _clear_shard_sets(asked, withdrawal_id, store=store, eraser=eraser, ledger=ledger)
    _write_receipt(asked_for, rows, confirmed_by, store=store, clock=clock)
    count = _count(withdrawal_id, asked_for.clip_count, rows.num_rows)
    keys = (withdrawal_key(withdrawal_id, name) for name in (ROWS_FILE, SHARDS_FILE, RECEIPT_FILE))
    files = {key: sha256_hex(store.read(key)) for key in keys if store.size(key) is not None}
    facts = {"cause": asked_for.cause, "approver": confirmed_by, **overseas_table.facts_of(where)}
    ledger.record(count, files=files, facts=facts, unless={WITHDRAWN})
    return count


def _count(withdrawal_id: str, asked: int, withdrawn: int) -> StageCount:
    accounted = {"withdrawn": withdrawn, "not_overseas": asked - withdrawn}
    return StageCount(stage=WITHDRAWN, subject=withdrawal_id, rows_in=asked, accounted=accounted)


def _confirmed(asked_for: Request, approver: str, *, entries: Sequence[LedgerEntry], ledger: Ledger) -> str:
    """Who confirmed it first, recorded before anything is looked at: a publication that begins later sees it.

    Raises:
        ConcurrentChange: another withdrawal was begun and not finished; what this one finds overseas would change under it.
    """
    said = entries_of(CONFIRMED, entries).get(asked_for.withdrawal_id)
    if said is None:
        _check_turn(asked_for.withdrawal_id, entries)
        rows = asked_for.clip_count
        said = ledger.record(
            StageCount(stage=CONFIRMED, subject=asked_for.withdrawal_id, rows_in=rows, accounted={"confirmed": rows}),
            files={},
            facts={"cause": asked_for.cause, "approver": approver.strip()},
        )
    _check_turn(asked_for.withdrawal_id, [entry for entry in ledger.entries() if entry.sequence < said.sequence or entry.kind == WITHDRAWN])
    return said.facts["approver"]


def _check_turn(withdrawal_id: str, entries: Sequence[LedgerEntry]) -> None:
    """Nothing, unless these entries tell of another that was confirmed and is not finished: of two at once the ledger's first goes first.

    Raises:
        ConcurrentChange: they do.
    """
    for other in sorted(entries_of(CONFIRMED, entries).keys() - entries_of(WITHDRAWN, entries).keys() - {withdrawal_id}):
        raise ConcurrentChange("is not finished", subject=f"withdrawal {other}", fix="finish it (`curation withdraw confirm`) first")


def _check_no_publication(asked: pa.Table, withdrawal_id: str, *, store: ObjectStore, ledger: Ledger) -> None:
    """Nothing, unless a release with one of the clips is on its way: its rows may be overseas or come there any moment.

    Raises:
        ConcurrentChange: one is.
    """
    wanted = asked["clip_id"].combine_chunks()
    for folder in left_releases(store, ledger):
        if PUBLISHED in kinds_of(folder.release_id, ledger):
            continue
        if pc.any(pc.is_in(folder.mapping()["clip_id"], value_set=wanted)).as_py():
            raise ConcurrentChange(
                f"its publication is not finished, and withdrawal {withdrawal_id} waits for it",
                subject=f"release {folder.release_id}",
                fix="run `curation publish` on it, which refuses it or finishes; then confirm the withdrawal again",
            )


def _rows(asked: pa.Table, *, store: ObjectStore, ledger: Ledger) -> pa.Table:
    """The rows overseas that are meant, schema ROWS, by release_row_id."""
    only = asked["release_row_id"].drop_null().combine_chunks()
    gone = withdrawn_row_ids(store, list(ledger.entries()))
    meant = _mapped(left_releases(store, ledger), "clip_id", asked["clip_id"].combine_chunks(), store)
    meant = meant.filter(pc.invert(pc.is_in(meant["release_row_id"], value_set=gone)))
    return meant.filter(pc.is_in(meant["release_row_id"], value_set=only)) if len(only) else meant  # a review asks for rows, not for clips


def _take(row_ids: pa.Array, withdrawal_id: str, *, catalog: OverseasCatalog, table: str) -> None:
    """Take the rows away and look for them in every file.

    Raises:
        OutsideError: one is found.
    """
    catalog.withdraw_rows(table, row_ids)
    left = catalog.holding(table, row_ids)
    if left:
        raise OutsideError(
            f"{len(left)} files overseas still hold rows of it, such as {left[0]}",
            subject=f"withdrawal {withdrawal_id}",
            fix="remove what no snapshot refers to, and confirm again",
        )


def _clear_shard_sets(asked: pa.Table, withdrawal_id: str, *, store: ObjectStore, eraser: Eraser, ledger: Ledger) -> None:
    """Remove every shard set that holds one of the clips, once it is noted what it was made of, and recorded that it goes.

    Masked copies of the clips go, too: no set will be made of them.
    """
    for name in copies_of(asked["clip_id"].to_pylist(), store):
        eraser.remove(name)
    entries = list(ledger.entries())
    key = withdrawal_key(withdrawal_id, SHARDS_FILE)
    if store.size(key) is None:
        holding = sets_holding(asked["clip_id"].to_pylist(), store)
        if not holding:
            return
        made = {entry.subject: entry for entry in entries if entry.kind == "shards"}
        said = {
            name: {
                "clips": len(clip_ids),
                "snapshot_id": made[name].facts["snapshot"] if name in made else "",
                "request": _request_in(name, store),
            }
            for name, clip_ids in holding.items()
        }
        store.create(key, canonical_json(said))
    _remove_sets(json.loads(store.read(key)).keys(), withdrawal_id, store=store, eraser=eraser, ledger=ledger)


def _remove_sets(names: Collection[str], withdrawal_id: str, *, store: ObjectStore, eraser: Eraser, ledger: Ledger) -> None:
    standing, _ = covered(list(ledger.entries()))
    files = {name: digest for name, digest in standing.items() if is_of(name, names)}
    if files:
        ledger.record(StageCount(stage=REMOVED, subject=withdrawal_id, rows_in=len(files), accounted={"removed": len(files)}), files=files)
    for name in objects_of(names, store):
        eraser.remove(name)


def clear_late_sets(*, store: ObjectStore, eraser: Eraser, ledger: Ledger) -> tuple[str, ...]:
    """Ids of the shard sets that were built while a clip of theirs was withdrawn, or by a builder that was killed then: removed."""
    entries = list(ledger.entries())
    asked = (name for name, entry in entries_of(CONFIRMED, entries).items() if cause_of(entry) == ON_REQUEST)
    barred = {clip_id: name for name in asked for clip_id in read_asked(name, store=store, entries=entries)["clip_id"].to_pylist()}
    late = sets_holding(barred.keys(), store) if barred else {}
    for name, clip_ids in late.items():
        _remove_sets({name}, barred[min(clip_ids)], store=store, eraser=eraser, ledger=ledger)
    return tuple(sorted(late))


def _request_in(shard_set_id: str, store: ObjectStore) -> Mapping[str, Any] | None:
    """What a shard set was asked for, as its index tells it; None for one that was never finished."""
    key = shard_key(shard_set_id, "index.json")
    if store.size(key) is None:
        return None
    request: Mapping[str, Any] = json.loads(store.read(key))["request"]
    return request


def _write_receipt(asked_for: Request, rows: pa.Table, approver: str, *, store: ObjectStore, clock: Clock) -> None:
    key, shards = (withdrawal_key(asked_for.withdrawal_id, name) for name in (RECEIPT_FILE, SHARDS_FILE))
    if store.size(key) is not None:
        return
    releases = {one["values"]: one["counts"] for one in pc.value_counts(rows["release_id"]).to_pylist()}
    removed = {} if store.size(shards) is None else {name: said["clips"] for name, said in json.loads(store.read(shards)).items()}
    body = {
        "withdrawal_id": asked_for.withdrawal_id,
        "cause": asked_for.cause,
        "reason": asked_for.reason,
        "requester": asked_for.requester,
        "approver": approver,
        "finished_at": clock.now().isoformat(),
        "asked": asked_for.clip_count,
        "withdrawn": rows.num_rows,
        "not_overseas": asked_for.clip_count - rows.num_rows,
        "rows_of_releases": releases,
        "files_that_still_hold_them": [],
        "shard_sets_removed": removed,
    }
    store.create(key, canonical_json(body))
