"""Shard sets as objects of the home store: which of them hold a clip, and all that belongs to one."""

from __future__ import annotations

import tarfile
from collections.abc import Collection

from curation.ports import ObjectStore

_FOLDER = "shards/"


def sets_holding(clip_ids: Collection[str], store: ObjectStore) -> dict[str, frozenset[str]]:
    """Shard set -> those of the clips that its archives hold, as the archives' own headers tell; sets without any are left out."""
    wanted, found = frozenset(clip_ids), dict[str, frozenset[str]]()
    for key in store.keys(_FOLDER):
        held = wanted & _samples(key, store) if key.endswith(".tar") else frozenset()
        if held:
            found[_set_of(key)] = found.get(_set_of(key), frozenset()) | held
    return found


def objects_of(shard_sets: Collection[str], store: ObjectStore) -> list[str]:
    """Keys of all objects of these shard sets."""
    return [key for key in store.keys(_FOLDER) if is_of(key, shard_sets)]


def is_of(key: str, shard_sets: Collection[str]) -> bool:
    """Whether an object belongs to one of these shard sets."""
    return key.startswith(_FOLDER) and _set_of(key) in shard_sets


def _set_of(key: str) -> str:
    return key.split("/")[1]


def _samples(key: str, store: ObjectStore) -> frozenset[str]:
    with store.local_path(key) as path, tarfile.open(path, "r:") as tar:
        return frozenset(member.name.split(".")[0] for member in tar)
