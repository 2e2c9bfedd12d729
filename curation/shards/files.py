"""Shard sets as objects of the home store: which of them hold a clip, and all that belongs to one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection
from typing import Final

from curation.ports import ObjectStore
from curation.shards import mds

SHARDS_FOLDER: Final = "shards/"
_ID_DIGITS: Final = 64  # of a clip_id, with which each key begins


def sets_holding(clip_ids: Collection[str], store: ObjectStore) -> dict[str, frozenset[str]]:
    """Shard set -> those of the clips that its shards hold, whole or as pictures, or that gave none; sets without any are left out."""
    wanted, found = frozenset(clip_ids), dict[str, frozenset[str]]()
    for key in store.keys(SHARDS_FOLDER):
        held = wanted & (_clips_in(key, store) if is_shard(key) else _clips_without_pictures(key, store))
        if held:
            found[set_of(key)] = found.get(set_of(key), frozenset()) | held
    return found


def objects_of(shard_sets: Collection[str], store: ObjectStore) -> list[str]:
    """Keys of all objects of these shard sets."""
    return [key for key in store.keys(SHARDS_FOLDER) if is_of(key, shard_sets)]


def is_of(key: str, shard_sets: Collection[str]) -> bool:
    """Whether an object belongs to one of these shard sets."""
    return key.startswith(SHARDS_FOLDER) and set_of(key) in shard_sets


def is_shard(key: str) -> bool:
    """Whether an object of a shard set holds samples; the others speak of them."""
    return key.endswith((".tar", ".mds"))


def set_of(key: str) -> str:
    """The shard set that an object of `SHARDS_FOLDER` belongs to."""
    return key.split("/")[1]


def _clips_without_pictures(key: str, store: ObjectStore) -> frozenset[str]:
    """Clips that a shard should have held and that gave nothing: what stands beside it names them."""
    said = json.loads(store.read(key)) if key.endswith(".json") else {}
    return frozenset(said.get("undecodable", {}))


def _clips_in(key: str, store: ObjectStore) -> frozenset[str]:
    with store.local_path(key) as path:
        if key.endswith(".mds"):
            with path.open("rb") as file:
                return frozenset(name[:_ID_DIGITS] for name in mds.read_keys(file, key))
        with tarfile.open(path, "r:") as tar:
            return frozenset(member.name[:_ID_DIGITS] for member in tar)
