"""The bytes of a shard as MosaicML Streaming reads it (MDS, version 2), written and read without that library.

A shard is the number of samples, where each begins, a JSON that names the columns, and the samples. A sample is the sizes of its values,
then the values, in the order of the columns' names. All numbers are unsigned, 32 bits, little-endian.
Source: mosaicml-streaming 0.13, `streaming/base/format/mds/writer.py` and `reader.py`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, BinaryIO, Final

from curation.errors import CurationError, EvidenceBroken
from curation.ports import StagedObject
from curation.shards.archive import Member, check_follows
from curation.shards.request import ShardRequest

MAX_BYTES: Final = 2**32 - 1  # a sample's place is told in 32 bits
INDEX_FILE: Final = "index.json"
KEY_COLUMN: Final = "__key__"  # as WebDataset calls it; sorts before all other columns, so that it is found without reading the sample
# Form -> column -> how Streaming decodes it: whole clips as bytes, pictures with Pillow.
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "clips": {KEY_COLUMN: "str", "clip": "bytes", "json": "json", "suffix": "str"},
    "frames": {KEY_COLUMN: "str", "jpg": "jpeg", "json": "json"},
}
_NUMBER: Final = struct.Struct("<I")
_KEY_BYTES: Final = 64 + len(".mp4") + len("-000000")
_COPY_BYTES: Final = 1024 * 1024


def sample_bytes(of_each: Sequence[int]) -> int:
    """Bytes of a sample whose members have these sizes, with its key, its numbers and its place in the header."""
    return sum(of_each) + _KEY_BYTES + 5 * _NUMBER.size


def shard_bytes(used_bytes: int, request: ShardRequest) -> int:
    """Bytes of a shard whose samples take so many."""
    return used_bytes + 2 * _NUMBER.size + len(_config_bytes(request.form, request.shard_size_bytes))


def split_index(shards: Sequence[Mapping[str, Any]], *, form: str, size_limit_bytes: int) -> bytes:
    """What Streaming reads first of a split: its shards, each with `name`, `bytes`, `sha256` and `samples`."""
    said = [
        {
            **_config(form, size_limit_bytes),
            "raw_data": {"basename": shard["name"], "bytes": shard["bytes"], "hashes": {"sha256": shard["sha256"]}},
            "samples": shard["samples"],
            "zip_data": None,
        }
        for shard in shards
    ]
    return json.dumps({"version": 2, "shards": said}, sort_keys=True).encode()


def _config(form: str, size_limit_bytes: int) -> dict[str, Any]:
    columns = COLUMNS[form]
    return {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": ["sha256"],
        "size_limit": size_limit_bytes,
        "column_names": sorted(columns),
        "column_encodings": [columns[name] for name in sorted(columns)],
        "column_sizes": [None] * len(columns),
    }


def _config_bytes(form: str, size_limit_bytes: int) -> bytes:
    return json.dumps(_config(form, size_limit_bytes), sort_keys=True).encode()


class MdsStream:
    """An MDS shard on its way into the store.

    Its header tells where each sample begins. Where the sizes are not known before the samples are, these wait in a file of their own.
    """

    def __init__(self, staged: StagedObject, *, form: str, size_limit_bytes: int, promised: Sequence[int] | BinaryIO) -> None:
        """An empty shard.

        Args:
            staged: where the bytes go.
            form: clips or frames.
            size_limit_bytes: what the request limits shards to.
            promised: sizes of the samples to come, from `packed_bytes`; where nobody knows them yet, a file for them to wait in.
        """
        self._staged, self._form = staged, form
        self._config = _config_bytes(form, size_limit_bytes)
        self._hasher = hashlib.sha256()
        self._last_key = ""
        self._sizes: list[int] = []
        self._promised = list(promised) if isinstance(promised, Sequence) else None
        self._waiting = None if isinstance(promised, Sequence) else promised
        self.size_bytes = 0
        if self._promised is not None:
            self._write(self._header(self._promised))

    @property
    def sample_count(self) -> int:
        """Samples so far."""
        return len(self._sizes)

    def add(self, key: str, members: Sequence[Member]) -> None:
        """Append a sample.

        Raises:
            CurationError: the key does not follow the last one, or a member is not of its size.
        """
        check_follows(key, self._last_key)
        self._last_key = key
        values = _values(self._form, key, members)
        self._put(b"".join(_NUMBER.pack(value.size_bytes) for value in values))
        for value in values:
            written = 0
            for chunk in value.chunks:
                self._put(chunk)
                written += len(chunk)
            if written != value.size_bytes:
                problem = f"has not the {value.size_bytes} bytes promised"
                raise CurationError(problem, subject=f"member {key}{value.suffix}", fix="report this as a defect")
        self._sizes.append(len(values) * _NUMBER.size + sum(value.size_bytes for value in values))

    def close(self) -> str:
        """End the shard; SHA-256 of all its bytes, hex.

        Raises:
            CurationError: the samples are not those promised, or too large for the format.
        """
        if self._waiting is not None:
            self._write(self._header(self._sizes))
            self._waiting.seek(0)
            while chunk := self._waiting.read(_COPY_BYTES):
                self._write(chunk)
        elif self._promised != self._sizes:
            raise CurationError("has not the samples promised", subject="shard", fix="report this as a defect")
        return self._hasher.hexdigest()

    def _header(self, sizes: Sequence[int]) -> bytes:
        at = (2 + len(sizes)) * _NUMBER.size + len(self._config)
        begins = [at]
        for size_bytes in sizes:
            begins.append(begins[-1] + size_bytes)
        if begins[-1] > MAX_BYTES:
            raise CurationError("is too large for this format", subject=f"a shard of {begins[-1]} bytes", fix="ask for smaller shards")
        return struct.pack(f"<{len(sizes) + 2}I", len(sizes), *begins) + self._config

    def _put(self, data: bytes) -> None:
        if self._waiting is not None:
            self._waiting.write(data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._staged.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)


def packed_bytes(form: str, key: str, sizes: Mapping[str, int]) -> int:
    """Size of a sample in the shard, from the sizes of its members by suffix."""
    members = [Member(suffix=suffix, size_bytes=size_bytes, chunks=()) for suffix, size_bytes in sizes.items()]
    values = _values(form, key, members)
    return len(values) * _NUMBER.size + sum(value.size_bytes for value in values)


def _values(form: str, key: str, members: Sequence[Member]) -> list[Member]:
    """The values of a sample in the order of the columns: its key, its members, and of a whole clip what it is called after its dot."""
    found = {KEY_COLUMN: _text(key)}
    for member in members:
        is_clip = form == "clips" and member.suffix != ".json"
        found["clip" if is_clip else member.suffix[1:]] = member
        if is_clip:
            found["suffix"] = _text(member.suffix)
    return [found[name] for name in sorted(COLUMNS[form])]


def _text(text: str) -> Member:
    data = text.encode()
    return Member(suffix="", size_bytes=len(data), chunks=(data,))


def read_keys(file: BinaryIO, name: str) -> Iterator[str]:
    """The keys of a shard's samples, without reading these.

    Raises:
        EvidenceBroken: the bytes are no MDS shard.
    """
    places, columns = _header_of(file, name)
    for begin, _ in places:
        file.seek(begin)
        sizes = _numbers(file, len(columns), name)
        yield file.read(sizes[0]).decode()  # sorts first


def read_samples(file: BinaryIO, name: str) -> Iterator[dict[str, bytes]]:
    """The samples of a shard: column -> bytes.

    Raises:
        EvidenceBroken: the bytes are no MDS shard.
    """
    places, columns = _header_of(file, name)
    for begin, end in places:
        file.seek(begin)
        values = [file.read(size_bytes) for size_bytes in _numbers(file, len(columns), name)]
        if file.tell() != end:
            raise _broken(name)
        yield dict(zip(columns, values, strict=True))


def _header_of(file: BinaryIO, name: str) -> tuple[list[tuple[int, int]], list[str]]:
    """Where each sample begins and ends, and the columns' names in order."""
    file.seek(0)
    (count,) = _numbers(file, 1, name)
    begins = _numbers(file, count + 1, name)
    try:
        columns: list[str] = json.loads(file.read(begins[0] - file.tell()))["column_names"]
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(name) from error
    if columns[:1] != [KEY_COLUMN]:
        raise _broken(name)
    return list(pairwise(begins)), columns


def _numbers(file: BinaryIO, count: int, name: str) -> tuple[int, ...]:
    try:
        return struct.unpack(f"<{count}I", file.read(count * _NUMBER.size))
    except struct.error as error:
        raise _broken(name) from error


def _broken(name: str) -> EvidenceBroken:
    return EvidenceBroken("is no MDS shard", subject=name, fix="restore it from a copy, or remove the set")
