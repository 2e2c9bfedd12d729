"""Shard sets and masked copies as objects of the home store: which of them hold a clip, and all that belongs to one."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any, Final

from curation.layout import MASKED, clip_of_masked, masked_folder
from curation.ports import ObjectStore
from curation.shards import mds

SHARDS_FOLDER: Final = "shards/"
_ONE_BY_ONE_MAX: Final = 100  # clips whose folders are listed each; of more, all copies are listed once
_BLOCK_BYTES: Final = 1 << 16  # of one request: some headers and small members at once, and little of a clip's bytes
_ID_DIGITS: Final = 64  # of a clip_id, with which each key begins


def sets_holding(clip_ids: Collection[str], store: ObjectStore) -> dict[str, frozenset[str]]:
    """Shard set -> those of the clips that its shards hold, whole or as pictures, or that gave none; sets without any are left out."""
    wanted, found = frozenset(clip_ids), dict[str, frozenset[str]]()
    for key in store.keys(SHARDS_FOLDER):
        held = wanted & (_clips_in(key, store) if is_shard(key) else _clips_left_out(key, store))
        if held:
            found[set_of(key)] = found.get(set_of(key), frozenset()) | held
    return found


def objects_of(shard_sets: Collection[str], store: ObjectStore) -> list[str]:
    """Keys of all objects of these shard sets."""
    return [key for key in store.keys(SHARDS_FOLDER) if is_of(key, shard_sets)]


def copies_of(clip_ids: Collection[str], store: ObjectStore) -> list[str]:
    """Keys of all masked copies of these clips, and of what stands beside them, which goes last: it tells of them."""
    if len(clip_ids) <= _ONE_BY_ONE_MAX:
        found = [key for clip_id in clip_ids for key in store.keys(masked_folder(clip_id))]
    else:
        wanted = frozenset(clip_ids)
        found = [key for key in store.keys(MASKED) if clip_of_masked(key) in wanted]
    return sorted(found, key=lambda key: key.endswith(".json"))


def erased_copies(store: ObjectStore) -> list[str]:
    """Keys of masked copies of clips that were erased, such as a build leaves that an erasure met."""
    erased = {PurePosixPath(key).stem for key in store.keys("tombstones/")}
    return [key for key in store.keys(MASKED) if clip_of_masked(key) in erased] if erased else []


def is_of(key: str, shard_sets: Collection[str]) -> bool:
    """Whether an object belongs to one of these shard sets."""
    return key.startswith(SHARDS_FOLDER) and set_of(key) in shard_sets


def is_shard(key: str) -> bool:
    """Whether an object of a shard set holds samples; the others speak of them."""
    return key.endswith((".tar", ".mds"))


def set_of(key: str) -> str:
    """The shard set that an object of `SHARDS_FOLDER` belongs to."""
    return key.split("/")[1]


def _clips_left_out(key: str, store: ObjectStore) -> frozenset[str]:
    """Clips that a set should have held and that gave nothing, or be in no masked set: what stands beside its shards names them."""
    said = json.loads(store.read(key)) if key.endswith(".json") else {}
    return frozenset({**said.get("undecodable", {}), **said.get("unmaskable", {}), **said.get("not_clean", {})})


def _clips_in(key: str, store: ObjectStore) -> frozenset[str]:
    with io.BufferedReader(_Stretches(store, key), _BLOCK_BYTES) as file:
        if key.endswith(".mds"):
            return frozenset(name[:_ID_DIGITS] for name in mds.read_keys(file, key))
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return frozenset(member.name[:_ID_DIGITS] for member in tar)


class _Stretches(io.RawIOBase):
    """An object of a store as a file of which only what is asked for is read: a bucket need not give a whole shard for its headers."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """Nothing is read yet."""
        self._store, self._key, self._at, self._end = store, key, 0, store.size(key) or 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position, in bytes."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # a writable buffer; its type has a name from Python 3.12 on
        """How many bytes were read, 0 at the end."""
        view = memoryview(buffer)
        data = self._store.read_range(self._key, self._at, min(len(view), max(self._end - self._at, 0))) if self._at < self._end else b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
