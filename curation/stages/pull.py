"""Pull clips from a source into the home store: list it into batches, then store, quarantine or refuse every entry by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

from curation import layout
from curation.erasure_files import ERASED, erased_entries, is_erased
from curation.errors import ClipUnreadable, CurationError, EntryChanged, SourceUnreachable, UsageError
from curation.listing_rows import digest_of, entry_digest, entry_of, row_of
from curation.ports import Clock, Ledger, ObjectStore, Source, StagedObject, VideoReader
from curation.records import ListingEntry, PulledEntry, StageCount
from curation.schema import LISTING, PULL_OUTCOMES, PULLED
from curation.tables import from_parquet, to_parquet

STAGE: Final = "pull"
TRIES: Final = 3  # of reading one entry within a batch
PLACED_AT_ONCE: Final = 2  # clips on their way into the store while the next one is read
OFFERS: Final = 3  # of an entry that could not be read, each in a new batch
FATES: Final = ("pull", "held", "growing", "sidecar", "refused")  # of an entry of a listing
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
class Settling:
    """When an entry counts as written: nothing of it has changed for `settle_s`. A listing waits up to `wait_max_s` to find out."""

    settle_s: float
    wait_max_s: float
    clock: Clock
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What pulling does with an entry, one of `FATES`: to pull, held already, still growing, read as a sidecar, or refused and why."""

    entry: ListingEntry
    fate: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Every entry of a source with its fate, in name order, and counts by key of what sidecars said and nobody would take over."""

    prospects: tuple[Prospect, ...]
    dropped_keys: Mapping[str, int]
    malformed_values: Mapping[str, int]

    @property
    def fates(self) -> dict[str, int]:
        """How many entries have each fate."""
        counts = Counter(prospect.fate for prospect in self.prospects)
        return {fate: counts[fate] for fate in FATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What listing a source found, and the batches to do: unfinished ones of earlier listings first, then new ones in name order.

    `fates` counts all entries by fate, `growing` says why an entry waits for the next listing; `dropped_keys` and `malformed_values`
    count, by key, what sidecars said and nobody took over.
    """

    batch_ids: tuple[str, ...]
    new_entries: int
    known_entries: int
    kinds: Mapping[str, int]
    fates: Mapping[str, int]
    growing: Mapping[str, str]
    dropped_keys: Mapping[str, int]
    malformed_values: Mapping[str, int]


class _EntryUnread(Exception):
    """The source failed on one entry; keeps a failure of the source apart from one of the store. Never leaves this module."""

    def __init__(self, cause: CurationError) -> None:
        super().__init__(cause.problem)
        self.cause = cause


@dataclass(slots=True)
class _Earlier:
    """Batches of this source that stand in the store.

    `fates` of the rows they hold, by digest, `objects` that hold the bytes of an entry as it then was, by its identity.
    """

    fates: dict[bytes, tuple[str, str | None]] = field(default_factory=dict)
    objects: dict[tuple[object, ...], str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """A source's entries with their fates, and the rows of those that no earlier listing holds."""

    earlier: _Earlier
    prospects: tuple[Prospect, ...]
    fresh: tuple[_Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """An entry whose bytes were read: staged, hashed, and to be placed or discarded; `closing` discards them."""

    entry: ListingEntry
    clip_id: str
    size_bytes: int
    staged: StagedObject
    closing: ExitStack


def discover(source: Source, *, store: ObjectStore, batch_size: int, settling: Settling | None = None) -> Discovery:
    """The batches of `source` that are still to do, each listed once and for ever; no byte of a clip is read.

    An entry is known if an earlier listing of this place holds it with the same name, size, time, version and telemetry. One that was
    listed and then could not be read is offered again in a new batch, three times in all. An entry that is still growing is in no batch:
    the next listing looks at it again. A batch holds up to `batch_size` clips and the other entries among them.

    Args:
        settling: tells growing entries; without it, none is.

    Raises:
        UsageError: the source's name cannot begin a batch id, or a sidecar of the whole source is broken.
        SourceUnreachable: the source cannot be listed.
    """
    survey = _survey(source, store=store, settling=settling)
    batch_ids = sorted(survey.earlier.unfinished, key=lambda batch_id: _first_name(batch_id, store))
    for rows in _batches(survey.fresh, batch_size):
        batch_id = _new_id(source.name, rows, survey.earlier.finished)
        base = json.dumps({"base_uri": source.base_uri, "source": source.name}, sort_keys=True, separators=(",", ":")).encode()
        store.create(layout.source_key(batch_id), base)
        store.create(layout.listing_key(batch_id), to_parquet(pa.Table.from_pylist(rows, schema=LISTING), LISTING))
        batch_ids.append(batch_id)
    fates = Counter(prospect.fate for prospect in survey.prospects)
    return Discovery(
        batch_ids=tuple(dict.fromkeys(batch_ids)),
        new_entries=len(survey.fresh),
        known_entries=len(survey.prospects) - len(survey.fresh) - fates["growing"],
        kinds=dict(sorted(Counter(prospect.entry.kind for prospect in survey.prospects).items())),
        fates={fate: fates[fate] for fate in FATES},
        growing={prospect.entry.name: prospect.reason or "" for prospect in survey.prospects if prospect.fate == "growing"},
        dropped_keys=dict(source.dropped_keys),
        malformed_values=dict(source.malformed_values),
    )


def outlook(source: Source, *, store: ObjectStore, settling: Settling | None = None) -> Outlook:
    """What a pull would do with every entry of `source`; nothing is written and no byte of a clip is read.

    Raises:
        UsageError, SourceUnreachable: as `discover`.
    """
    prospects = _survey(source, store=store, settling=settling).prospects
    return Outlook(prospects=prospects, dropped_keys=dict(source.dropped_keys), malformed_values=dict(source.malformed_values))


def run(batch_id: str, *, source: Source, store: ObjectStore, video: VideoReader, ledger: Ledger) -> StageCount:
    """Where each entry of the batch's listing went: stored, duplicate, quarantined, growing, sidecar or refused.

    Bytes are read once: hashed while they are staged, probed where they lie, committed under the key of their hash, a few clips at a time
    while the next one is read. Bytes that the store
    held when the batch was listed are not read again, and neither is a batch that was pulled before. An entry is quarantined without its
    bytes where reading it failed again and again, and growing where it changed since it was listed.

    Raises:
        UsageError: there is no listing of this batch, or it is another source's, or it was listed from another place.
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
    _same_place(batch_id, source, store)
    listing = store.read(listing_key)
    if store.size(pulled_key) is None:
        entries = [entry_of(row) for row in from_parquet(listing, LISTING).to_pylist()]
        done = _pull_all(entries, source=source, store=store, video=video)
        store.create(pulled_key, to_parquet(pa.Table.from_pylist([dataclasses.asdict(row) for row in done], schema=PULLED), PULLED))
    pulled = store.read(pulled_key)
    rows = from_parquet(pulled, PULLED).to_pylist()
    outcomes = Counter(row["outcome"] for row in rows)
    rows_in = from_parquet(listing, LISTING).num_rows
    count = StageCount(stage=STAGE, subject=batch_id, rows_in=rows_in, accounted={name: outcomes[name] for name in PULL_OUTCOMES}).check()
    objects = {row["object_key"]: row["clip_id"] for row in rows if row["object_key"] and row["outcome"] != "duplicate"}
    source_key = layout.source_key(batch_id)
    listed = {source_key: _sha256(store.read(source_key)), listing_key: _sha256(listing)}
    ledger.record(count, files={**listed, pulled_key: _sha256(pulled), **objects}, facts={"source": source.name})
    return count


# --- listing ----------------------------------------------------------------------------------------------------------------------


def _survey(source: Source, *, store: ObjectStore, settling: Settling | None) -> _Survey:
    if not _SOURCE_NAME.fullmatch(source.name):
        raise UsageError(
            "cannot begin a batch id", subject=f"source {source.name!r}", fix="use letters, digits, dots, hyphens, underscores"
        )
    earlier = _read_earlier(source, store)
    entries = tuple(source.entries())
    rows = [row_of(entry) for entry in entries]
    known = [earlier.fates.get(entry_digest(row)) for row in rows]
    new_clips = [entry for entry, fate in zip(entries, known, strict=True) if fate is None and entry.kind == "clip"]
    growing = _growing(new_clips, source=source, settling=settling)
    fresh: list[_Row] = []
    found: list[Prospect] = []
    for entry, row, before in zip(entries, rows, known, strict=True):
        fate, reason = before or ("pull" if entry.kind == "clip" else entry.kind, entry.reason)
        if entry.name in growing:
            fate, reason = "growing", growing[entry.name]
        elif before is None:
            fresh.append(row | {"held_as": earlier.objects.get(_identity(row)) if entry.kind == "clip" else None})
        found.append(Prospect(entry=entry, fate=fate, reason=reason))
    return _Survey(earlier=earlier, prospects=tuple(found), fresh=tuple(fresh))


def _growing(clips: Sequence[ListingEntry], *, source: Source, settling: Settling | None) -> dict[str, str]:
    """Why each of those clips that may still be written is left alone, by name.

    One whose time is long past is settled. Of the others, whose time is recent, unknown or not yet come, nothing may change until a second
    look, and the time it shows then must be past as well.
    """
    if settling is None or source.entries_are_whole:
        return {}
    settle_s, now_s = settling.settle_s, settling.clock.now().timestamp()
    due_s: dict[str, float] = {}
    for clip in clips:
        unknown = clip.modified_ns == 0 and clip.version is None
        due_s[clip.name] = math.inf if unknown else settle_s - (now_s - clip.modified_ns / 1e9)
    young = [clip for clip in clips if due_s[clip.name] > 0]
    if not young:
        return {}
    waited_s = min(settling.wait_max_s, max(min(due_s[clip.name], settle_s) for clip in young))
    settling.wait(waited_s)
    found: dict[str, str] = {}
    for clip in young:
        seen = source.look(clip)
        if seen is None:
            found[clip.name] = "is gone on a second look"
        elif _identity(row_of(seen)) != _identity(row_of(clip)):
            found[clip.name] = "changed between two looks"
        elif waited_s < due_s[clip.name] <= settle_s:
            found[clip.name] = f"was modified less than {settle_s:g} s ago"
    return found


def _read_earlier(source: Source, store: ObjectStore) -> _Earlier:
    """What the earlier listings of this source hold, each read once; those from another place are only told from new ones by their id."""
    earlier = _Earlier()
    unread: Counter[bytes] = Counter()
    keys = set(store.keys(f"batches/{source.name}-"))
    for batch_id in sorted({key.split("/")[1] for key in keys}):
        if _source_of(batch_id) != source.name or layout.listing_key(batch_id) not in keys:
            continue
        finished = layout.finished_key(batch_id) in keys
        (earlier.finished.add if finished else earlier.unfinished.append)(batch_id)
        if _base_uri(batch_id, store) != source.base_uri:
            continue
        rows = from_parquet(store.read(layout.listing_key(batch_id)), LISTING).to_pylist()
        done: list[_Row] = [{}] * len(rows)
        if finished:
            done = from_parquet(store.read(layout.pulled_key(batch_id)), PULLED).to_pylist()
        for row, pulled in zip(rows, done, strict=True):
            _note(earlier, unread, row, pulled)
    earlier.fates.update((digest, ("refused", ERASED)) for digest in erased_entries(store))
    return earlier


def _note(earlier: _Earlier, unread: Counter[bytes], row: _Row, pulled: _Row) -> None:
    """Remember the fate of one row of an earlier listing; `pulled` is empty while its batch is not finished."""
    digest = entry_digest(row)
    if row["kind"] != "clip":
        earlier.fates[digest] = (row["kind"], row["reason"])
    elif not pulled:
        earlier.fates[digest] = ("pull", "listed in a batch that is not finished")
    elif pulled["reason"] == ERASED:
        earlier.fates[digest] = ("refused", ERASED)
    elif pulled["clip_id"] is not None:
        earlier.fates[digest] = ("held", pulled["reason"])
        if pulled["object_key"].startswith("clips/"):
            earlier.objects[_identity(row)] = pulled["object_key"]
    else:
        unread[digest] += 1
        if unread[digest] >= OFFERS:
            earlier.fates.setdefault(digest, ("refused", f"could not be read in {OFFERS} batches: {pulled['reason']}"))


def _first_name(batch_id: str, store: ObjectStore) -> str:
    """What the batch begins with: batches of one listing were made in name order, and are gone on with in it after a kill."""
    return str(from_parquet(store.read(layout.listing_key(batch_id)), LISTING)["name"][0].as_py())


def _base_uri(batch_id: str, store: ObjectStore) -> str:
    return str(json.loads(store.read(layout.source_key(batch_id)))["base_uri"])


def _same_place(batch_id: str, source: Source, store: ObjectStore) -> None:
    base_uri = _base_uri(batch_id, store)
    if base_uri != source.base_uri:
        raise UsageError(
            f"was listed from {base_uri}, and source {source.name} is at {source.base_uri} now",
            subject=f"batch {batch_id}",
            fix="point the source back until this batch is finished, and give the new place a source of its own",
        )


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
        batch_id = f"{source_name}-{digest_of([*rows, *([{'offer': offer}] if offer else [])]).hex()[:_DIGEST_DIGITS]}"
        if batch_id not in finished:
            return batch_id
    raise CurationError("was listed too often", subject=f"source {source_name}", fix="report this as a defect")


def _source_of(batch_id: str) -> str:
    return batch_id[: -_DIGEST_DIGITS - 1]


def _identity(row: _Row) -> tuple[object, ...]:
    return row["name"], row["size_bytes"], row["modified_ns"], row["version"]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- pulling ----------------------------------------------------------------------------------------------------------------------


def _pull_all(entries: Iterable[ListingEntry], *, source: Source, store: ObjectStore, video: VideoReader) -> list[PulledEntry]:
    """One outcome per entry, in the order of the listing; identical bytes are kept for the first name.

    An entry is read while those before it are probed and committed; no more than `PLACED_AT_ONCE` + 1 are staged at any time.
    """
    found: list[PulledEntry | Future[PulledEntry]] = []
    same_as: dict[int, int] = {}
    first_at: dict[str, int] = {}
    with ThreadPoolExecutor(PLACED_AT_ONCE, thread_name_prefix="place") as placing:
        under_way: deque[Future[PulledEntry]] = deque()
        for position, entry in enumerate(entries):
            while len(under_way) > PLACED_AT_ONCE:
                under_way.popleft().result()
            read = _read(entry, source=source, store=store)
            clip_id = read.clip_id
            if clip_id is not None and first_at.setdefault(clip_id, position) != position:
                same_as[position] = first_at[clip_id]
            if not isinstance(read, _Staged):
                found.append(read)
            elif position in same_as:
                read.closing.close()
                found.append(PulledEntry(name=entry.name, outcome="duplicate", clip_id=clip_id, size_bytes=read.size_bytes))
            else:
                under_way.append(placing.submit(_place, read, store=store, video=video))
                found.append(under_way[-1])
        done = [one.result() if isinstance(one, Future) else one for one in found]
    return [one if position not in same_as else _again(one, done[same_as[position]]) for position, one in enumerate(done)]


def _again(one: PulledEntry, first: PulledEntry) -> PulledEntry:
    """The outcome of an entry with the bytes of an earlier one of its batch."""
    if first.clip_id is None:
        return dataclasses.replace(first, name=one.name)
    return dataclasses.replace(one, outcome="duplicate", reason=f"same bytes as {first.name}", object_key=first.object_key)


def _read(entry: ListingEntry, *, source: Source, store: ObjectStore) -> PulledEntry | _Staged:
    """What is told without the entry's bytes, because none are needed or none can be had; else these bytes, staged."""
    if entry.kind != "clip":
        return PulledEntry(name=entry.name, outcome=entry.kind, reason=entry.reason)
    if entry.held_as is not None and store.size(entry.held_as) == entry.size_bytes:  # the very bytes are here since an earlier batch
        clip_id = PurePosixPath(entry.held_as).stem
        return PulledEntry(name=entry.name, outcome="stored", clip_id=clip_id, size_bytes=entry.size_bytes, object_key=entry.held_as)
    first: CurationError | None = None
    for _ in range(TRIES):
        try:
            with ExitStack() as closing:
                staged = closing.enter_context(store.stage())
                clip_id, size_bytes = _stage(entry, staged, source)
                return _Staged(entry=entry, clip_id=clip_id, size_bytes=size_bytes, staged=staged, closing=closing.pop_all())
        except _EntryUnread as failed:
            first = first or failed.cause
            if not failed.cause.retryable:
                break
    return _unread(entry, first)


def _unread(entry: ListingEntry, first: CurationError | None) -> PulledEntry:
    """Named after the first failure: those of later tries often only follow from it."""
    problem = "was not tried" if first is None else first.problem
    outcome = "growing" if isinstance(first, EntryChanged) else "quarantined" if first is not None and first.retryable else "refused"
    return PulledEntry(name=entry.name, outcome=outcome, reason=problem)


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


def _place(read: _Staged, *, store: ObjectStore, video: VideoReader) -> PulledEntry:
    """Commit staged bytes to where they belong, under the key of their hash."""
    with read.closing:
        if is_erased(read.clip_id, store):
            return PulledEntry(name=read.entry.name, outcome="refused", reason=ERASED)
        done = PulledEntry(name=read.entry.name, outcome="stored", clip_id=read.clip_id, size_bytes=read.size_bytes)
        suffix = PurePosixPath(read.entry.name).suffix.lower()
        try:
            with video.open(read.staged.path) as stream:
                suffix = _SUFFIX_OF.get(stream.container.container.split(",")[0], suffix)
            key = layout.clip_key(read.clip_id, suffix)
        except ClipUnreadable as error:
            key = layout.quarantine_key(read.clip_id, suffix)
            done = dataclasses.replace(done, outcome="quarantined", reason=error.problem)
        read.staged.commit(key)
        return dataclasses.replace(done, object_key=key)
