"""Which objects of the home store the ledger answers for, and with which bytes."""

from __future__ import annotations

from collections.abc import Sequence

from curation.errors import EvidenceBroken
from curation.records import REMOVED, LedgerEntry


def covered(entries: Sequence[LedgerEntry]) -> tuple[dict[str, str], set[str]]:
    """Key -> the digest that must stand there now, and the keys where nothing may stand any more.

    An entry of kind `removed` names the objects that a lawful erasure takes away; only after one may a key be recorded with other bytes.

    Raises:
        EvidenceBroken: two entries contradict each other.
    """
    digests: dict[str, str] = {}
    removed: set[str] = set()
    for entry in entries:
        for key, digest in entry.files.items():
            if entry.kind == REMOVED:
                if digests.pop(key, None) != digest:
                    raise _broken(key, f"is called removed, but was not recorded so before (entry {entry.sequence})")
                removed.add(key)
            elif digests.setdefault(key, digest) != digest:
                raise _broken(key, f"was recorded with two digests (entry {entry.sequence})")
            else:
                removed.discard(key)
    return digests, removed


def _broken(key: str, problem: str) -> EvidenceBroken:
    return EvidenceBroken(problem, subject=key, fix="restore the file from a copy, and find out who changed it")
