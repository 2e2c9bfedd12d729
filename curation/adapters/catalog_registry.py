"""Releases that an overseas table carries, by name: remembered in its properties, since snapshots expire."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from pyiceberg.table import Table

from curation.records import SnapshotInfo

RELEASE_ID: Final = "curation.release-id"
WITHDRAWN: Final = "curation.withdrawn"
_REGISTERED: Final = "curation.release."  # table property: a release's snapshot, remembered after that snapshot has expired


def registry_of(release_id: str, info: SnapshotInfo) -> dict[str, str]:
    value = {"snapshot_id": info.snapshot_id, "parent_id": info.parent_id, "properties": dict(info.properties)}
    return {f"{_REGISTERED}{release_id}": json.dumps(value, sort_keys=True)}


def releases_of(found: Table) -> dict[str, SnapshotInfo]:
    return {
        name.removeprefix(_REGISTERED): SnapshotInfo(**json.loads(value))
        for name, value in found.properties.items()
        if name.startswith(_REGISTERED)
    }


def registry_names(found: Table, release_ids: Collection[str]) -> list[str]:
    """The table's properties that remember these releases."""
    return sorted(f"{_REGISTERED}{release_id}" for release_id in releases_of(found) if release_id in release_ids)


def registered(found: Table, release_id: str) -> SnapshotInfo | None:
    return releases_of(found).get(release_id)
