"""The ledger as a reader sees it: checked with the public key alone, so that whoever reads it can write nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation.audit.ledger import GENESIS, check_link, from_bytes
from curation.layout import ledger_key
from curation.ports import ObjectStore
from curation.records import LedgerEntry


class LedgerReader:
    """A ledger in an object store. Each entry is checked once, when it is first read; later reads look for new ones only."""

    def __init__(self, store: ObjectStore, public_key: Callable[[], Ed25519PublicKey]) -> None:
        """A ledger in `store`, whose entries `public_key` must have signed; asked for it when the first entry is read."""
        self._store = store
        self._public_key = cache(public_key)
        self._known: list[LedgerEntry] = []
        self._turn = threading.Lock()

    def entries(self) -> Iterator[LedgerEntry]:
        """All entries in order.

        Raises:
            EvidenceBroken: an entry is not what the ledger's key signed, or does not follow the one before it.
        """
        with self._turn:
            while self._store.size(key := ledger_key(len(self._known))) is not None:
                entry = from_bytes(self._store.read(key), key)
                previous = self._known[-1].digest() if self._known else GENESIS
                check_link(entry, key, position=len(self._known), previous=previous, public_key=self._public_key())
                self._known.append(entry)
            known = tuple(self._known)
        yield from known
