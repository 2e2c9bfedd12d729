"""The same crashes against a real S3 server: a fault at any call, and kills; the bucket ends as after an undisturbed pull."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation.adapters.s3_client import connect
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_s3 import S3Store
from curation.errors import OutsideError
from curation.settings import HomeSettings
from curation.stages import pull
from tests.seaweed import BUCKET, Server

FILES = {"a.mp4": b"video 1", "b.mp4": b"video 22", "c.mov": b"video 1", "d.mp4": b"no clip", "e.txt": b""}
KILLS_A_PREFIX = 4


class _Fault(OutsideError):
    """The injected one."""


class _Broken:
    """A client of the server that answers every request but one: that one is never sent, or its answer never arrives."""

    def __init__(self, inner: Any, at: int | None, *, arrives: bool) -> None:
        self.calls = 0
        self._inner = inner
        self._at = at
        self._arrives = arrives
        self._one_at_a_time = threading.Lock()  # clips are placed by threads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_") or name == "meta" or not callable(found) or name == "get_paginator":
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._one_at_a_time:
                self.calls += 1
                mine = self.calls
            if mine == self._at:
                if self._arrives:
                    found(*args, **kwargs)
                raise _Fault("injected", subject=name, fix="run again")
            return found(*args, **kwargs)

        return call


def _store(seaweed: Server, prefix: str, spool: Path) -> S3Store:
    return S3Store(seaweed.settings(prefix=prefix), home=HomeSettings(), spool=spool, env=seaweed.env)


def _pull(folder: Path, store: Any, fakes: SimpleNamespace) -> None:
    source = FolderSource("s", folder)
    for batch_id in pull.discover(source, store=store, batch_size=3).batch_ids:
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())


def _tree(store: S3Store) -> dict[str, str]:
    return {key: hashlib.sha256(store.read(key)).hexdigest() for key in store.keys("")}


def _uploads(seaweed: Server, prefix: str) -> list[str]:
    """Uploads that nobody will ever end."""
    client = connect(seaweed.settings(), home=HomeSettings(), env=seaweed.env)
    found = client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return [one["Key"] for one in found if ".staging/probe-" not in one["Key"]]  # a dead probe's goes after ten minutes


def _leftovers(seaweed: Server, prefix: str) -> list[str]:
    """Uploads and claims of a writer that lived; the throw-away object of a probe is swept after a week, whatever became of it."""
    client = connect(seaweed.settings(), home=HomeSettings(), env=seaweed.env)
    staged = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}.staging/").get("Contents", [])
    return [*_uploads(seaweed, prefix), *(found["Key"] for found in staged if ".staging/probe-" not in found["Key"])]


@pytest.fixture
def filled(folder: Path) -> Path:
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_request_that_fails_changes_nothing_in_the_end(
    filled: Path, tmp_path: Path, fakes: SimpleNamespace, seaweed: Server, *, arrives: bool, step: int
) -> None:
    """Each request of a pull in turn is lost, or its answer: after a rerun the bucket holds the same, and no upload is left open."""
    whole = _store(seaweed, f"whole-{arrives}-{step}/", tmp_path / "spool")
    counted = _Broken(whole._client, None, arrives=arrives)
    whole._client = counted
    _pull(filled, whole, fakes)
    expected = _tree(whole)
    assert counted.calls > 30
    for at in range(1 + 3 * arrives, counted.calls + 1, step):  # others for each way of failing: requests take their time
        prefix = f"fault-{arrives}-{step}-{at}/"
        store = _store(seaweed, prefix, tmp_path / f"spool-{at}")
        store._client = _Broken(store._client, at, arrives=arrives)
        with contextlib.suppress(_Fault):
            _pull(filled, store, fakes)
        _pull(filled, _store(seaweed, prefix, tmp_path / f"spool-{at}"), fakes)
        assert expected == _tree(_store(seaweed, prefix, tmp_path / "spool")), at
        assert [] == _leftovers(seaweed, prefix), at


_KILLED = """
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_s3 import S3Store
from curation.settings import HomeSettings, S3StoreSettings
from curation.stages import pull
class Video:
    @contextmanager
    def open(self, path):
        yield SimpleNamespace(container=SimpleNamespace(container="mov,mp4"))
class Ledger:
    def record(self, count, *, files, facts=None):
        count.check()
source = FolderSource("s", Path(sys.argv[1]))
settings = S3StoreSettings.model_validate_json(sys.argv[2])
store = S3Store(settings, home=HomeSettings(), spool=Path(sys.argv[3]), multipart_from_bytes=16 * 1024 * 1024)
print("ready", flush=True)
for batch_id in pull.discover(source, store=store, batch_size=5).batch_ids:
    pull.run(batch_id, source=source, store=store, video=Video(), ledger=Ledger())
print("done", flush=True)
"""


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.soak)])
def test_kills_change_nothing_in_the_end(folder: Path, tmp_path: Path, seaweed: Server, kills: int) -> None:
    """SIGKILL in the middle of a pull, clips of one part and of several: a rerun ends as an undisturbed pull, without an open upload."""
    chance = random.Random(11)  # noqa: S311 - points of a kill, no secret
    for number in range(8):
        (folder / f"{number:02d}.mp4").write_bytes(b"video" + chance.randbytes(17 * 1024 * 1024 if number == 5 else 50_000 + number))

    @contextmanager
    def started(prefix: str) -> Iterator[subprocess.Popen[str]]:
        arguments = [str(folder), seaweed.settings(prefix=prefix).model_dump_json(), str(tmp_path / "spool" / prefix)]
        env: Mapping[str, str] = {**os.environ, **seaweed.env}
        with subprocess.Popen([sys.executable, "-c", _KILLED, *arguments], stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
            yield process

    began_s = time.monotonic()
    with started(f"undisturbed-{kills}/") as process:
        began_s = time.monotonic()
        assert "done\n" == process.communicate(timeout=120)[0]
    whole_s = time.monotonic() - began_s
    expected = _tree(_store(seaweed, f"undisturbed-{kills}/", tmp_path / "spool"))
    hits = 0
    for number in range(kills):
        with started(f"killed-{kills}-{number // KILLS_A_PREFIX}/") as process:
            # Later ones often find it done, for each goes on from the one before; the first of a prefix must not finish.
            time.sleep(chance.uniform(0.0, 0.7 if number % KILLS_A_PREFIX else 0.3) * whole_s)
            process.send_signal(signal.SIGKILL)
            hits += "done\n" != process.stdout.read() if process.stdout else 0
    for prefix in {f"killed-{kills}-{number // KILLS_A_PREFIX}/" for number in range(kills)}:
        with started(prefix) as process:
            assert "done\n" == process.communicate(timeout=120)[0]
        assert expected == _tree(_store(seaweed, prefix, tmp_path / "spool"))
        assert [] == _uploads(seaweed, prefix)
    assert hits
