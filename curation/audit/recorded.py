"""What the ledger recorded, and the objects of the home store as it recorded them, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.coverage import covered
from curation.digests import sha256_hex
from curation.errors import EvidenceBroken
from curation.ports import ObjectStore
from curation.records import LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The ledger's entries, in order, and the home store; `digests` maps each key to the SHA-256 that must stand there now."""

    store: ObjectStore
    entries: Sequence[LedgerEntry]
    digests: Mapping[str, str]

    def read(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            EvidenceBroken: they are not what the ledger recorded, or the object is gone.
        """
        data = self.store.read(key) if self.store.size(key) is not None else b""
        if self.digests.get(key) != sha256_hex(data):
            raise EvidenceBroken(
                "is not what the ledger recorded", subject=key, fix="run `curation audit verify`; restore the file from a copy"
            )
        return data

    def document(self, key: str) -> Mapping[str, Any]:
        """A JSON object, as `read`."""
        value: Mapping[str, Any] = json.loads(self.read(key))
        return value

    def about(self, subject: str) -> dict[str, LedgerEntry]:
        """Kind -> the last entry of that kind about the subject."""
        return {entry.kind: entry for entry in self.entries if entry.subject == subject}

    def of_kind(self, kind: str) -> Iterator[LedgerEntry]:
        """Every entry of a kind, in order."""
        return (entry for entry in self.entries if entry.kind == kind)


def recorded(store: ObjectStore, entries: Sequence[LedgerEntry]) -> Recorded:
    """The store as these entries recorded it.

    Raises:
        EvidenceBroken: two entries contradict each other.
    """
    return Recorded(store=store, entries=entries, digests=covered(entries)[0])


def accounted(entry: LedgerEntry) -> dict[str, int]:
    """Where the entry's rows went, by name; without the rows in."""
    return {name: rows for name, rows in entry.counts.items() if name != "rows_in"}
