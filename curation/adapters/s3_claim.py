"""Writing once on servers whose conditional writes do not hold: a claim beside the object, seen by every other writer."""

from __future__ import annotations

import hashlib
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from curation.errors import ConcurrentChange

_LEASE_S: Final = (
    1800.0  # a claimed write is one request of at most four tries, a minute of silence each; a claim of this age is a dead one's
)
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = (0.02, 0.3)
_one_at_a_time = threading.Lock()  # writers of one process wait here instead of claiming against each other


@contextmanager
def claim(client: Any, bucket: str, staging: str, key: str) -> Iterator[None]:
    """Nobody else writes `key` inside the context.

    Each writer puts its claim first and then lists: of two, at least one sees the other and steps back, as long as the server lists what
    it has acknowledged. A writer that dies leaves a claim that no longer counts after half an hour by the server's own clock.

    Raises:
        ConcurrentChange: other writers' claims stood there for a minute.
    """
    folder = f"{staging}claims/{hashlib.sha256(key.encode()).hexdigest()[:32]}/"
    deadline = time.monotonic() + _PATIENCE_S
    with _one_at_a_time:
        while True:
            mine = folder + secrets.token_hex(16)
            client.put_object(Bucket=bucket, Key=mine, Body=b"")
            try:
                if _is_alone(client, bucket, folder, mine):
                    yield
                    return
            finally:
                client.delete_object(Bucket=bucket, Key=mine)
            if time.monotonic() >= deadline:
                raise ConcurrentChange("another writer has claimed it", subject=key, fix="run again in a moment")
            time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311  # spreads writers, guards nothing


def _is_alone(client: Any, bucket: str, folder: str, mine: str) -> bool:
    """Whether no living claim but `mine` is listed; dead ones are removed. Unlisted, `mine` counts for nothing."""
    found = client.list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", [])
    own = [one["LastModified"] for one in found if one["Key"] == mine]
    others = [one for one in found if one["Key"] != mine]
    if not own:
        return False
    dead = [one["Key"] for one in others if own[0] - one["LastModified"] > timedelta(seconds=_LEASE_S)]
    for key in dead:
        client.delete_object(Bucket=bucket, Key=key)
    return len(dead) == len(others)
