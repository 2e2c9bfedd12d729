"""Writing once on servers whose conditional writes do not hold: a claim beside the object, seen by every other writer."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from curation.errors import ConcurrentChange

_LEASE_S: Final = (
    1800.0  # a claimed write is one request of at most four tries, a minute of silence each; a claim of this age is a dead one's
)
_ECHO_S: Final = 30.0  # a request that was wholly sent when its sender died has ended at the server by then
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = (0.02, 0.3)
_NAME_PARTS: Final = 4
_one_at_a_time = threading.Lock()  # writers of one process wait here instead of claiming against each other


@contextmanager
def claim(client: Any, bucket: str, staging: str, key: str) -> Iterator[None]:
    """Nobody else writes `key` inside the context.

    Each writer puts its claim first and then lists: of two, at least one sees the other and steps back, as long as the server lists what
    it has acknowledged. A writer that dies leaves a claim that no longer counts after half an hour by the server's own clock, or half a
    minute where it died on this machine, which can tell.

    Raises:
        ConcurrentChange: other writers' claims stood there for a minute.
    """
    folder = f"{staging}claims/{hashlib.sha256(key.encode()).hexdigest()[:32]}/"
    deadline = time.monotonic() + _PATIENCE_S
    with _one_at_a_time:
        while True:
            mine = f"{folder}{_here()}.{os.getpid()}.{_started(os.getpid())}.{secrets.token_hex(8)}"
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
    dead = [one["Key"] for one in others if own[0] - one["LastModified"] > _counts_for(one["Key"].removeprefix(folder))]
    for key in dead:
        client.delete_object(Bucket=bucket, Key=key)
    return len(dead) == len(others)


def _counts_for(name: str) -> timedelta:
    """How long another's claim counts."""
    parts = name.split(".")
    died_here = len(parts) == _NAME_PARTS and parts[0] == _here() and parts[1].isdecimal() and _started(int(parts[1])) != parts[2]
    return timedelta(seconds=_ECHO_S if died_here else _LEASE_S)


@functools.cache
def _here() -> str:
    """Names this run of this machine, and the part of it in which a process id means one process; nothing that leaves it says more."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        names = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return secrets.token_hex(8)  # then no claim is ever told to be a dead one's before its lease ends
    return hashlib.sha256(f"{boot}/{names}".encode()).hexdigest()[:16]


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty where it is no more, or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
