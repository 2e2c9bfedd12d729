"""A fault at any call of store or ledger, and a kill at random points: after a rerun the store and the ledger are the same."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation import layout
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_local import STAGING, DirectoryStore
from curation.errors import OutsideError
from curation.schema import PULLED
from curation.settings import InspectSettings
from curation.stages import manifest, pull
from curation.tables import from_parquet

FILES = {"a.mp4": b"video 1", "b.mp4": b"video 22", "c.mov": b"video 1", "d.mp4": b"no clip", "e.txt": b"", "f.mp4": b"video 333"}
KILLS_A_FOLDER = 4  # each run after a kill goes further, so that the last of them find little left to do


class _Fault(OutsideError):
    """The injected one."""


class _Faults:
    """Counts calls and raises at one of them: before it is carried out, or after."""

    def __init__(self, at: int | None, *, after: bool) -> None:
        self.calls = 0
        self._at = at
        self._after = after
        self._one_at_a_time = threading.Lock()  # clips are placed by threads

    @contextmanager
    def call(self) -> Iterator[None]:
        with self._one_at_a_time:
            self.calls += 1
            mine = self.calls
        if mine == self._at and not self._after:
            raise _Fault("injected", subject="call", fix="run again")
        yield
        if mine == self._at and self._after:
            raise _Fault("injected", subject="call", fix="run again")


class _Faulty:
    """Any port, each of whose calls may fail."""

    def __init__(self, inner: Any, faults: _Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._faults.call():
                return found(*args, **kwargs)

        return call

    @contextmanager
    def stage(self) -> Iterator[Any]:
        with self._faults.call(), self._inner.stage() as staged:
            yield _Faulty(staged, self._faults)

    @contextmanager
    def open(self, found: Any) -> Iterator[Any]:
        """A clip's bytes, each chunk of which may fail, or an open video."""
        with self._faults.call(), self._inner.open(found) as opened:
            yield self._each(opened) if isinstance(opened, Iterator) else opened

    def keys(self, prefix: str) -> Iterator[str]:
        return self._each(self._inner.keys(prefix))

    def entries(self) -> Iterator[Any]:
        return self._each(self._inner.entries())

    def _each(self, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self._faults.call():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def _ingest(folder: Path, store: Any, ledger: Any, fakes: SimpleNamespace, faults: _Faults | None = None) -> None:
    source: Any = FolderSource("s", folder)
    video, places, clock = fakes.Video(), fakes.Places(), fakes.Clock()
    if faults is not None:
        source, store, ledger, video, places, clock = (_Faulty(port, faults) for port in (source, store, ledger, video, places, clock))
    for batch_id in pull.discover(source, store=store, batch_size=3).batch_ids:
        pull.run(batch_id, source=source, store=store, video=video, ledger=ledger)
        rows = from_parquet(store.read(layout.pulled_key(batch_id)), PULLED).to_pylist()
        inspections = {row["clip_id"]: fakes.inspection_of(store.read(row["object_key"])) for row in rows if row["outcome"] == "stored"}
        ports = {"store": store, "ledger": ledger, "places": places, "clock": clock}
        manifest.run(batch_id, inspections=inspections, policy=InspectSettings(), **ports)


def _tree(store: DirectoryStore) -> dict[str, str]:
    return {key: hashlib.sha256(store.read(key)).hexdigest() for key in store.keys("")}


@pytest.fixture
def filled(folder: Path) -> Path:
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("after", [False, True])
def test_a_fault_at_any_call_changes_nothing_in_the_end(filled: Path, tmp_path: Path, fakes: SimpleNamespace, after: bool) -> None:  # noqa: FBT001
    """For each call of each port, and each item that a listing or a clip gives: it fails, the run is repeated, the end is the same."""
    whole, ledger, count = DirectoryStore(tmp_path / "whole", jurisdiction="CN"), fakes.Ledger(), _Faults(None, after=after)
    _ingest(filled, whole, ledger, fakes, count)
    expected = _tree(whole)
    assert count.calls > 50
    for at in range(1, count.calls + 1):
        store, events, faults = DirectoryStore(tmp_path / f"{at}", jurisdiction="CN"), fakes.Ledger(), _Faults(at, after=after)
        with contextlib.suppress(_Fault):
            _ingest(filled, store, events, fakes, faults)
        assert set(_tree(store).items()) <= set(expected.items()), at
        _ingest(filled, store, events, fakes)
        assert expected == _tree(store), at
        assert sorted(map(repr, ledger.events)) == sorted(map(repr, events.events)), at
        assert [] == list((tmp_path / f"{at}" / STAGING).iterdir()), at


_PULL = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_local import DirectoryStore
from curation.records import StageCount
from curation.stages import pull
class Video:
    @contextmanager
    def open(self, path):
        time.sleep(0.004)
        yield SimpleNamespace(container=SimpleNamespace(container="mov,mp4"))
class Ledger:
    def record(self, count, *, files, facts=None):
        count.check()
source, store = FolderSource("s", Path(sys.argv[1])), DirectoryStore(Path(sys.argv[2]), jurisdiction="CN")
print("ready", flush=True)
for batch_id in pull.discover(source, store=store, batch_size=5).batch_ids:
    pull.run(batch_id, source=source, store=store, video=Video(), ledger=Ledger())
print("done", flush=True)
"""


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.soak)])
def test_kills_at_random_points_change_nothing_in_the_end(folder: Path, tmp_path: Path, kills: int) -> None:
    """SIGKILL in the middle of a pull, over and over: no key is ever half, and the run after each ends as an undisturbed one."""
    chance = random.Random(7)  # noqa: S311 - points of a kill, no secret
    for number in range(20):
        (folder / f"{number:02d}.mp4").write_bytes(b"video" + chance.randbytes(50_000 + number))

    def start(root: Path) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", _PULL, str(folder), str(root)], stdout=subprocess.PIPE, text=True)

    with start(tmp_path / "whole") as process:
        assert "ready\ndone\n" == process.communicate(timeout=60)[0]
    expected = _tree(DirectoryStore(tmp_path / "whole", jurisdiction="CN"))
    hits = 0
    for number in range(kills):
        root = tmp_path / f"killed-{number // KILLS_A_FOLDER}"
        with start(root) as process:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
            time.sleep(chance.uniform(0.005, 0.08))
            process.send_signal(signal.SIGKILL)
            hits += "done\n" != process.stdout.read()
        assert set(_tree(DirectoryStore(root, jurisdiction="CN")).items()) <= set(expected.items())
    for root in tmp_path.glob("killed-*"):
        with start(root) as process:
            assert "ready\ndone\n" == process.communicate(timeout=60)[0]
        assert expected == _tree(DirectoryStore(root, jurisdiction="CN"))
    assert hits > kills // 2
