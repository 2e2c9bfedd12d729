"""Pull clips from a source into the home store: list it into batches, then store, quarantine or refuse every entry by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

from curation import layout
from curation.errors import ClipUnreadable, CurationError, SourceUnreachable, UsageError
from curation.ports import Ledger, ObjectStore, Source, StagedObject, VideoReader
from curation.records import ListingEntry, PulledEntry, StageCount, Telemetry, TrackPoint
from curation.schema import LISTING, PULL_OUTCOMES, PULLED
from curation.tables import from_parquet, to_parquet

STAGE: Final = "pull"
TRIES: Final = 3  # of reading one entry within a batch
OFFERS: Final = 3  # of an entry that could not be read, each in a new batch
_DIGEST_DIGITS: Final = 16
_SOURCE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
# Demuxer names -> the suffix that bytes of this container get, whatever their name said, so that equal bytes have one key.
_SUFFIX_OF: Final = {
    "mov": ".mp4",
    "mp4": ".mp4",
    "avi": ".avi",
    "matroska": ".mkv",
    "webm": ".webm",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "mpegvideo": ".mpg",
    "gif": ".gif",
    "hevc": ".hevc",
    "h264": ".h264",
}

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What listing a source found, and the batches to do: unfinished ones of earlier listings first, then new ones in name order.

    `dropped_keys` and `malformed_values` count, by key, what its sidecars said and nobody took over.
    """

    batch_ids: tuple[str, ...]
    new_entries: int
    known_entries: int
    kinds: Mapping[str, int]
    dropped_keys: Mapping[str, int]
    malformed_values: Mapping[str, int]


class _EntryUnread(Exception):
    """The source failed on one entry; keeps a failure of the source apart from one of the store. Never leaves this module."""

    def __init__(self, cause: CurationError) -> None:
        super().__init__(cause.problem)
        self.cause = cause


@dataclass(slots=True)
class _Earlier:
    """Batches of this source that stand in the store."""

    known: set[bytes] = dataclasses.field(default_factory=set)
    unfinished: list[str] = dataclasses.field(default_factory=list)
    finished: set[str] = dataclasses.field(default_factory=set)


def discover(source: Source, *, store: ObjectStore, batch_size: int) -> Discovery:
    """The batches of `source` that are still to do, each listed once and for ever; no byte of a clip is read.

    An entry is known if an earlier listing holds it with the same name, size, time and telemetry. One that was listed and then could not
    be read is offered again in a new batch, three times in all. A batch holds up to `batch_size` clips and the other entries among them.

    Raises:
        UsageError: the source's name cannot begin a batch id, or a sidecar of the whole source is broken.
        SourceUnreachable: the source cannot be listed.
    """
    if not _SOURCE_NAME.fullmatch(source.name):
        raise UsageError(
            "cannot begin a batch id", subject=f"source {source.name!r}", fix="use letters, digits, dots, hyphens, underscores"
        )
    earlier = _read_earlier(source.name, store)
    kinds: Counter[str] = Counter()
    fresh: list[_Row] = []
    for entry in source.entries():
        kinds[entry.kind] += 1
        row = _row_of(entry)
        if _digest_of([row]) not in earlier.known:
            fresh.append(row)
    batch_ids = list(earlier.unfinished)
    for rows in _batches(fresh, batch_size):
        batch_id = _new_id(source.name, rows, earlier.finished)
        base = json.dumps({"base_uri": source.base_uri, "source": source.name}, sort_keys=True, separators=(",", ":")).encode()
        store.create(layout.source_key(batch_id), base)
        store.create(layout.listing_key(batch_id), to_parquet(pa.Table.from_pylist(rows, schema=LISTING), LISTING))
        batch_ids.append(batch_id)
    return Discovery(
        batch_ids=tuple(dict.fromkeys(batch_ids)),
        new_entries=len(fresh),
        known_entries=kinds.total() - len(fresh),
        kinds=dict(sorted(kinds.items())),
        dropped_keys=dict(source.dropped_keys),
        malformed_values=dict(source.malformed_values),
    )


def run(batch_id: str, *, source: Source, store: ObjectStore, video: VideoReader, ledger: Ledger) -> StageCount:
    """Where each entry of the batch's listing went: stored, duplicate, quarantined, sidecar or refused.

    Bytes are read once: hashed while they are staged, probed where they lie, committed under the key of their hash. A batch that was
    pulled before is not read again.

    Raises:
        UsageError: there is no listing of this batch, or it is another source's.
        SourceUnreachable: the source is gone; the batch goes on from its start next time.
        OutsideError: the store failed.
    """
    listing_key, pulled_key = layout.listing_key(batch_id), layout.pulled_key(batch_id)
    if store.size(listing_key) is None:
        raise UsageError("was never listed", subject=f"batch {batch_id}", fix="discover the source first (`curation pull SOURCE`)")
    if _source_of(batch_id) != source.name:
        raise UsageError(
            f"is no batch of source {source.name}", subject=f"batch {batch_id}", fix="name the source that begins the batch id"
        )
    listing = store.read(listing_key)
    if store.size(pulled_key) is None:
        entries = [_entry_of(row) for row in from_parquet(listing, LISTING).to_pylist()]
        done = _pull_all(entries, source=source, store=store, video=video)
        store.create(pulled_key, to_parquet(pa.Table.from_pylist([dataclasses.asdict(row) for row in done], schema=PULLED), PULLED))
    pulled = store.read(pulled_key)
    rows = from_parquet(pulled, PULLED).to_pylist()
    outcomes = Counter(row["outcome"] for row in rows)
    rows_in = from_parquet(listing, LISTING).num_rows
    count = StageCount(stage=STAGE, subject=batch_id, rows_in=rows_in, accounted={name: outcomes[name] for name in PULL_OUTCOMES}).check()
    objects = {row["object_key"]: row["clip_id"] for row in rows if row["outcome"] in {"stored", "quarantined"}}
    source_key = layout.source_key(batch_id)
    listed = {source_key: _sha256(store.read(source_key)), listing_key: _sha256(listing)}
    ledger.record(count, files={**listed, pulled_key: _sha256(pulled), **objects}, facts={"source": source.name})
    return count


# --- listing ----------------------------------------------------------------------------------------------------------------------


def _read_earlier(source_name: str, store: ObjectStore) -> _Earlier:
    """What the earlier listings of this source hold, each read once."""
    earlier = _Earlier()
    unread: Counter[bytes] = Counter()
    keys = set(store.keys(f"batches/{source_name}-"))
    for batch_id in sorted({key.split("/")[1] for key in keys}):
        if _source_of(batch_id) != source_name or layout.listing_key(batch_id) not in keys:
            continue
        rows = from_parquet(store.read(layout.listing_key(batch_id)), LISTING).to_pylist()
        outcomes = [""] * len(rows)
        if layout.finished_key(batch_id) not in keys:
            earlier.unfinished.append(batch_id)
        else:
            earlier.finished.add(batch_id)
            outcomes = from_parquet(store.read(layout.pulled_key(batch_id)), PULLED)["outcome"].to_pylist()
        for row, outcome in zip(rows, outcomes, strict=True):
            digest = _digest_of([row])
            if row["kind"] == "clip" and outcome == "refused":
                unread[digest] += 1
            else:
                earlier.known.add(digest)
    earlier.known.update(digest for digest, failures in unread.items() if failures >= OFFERS)
    return earlier


def _batches(rows: Iterable[_Row], batch_size: int) -> Iterator[list[_Row]]:
    """Rows in their order, cut before the clip that would be one too many."""
    batch: list[_Row] = []
    clip_count = 0
    for row in rows:
        if row["kind"] == "clip":
            if clip_count == batch_size:
                yield batch
                batch, clip_count = [], 0
            clip_count += 1
        batch.append(row)
    if batch:
        yield batch


def _new_id(source_name: str, rows: Sequence[_Row], finished: set[str]) -> str:
    """Id over the listing's rows; where just these rows were a batch before and are offered again, over the rows and the number of that."""
    for offer in range(OFFERS):
        batch_id = f"{source_name}-{_digest_of([*rows, *([{'offer': offer}] if offer else [])]).hex()[:_DIGEST_DIGITS]}"
        if batch_id not in finished:
            return batch_id
    raise CurationError("was listed too often", subject=f"source {source_name}", fix="report this as a defect")


def _source_of(batch_id: str) -> str:
    return batch_id[: -_DIGEST_DIGITS - 1]


def _row_of(entry: ListingEntry) -> _Row:
    row = dataclasses.asdict(entry)
    row.update(row.pop("telemetry"))
    return row


def _entry_of(row: _Row) -> ListingEntry:
    telemetry = {field.name: row[field.name] for field in dataclasses.fields(Telemetry)}
    if telemetry["track"] is not None:
        telemetry["track"] = tuple(TrackPoint(**point) for point in telemetry["track"])
    own = {field.name: row[field.name] for field in dataclasses.fields(ListingEntry) if field.name != "telemetry"}
    return ListingEntry(**own, telemetry=Telemetry(**telemetry))


def _digest_of(rows: Sequence[_Row]) -> bytes:
    canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)
    return hashlib.sha256(canonical.encode()).digest()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- pulling ----------------------------------------------------------------------------------------------------------------------


def _pull_all(entries: Iterable[ListingEntry], *, source: Source, store: ObjectStore, video: VideoReader) -> list[PulledEntry]:
    """One outcome per entry, in the order of the listing; identical bytes are kept for the first name."""
    done: list[PulledEntry] = []
    kept: dict[str, PulledEntry] = {}
    for entry in entries:
        if entry.kind == "clip":
            outcome = _pull_clip(entry, kept, source=source, store=store, video=video)
        else:
            outcome = PulledEntry(name=entry.name, outcome=entry.kind, reason=entry.reason)
        if outcome.clip_id is not None:
            kept.setdefault(outcome.clip_id, outcome)
        done.append(outcome)
    return done


def _pull_clip(
    entry: ListingEntry, kept: Mapping[str, PulledEntry], *, source: Source, store: ObjectStore, video: VideoReader
) -> PulledEntry:
    problem = ""
    for _ in range(TRIES):
        try:
            with store.stage() as staged:
                clip_id, size_bytes = _stage(entry, staged, source)
                return _place(entry, clip_id, size_bytes, staged=staged, kept=kept, video=video)
        except _EntryUnread as failed:
            problem = failed.cause.problem
            if not failed.cause.retryable:
                break
    return PulledEntry(name=entry.name, outcome="refused", reason=problem)


def _stage(entry: ListingEntry, staged: StagedObject, source: Source) -> tuple[str, int]:
    """SHA-256, hex, and size of the bytes that were staged."""
    digest = hashlib.sha256()
    size_bytes = 0
    with closing(_chunks(source, entry)) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            staged.write(chunk)
            size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _chunks(source: Source, entry: ListingEntry) -> Generator[bytes]:
    try:
        with source.open(entry) as chunks:
            yield from chunks
    except SourceUnreachable:
        raise
    except CurationError as error:
        raise _EntryUnread(error) from error


def _place(
    entry: ListingEntry, clip_id: str, size_bytes: int, *, staged: StagedObject, kept: Mapping[str, PulledEntry], video: VideoReader
) -> PulledEntry:
    """Commit staged bytes to where they belong; bytes that this batch holds already are discarded on leaving the stage."""
    done = PulledEntry(name=entry.name, outcome="stored", clip_id=clip_id, size_bytes=size_bytes)
    if clip_id in kept:
        first = kept[clip_id]
        return dataclasses.replace(done, outcome="duplicate", reason=f"same bytes as {first.name}", object_key=first.object_key)
    suffix = PurePosixPath(entry.name).suffix.lower()
    try:
        with video.open(staged.path) as stream:
            suffix = _SUFFIX_OF.get(stream.container.container.split(",")[0], suffix)
        key = layout.clip_key(clip_id, suffix)
    except ClipUnreadable as error:
        key = layout.quarantine_key(clip_id, suffix)
        done = dataclasses.replace(done, outcome="quarantined", reason=error.problem)
    staged.commit(key)
    return dataclasses.replace(done, object_key=key)
