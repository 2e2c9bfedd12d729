"""Erase clips from home, asked for by one person and confirmed by another: bytes, masked copies, rows and shard sets go, evidence stays.

Each class of data has its term (`retention.py`): what is past it is asked for and confirmed in the same way, and nothing goes before it.
Releases, their approvals, packs, receipts and the ledger have no end: counters, withdrawals and proofs rest on them. Nothing here touches
what lies overseas: rows of an erased clip that were published are told in the receipt, and taken back by a withdrawal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation import layout, schema
from curation.coverage import covered
from curation.digests import canonical_json, sha256_hex
from curation.erasure_files import ERASED, RECEIPT_FILE, REQUEST_FILE, tombstone
from curation.errors import ApprovalRefused, ConcurrentChange, EvidenceBroken, UsageError
from curation.listing_rows import entry_digest
from curation.names import is_among
from curation.ports import Clock, Eraser, HomeCatalog, Ledger, ObjectStore
from curation.records import REMOVED, LedgerEntry, StageCount
from curation.release_files import left_releases, published_clip_ids
from curation.retention import class_of, due_keys
from curation.settings import RetentionSettings
from curation.shards.files import SHARDS_FOLDER, copies_of, is_shard, objects_of, set_of, sets_holding
from curation.shards.telling import names_any
from curation.tables import from_parquet, to_parquet

REQUEST: Final = "erase_request"  # kinds of ledger entries
STAGE: Final = "erase"
_NAMES: Final = ("vehicle_id", "vin", "plate", "device_id", "driver_id", "drive_id")
_TELEMETRY: Final = tuple(name for name in schema.LISTING.names if name in frozenset(schema.CLIPS.names) and name != "size_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Whose clips: one clip by id, all of a vehicle or of a drive, or all of batches that were pulled before a day."""

    by: Literal["clip", "vehicle", "drive", "pulled_before"]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked: the clips, and the rows of listings that speak of them, by batch and position. It does not say whose they are.

    `objects` are the keys of shard sets or evidence past their term, where these were asked for instead.
    """

    erasure_id: str
    clip_ids: tuple[str, ...]
    listed: Mapping[str, tuple[int, ...]]
    objects: tuple[str, ...]
    reason: str
    requester: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Listing and outcomes of one batch, row by row."""

    batch_id: str
    listing: pa.Table
    pulled: pa.Table | None


# --- asking -------------------------------------------------------------------------------------------------------------------------


def request(selection: Selection, *, reason: str, requester: str, store: ObjectStore, ledger: Ledger) -> Request:
    """The recorded request; asking for the same again, with the same reason and by the same person, gives the same one.

    Raises:
        UsageError: nothing is held of what is named, a batch that speaks of it is not finished, or reason or requester is missing.
    """
    _require_words(reason, requester)
    batches = list(_batches(store))
    chosen = {batch.batch_id: _positions(batch, selection, ledger) for batch in batches}
    for batch in batches:
        if chosen[batch.batch_id] and batch.pulled is None:
            raise UsageError(
                "is not pulled to its end", subject=f"batch {batch.batch_id}", fix="finish it (`curation pull SOURCE`), then ask"
            )
    clip_ids = {clip for batch in batches for clip in _clips_at(batch, chosen[batch.batch_id])}
    listed = {batch.batch_id: sorted({*chosen[batch.batch_id], *_rows_of(batch, clip_ids)}) for batch in batches}
    listed = {batch_id: positions for batch_id, positions in listed.items() if positions}
    if not listed:
        raise UsageError("nothing is held of it", subject=f"{selection.by} {selection.value}", fix="check the id against curated.clips")
    return _recorded({"clip_ids": sorted(clip_ids), "listed": listed}, reason=reason, requester=requester, store=store, ledger=ledger)


def request_objects(keys: Collection[str], *, reason: str, requester: str, store: ObjectStore, ledger: Ledger) -> Request:
    """The recorded request to remove shard sets or evidence past their term, which `confirm` holds against the term once more.

    Raises:
        UsageError: reason or requester is missing, or there is nothing to remove.
    """
    _require_words(reason, requester)
    if not keys:
        raise UsageError("nothing is past its term", subject="erasure", fix="look when something will be (`curation erase due`)")
    what = {"clip_ids": [], "listed": {}, "objects": sorted(keys)}
    return _recorded(what, reason=reason, requester=requester, store=store, ledger=ledger)


def _recorded(what: Mapping[str, Any], *, reason: str, requester: str, store: ObjectStore, ledger: Ledger) -> Request:
    body = {**what, "reason": reason.strip(), "requester": requester.strip()}
    data = canonical_json(body)
    erasure_id = sha256_hex(data)[:16]
    key = layout.erasure_key(erasure_id, REQUEST_FILE)
    store.create(key, data)
    asked = _request_of(erasure_id, body)
    count = StageCount(stage=REQUEST, subject=erasure_id, rows_in=_size(asked), accounted={"asked": _size(asked)})
    ledger.record(count, files={key: sha256_hex(data)})
    return asked


def _require_words(reason: str, requester: str) -> None:
    if not reason.strip() or not requester.strip():
        raise UsageError("needs a reason and the name of who asks", subject="erasure", fix="give --reason and --requester")


def _size(asked: Request) -> int:
    return len(asked.clip_ids) + len(asked.objects)


def read_request(erasure_id: str, *, store: ObjectStore, ledger: Ledger) -> Request:
    """A request as it was recorded.

    Raises:
        UsageError: there is none of that id.
        EvidenceBroken: it is not what the ledger recorded.
    """
    key = layout.erasure_key(erasure_id, REQUEST_FILE)
    if store.size(key) is None:
        raise UsageError("was never asked for", subject=f"erasure {erasure_id}", fix="ask first (`curation erase request`)")
    data = store.read(key)
    recorded = {entry.files.get(key) for entry in ledger.entries() if (entry.kind, entry.subject) == (REQUEST, erasure_id)}
    if recorded != {sha256_hex(data)}:
        raise EvidenceBroken("is not what the ledger recorded", subject=key, fix="find out who changed it, and ask anew")
    return _request_of(erasure_id, json.loads(data))


def _request_of(erasure_id: str, body: Mapping[str, Any]) -> Request:
    return Request(
        erasure_id=erasure_id,
        clip_ids=tuple(body["clip_ids"]),
        listed={batch_id: tuple(positions) for batch_id, positions in body["listed"].items()},
        objects=tuple(body.get("objects", ())),
        reason=body["reason"],
        requester=body["requester"],
    )


def _batches(store: ObjectStore) -> Iterator[_Batch]:
    keys = list(store.keys("batches/"))
    for batch_id in sorted({key.split("/")[1] for key in keys}):
        if layout.listing_key(batch_id) not in keys:
            continue
        pulled_key = layout.pulled_key(batch_id)
        pulled = from_parquet(store.read(pulled_key), schema.PULLED) if pulled_key in keys else None
        yield _Batch(batch_id=batch_id, listing=from_parquet(store.read(layout.listing_key(batch_id)), schema.LISTING), pulled=pulled)


def _positions(batch: _Batch, selection: Selection, ledger: Ledger) -> list[int]:
    if selection.by == "clip":
        return _rows_of(batch, {selection.value})
    if selection.by == "pulled_before":
        pulled_at = [entry.at for entry in ledger.entries() if (entry.kind, entry.subject) == ("pull", batch.batch_id)]
        is_old = bool(pulled_at) and datetime.fromisoformat(pulled_at[0]) < datetime.fromisoformat(selection.value)
        return [at for at, clip_id in enumerate(_clip_ids(batch)) if clip_id is not None] if is_old else []
    column = {"vehicle": "vehicle_id", "drive": "drive_id"}[selection.by]
    return [at for at, value in enumerate(batch.listing[column].to_pylist()) if value == selection.value]


def _clip_ids(batch: _Batch) -> list[str | None]:
    """Clip id of each row whose bytes are held; None for a row without, and for one that was erased."""
    if batch.pulled is None:
        return [None] * batch.listing.num_rows
    reasons = batch.pulled["reason"].to_pylist()
    return [None if reason == ERASED else clip for clip, reason in zip(batch.pulled["clip_id"].to_pylist(), reasons, strict=True)]


def _rows_of(batch: _Batch, clip_ids: Collection[str]) -> list[int]:
    return [at for at, clip_id in enumerate(_clip_ids(batch)) if clip_id in clip_ids]


def _clips_at(batch: _Batch, positions: Sequence[int]) -> list[str]:
    clip_ids = _clip_ids(batch)
    return [clip for at in positions if (clip := clip_ids[at]) is not None]


# --- doing --------------------------------------------------------------------------------------------------------------------------


def confirm(
    erasure_id: str,
    *,
    approver: str,
    store: ObjectStore,
    eraser: Eraser,
    catalog: HomeCatalog,
    table: str,
    ledger: Ledger,
    clock: Clock,
    retention: RetentionSettings,
) -> StageCount:
    """The clips, or the objects past their term, that were erased; one that was done changes nothing, one that was interrupted is finished.

    Raises:
        ApprovalRefused: who confirms is who asked, or is not named; or the term of what was asked for is not over.
        ConcurrentChange: another erasure was begun and not finished.
        UsageError, EvidenceBroken: as `read_request`.
    """
    asked = read_request(erasure_id, store=store, ledger=ledger)
    if not approver.strip() or is_among(approver, [asked.requester]):
        raise ApprovalRefused(
            "is confirmed by nobody else than who asked for it", subject=f"erasure {erasure_id}", fix="a second person must confirm it"
        )
    count = StageCount(stage=STAGE, subject=erasure_id, rows_in=_size(asked), accounted={"erased": _size(asked)})
    entries = list(ledger.entries())
    if any((entry.kind, entry.subject) == (STAGE, erasure_id) for entry in entries):
        return count
    begun = _begun(asked, entries)
    if begun is None:
        _require_past_term(asked, entries, retention, now=clock.now())
    tombstones = _write_tombstones(asked, store)
    if begun is None:
        _remove_unfinished_requests(asked, entries, store, eraser)
    plan = _plan(asked, entries, store=store, ledger=ledger) if begun is None else begun
    replaced = {key: _scrub(key, asked, store, eraser) for key in plan if _is_scrubbed(key)}
    for key in plan.keys() - replaced.keys():
        eraser.remove(key)
    _remove_unfinished_shards(asked, store, eraser)
    for key in (*_inspections(asked, store), *copies_of(asked.clip_ids, store)) if asked.clip_ids else ():
        eraser.remove(key)
    rows = catalog.erase(table, asked.clip_ids) if asked.clip_ids else 0
    receipt = _receipt(asked, approver=approver, plan=plan, rows=rows, store=store, ledger=ledger, clock=clock)
    ledger.record(count, files={**tombstones, **replaced, **receipt})
    return count


def _remove_unfinished_requests(asked: Request, entries: Sequence[LedgerEntry], store: ObjectStore, eraser: Eraser) -> None:
    """Remove kept shard requests that name what goes and that no ledger entry knows, while the listings still tell whom they name."""
    standing, _ = covered(entries)
    for key in _shard_requests_naming(_names_gone(asked, store), store) - standing.keys():
        eraser.remove(key)


def _remove_unfinished_shards(asked: Request, store: ObjectStore, eraser: Eraser) -> None:
    """Remove shards that hold one of the clips and that no ledger entry knows: their build was killed. The shards go last, as they tell."""
    for key in sorted(objects_of(sets_holding(asked.clip_ids, store), store), key=is_shard):
        eraser.remove(key)


def _require_past_term(asked: Request, entries: Sequence[LedgerEntry], retention: RetentionSettings, *, now: datetime) -> None:
    """Nothing, if the term of every object is over today, under today's settings."""
    may_go: set[str] = set()
    for data_class in {class_of(key) for key in asked.objects} - {None, "clips"}:
        may_go |= due_keys(entries, retention, data_class, now=now) if data_class is not None else set()
    kept = sorted(set(asked.objects) - may_go)
    if kept:
        raise ApprovalRefused(
            f"asks for {len(kept)} objects that are within their term or have no end, such as {kept[0]}",
            subject=f"erasure {asked.erasure_id}",
            fix="wait until they are due (`curation erase due`), then ask anew",
        )


def _write_tombstones(asked: Request, store: ObjectStore) -> dict[str, str]:
    """First of all, so that nobody pulls again what is being removed."""
    entries: dict[str, list[str]] = {clip_id: [] for clip_id in asked.clip_ids}
    for batch in _batches(store):
        rows = batch.listing.to_pylist() if batch.batch_id in asked.listed else []
        for at, clip_id in enumerate(_clip_ids(batch) if rows else []):
            if clip_id in entries:
                entries[clip_id].append(entry_digest(rows[at]).hex())
    written: dict[str, str] = {}
    for clip_id, digests in entries.items():
        key = layout.tombstone_key(clip_id)
        if store.size(key) is None:
            store.create(key, tombstone(clip_id, digests))
        written[key] = sha256_hex(store.read(key))
    return written


def _begun(asked: Request, entries: Sequence[LedgerEntry]) -> Mapping[str, str] | None:
    """What this erasure was already going to remove, None where it is only beginning.

    Raises:
        ConcurrentChange: another erasure was begun and not finished.
    """
    done = {entry.subject for entry in entries if entry.kind == STAGE}
    erasures = {entry.subject for entry in entries if entry.kind == REQUEST}  # withdrawals remove shard sets, too
    for entry in entries:
        if entry.kind == REMOVED and entry.subject == asked.erasure_id:
            return entry.files
        if entry.kind == REMOVED and entry.subject in erasures - done:
            raise ConcurrentChange("is not finished", subject=f"erasure {entry.subject}", fix="finish it (`curation erase confirm`) first")
    return None


def _plan(asked: Request, entries: Sequence[LedgerEntry], *, store: ObjectStore, ledger: Ledger) -> Mapping[str, str]:
    """Objects to remove or scrub, with the digests that the ledger knows them by; recorded before the first of them goes."""
    standing, _ = covered(entries)
    keys = set(asked.objects)
    if asked.clip_ids or asked.listed:
        keys |= {*_clip_objects(asked, standing), *objects_of(sets_holding(asked.clip_ids, store), store), *_tables_of(asked, store)}
        keys |= _shard_requests_naming(_names_gone(asked, store), store)
    files = {key: digest for key, digest in standing.items() if key in keys}
    accounted = {"removed": sum(not _is_scrubbed(key) for key in files), "scrubbed": sum(map(_is_scrubbed, files))}
    ledger.record(StageCount(stage=REMOVED, subject=asked.erasure_id, rows_in=len(files), accounted=accounted), files=files)
    return files


def _names_gone(asked: Request, store: ObjectStore) -> set[str]:
    """The clips, vehicles, devices and persons of whom nothing is left in a listing once this is erased."""
    gone, stay = set(asked.clip_ids), set[str]()
    for batch in _batches(store):
        positions = frozenset(asked.listed.get(batch.batch_id, ()))
        for name in _NAMES:
            for at, value in enumerate(batch.listing[name].to_pylist()):
                if value is not None:
                    (gone if at in positions else stay).add(value)
    return gone - stay


def _shard_requests_naming(names: set[str], store: ObjectStore) -> set[str]:
    """Kept requests whose filter names one of them: what it would ask for again is no longer there to ask for."""
    asked_for = {key: json.loads(store.read(key)) for key in store.keys("shard_requests/")}
    return {key for key, request in asked_for.items() if names_any(request["filter"] or "", names)}


def _clip_objects(asked: Request, standing: Mapping[str, str]) -> set[str]:
    wanted = frozenset(asked.clip_ids)
    clips = {key for key in standing if key.startswith("clips/") and PurePosixPath(key).stem in wanted}
    return clips | {key for key in standing if key.startswith("quarantine/") and key.split("/")[1] in wanted}


def _inspections(asked: Request, store: ObjectStore) -> list[str]:
    wanted = frozenset(asked.clip_ids)
    return [key for key in store.keys("inspections/") if PurePosixPath(key).stem in wanted]


def _tables_of(asked: Request, store: ObjectStore) -> set[str]:
    """Listing, outcomes and manifest of every batch that speaks of one of the clips."""
    keys = {key for batch_id in asked.listed for key in (layout.listing_key(batch_id), layout.pulled_key(batch_id))}
    keys |= {key for batch_id in asked.listed if store.size(key := layout.manifest_key(batch_id)) is not None}
    return keys | {key for key in store.keys("manifests/") if key not in keys and _speaks_of(key, asked, store)}


def _speaks_of(key: str, asked: Request, store: ObjectStore) -> bool:
    """Whether a revision or another batch's manifest speaks of one of the clips, by a row or as the survivor of another clip."""
    rows, wanted = from_parquet(store.read(key), schema.CLIPS), pa.array(asked.clip_ids, pa.string())
    return any(pc.any(pc.is_in(rows[name], value_set=wanted)).as_py() for name in ("clip_id", "duplicate_of"))


def _is_scrubbed(key: str) -> bool:
    return key.startswith(("batches/", "manifests/"))


def _scrub(key: str, asked: Request, store: ObjectStore, eraser: Eraser) -> str:
    """Take the clips out of a table of a batch; SHA-256 of what stands there now, hex. Done twice it changes nothing."""
    data = store.read(key)
    if key.startswith("manifests/"):
        rows = from_parquet(data, schema.CLIPS)
        gone = pc.is_in(rows["clip_id"], value_set=pa.array(asked.clip_ids, pa.string()))
        rows = rows.filter(pc.invert(gone))
        survived = pc.is_in(rows["duplicate_of"], value_set=pa.array(asked.clip_ids, pa.string()))
        named = pc.if_else(survived, pa.scalar(None, pa.string()), rows["duplicate_of"])
        rows = rows.set_column(rows.schema.get_field_index("duplicate_of"), schema.CLIPS.field("duplicate_of"), named)
        data = to_parquet(rows, schema.CLIPS)
    else:
        kind = schema.LISTING if key.endswith("listing.parquet") else schema.PULLED
        table = from_parquet(data, kind).to_pylist()
        for at in asked.listed[key.split("/")[1]]:
            table[at] = _scrubbed(table[at], at)
        data = to_parquet(pa.Table.from_pylist(table, schema=kind), kind)
    eraser.replace(key, data)
    return sha256_hex(data)


def _scrubbed(row: Mapping[str, Any], at: int) -> dict[str, Any]:
    """A row that is still there to be counted, and says nothing any more; file names hold times, plates and device ids."""
    kept = {"name": f"erased/{at:06d}", "reason": ERASED}
    if "outcome" in row:
        return {**dict.fromkeys(row), **kept, "outcome": "refused"}
    return {**row, **dict.fromkeys(_TELEMETRY), **kept, "modified_ns": 0, "version": None, "held_as": None}


def _receipt(
    asked: Request,
    *,
    approver: str,
    plan: Mapping[str, str],
    rows: int,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
) -> dict[str, str]:
    key = layout.erasure_key(asked.erasure_id, RECEIPT_FILE)
    if store.size(key) is None:
        overseas = {
            folder.release_id: pc.sum(pc.is_in(published_clip_ids([folder]), value_set=pa.array(asked.clip_ids, pa.string()))).as_py() or 0
            for folder in left_releases(store, ledger)
        }
        body = {
            "erasure_id": asked.erasure_id,
            "clip_ids": list(asked.clip_ids),
            "reason": asked.reason,
            "requester": asked.requester,
            "approver": approver.strip(),
            "finished_at": clock.now().isoformat(),
            "removed": sorted(name for name in plan if not _is_scrubbed(name)),
            "scrubbed": sorted(name for name in plan if _is_scrubbed(name)),
            "shard_sets_removed": sorted({set_of(name) for name in plan if name.startswith(SHARDS_FOLDER)}),
            "curated_rows": rows,
            "rows_overseas": {release_id: count for release_id, count in overseas.items() if count},
        }
        store.create(key, canonical_json(body))
    return {key: sha256_hex(store.read(key))}


def past_term(days: int, clock: Clock) -> Selection:
    """The clips of all batches that were pulled more than `days` days ago."""
    return Selection(by="pulled_before", value=(clock.now() - timedelta(days=days)).isoformat())
