"""Build training shards for one request from one pinned snapshot: WebDataset tars, an index and a card, at home.

The same request over the same rows gives the same id and the same bytes, whenever and however often it is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from curation import __version__
from curation.coverage import covered
from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, OutsideError, UsageError
from curation.layout import clip_key, shard_key
from curation.ports import Ledger, ObjectStore
from curation.records import StageCount
from curation.shards.archive import PlannedShard, Sample, TarStream, plan_shards, samples_in, samples_of
from curation.shards.card import CARD_FILE, INDEX_FILE, card, index_of
from curation.shards.request import ShardRequest
from curation.shards.selection import NONE, check_nothing_told, choose

STAGE: Final = "shards"
_CHUNK_BYTES: Final = 1024 * 1024
Audit = Callable[[str, Mapping[str, pa.Table]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSet:
    """A finished shard set. `files` maps its object keys to SHA-256; `created` is False where it stood already."""

    shard_set_id: str
    created: bool
    count: StageCount
    files: Mapping[str, str]


def run(
    request: ShardRequest,
    rows: pa.Table,
    snapshot_id: int,
    *,
    store: ObjectStore,
    ledger: Ledger,
    withdrawn: pa.Array = NONE,
    audit: Audit = lambda *_: None,
) -> ShardSet:
    """The shard set of a request, complete and recorded; a set that stands already is left as it is.

    Args:
        request: what is asked for.
        rows: all rows of curated.clips at `snapshot_id`, under `schema.CLIPS`.
        snapshot_id: the pinned snapshot, for the ledger; catalogs draw it at random, so equal sets could not be equal bytes with it inside.
        store: the home store, with the clips' bytes.
        ledger: where the counts go.
        withdrawn: clips that a person had withdrawn; no shard set holds them.
        audit: looks at the set's id, its `samples` (schema SHARDS) and the rows `selected`, before the index makes it a set; what it raises
            stops the build.

    Raises:
        UsageError: the request takes no clip, its filter fails on a value, or its name tells a vehicle, person or place.
        EvidenceBroken: a clip's bytes are not those that its id names.
        CurationError: the rows do not fit the schema, or a clip stands twice.
        OutsideError: a clip's bytes could not be read.
    """
    if (request.form, request.format) != ("clips", "webdataset"):
        raise UsageError("cannot be built yet", subject=f"shards of {request.form} as {request.format}", fix="ask for clips as webdataset")
    selection = choose(rows, request, withdrawn)
    filter_shown = check_nothing_told(request, rows)
    plan, digest = plan_shards(selection.rows, request)
    if not plan:
        raise UsageError(
            "takes no accepted clip", subject=f"shard request {request.name}", fix="widen the filter; preview shows the counts"
        )
    shard_set_id = f"{request.name}-{sha256_hex(f'{request.digest()}|{digest}|{__version__}'.encode())[:16]}"
    created = store.size(shard_key(shard_set_id, INDEX_FILE)) is None
    if created:
        samples = samples_in(selection.rows, request)
        shards = [_write_shard(shard, islice(samples, shard.sample_count), shard_set_id, store) for shard in plan]
        audit(shard_set_id, {"samples": samples_of(plan, selection.rows, request), "selected": selection.rows})
        index = index_of(request, selection, shard_set_id, shards, filter_shown=filter_shown)
        store.create(shard_key(shard_set_id, INDEX_FILE), json.dumps(index, indent=2, sort_keys=True).encode() + b"\n")
    return _record(shard_set_id, request, snapshot_id, created=created, store=store, ledger=ledger)


def _write_shard(shard: PlannedShard, samples: Iterable[Sample], shard_set_id: str, store: ObjectStore) -> dict[str, Any]:
    """The shard's line in the index, once its bytes rest in the store."""
    with store.stage() as staged:
        stream = TarStream(staged)
        for sample in samples:
            chunks = {".json": iter((sample.description,)), sample.suffix: _clip_chunks(sample, store)}
            stream.add(sample.clip_id, ((name, size, chunks[name[name.rfind(".") :]]) for name, size in sample.members()))
        digest = stream.close()
        staged.commit(shard_key(shard_set_id, shard.name))
    return {"name": shard.name, "split": shard.split, "samples": shard.sample_count, "bytes": stream.size_bytes, "sha256": digest}


def _clip_chunks(sample: Sample, store: ObjectStore) -> Iterator[bytes]:
    """The clip's bytes; the last word is EvidenceBroken if they were not those that its id names."""
    hasher, read_bytes = hashlib.sha256(), 0
    key = clip_key(sample.clip_id, sample.suffix)
    with store.local_path(key) as path:
        try:
            with path.open("rb") as file:
                while read_bytes <= sample.size_bytes and (chunk := file.read(_CHUNK_BYTES)):
                    hasher.update(chunk)
                    read_bytes += len(chunk)
                    yield chunk
        except OSError as error:
            raise OutsideError(
                f"cannot be read: {error.strerror}", subject=f"clip {sample.clip_id}", fix="see to the store's disk"
            ) from error
    if hasher.hexdigest() != sample.clip_id or read_bytes != sample.size_bytes:
        raise EvidenceBroken(
            f"the bytes under {key} are not those that its id names", subject=f"clip {sample.clip_id}", fix="restore them from a copy"
        )


def _record(shard_set_id: str, request: ShardRequest, snapshot_id: int, *, created: bool, store: ObjectStore, ledger: Ledger) -> ShardSet:
    """The finished set as its index says; the card is made from that index alone, so a kill before it heals.

    A set is recorded once, with the snapshot that it was first recorded from: a later one with the same rows adds nothing.
    """
    index_key, card_key = shard_key(shard_set_id, INDEX_FILE), shard_key(shard_set_id, CARD_FILE)
    data = store.read(index_key)
    try:
        index = json.loads(data)
        text = card(index).encode()
        accounted = {split: found["samples"] for split, found in index["splits"].items()}
        accounted |= {name: rows for name, rows in index["rows"].items() if name != "considered"}
        files = {shard_key(shard_set_id, shard["name"]): shard["sha256"] for shard in index["shards"]}
        count = StageCount(stage=STAGE, subject=shard_set_id, rows_in=index["rows"]["considered"], accounted=accounted).check()
        facts = {"request": request.digest(), "snapshot": str(snapshot_id), "version": index["project_version"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceBroken("is no index of a shard set", subject=index_key, fix="restore it from a copy, or remove the set") from error
    store.create(card_key, text)
    files |= {index_key: sha256_hex(data), card_key: sha256_hex(text)}
    known = {**facts, "snapshot": ""}
    entries = list(ledger.entries())
    if not covered(entries)[0].items() >= files.items() or not any(  # never recorded, or removed since
        (entry.kind, entry.subject, dict(entry.files), {**entry.facts, "snapshot": ""}) == (STAGE, shard_set_id, files, known)
        for entry in entries
    ):
        ledger.record(count, files=files, facts=facts)
    return ShardSet(shard_set_id=shard_set_id, created=created, count=count, files=files)
