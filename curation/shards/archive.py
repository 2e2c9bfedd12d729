"""Samples and the archives that hold them: which sample stands in which shard, and the bytes of a tar."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from curation.digests import canonical_json
from curation.errors import CurationError
from curation.layout import clip_key, object_uri
from curation.ports import StagedObject
from curation.schema import CLIPS, SHARDS
from curation.shards.request import ShardRequest
from curation.shards.selection import SPLIT_COLUMN, TAG_COLUMNS

OBJECT_SCHEME: Final = object_uri("")
_BATCH_ROWS: Final = 4_096
_RECORD_BYTES: Final = 10_240  # POSIX: an archive fills whole records of 20 blocks
_OCTAL_LIMIT_BYTES: Final = 8**11  # USTAR gives a size eleven octal digits
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")


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
class PlannedShard:
    name: str
    split: str
    sample_count: int


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


def samples_in(rows: pa.Table, request: ShardRequest) -> Iterator[Sample]:
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


def samples_of(plan: Sequence[PlannedShard], rows: pa.Table, request: ShardRequest) -> pa.Table:
    samples = samples_in(rows, request)
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


def plan_shards(rows: pa.Table, request: ShardRequest) -> tuple[list[PlannedShard], str]:
    """Shards with the number of samples in each, and a digest of all that enters them.

    No shard is larger than `shard_size_bytes`, unless one sample alone is.
    """
    hasher = hashlib.sha256()
    for tags in zip(*(rows.column(name).to_pylist() for name in TAG_COLUMNS), strict=True):
        hasher.update(canonical_json(tags))
    plan: list[PlannedShard] = []
    split, number, held, used_bytes = "", 0, 0, 0
    for sample in samples_in(rows, request):
        hasher.update(canonical_json([sample.split, sample.clip_id, sample.suffix, sample.size_bytes, sample.description.decode()]))
        size_bytes = sum(_member_bytes(size) for _, size in sample.members())
        if held and (sample.split != split or _archive_bytes(used_bytes + size_bytes) > request.shard_size_bytes):
            plan.append(PlannedShard(name=f"{split}-{number:06d}.tar", split=split, sample_count=held))
            number, held, used_bytes = (number + 1 if sample.split == split else 0), 0, 0
        split, held, used_bytes = sample.split, held + 1, used_bytes + size_bytes
    if held:
        plan.append(PlannedShard(name=f"{split}-{number:06d}.tar", split=split, sample_count=held))
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
