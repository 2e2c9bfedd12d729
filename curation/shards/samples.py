"""Which sample stands in which shard: planned from rows alone, before any clip is read."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.digests import canonical_json
from curation.errors import CurationError, UsageError
from curation.layout import clip_key, object_uri
from curation.schema import CLIPS, SHARDS
from curation.shards import archive, mds
from curation.shards.card import MEASURED_COLUMNS
from curation.shards.frames import sides_px
from curation.shards.masking import MaskedCopy
from curation.shards.request import FrameRequest, ShardRequest
from curation.shards.selection import SPLIT_COLUMN, TAG_COLUMNS

OBJECT_SCHEME: Final = object_uri("")
SUFFIX_OF_FORMAT: Final[Mapping[str, str]] = {"webdataset": ".tar", "mds": ".mds"}
NO_COPIES: Final[Mapping[str, MaskedCopy]] = MappingProxyType({})
_BATCH_ROWS: Final = 4_096
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")
# Pictures of a clip are not known before it is decoded. Twelve real clips, dashcam by day and night, gave 0.3 to 1.7 bits per pixel at
# quality 90; two leaves a shard below its size, and higher qualities cost about twice as much for each halving of what is lost.
_BITS_PER_PX: Final = 2.0
_BITS_QUALITY: Final = 90
_UNKNOWN_S: Final = 60.0  # of a clip whose duration or size no row tells: a recorder's usual minute, and its usual picture
_UNKNOWN_PX: Final = (1280, 720)
_PICTURE_JSON_BYTES: Final = 64  # what a picture's JSON says besides its clip's


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One clip on its way into a shard; `description` is the canonical JSON that stands beside it, or beside each of its pictures.

    `key` and `sha256` are of the bytes that are read: the clip's, or those of its masked copy.
    """

    split: str
    clip_id: str
    key: str
    sha256: str
    suffix: str
    size_bytes: int
    description: bytes
    picture_count: int
    picture_bytes: int

    def plain(self) -> dict[str, Any]:
        """The sample as a worker is told of it."""
        return {
            "clip_id": self.clip_id,
            "key": self.key,
            "sha256": self.sha256,
            "suffix": self.suffix,
            "size_bytes": self.size_bytes,
            "description": self.description.decode(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShard:
    """A shard, and how many clips go into it."""

    name: str
    split: str
    sample_count: int
    clip_bytes: int


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


def with_measured(selected: pa.Table, rows: pa.Table) -> pa.Table:
    """The selected rows with those of `MEASURED_COLUMNS` that they lack, from `rows`: for the card, and for the size of pictures."""
    lacking = [name for name in MEASURED_COLUMNS if name not in selected.schema.names]
    found = rows.select(lacking).take(pc.index_in(selected["clip_id"], value_set=rows["clip_id"].combine_chunks()))
    for name in lacking:
        selected = selected.append_column(CLIPS.field(name), found[name])
    return selected


def samples_in(rows: pa.Table, request: ShardRequest, copies: Mapping[str, MaskedCopy] = NO_COPIES) -> Iterator[Sample]:
    """The samples of ordered rows, one record batch at a time; where they must be masked, of the clips' masked copies.

    Raises:
        CurationError: a row does not fit, or a clip that must be masked has no copy.
    """
    kinds = {name: CLIPS.field(name).type for name in request.columns}
    shape = ("duration_s", "width_px", "height_px") if request.frames is not None else ()
    needed = sorted({"clip_id", "object_uri", "size_bytes", SPLIT_COLUMN, *request.columns, *shape})
    for batch in rows.select(needed).to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            clip_id = row["clip_id"]
            key, sha256, size_bytes = object_key(row["object_uri"], clip_id), clip_id, row["size_bytes"]
            if request.masked:
                copy = copies.get(clip_id)
                if copy is None:
                    raise CurationError("has no masked copy", subject=f"clip {clip_id}", fix="report this as a defect")
                key, sha256, size_bytes = copy.key, copy.sha256, copy.size_bytes
            try:
                description = canonical_json({name: _plain(row[name], kind) for name, kind in kinds.items()})
            except ValueError as error:
                raise CurationError("holds a number that is not finite", subject=f"clip {clip_id}", fix="inspect the clip again") from error
            picture_count, picture_bytes = (0, 0) if request.frames is None else _estimated(row, request.frames)
            yield Sample(
                split=row[SPLIT_COLUMN],
                clip_id=clip_id,
                key=key,
                sha256=sha256,
                suffix=key[key.rfind(".") :],
                size_bytes=size_bytes,
                description=description,
                picture_count=picture_count,
                picture_bytes=picture_bytes,
            )


def samples_of(
    plan: Sequence[PlannedShard], rows: pa.Table, request: ShardRequest, copies: Mapping[str, MaskedCopy] = NO_COPIES
) -> pa.Table:
    """Every clip with its shard, under schema SHARDS."""
    samples = samples_in(rows, request, copies)
    found = (
        {"shard": shard.name, "split": one.split, "clip_id": one.clip_id, "suffix": one.suffix, "size_bytes": one.size_bytes}
        for shard in plan
        for one in islice(samples, shard.sample_count)
    )
    return pa.Table.from_pylist(list(found), schema=SHARDS)


def _plain(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if value is not None and pa.types.is_map(kind):
        return dict(value)
    return value


def _estimated(row: Mapping[str, Any], frames: FrameRequest) -> tuple[int, int]:
    """How many pictures a clip will give, and how many bytes each, as far as its row tells."""
    own = (row["width_px"] or _UNKNOWN_PX[0], row["height_px"] or _UNKNOWN_PX[1])
    width_px, height_px = sides_px(own, frames)
    bits = _BITS_PER_PX * 2 ** ((frames.jpeg_quality - _BITS_QUALITY) / 5) if frames.jpeg_quality > _BITS_QUALITY else _BITS_PER_PX
    return math.floor((row["duration_s"] or _UNKNOWN_S) * frames.fps) + 1, math.ceil(width_px * height_px * bits / 8)


def plan_shards(rows: pa.Table, request: ShardRequest, copies: Mapping[str, MaskedCopy] = NO_COPIES) -> tuple[list[PlannedShard], str]:
    """Shards with the number of clips in each, and a digest of all that enters them.

    No shard is larger than `shard_size_bytes`, unless one clip alone is; with pictures that holds as far as their size can be told before
    they are made.

    Raises:
        UsageError: a shard of this size, or a clip, is too large for the format.
    """
    if request.format == "mds" and request.shard_size_bytes > mds.MAX_BYTES:
        fix = f"give shard_size_bytes of at most {mds.MAX_BYTES}"
        raise UsageError("a shard of this format cannot be so large", subject=f"shard request {request.name}", fix=fix)
    hasher = hashlib.sha256()
    for tags in zip(*(rows.column(name).to_pylist() for name in TAG_COLUMNS), strict=True):
        hasher.update(canonical_json(tags))
    return list(_planned(samples_in(rows, request, copies), request, hasher.update)), hasher.hexdigest()


def _planned(samples: Iterable[Sample], request: ShardRequest, digest: Any) -> Iterator[PlannedShard]:
    suffix = SUFFIX_OF_FORMAT[request.format]
    split, number, held, used_bytes, clip_bytes = "", 0, 0, 0, 0
    for sample in samples:
        told = [sample.split, sample.clip_id, sample.suffix, sample.size_bytes, sample.description.decode()]
        digest(canonical_json([*told, sample.sha256] if request.masked else told))
        size_bytes = _sample_bytes(sample, request)
        if request.format == "mds" and mds.shard_bytes(size_bytes, request) > mds.MAX_BYTES:
            raise UsageError("is too large for this format", subject=f"clip {sample.clip_id}", fix="ask for webdataset, or for frames")
        if held and (sample.split != split or _shard_bytes(used_bytes + size_bytes, request) > request.shard_size_bytes):
            yield PlannedShard(name=f"{split}-{number:06d}{suffix}", split=split, sample_count=held, clip_bytes=clip_bytes)
            number, held, used_bytes, clip_bytes = (number + 1 if sample.split == split else 0), 0, 0, 0
        split, held, used_bytes, clip_bytes = sample.split, held + 1, used_bytes + size_bytes, clip_bytes + sample.size_bytes
    if held:
        yield PlannedShard(name=f"{split}-{number:06d}{suffix}", split=split, sample_count=held, clip_bytes=clip_bytes)


def _sample_bytes(sample: Sample, request: ShardRequest) -> int:
    """Bytes that a clip, or all of its pictures, take in a shard."""
    told_bytes = len(sample.description)
    if request.frames is None:
        of_each, count = (sample.size_bytes, told_bytes), 1
    else:
        of_each, count = (sample.picture_bytes, told_bytes + _PICTURE_JSON_BYTES), sample.picture_count
    if request.format == "mds":
        return count * mds.sample_bytes(of_each)
    return count * sum(archive.member_bytes(size_bytes) for size_bytes in of_each)


def _shard_bytes(used_bytes: int, request: ShardRequest) -> int:
    return mds.shard_bytes(used_bytes, request) if request.format == "mds" else archive.archive_bytes(used_bytes)
