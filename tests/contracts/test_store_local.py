"""The directory store holds the store contract, and what only a directory can get wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path

import pytest

from curation.adapters import store_local
from curation.adapters.store_local import STAGING, DirectoryStore
from curation.errors import CurationError, NotAtHome, OutsideError

_spec = util.spec_from_file_location("store_contract", Path(__file__).with_name("store_contract.py"))
assert _spec is not None
assert _spec.loader is not None
_contract = util.module_from_spec(_spec)
_spec.loader.exec_module(_contract)


class TestDirectoryStore(_contract.StoreContract):
    """The contract, on a directory."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Callable[[], DirectoryStore]:
        return lambda: DirectoryStore(tmp_path / "home" / "store", jurisdiction="CN")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root, jurisdiction="CN")


def _leftovers(root: Path) -> list[Path]:
    return list((root / STAGING).iterdir())


_WRITER = """
import sys, os, signal
from pathlib import Path
from curation.adapters.store_local import DirectoryStore
from curation.errors import ImmutableConflict
store = DirectoryStore(Path(sys.argv[1]), jurisdiction="CN")
wins = 0
for turn in range(40):
    wins += store.create(f"race/{turn}", b"y" * 20000)
print(wins)
"""

_KILLED = """
import sys, os, signal
from pathlib import Path
from curation.adapters.store_local import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]), jurisdiction="CN")
staged = store.stage()
staged.write(b"z" * 100000)
print(staged.path, flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


@contextlib.contextmanager
def _process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_store_abroad_cannot_exist(root: Path) -> None:
    """The guard says no to another jurisdiction, to none, and to a home without a name, before anything is made."""
    for jurisdiction, home in (("SG", "CN"), ("", "CN"), ("cn", "CN"), ("", "")):
        with pytest.raises(NotAtHome, match="Fix"):
            DirectoryStore(root, jurisdiction=jurisdiction, home_jurisdiction=home)
    assert not root.exists()


def test_two_processes_create_each_object_once(store: DirectoryStore, root: Path) -> None:
    """What one process created, the other finds: their wins add up to the objects."""
    with _process(_WRITER, str(root)) as first, _process(_WRITER, str(root)) as second:
        wins = [int(process.communicate(timeout=60)[0]) for process in (first, second)]
    assert sum(wins) == 40
    assert len(list(store.keys("race/"))) == 40
    assert _leftovers(root) == []


def test_a_kill_leaves_nothing_visible_and_is_swept(root: Path) -> None:
    """Bytes staged by a killed process are no key, and the next store removes them once they are a minute old."""
    with _process(_KILLED, str(root), "die") as process:
        staged = Path(process.communicate(timeout=60)[0].strip())
    assert process.returncode == -signal.SIGKILL
    assert staged.exists()
    young = DirectoryStore(root, jurisdiction="CN")
    young.create("k", b"")
    assert list(young.keys("")) == ["k"]
    assert _leftovers(root) == [staged]
    _age(staged)
    DirectoryStore(root, jurisdiction="CN").create("l", b"")
    assert _leftovers(root) == []


def test_a_live_writer_is_never_swept(root: Path) -> None:
    """A staged file that is old but still held by its writer stays."""
    with _process(_KILLED, str(root), "live") as process:
        assert process.stdout is not None
        staged = Path(process.stdout.readline().strip())
        _age(staged)
        DirectoryStore(root, jurisdiction="CN").create("k", b"")
        assert staged.exists()


def _age(path: Path) -> None:
    old = time.time() - 3600
    os.utime(path, (old, old))


def test_objects_are_read_only(store: DirectoryStore, root: Path) -> None:
    """The file of an object has no write bit."""
    store.create("a/b", b"x")
    assert (root / "a" / "b").stat().st_mode & 0o777 == 0o444


def test_a_full_disk_is_the_outside_failing(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is retryable, names the fix, and leaves neither object nor leftover."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_local.os, "fsync", full)
    (root / "a").mkdir(parents=True)
    with pytest.raises(OutsideError, match="No space left"):
        store.create("a/b", b"x")
    monkeypatch.undo()
    assert list(store.keys("")) == []
    assert _leftovers(root) == []


def test_a_planted_link_is_no_object(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    """A symbolic link in the folder is neither listed nor read nor taken for the object."""
    store.create("a", b"1")
    (tmp_path / "elsewhere").write_bytes(b"2")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert list(store.keys("")) == ["a"]
    with pytest.raises(CurationError):
        store.read("b")
    with pytest.raises(CurationError):
        store.create("b", b"2")


def test_removal_takes_the_object_and_nothing_else(tmp_path):
    """Removing twice is removing once; the key can be written anew."""
    store = DirectoryStore(tmp_path, jurisdiction="CN")
    store.create("a/one", b"1")
    store.create("a/two", b"2")
    store.remove("a/one")
    store.remove("a/one")
    store.remove("a/never")
    assert ["a/two"] == list(store.keys(""))
    assert store.create("a/one", b"other")


def test_a_replaced_object_is_whole_read_only_and_leaves_nothing_staged(tmp_path):
    """A reader that holds the old file open still reads the old bytes; the next one reads the new ones."""
    store = DirectoryStore(tmp_path, jurisdiction="CN")
    store.create("a/one", b"old")
    with store.local_path("a/one") as path, path.open("rb") as reader:
        store.replace("a/one", b"newer")
        assert b"old" == reader.read()
        assert 0o444 == path.stat().st_mode & 0o777
    assert b"newer" == store.read("a/one")
    store.replace("a/one", b"newer")
    assert [] == list((tmp_path / ".staging").iterdir())


def test_nothing_is_replaced_where_nothing_stands(tmp_path):
    """Erasure never writes a new object under a free key."""
    store = DirectoryStore(tmp_path, jurisdiction="CN")
    with pytest.raises(CurationError, match="no such object"):
        store.replace("a/one", b"1")
    assert [] == list(store.keys(""))
