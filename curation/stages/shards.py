"""Build training shards for one request from one pinned snapshot: WebDataset tars, an index and a card, at home.

The same request over the same rows gives the same id and the same bytes, whenever and however often it is built.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import __version__
from curation.coverage import covered
from curation.digests import canonical_json, sha256_hex
from curation.errors import CurationError, EvidenceBroken, OutsideError, UsageError
from curation.layout import clip_key, object_uri, shard_key
from curation.ports import Ledger, ObjectStore, StagedObject
from curation.records import StageCount
from curation.schema import CLIPS, SHARDS
from curation.shard_filter import evaluated
from curation.shard_request import GROUP_COLUMNS, PUBLIC_COLUMNS, TELLING_COLUMNS, ShardRequest

STAGE: Final = "shards"
NONE: Final = pa.nulls(0, pa.string())
INDEX_FILE: Final = "index.json"
CARD_FILE: Final = "card.md"
FILTER_WITHHELD: Final = "withheld:"  # begins what stands in the index instead of a filter that tells a vehicle, person or place
OBJECT_SCHEME: Final = object_uri("")
TAG_COLUMNS: Final = ("timeofday", "weather", "scene")
SPLIT_COLUMN: Final = "split"

_CHUNK_BYTES: Final = 1024 * 1024
_BATCH_ROWS: Final = 4_096
_RECORD_BYTES: Final = 10_240  # POSIX: an archive fills whole records of 20 blocks
_OCTAL_LIMIT_BYTES: Final = 8**11  # USTAR gives a size eleven octal digits
_CLIP_ID: Final = re.compile(r"[0-9a-f]{64}")
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")
_CLOSED_VOCABULARIES: Final = frozenset({"datum", "ego_motion"})  # their few values name nobody


Audit = Callable[[str, Mapping[str, pa.Table]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSet:
    """A finished shard set. `files` maps its object keys to SHA-256; `created` is False where it stood already."""

    shard_set_id: str
    created: bool
    count: StageCount
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rows that a request takes, with their `split`, in shard order; and where the other accepted rows went."""

    rows: pa.Table
    considered: int
    withdrawn: int
    filtered_out: int
    over_max_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One clip on its way into a shard; `description` is the canonical JSON that stands beside it."""

    split: str
    clip_id: str
    suffix: str
    size_bytes: int
    description: bytes

    def members(self) -> tuple[tuple[str, int], ...]:
        """Names and sizes of the sample's members, in their order in the tar."""
        sizes = {self.suffix: self.size_bytes, ".json": len(self.description)}
        return tuple((self.clip_id + suffix, sizes[suffix]) for suffix in sorted(sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedShard:
    name: str
    split: str
    sample_count: int


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
    selection = choose(rows, request, withdrawn)
    filter_shown = _check_nothing_told(request, rows)
    plan, digest = _plan(selection.rows, request)
    if not plan:
        raise UsageError(
            "takes no accepted clip", subject=f"shard request {request.name}", fix="widen the filter; preview shows the counts"
        )
    shard_set_id = f"{request.name}-{sha256_hex(f'{request.digest()}|{digest}|{__version__}'.encode())[:16]}"
    created = store.size(shard_key(shard_set_id, INDEX_FILE)) is None
    if created:
        samples = _samples(selection.rows, request)
        shards = [_write_shard(shard, islice(samples, shard.sample_count), shard_set_id, store) for shard in plan]
        audit(shard_set_id, {"samples": _samples_of(plan, selection.rows, request), "selected": selection.rows})
        index = _index(request, selection, shard_set_id, shards, filter_shown=filter_shown)
        store.create(shard_key(shard_set_id, INDEX_FILE), json.dumps(index, indent=2, sort_keys=True).encode() + b"\n")
    return _record(shard_set_id, request, snapshot_id, created=created, store=store, ledger=ledger)


def _samples_of(plan: Sequence[_PlannedShard], rows: pa.Table, request: ShardRequest) -> pa.Table:
    samples = _samples(rows, request)
    found = (
        {"shard": shard.name, "split": one.split, "clip_id": one.clip_id, "suffix": one.suffix, "size_bytes": one.size_bytes}
        for shard in plan
        for one in islice(samples, shard.sample_count)
    )
    return pa.Table.from_pylist(list(found), schema=SHARDS)


def preview(request: ShardRequest, rows: pa.Table, *, withdrawn: pa.Array = NONE) -> dict[str, Any]:
    """What a request would give, before any copy: rows accounted for, and samples, bytes of clips and tags per split.

    Raises:
        UsageError: the filter fails on a value, or the name tells a vehicle, person or place.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    selection = choose(rows, request, withdrawn)
    _check_nothing_told(request, rows)
    splits = _splits(selection.rows, request)
    return {
        "name": request.name,
        **_counts(selection),
        "samples": selection.rows.num_rows,
        "clip_bytes": sum(split["clip_bytes"] for split in splits.values()),
        "splits": splits,
    }


def select(rows: pa.Table, request: ShardRequest) -> pa.Table:
    """The accepted rows that the request takes: the columns that it needs and `split`, ordered by split and clip_id.

    Raises:
        UsageError: the filter fails on a value.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    return choose(rows, request).rows


def choose(rows: pa.Table, request: ShardRequest, withdrawn: pa.Array = NONE) -> Selection:
    """`select`, with the rows it left out accounted for, those of `withdrawn` clips first.

    Pure: seed and content decide, never the order of `rows`.
    """
    missing = sorted(set(CLIPS.names) - set(rows.schema.names))
    if missing:
        raise CurationError(f"lacks the columns {missing}", subject="table clips", fix="read the table under curation/schema.py")
    needed = {"clip_id", "object_uri", "size_bytes", "verdict", GROUP_COLUMNS[request.group_by], *TAG_COLUMNS}
    needed |= request.filter_columns() | set(request.columns)
    accepted = (
        rows.select([name for name in CLIPS.names if name in needed])
        .filter(pc.equal(rows.column("verdict"), "accepted"))
        .sort_by("clip_id")
    )
    _check_clip_ids(accepted.column("clip_id").to_pylist())
    may_be_used = accepted.filter(pc.invert(pc.is_in(accepted.column("clip_id"), value_set=withdrawn)))
    passed = evaluated(request.filter, may_be_used)
    drawn = _draw(passed, request)
    splits = pa.array(_split_names(drawn, request), type=pa.string())
    return Selection(
        rows=drawn.append_column(SPLIT_COLUMN, splits).sort_by([(SPLIT_COLUMN, "ascending"), ("clip_id", "ascending")]),
        considered=accepted.num_rows,
        withdrawn=accepted.num_rows - may_be_used.num_rows,
        filtered_out=may_be_used.num_rows - passed.num_rows,
        over_max_samples=passed.num_rows - drawn.num_rows,
    )


def object_key(address: str, clip_id: str) -> str:
    """The key of the clip's bytes in the home store.

    Raises:
        CurationError: the URI is not that of this clip in the home store.
    """
    key = address.removeprefix(OBJECT_SCHEME)
    suffix = key[key.rfind(".") :] if "." in key else ""
    if key == address or not _SUFFIX.fullmatch(suffix) or suffix == ".json" or key != clip_key(clip_id, suffix):
        raise CurationError(
            f"object_uri {address!r} is not its place in the home store",
            subject=f"clip {clip_id}",
            fix=f"object_uri must be {object_uri(clip_key(clip_id, '.<suffix>'))}; make the batch's manifest again",
        )
    return key


def _check_clip_ids(clip_ids: Sequence[str]) -> None:
    """Nothing, for ids in ascending order that are all of the right form and all different."""
    previous = ""
    for clip_id in clip_ids:
        if not _CLIP_ID.fullmatch(clip_id):
            raise CurationError("is no clip id", subject=repr(clip_id), fix="a clip_id is the SHA-256 of the clip's bytes, 64 hex digits")
        if clip_id == previous:
            raise CurationError("stands twice in the snapshot", subject=f"clip {clip_id}", fix="restore curated.clips: one row per clip")
        previous = clip_id


def _draw(rows: pa.Table, request: ShardRequest) -> pa.Table:
    """At most `max_samples` of the rows; a larger limit only adds rows, and another seed draws others."""
    if request.max_samples is None or rows.num_rows <= request.max_samples:
        return rows
    clip_ids = rows.column("clip_id").to_pylist()
    ranked = sorted(range(len(clip_ids)), key=lambda row: hashlib.sha256(f"{request.seed}|draw|{clip_ids[row]}".encode()).digest())
    return rows.take(pa.array(sorted(ranked[: request.max_samples]), type=pa.int64()))


def _split_names(rows: pa.Table, request: ShardRequest) -> list[str]:
    """A split per row by the hash of its group, so that a group never straddles splits nor moves when the table grows."""
    bounds, total = [], 0.0
    for split, ratio in request.splits.items():
        total += ratio
        bounds.append((split, int(total * 2**64)))
    bounds[-1] = (bounds[-1][0], 2**64)  # ratios may add up to a hair less than 1

    def split_of(group: str) -> str:
        point = int.from_bytes(hashlib.sha256(f"{request.seed}|{group}".encode()).digest()[:8], "big")
        return next(split for split, bound in bounds if point < bound)

    keys = rows.column(GROUP_COLUMNS[request.group_by]).to_pylist()
    clip_ids = rows.column("clip_id").to_pylist()
    groups = [f"clip|{clip}" if key is None else f"{request.group_by}|{key}" for key, clip in zip(keys, clip_ids, strict=True)]
    known = {group: split_of(group) for group in set(groups)}
    return [known[group] for group in groups]


def _check_nothing_told(request: ShardRequest, rows: pa.Table) -> bool:
    """Whether the filter may stand in index and card: it looks at public columns only and repeats no value that tells.

    Raises:
        UsageError: the request's name, or the name of a split, repeats a vehicle, person, device or place of the rows.
    """
    values: set[str] = set()
    for column in sorted(TELLING_COLUMNS - _CLOSED_VOCABULARIES):
        if pa.types.is_string(CLIPS.field(column).type):
            values |= {_words(value) for value in pc.unique(rows.column(column)).to_pylist() if value is not None}
    values.discard("-")
    for text in (request.name, *request.splits):
        if any(value in _words(text) for value in values):
            raise UsageError(
                f"the name {text!r} repeats a value of a column that tells a vehicle, person, device or place",
                subject=f"shard request {request.name}",
                fix="choose a name that says what the shards are for",
            )
    if not request.filter_columns() <= set(PUBLIC_COLUMNS):
        return False
    text = _words(request.filter or "")
    return not any(value in text for value in values)


def _words(text: str) -> str:
    return f"-{re.sub(r'[^a-z0-9]+', '-', text.casefold()).strip('-')}-" if re.search(r"[a-z0-9]", text.casefold()) else "-"


def _samples(rows: pa.Table, request: ShardRequest) -> Iterator[Sample]:
    """The samples of ordered rows, one record batch at a time."""
    kinds = {name: CLIPS.field(name).type for name in request.columns}
    needed = sorted({"clip_id", "object_uri", "size_bytes", SPLIT_COLUMN, *request.columns})
    for batch in rows.select(needed).to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            clip_id = row["clip_id"]
            key = object_key(row["object_uri"], clip_id)
            try:
                description = canonical_json({name: _plain(row[name], kind) for name, kind in kinds.items()})
            except ValueError as error:
                raise CurationError("holds a number that is not finite", subject=f"clip {clip_id}", fix="inspect the clip again") from error
            suffix = key[key.rfind(".") :]
            yield Sample(split=row[SPLIT_COLUMN], clip_id=clip_id, suffix=suffix, size_bytes=row["size_bytes"], description=description)


def _plain(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if value is not None and pa.types.is_map(kind):
        return dict(value)
    return value


def _plan(rows: pa.Table, request: ShardRequest) -> tuple[list[_PlannedShard], str]:
    """Shards with the number of samples in each, and a digest of all that enters them.

    No shard is larger than `shard_size_bytes`, unless one sample alone is.
    """
    hasher = hashlib.sha256()
    for tags in zip(*(rows.column(name).to_pylist() for name in TAG_COLUMNS), strict=True):
        hasher.update(canonical_json(tags))
    plan: list[_PlannedShard] = []
    split, number, held, used_bytes = "", 0, 0, 0
    for sample in _samples(rows, request):
        hasher.update(canonical_json([sample.split, sample.clip_id, sample.suffix, sample.size_bytes, sample.description.decode()]))
        size_bytes = sum(_member_bytes(size) for _, size in sample.members())
        if held and (sample.split != split or _archive_bytes(used_bytes + size_bytes) > request.shard_size_bytes):
            plan.append(_PlannedShard(name=f"{split}-{number:06d}.tar", split=split, sample_count=held))
            number, held, used_bytes = (number + 1 if sample.split == split else 0), 0, 0
        split, held, used_bytes = sample.split, held + 1, used_bytes + size_bytes
    if held:
        plan.append(_PlannedShard(name=f"{split}-{number:06d}.tar", split=split, sample_count=held))
    return plan, hasher.hexdigest()


def _header(name: str, size_bytes: int) -> bytes:
    """A USTAR header that depends on name and size alone; preceded by a PAX one where the size needs more than 8 GiB's digits."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode, info.type = size_bytes, 0, 0o644, tarfile.REGTYPE
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")


def _member_bytes(size_bytes: int) -> int:
    """Size of a member with its header, which takes two blocks more where the size stands in a PAX one."""
    header = tarfile.BLOCKSIZE if size_bytes < _OCTAL_LIMIT_BYTES else 3 * tarfile.BLOCKSIZE
    return header + size_bytes + _padding(size_bytes, tarfile.BLOCKSIZE)


def _padding(size_bytes: int, unit_bytes: int) -> int:
    return -size_bytes % unit_bytes


def _archive_bytes(used_bytes: int) -> int:
    """Size of a closed archive: two empty blocks, then whole records."""
    ended = used_bytes + 2 * tarfile.BLOCKSIZE
    return ended + _padding(ended, _RECORD_BYTES)


class TarStream:
    """A tar on its way into the store: samples with strictly ascending keys, members of one sample side by side."""

    def __init__(self, staged: StagedObject) -> None:
        self._staged = staged
        self._hasher = hashlib.sha256()
        self._last_key = ""
        self.size_bytes = 0

    def add(self, key: str, members: Iterable[tuple[str, int, Iterable[bytes]]]) -> None:
        """Append a sample's members: name, size in bytes, chunks.

        Raises:
            CurationError: the key does not follow the last one, so a reader could mix two samples; or a member is not of its size.
        """
        if key <= self._last_key:
            raise CurationError(f"does not follow {self._last_key}", subject=f"sample {key}", fix="report this as a defect of the order")
        self._last_key = key
        for name, size_bytes, chunks in members:
            self._write(_header(name, size_bytes))
            begin = self.size_bytes
            for chunk in chunks:
                self._write(chunk)
            if self.size_bytes - begin != size_bytes:
                raise CurationError(f"has not the {size_bytes} bytes promised", subject=f"member {name}", fix="report this as a defect")
            self._write(bytes(_padding(size_bytes, tarfile.BLOCKSIZE)))

    def close(self) -> str:
        """End the archive; SHA-256 of all its bytes, hex."""
        self._write(bytes(_archive_bytes(self.size_bytes) - self.size_bytes))
        return self._hasher.hexdigest()

    def _write(self, data: bytes) -> None:
        self._staged.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)


def _write_shard(shard: _PlannedShard, samples: Iterable[Sample], shard_set_id: str, store: ObjectStore) -> dict[str, Any]:
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


def _counts(selection: Selection) -> dict[str, int]:
    found = {
        "considered": selection.considered,
        "filtered_out": selection.filtered_out,
        "over_max_samples": selection.over_max_samples,
    }
    return found | ({"withdrawn": selection.withdrawn} if selection.withdrawn else {})


def _splits(rows: pa.Table, request: ShardRequest) -> dict[str, dict[str, Any]]:
    """Per split, empty ones included: samples, bytes of their clips, and samples per tag value."""
    found = {}
    for split in request.splits:
        part = rows.filter(pc.equal(rows.column(SPLIT_COLUMN), split))
        found[split] = {
            "samples": part.num_rows,
            "clip_bytes": pc.sum(part.column("size_bytes")).as_py() or 0,
            "tags": {tag: _value_counts(part.column(tag)) for tag in TAG_COLUMNS},
        }
    return found


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column.fill_null("unmeasured")).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counted))


def _index(
    request: ShardRequest,
    selection: Selection,
    shard_set_id: str,
    shards: Sequence[Mapping[str, Any]],
    *,
    filter_shown: bool,
) -> dict[str, Any]:
    asked = request.model_dump(mode="json")
    if not filter_shown:
        asked["filter"] = f"{FILTER_WITHHELD} it looks at {', '.join(sorted(request.filter_columns())) or 'no column'}"
    return {
        "shard_set_id": shard_set_id,
        "project_version": __version__,
        "residency": "stays home",
        "request": asked,
        "rows": _counts(selection),
        "splits": _splits(selection.rows, request),
        "shards": list(shards),
    }


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


def card(index: Mapping[str, Any]) -> str:
    """The dataset card in Markdown, made from the index alone."""
    request, rows = index["request"], index["rows"]
    named = sorted(set(request["columns"]) - set(PUBLIC_COLUMNS))
    lines = [
        f"# Shard set {index['shard_set_id']}",
        "",
        f"Built by curation {index['project_version']}. The ledger's entry of this set names the snapshot of curated.clips.",
        "",
        "**Stays home.** These shards hold clips. They may not leave the home store, nor may any copy of them.",
        "",
        "## Request",
        "",
        "```json",
        json.dumps(request, indent=2, sort_keys=True),
        "```",
        "",
        f"Columns that stand in a sample only because the request names them: {', '.join(named) or 'none'}.",
        "",
        "## Counts",
        "",
        f"{rows['considered']} accepted clips: {_left_out(rows)}, the rest:",
        "",
        "| split | samples | bytes of clips | shards |",
        "|---|---|---|---|",
    ]
    for split, found in index["splits"].items():
        shard_count = sum(shard["split"] == split for shard in index["shards"])
        lines.append(f"| {split} | {found['samples']} | {found['clip_bytes']} | {shard_count} |")
    for tag in TAG_COLUMNS:
        lines += ["", f"### {tag}", "", "| value | " + " | ".join(index["splits"]) + " |", "|---" * (len(index["splits"]) + 1) + "|"]
        for value in sorted({value for found in index["splits"].values() for value in found["tags"][tag]}):
            counts = (str(found["tags"][tag].get(value, 0)) for found in index["splits"].values())
            lines.append(f"| {value} | " + " | ".join(counts) + " |")
    return "\n".join([*lines, "", *_limits(request), ""])


def _left_out(rows: Mapping[str, int]) -> str:
    withdrawn = f"{rows['withdrawn']} withdrawn on request, " if "withdrawn" in rows else ""
    return f"{withdrawn}{rows['filtered_out']} filtered out, {rows['over_max_samples']} over max_samples"


def _limits(request: Mapping[str, Any]) -> list[str]:
    return [
        "## Known limits",
        "",
        "- Faces and plates are not masked.",
        f"- No {request['group_by']} straddles two splits; a clip without a known one stands alone.",
        "- Near-duplicates are in, unless the filter says `duplicate_of IS NULL`.",
        "- Splits follow a hash of the group, so with few groups their sizes differ from the ratios, and one may be empty.",
        "- Tags are a machine's; `undefined` means that it did not say, `unmeasured` that it could not look.",
    ]
