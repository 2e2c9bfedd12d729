"""Build training shards for one request from one pinned snapshot, at home: shards, an index and a card.

The same request over the same rows gives the same id and the same bytes, whenever, wherever and however often it is built. Each shard is
written by itself, so that several are at once and a build that was killed goes on; a small file beside it says what it holds.

Where faces and plates must be masked, every clip is first copied with them masked, and shards are written from these copies alone. A clip
that cannot be masked is left out by name; one that was not looked at for faces and plates stops the set.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import __version__
from curation.coverage import covered
from curation.digests import canonical_json, file_digest, sha256_hex
from curation.errors import ClipUnreadable, CurationError, EvidenceBroken, OutsideError, UsageError
from curation.layout import shard_key, shard_request_key
from curation.ports import Ledger, ObjectStore, StagedObject, VideoReader
from curation.records import StageCount
from curation.shards import mds
from curation.shards.archive import Member, TarStream
from curation.shards.card import INDEX_FILE, MEASURED_COLUMNS, cards, index_of
from curation.shards.crossing import or_raise, refused
from curation.shards.frames import pictures
from curation.shards.masked_copies import NOT_MASKED, Masked, Workers, masked_copies
from curation.shards.masking import Permit, facts_of, is_masked
from curation.shards.request import FrameRequest, ShardRequest
from curation.shards.samples import PlannedShard, plan_shards, samples_in, samples_of, with_measured
from curation.shards.selection import NONE, choose, columns_to_choose, sample_columns
from curation.shards.telling import TOLD_COLUMNS, Told, check_nothing_told

STAGE: Final = "shards"
JOB: Final = "shard"  # names in curation.worker.JOBS
LOOK_JOB: Final = "shard_clip"
_CHUNK_BYTES: Final = 1024 * 1024
_CHUNKS_BEHIND: Final = 8  # the thread that digests may fall behind, so that neither waits for the other at every chunk
_NEARBY_BYTES: Final = 1024 * 1024 * 1024  # below it this process is done before other ones have begun to pay
_NEARBY_SHARDS: Final = 2  # at once: while one waits for the disk, another is read
Audit = Callable[[str, Mapping[str, pa.Table]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSet:
    """A finished shard set. `files` maps its object keys to SHA-256; `created` is False where it stood already."""

    shard_set_id: str
    created: bool
    count: StageCount
    files: Mapping[str, str]


def columns_of(request: ShardRequest) -> tuple[str, ...]:
    """The columns of curated.clips that `run` needs."""
    return tuple(sorted({*columns_to_choose(request), *sample_columns(request), *TOLD_COLUMNS, *MEASURED_COLUMNS}))


def run(
    request: ShardRequest,
    rows: pa.Table,
    snapshot_id: int,
    *,
    store: ObjectStore,
    ledger: Ledger,
    workers: Workers,
    withdrawn: pa.Array = NONE,
    permit: Permit | None = None,
    audit: Audit = lambda *_: {},
) -> ShardSet:
    """The shard set of a request, complete and recorded; a set that stands already is left as it is.

    Args:
        request: what is asked for.
        rows: all rows of curated.clips at `snapshot_id`, with `columns_of` the request at least.
        snapshot_id: the pinned snapshot, for the ledger; catalogs draw it at random, so equal sets could not be equal bytes with it inside.
        store: the home store, with the clips' bytes.
        ledger: where the counts go.
        workers: write the shards of pictures and of large sets; whole clips of a small set are copied by this process.
        withdrawn: clips that a person had withdrawn; no shard set holds them.
        permit: what allows masking; a request that must be masked is refused without one.
        audit: looks at the set's id, its `samples` (schema SHARDS) and the rows `selected`, before the index makes it a set, and says for
            the card what it found; what it raises stops the build.

    Raises:
        UsageError: the request takes no clip, its filter fails on a value, its name tells a vehicle, person or place, or no picture comes
            of its clips.
        MaskingRefused: it must be masked, and nothing allows that, or a clip was not looked at for faces and plates.
        EvidenceBroken: a clip's bytes are not those that its id names.
        CurationError: the rows do not fit the schema, or a clip stands twice.
        OutsideError: a clip's bytes could not be read, or a worker died without a clip to blame.
    """
    selection = choose(rows, request, withdrawn)
    filter_shown = check_nothing_told(request, Told(rows))
    taken = with_measured(selection.rows, rows)
    masked = masked_copies(taken, request, permit, store=store, workers=workers) if request.masked else NOT_MASKED
    taken = _without(taken, masked.left_out)
    plan, digest = plan_shards(taken, request, masked.copies)
    if not plan:
        problem = "holds no clip that can be masked" if masked.left_out else "takes no accepted clip"
        raise UsageError(problem, subject=f"shard request {request.name}", fix="widen the filter; preview shows the counts")
    shard_set_id = f"{request.name}-{sha256_hex('|'.join([request.digest(), digest, __version__, *masked.made_by]).encode())[:16]}"
    asked = canonical_json(request.model_dump(mode="json"))
    store.create(shard_request_key(request.digest()), asked)  # so that the set can be made again without a clip, whatever its filter tells
    created = store.size(shard_key(shard_set_id, INDEX_FILE)) is None
    if created:
        items = _Items(plan, taken, request, masked, {"shard_set_id": shard_set_id, "settings": workers.settings})
        shards = list(_written(items, request, plan, store, workers))
        left_out = {clip_id: problem for shard in shards for clip_id, problem in shard["undecodable"].items()}
        kept = _without(taken, left_out)
        if not kept.num_rows:
            raise UsageError("yields no picture", subject=f"shard request {request.name}", fix="ask for whole clips, or inspect them again")
        samples = _without(samples_of(plan, taken, request, masked.copies), left_out)
        checks = audit(shard_set_id, {"samples": samples, "selected": _without(selection.rows, {**left_out, **masked.left_out})})
        index = index_of(
            request,
            selection,
            kept,
            shard_set_id,
            shards,
            rows_digest=digest,
            checks=checks,
            filter_shown=filter_shown,
            masking=masked.told(kept),
            unmaskable=masked.unmaskable,
            not_clean=masked.not_clean,
        )
        _write_split_indexes(index, request, shard_set_id, store)
        store.create(shard_key(shard_set_id, INDEX_FILE), json.dumps(index, indent=2, sort_keys=True).encode() + b"\n")
    return _record(shard_set_id, request, snapshot_id, created=created, store=store, ledger=ledger)


def _without(rows: pa.Table, clip_ids: Mapping[str, str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=pa.array(list(clip_ids), pa.string())))) if clip_ids else rows


# --- many shards --------------------------------------------------------------------------------------------------------------------


class _Items(Sequence[Mapping[str, Any]]):
    """What each shard is written from, made as it is asked for: all of it at once would be the whole set's descriptions."""

    def __init__(
        self, plan: Sequence[PlannedShard], rows: pa.Table, request: ShardRequest, masked: Masked, common: Mapping[str, Any]
    ) -> None:
        self._plan, self._rows, self._request, self._copies = plan, rows, request, masked.copies
        self._common = {
            **common,
            "form": request.form,
            "format": request.format,
            "masked": request.masked,
            "frames": None if request.frames is None else request.frames.model_dump(mode="json"),
            "size_limit_bytes": request.shard_size_bytes,
            "undecodable": {},
        }
        self._begins = [0]
        for shard in plan:
            self._begins.append(self._begins[-1] + shard.sample_count)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: Any) -> Any:
        shard = self._plan[number]
        of_shard = self._rows.slice(self._begins[number], shard.sample_count)
        samples = [sample.plain() for sample in samples_in(of_shard, self._request, self._copies)]
        return {**self._common, "name": shard.name, "split": shard.split, "samples": samples}


def _written(
    items: _Items, request: ShardRequest, plan: Sequence[PlannedShard], store: ObjectStore, workers: Workers
) -> Iterator[dict[str, Any]]:
    """The line of each shard in the index, in order, once its bytes rest in the store."""
    if request.form == "clips" and sum(shard.clip_bytes for shard in plan) <= _NEARBY_BYTES:
        yield from _written_here(items, store)
        return
    for number, outcome in enumerate(workers.engine.map(JOB, items)):
        yield or_raise(outcome.value or _written_without_culprits(items[number], outcome.failure or "", workers))


def _written_here(items: _Items, store: ObjectStore) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(_NEARBY_SHARDS) as pool:
        waiting: list[Future[dict[str, Any]]] = []
        for item in items:
            waiting.append(pool.submit(write_shard, item, store=store))
            if len(waiting) > _NEARBY_SHARDS:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _written_without_culprits(item: Mapping[str, Any], failure: str, workers: Workers) -> Mapping[str, Any]:
    """The shard after its worker died: without the clips that kill a worker of their own.

    Raises:
        OutsideError: no clip does, so it was not a clip's fault.
    """
    alone = [{**item, "samples": [sample]} for sample in item["samples"]] if item["form"] == "frames" else []
    found = zip(item["samples"], workers.engine.map(LOOK_JOB, alone), strict=True) if alone else ()
    culprits = {sample["clip_id"]: outcome.failure or "" for sample, outcome in found if outcome.value is None}
    again = next(iter(workers.engine.map(JOB, [{**item, "undecodable": culprits}]))) if culprits else None
    if again is None or again.value is None:
        raise OutsideError(
            f"could not be written: {failure if again is None else again.failure}",
            subject=f"shard {item['name']}",
            fix="see to the machine's memory and disk, then build again: what was written stands",
        )
    return again.value


def answer_shard(item: Mapping[str, Any], *, store: ObjectStore, video: VideoReader) -> dict[str, Any]:
    """`write_shard` as a worker's job: what it refuses crosses to the stage by name."""
    try:
        return write_shard(item, store=store, video=video)
    except CurationError as error:
        return refused(error)


def look_at_clip(item: Mapping[str, Any], *, store: ObjectStore, video: VideoReader) -> dict[str, Any]:
    """How many pictures a clip gives, or that it gives none; nothing is written."""
    (sample,) = item["samples"]
    with store.local_path(sample["key"]) as path:
        try:
            with video.open(path) as clip:
                return {"pictures": sum(1 for _ in pictures(clip, FrameRequest.model_validate(item["frames"])))}
        except ClipUnreadable:
            return {"pictures": 0}


# --- one shard ----------------------------------------------------------------------------------------------------------------------


def write_shard(item: Mapping[str, Any], *, store: ObjectStore, video: VideoReader | None = None) -> dict[str, Any]:
    """The shard's line in the index, once its bytes rest in the store; one that stands there already is not written again.

    Args:
        item: one of `_Items`.
        store: the home store.
        video: decodes clips, where pictures are asked for.

    Raises:
        CurationError: a sample of a masked set is no masked copy.
        EvidenceBroken: a clip's bytes are not those that its id names.
        OutsideError: a clip's bytes could not be read.
    """
    _refuse_unmasked(item)
    name = f"{item['split']}/{item['name']}" if item["format"] == "mds" else item["name"]
    key, note_key = shard_key(item["shard_set_id"], name), shard_key(item["shard_set_id"], f"{name.rpartition('.')[0]}.json")
    if store.size(note_key) is not None:
        line: dict[str, Any] = json.loads(store.read(note_key))
        if store.size(key) == (line["bytes"] or None):
            return line
    if item["form"] == "frames" and video is None:
        raise CurationError("asks for pictures of a writer without a video reader", subject=f"shard {name}", fix="report this as a defect")
    undecodable, incomplete = dict(item["undecodable"]), dict[str, str]()
    with store.stage() as staged, tempfile.TemporaryFile(dir=staged.path.parent) as waiting:
        stream = _stream(item, staged, waiting)
        for sample in item["samples"]:
            if item["form"] == "clips":
                stream.add(sample["clip_id"], _whole_clip(sample, store))
            elif video is not None and sample["clip_id"] not in undecodable:
                before = stream.sample_count
                try:
                    _add_pictures(stream, sample, FrameRequest.model_validate(item["frames"]), store, video)
                except ClipUnreadable as error:
                    (undecodable if stream.sample_count == before else incomplete)[sample["clip_id"]] = error.problem
        digest, is_empty = stream.close(), not stream.sample_count
        if not is_empty:
            staged.commit(key)
    line = {
        "name": name,
        "split": item["split"],
        "samples": stream.sample_count,
        "bytes": 0 if is_empty else stream.size_bytes,
        "sha256": digest,
        "clips": len(item["samples"]) - len(undecodable),
        "undecodable": undecodable,
        "incomplete": incomplete,
    }
    store.create(note_key, canonical_json(line))
    return line


def _refuse_unmasked(item: Mapping[str, Any]) -> None:
    for sample in item["samples"] if item["masked"] else ():
        if not is_masked(sample["key"]):
            raise CurationError("would enter a masked set as it is", subject=f"clip {sample['clip_id']}", fix="report this as a defect")


def _stream(item: Mapping[str, Any], staged: StagedObject, waiting: BinaryIO) -> TarStream | mds.MdsStream:
    if item["format"] == "webdataset":
        return TarStream(staged)
    promised: list[int] | BinaryIO = waiting
    if item["form"] == "clips":
        promised = [
            mds.packed_bytes("clips", one["clip_id"], {one["suffix"]: one["size_bytes"], ".json": len(one["description"].encode())})
            for one in item["samples"]
        ]
    return mds.MdsStream(staged, form=item["form"], size_limit_bytes=item["size_limit_bytes"], promised=promised)


def _whole_clip(sample: Mapping[str, Any], store: ObjectStore) -> list[Member]:
    description = sample["description"].encode()
    return [
        Member(suffix=".json", size_bytes=len(description), chunks=(description,)),
        Member(suffix=sample["suffix"], size_bytes=sample["size_bytes"], chunks=_clip_chunks(sample, store)),
    ]


def _clip_chunks(sample: Mapping[str, Any], store: ObjectStore) -> Iterator[bytes]:
    """The bytes of the clip, or of its masked copy; the last word is EvidenceBroken if they were not those that its digest names.

    They are digested by a thread of their own, while whoever takes them digests and writes the shard.
    """
    hasher, read_bytes = hashlib.sha256(), 0
    behind: deque[Future[None]] = deque()
    with store.local_path(sample["key"]) as path, ThreadPoolExecutor(1) as pool, _readable(sample), closing(path.open("rb")) as file:
        while read_bytes <= sample["size_bytes"] and (chunk := file.read(_CHUNK_BYTES)):
            behind.append(pool.submit(hasher.update, chunk))
            read_bytes += len(chunk)
            yield chunk
            if len(behind) > _CHUNKS_BEHIND:
                behind.popleft().result()
    if hasher.hexdigest() != sample["sha256"] or read_bytes != sample["size_bytes"]:
        raise _other_bytes(sample)


@contextmanager
def _readable(sample: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutsideError(
            f"cannot be read: {error.strerror}", subject=f"clip {sample['clip_id']}", fix="see to the store's disk"
        ) from error


def _other_bytes(sample: Mapping[str, Any]) -> EvidenceBroken:
    problem, fix = f"the bytes under {sample['key']} are not those that its id names", "restore them from a copy"
    if is_masked(sample["key"]):
        problem, fix = f"the bytes under {sample['key']} are not those that were masked", "find out who changed them"
    return EvidenceBroken(problem, subject=f"clip {sample['clip_id']}", fix=fix)


def _add_pictures(
    stream: TarStream | mds.MdsStream, sample: Mapping[str, Any], frames: FrameRequest, store: ObjectStore, video: VideoReader
) -> None:
    """Append the clip's pictures, each with what is told of the clip, and when it is shown in it.

    Raises:
        ClipUnreadable: the clip gives none, or no more.
    """
    told = json.loads(sample["description"])
    with store.local_path(sample["key"]) as path:
        with _readable(sample):
            if file_digest(path) != sample["sha256"]:
                raise _other_bytes(sample)
        with video.open(path) as clip:
            for picture in pictures(clip, frames):
                description = canonical_json({**told, "frame_index": picture.index, "pts_s": picture.pts_s})
                members = [
                    Member(suffix=".jpg", size_bytes=len(picture.jpeg), chunks=(picture.jpeg,)),
                    Member(suffix=".json", size_bytes=len(description), chunks=(description,)),
                ]
                stream.add(f"{sample['clip_id']}-{picture.index:06d}", members)


# --- the whole set ------------------------------------------------------------------------------------------------------------------


def _write_split_indexes(index: Mapping[str, Any], request: ShardRequest, shard_set_id: str, store: ObjectStore) -> None:
    """What Streaming reads first of each split."""
    for split in request.splits if request.format == "mds" else ():
        of_split = [{**shard, "name": shard["name"].rpartition("/")[2]} for shard in index["shards"] if shard["split"] == split]
        if of_split:
            data = mds.split_index(of_split, form=request.form, size_limit_bytes=request.shard_size_bytes)
            store.create(shard_key(shard_set_id, f"{split}/{mds.INDEX_FILE}"), data)


def _record(shard_set_id: str, request: ShardRequest, snapshot_id: int, *, created: bool, store: ObjectStore, ledger: Ledger) -> ShardSet:
    """The finished set as its index says; cards are made from that index alone, so a kill before them heals.

    A set is recorded once, with the snapshot that it was first recorded from: a later one with the same rows adds nothing.
    """
    index_key = shard_key(shard_set_id, INDEX_FILE)
    data = store.read(index_key)
    try:
        index = json.loads(data)
        texts = cards(index)
        accounted = {split: found["clips"] for split, found in index["splits"].items()}
        accounted |= {name: rows for name, rows in index["rows"].items() if name != "considered"}
        count = StageCount(stage=STAGE, subject=shard_set_id, rows_in=index["rows"]["considered"], accounted=accounted).check()
        facts = {"request": request.digest(), "version": index["project_version"], **facts_of(index["masking"])}
        digests = {shard["name"]: shard["sha256"] for shard in index["shards"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceBroken("is no index of a shard set", subject=index_key, fix="restore it from a copy, or remove the set") from error
    for name, text in texts.items():
        store.create(shard_key(shard_set_id, name), text.encode())
    files = {key: _digest_of(key, digests, store) for key in store.keys(shard_key(shard_set_id, ""))}
    request_key = shard_request_key(request.digest())
    files[request_key] = sha256_hex(store.read(request_key))
    entries = list(ledger.entries())
    if not covered(entries)[0].items() >= files.items() or not any(  # never recorded, or removed since
        (entry.kind, entry.subject, dict(entry.files)) == (STAGE, shard_set_id, files) and entry.facts.items() >= facts.items()
        for entry in entries
    ):
        ledger.record(count, files=files, facts={**facts, "snapshot": str(snapshot_id)})
    return ShardSet(shard_set_id=shard_set_id, created=created, count=count, files=files)


def _digest_of(key: str, digests: Mapping[str, str], store: ObjectStore) -> str:
    return digests.get(key.split("/", 2)[2]) or sha256_hex(store.read(key))
