"""What an erasure leaves at home: the request, a tombstone for each clip, and the receipt. None of them says whose clip it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from curation import layout
from curation.digests import canonical_json
from curation.ports import ObjectStore

REQUEST_FILE: Final = "request.json"
RECEIPT_FILE: Final = "receipt.json"
ERASED: Final = "erased on request"  # reason of an entry whose clip has a tombstone


def tombstone(clip_id: str, entries: list[str]) -> bytes:
    """The tombstone's bytes; `entries` are digests, hex, of what sources said of the clip when they were listed."""
    return canonical_json({"clip_id": clip_id, "entries": sorted(entries)})


def is_erased(clip_id: str, store: ObjectStore) -> bool:
    """Whether the clip was erased and must not be pulled again."""
    return store.size(layout.tombstone_key(clip_id)) is not None


def erased_entries(store: ObjectStore) -> Iterator[bytes]:
    """Digest of every entry of a source that gave a clip which was erased."""
    for key in store.keys("tombstones/"):
        yield from (bytes.fromhex(digest) for digest in json.loads(store.read(key))["entries"])
