"""The ledger: signed, hash-chained, one immutable object per entry, appended by create-if-absent."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from curation.digests import canonical_json
from curation.errors import EvidenceBroken, ImmutableConflict, OutsideError
from curation.layout import ledger_key
from curation.ports import Clock, ObjectStore
from curation.records import REMOVED, LedgerEntry, StageCount

GENESIS: Final = "0" * 64
STAMPS: Final = frozenset({"code_version", "pack_in_force"})
_Event = tuple[str, str, Mapping[str, int], Mapping[str, str], Mapping[str, str]]
_ATTEMPTS: Final = 100  # an appender that loses moves on to the next number; so many losses to nothing mean that the store is at fault


def signed_bytes(entry: LedgerEntry) -> bytes:
    """What the signature covers: the entry's canonical JSON without its signature."""
    body = entry.plain()
    del body["signature"]
    return canonical_json(body)


def to_bytes(entry: LedgerEntry) -> bytes:
    """The entry as it is stored."""
    return canonical_json(entry.plain())


def from_bytes(data: bytes, key: str) -> LedgerEntry:
    """The entry stored under `key`.

    Raises:
        EvidenceBroken: the bytes are no entry, or not the canonical form of the one they hold.
    """
    try:
        raw: Any = json.loads(data)
        entry = LedgerEntry(**raw)
        canonical = to_bytes(entry)
    except (ValueError, TypeError, RecursionError) as error:
        raise EvidenceBroken(
            "is no ledger entry", subject=key, fix="restore the file from a copy; it was changed after it was written"
        ) from error
    if canonical != data:
        raise EvidenceBroken(
            "is not in canonical form", subject=key, fix="restore the file from a copy; it was changed after it was written"
        )
    return entry


def check_link(entry: LedgerEntry, key: str, *, position: int, previous: str, public_key: Ed25519PublicKey) -> None:
    """Nothing, if the entry stands where it belongs, follows the one before it, and carries the ledger's signature.

    Raises:
        EvidenceBroken: names `key` and what does not hold.
    """
    problem = None
    if entry.sequence != position:
        problem = f"holds entry {entry.sequence}"
    elif entry.previous != previous:
        problem = "does not follow the entry before it"
    else:
        try:
            public_key.verify(bytes.fromhex(entry.signature), signed_bytes(entry))
        except (InvalidSignature, ValueError, TypeError):
            problem = "carries a signature that is not of the ledger's key"
    if problem:
        raise EvidenceBroken(problem, subject=key, fix="restore the file from a copy, and find out who changed it")


class StoreLedger:
    """A ledger in an object store. Each entry names its predecessor's digest, so the tail seals everything before it.

    An entry is checked when it is first read: what gates ask of the ledger (was this cut, approved, published?) nobody can answer
    by putting a file beside the others.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        key: Ed25519PrivateKey,
        *,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        stamp: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """A ledger in `store`.

        Args:
            store: the home store.
            clock: the time of entries.
            key: signs them.
            turn: excludes other processes from appending, for a store that cannot.
            stamp: facts of STAMPS that every new entry carries: by which code and under which pack it was made.
        """
        self._store = store
        self._clock = clock
        self._key = key
        self._public_key = key.public_key()
        self._known: list[LedgerEntry] = []
        self._turn = threading.Lock()  # of threads that share this object; between processes the store decides, or the lock
        self._lock = turn
        self._stamp = stamp

    def entries(self) -> Iterator[LedgerEntry]:
        """All entries in order.

        Raises:
            EvidenceBroken: an entry is not what this ledger's key signed, or does not follow the one before it.
        """
        with self._turn:
            self._read_on()
            known = tuple(self._known)
        yield from known

    def head(self) -> LedgerEntry | None:
        """The last entry."""
        with self._turn:
            self._read_on()
            return self._known[-1] if self._known else None

    def record(
        self, count: StageCount, *, files: Mapping[str, str], facts: Mapping[str, str] | None = None, unless: Collection[str] = ()
    ) -> LedgerEntry:
        """The entry of this event; an equal event is recorded once, however often and from wherever it is reported.

        Where files of it were removed since, it happened again, and is recorded again. Where its subject has one of a kind of `unless`,
        that one, and nothing is recorded.

        Raises:
            NotConserved: the counts do not add up.
            OutsideError: other writers kept winning, or the store does not keep what it accepted.
        """
        count.check()
        counts = {"rows_in": count.rows_in} | {name: rows for name, rows in count.accounted.items() if rows}
        with self._turn, self._lock():
            return self._append((count.stage, count.subject, counts, dict(files), dict(facts or {})), frozenset(unless))

    def _append(self, event: _Event, unless: frozenset[str]) -> LedgerEntry:
        lost = 0
        while lost < _ATTEMPTS:
            known_count = len(self._known)
            self._read_on()
            lost = 0 if len(self._known) > known_count else lost + 1  # who lost to an entry that is there may lose to as many as there are
            for entry in self._known:
                if entry.kind in unless and entry.subject == event[1]:
                    return entry
            removed: set[str] = set()
            for entry in reversed(self._known):
                if entry.kind == REMOVED:
                    removed.update(entry.files)
                told = {name: value for name, value in entry.facts.items() if name not in STAMPS}  # newer code does no work anew
                if (entry.kind, entry.subject, entry.counts, entry.files, told) == event and removed.isdisjoint(entry.files):
                    return entry
            entry = self._next(*event)
            try:
                self._store.create(ledger_key(entry.sequence), to_bytes(entry))
            except ImmutableConflict:
                continue
            self._known.append(entry)
            return entry
        raise OutsideError(
            "its store refuses an entry and holds no other in its place",
            subject="ledger",
            fix="retry; if it persists, check that the store keeps objects",
        )

    def _next(self, kind: str, subject: str, counts: Mapping[str, int], files: Mapping[str, str], facts: Mapping[str, str]) -> LedgerEntry:
        unsigned = LedgerEntry(
            sequence=len(self._known),
            previous=self._known[-1].digest() if self._known else GENESIS,
            kind=kind,
            subject=subject,
            at=self._clock.now().isoformat(timespec="microseconds"),
            counts=counts,
            files=files,
            facts={**facts, **self._stamp()},
            signature="",
        )
        return dataclasses.replace(unsigned, signature=self._key.sign(signed_bytes(unsigned)).hex())

    def _read_on(self) -> None:
        while self._store.size(key := ledger_key(len(self._known))) is not None:
            entry = from_bytes(self._store.read(key), key)
            previous = self._known[-1].digest() if self._known else GENESIS
            check_link(entry, key, position=len(self._known), previous=previous, public_key=self._public_key)
            self._known.append(entry)
