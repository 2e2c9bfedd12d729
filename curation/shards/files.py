"""Shard sets as objects of the home store: which of them hold a clip, and all that belongs to one."""

from __future__ import annotations

import tarfile
from collections.abc import Collection

from curation.ports import ObjectStore
from curation.shards import mds

SHARDS_FOLDER = "shards/"
_ID_DIGITS = 64  # of a clip_id, with which each key begins


def sets_holding(clip_ids: Collection[str], store: ObjectStore) -> dict[str, frozenset[str]]:
    """Shard set -> those of the clips that its shards hold, whole or as pictures, as their headers tell; sets without any are left out."""
    wanted, found = frozenset(clip_ids), dict[str, frozenset[str]]()
    for key in store.keys(SHARDS_FOLDER):
        held = wanted & _clips_in(key, store) if key.endswith((".tar", ".mds")) else frozenset()
        if held:
            found[set_of(key)] = found.get(set_of(key), frozenset()) | held
    return found


def objects_of(shard_sets: Collection[str], store: ObjectStore) -> list[str]:
    """Keys of all objects of these shard sets."""
    return [key for key in store.keys(SHARDS_FOLDER) if is_of(key, shard_sets)]


def is_of(key: str, shard_sets: Collection[str]) -> bool:
    """Whether an object belongs to one of these shard sets."""
    return key.startswith(SHARDS_FOLDER) and set_of(key) in shard_sets


def set_of(key: str) -> str:
    """The shard set that an object of `SHARDS_FOLDER` belongs to."""
    return key.split("/")[1]


def _clips_in(key: str, store: ObjectStore) -> frozenset[str]:
    with store.local_path(key) as path:
        if key.endswith(".mds"):
            with path.open("rb") as file:
                return frozenset(name[:_ID_DIGITS] for name in mds.read_keys(file, key))
        with tarfile.open(path, "r:") as tar:
            return frozenset(member.name[:_ID_DIGITS] for member in tar)
