"""What an overseas table knows of home, in its properties, since snapshots expire: its releases by name, and the ledger's newest head."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import Final

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadataV1

from curation.errors import CurationError, GateRefused
from curation.records import OverseasTable, SnapshotInfo

TABLE_UUID: Final = "curation.table-uuid"  # snapshot property: which table it is meant for
LEDGER_HEAD: Final = "curation.ledger-head"  # snapshot property: the home ledger's head at that time
_ANCHOR: Final = "curation.anchor."  # table property: number of an entry of the home ledger -> its digest
RELEASE_ID: Final = "curation.release-id"
WITHDRAWN: Final = "curation.withdrawn"
_REGISTERED: Final = "curation.release."  # table property: a release's snapshot, remembered after that snapshot has expired


def registry_of(release_id: str, info: SnapshotInfo) -> dict[str, str]:
    value = {"snapshot_id": info.snapshot_id, "parent_id": info.parent_id, "properties": dict(info.properties), "sequence": info.sequence}
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


def identity_of(found: Table) -> OverseasTable:
    """Which table it is, and how far it has come.

    Raises:
        CurationError: Iceberg's format 1 does not count a table's changes.
    """
    metadata = found.metadata
    if isinstance(metadata, TableMetadataV1):
        raise CurationError("is of Iceberg's format 1", subject=f"table {'.'.join(found.name())}", fix="make it anew, of format 2")
    anchors = [f"{name.removeprefix(_ANCHOR)}:{value}" for name, value in found.properties.items() if name.startswith(_ANCHOR)]
    anchors += [info.properties.get(LEDGER_HEAD, "") for info in releases_of(found).values()]
    newest = max(filter(None, anchors), key=_entry_number, default=None)
    standing = tuple(sorted(release_id for release_id, info in releases_of(found).items() if WITHDRAWN not in info.properties))
    return OverseasTable(table_uuid=str(metadata.table_uuid), sequence=metadata.last_sequence_number, anchor=newest, releases=standing)


def check_identity(found: Table | None, table: str, table_uuid: str) -> Table:
    """The table, if it is the one of this UUID.

    Raises:
        GateRefused: it is not, or there is none.
    """
    if found is None or str(found.metadata.table_uuid) != table_uuid:
        problem = "is gone" if found is None else f"is not the one that was looked at: its UUID is {found.metadata.table_uuid}"
        raise GateRefused(problem, subject=f"overseas table {table}", fix="find out who changes the overseas catalog; then run this again")
    return found


def note_head(transaction: Transaction, found: Table, head: str) -> bool:
    """Whether this head of the home ledger is newer than all that the table knows; then it is noted in their place.

    Each has a property of its own: of two writers that a catalog lets both commit, neither hides the other's.
    """
    number, _, digest = head.partition(":")
    known = [name for name in found.properties if name.startswith(_ANCHOR)]
    if any(_entry_number(name.removeprefix(_ANCHOR)) >= int(number) for name in known):
        return False
    transaction.set_properties({f"{_ANCHOR}{number}": digest})
    if known:
        transaction.remove_properties(*known)
    return True


def _entry_number(head: str) -> int:
    """Number of the entry that a head names; what is no head counts as newer than any, so that it is looked at."""
    number = head.partition(":")[0]
    return int(number) if number.isdigit() else sys.maxsize
