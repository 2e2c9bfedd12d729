"""Offline proof: chain, signatures, counts and every file that the ledger covers."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation.audit.ledger import GENESIS, check_link, from_bytes
from curation.choices import Clips
from curation.coverage import covered
from curation.errors import CurationError, EvidenceBroken, UsageError
from curation.layout import ledger_key
from curation.ports import ObjectStore
from curation.records import LedgerEntry
from curation.release_files import open_publications

# Everything under these is evidence; resume points (inspections/, finished.json of a batch) and the ledger itself are covered by no entry.
_COVERED: Final = (
    *("batches/", "clips/", "erasures/", "fences/", "manifests/", "packs/"),
    *("quarantine/", "releases/", "shard_requests/", "shards/", "tombstones/", "validation/", "withdrawals/"),
)
_RESUME_POINT: Final = re.compile(r"batches/[^/]+/finished\.json")
_CHUNK_BYTES: Final = 1 << 20
_CLIPS: Final = "clips/"
_READ_ALL_BYTES: Final = 10 * 10**9
_SAMPLE: Final = 200  # of a ledger in which one clip in a hundred were changed, this misses all of them 13 times in 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was proved, and the head that seals it."""

    entry_count: int
    file_count: int
    clip_count: int  # among the files
    clips_read: int
    head: str  # sequence:digest of the last entry, "" for an empty ledger
    uncovered: tuple[str, ...]  # files in covered places that no entry names: work under way, or put there by somebody else
    open_publications: tuple[str, ...] = ()  # releases under way, or broken off: rows of them may be overseas without a receipt


def verify(
    store: ObjectStore,
    public_key: Ed25519PublicKey,
    *,
    head: str | None = None,
    clips: Clips | None = None,
    progress: Callable[[str], None] | None = None,
) -> Proof:
    """The proof that nothing the ledger covers has changed.

    Args:
        store: the home store.
        public_key: whose signature every entry must carry.
        head: `sequence:digest` noted earlier (a report, a published snapshot); entry and digest must still stand.
        clips: of which the bytes are read: none, a random sample of 200, or all. None: all of up to 10 GB, a sample of more. That each is
            there is proved in any case.
        progress: told each file before it is read.

    Raises:
        EvidenceBroken: names the first entry or file that does not hold.
    """
    entries = _chain(store, public_key)
    _check_head(entries, head)
    digests, removed = covered(entries)
    for key in sorted(removed):
        if store.size(key) is not None:
            raise EvidenceBroken("was to be removed and is still there", subject=key, fix="finish the erasure (`curation erase confirm`)")
    clip_keys = [key for key in sorted(digests) if key.startswith(_CLIPS)]
    chosen = _chosen(clip_keys, store, clips)
    skipped = set(clip_keys) - chosen
    for key in sorted(skipped - set(store.keys(_CLIPS))):
        raise _broken(key, "is recorded in the ledger but cannot be read")
    for key, digest in sorted(digests.items()):
        if key in skipped:
            continue
        if progress is not None:
            progress(key)
        _check_file(store, key, digest)
    uncovered = tuple(key for prefix in _COVERED for key in store.keys(prefix) if key not in digests and not _RESUME_POINT.fullmatch(key))
    last = f"{entries[-1].sequence}:{entries[-1].digest()}" if entries else ""
    still_open = open_publications(store, entries)
    counts = {"entry_count": len(entries), "file_count": len(digests), "clip_count": len(clip_keys), "clips_read": len(chosen)}
    return Proof(**counts, head=last, uncovered=uncovered, open_publications=still_open)


def _chosen(clip_keys: Sequence[str], store: ObjectStore, clips: Clips | None) -> set[str]:
    """The clips whose bytes are read."""
    if clips is None:
        clips = "all" if _is_below(_READ_ALL_BYTES, clip_keys, store) else "sample"
    if clips == "sample":  # drawn anew each time, so that nobody can tell which will be looked at
        return set(secrets.SystemRandom().sample(clip_keys, min(_SAMPLE, len(clip_keys))))
    return set(clip_keys) if clips == "all" else set()


def _is_below(limit_bytes: int, keys: Sequence[str], store: ObjectStore) -> bool:
    total_bytes = 0
    for key in keys:
        total_bytes += store.size(key) or 0
        if total_bytes > limit_bytes:
            return False
    return True


def _broken(subject: str, problem: str) -> EvidenceBroken:
    return EvidenceBroken(problem, subject=subject, fix="restore the file from a copy, and find out who changed it")


def _chain(store: ObjectStore, public_key: Ed25519PublicKey) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    previous = GENESIS
    for position, key in enumerate(sorted(store.keys("ledger/"))):
        if key != ledger_key(position):
            raise _broken(ledger_key(position), "is missing from the ledger")
        entry = from_bytes(store.read(key), key)
        check_link(entry, key, position=position, previous=previous, public_key=public_key)
        accounted = sum(rows for name, rows in entry.counts.items() if name != "rows_in")
        if accounted != entry.counts.get("rows_in"):
            raise _broken(key, f"{entry.counts.get('rows_in')} rows in, {accounted} accounted for")
        entries.append(entry)
        previous = entry.digest()
    return entries


def _check_head(entries: list[LedgerEntry], head: str | None) -> None:
    if head is None:
        return
    sequence, _, digest = head.partition(":")
    if not sequence.isdigit() or len(digest) != len(GENESIS):
        raise UsageError(f"{head!r} is no head", subject="--head", fix="give SEQUENCE:DIGEST as an earlier verify printed it")
    if int(sequence) >= len(entries):
        raise _broken(ledger_key(int(sequence)), "is gone: the ledger was cut off before the noted head")
    if entries[int(sequence)].digest() != digest:
        raise _broken(ledger_key(int(sequence)), "is not the entry that the noted head sealed")


def _check_file(store: ObjectStore, key: str, digest: str) -> None:
    hasher = hashlib.sha256()
    try:
        with store.local_path(key) as path, path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except (CurationError, OSError) as error:
        raise _broken(key, "is recorded in the ledger but cannot be read") from error
    if hasher.hexdigest() != digest:
        raise _broken(key, "is not what the ledger recorded")
