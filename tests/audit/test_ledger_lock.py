"""Where the store cannot keep two writers of the ledger apart, a lock in an SQL database does; a holder that is killed gives it back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import wiring
from curation.adapters import ledger_lock_sql
from curation.adapters.clock_system import PinnedClock
from curation.adapters.ledger_lock_sql import SqlTurn
from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.audit.verify import verify
from curation.errors import OutsideError, SettingsError
from curation.layout import ledger_key
from curation.records import StageCount
from curation.settings import Settings, embedded_defaults
from tests import postgres

CLOCK = PinnedClock(datetime(2026, 11, 21, 8, tzinfo=UTC))


class ForgetfulStore(DirectoryStore):
    """A store that, as some S3 servers do, lets the last of two writers win."""

    def create(self, key, data):
        path = self._root / key
        if self.size(key) is not None:
            path.chmod(0o644)
            path.unlink()
        time.sleep(0.002)
        return super().create(key, data)


def race(store, key, turn) -> int:
    """How many of 24 events six writers leave in the chain."""

    def write(number: int) -> None:
        ledger = StoreLedger(store, CLOCK, key, turn=turn)
        for step in range(4):
            ledger.record(StageCount(stage="pull", subject=f"{number}-{step}", rows_in=0, accounted={}), files={})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len({entry.subject for entry in StoreLedger(store, CLOCK, key).entries()})


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path):
    """A database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalog.db"
    elif postgres.MISSING:
        pytest.skip(postgres.MISSING)
    else:
        with postgres.running() as cluster:
            yield cluster.uri().replace("owner@", f"owner:{cluster.password}@")


def _hold(uri: str, held: multiprocessing.Queue) -> None:
    with SqlTurn(uri)():
        held.put(os.getpid())
        time.sleep(60)


def test_writers_on_a_store_that_forgets_lose_nothing_under_the_lock(uri, tmp_path, monkeypatch) -> None:
    """Six writers, one chain with every event; while one process holds the lock nobody has it, and its death frees it."""
    key = Ed25519PrivateKey.generate()
    store = ForgetfulStore(tmp_path / "store", jurisdiction="CN")
    assert 24 == race(store, key, SqlTurn(uri))
    assert 24 == verify(store, key.public_key()).entry_count
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Queue()
    holder = spawn.Process(target=_hold, args=(uri, held))
    holder.start()
    assert holder.pid == held.get(timeout=60)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_lock_sql, "_WAIT_S", 1)
        with pytest.raises(OutsideError, match="cannot be had"), SqlTurn(uri)():
            pytest.fail("two had it")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(10)
    with SqlTurn(uri)():
        assert store.size(ledger_key(23)) is not None


def test_a_catalog_without_sql_is_no_lock() -> None:
    """It is refused by name, before anything is appended."""
    with pytest.raises(SettingsError, match="is no SQL database"):
        SqlTurn("https://catalog")


def test_only_a_store_that_cannot_takes_the_lock(seaweed, tmp_path, monkeypatch) -> None:
    """On a server whose conditional writes hold the store decides; where the probe fails, the wired ledger locks for each entry."""
    for name, value in seaweed.env.items():
        monkeypatch.setenv(name, value)
    store = seaweed.settings(prefix="ledger-lock/").model_dump()
    settings = Settings.model_validate({**embedded_defaults(tmp_path), "store": store})
    taken = []
    real = SqlTurn.__call__
    monkeypatch.setattr(SqlTurn, "__call__", lambda self: taken.append(self) or real(self))
    for conditional in (True, False):
        monkeypatch.setattr("curation.adapters.store_s3.S3Store.keeps_writers_apart", lambda _, answer=conditional: answer)
        wiring.ground(settings).ledger.record(StageCount(stage="pull", subject=str(conditional), rows_in=0, accounted={}), files={})
        assert len(taken) == (0 if conditional else 1)
    assert (tmp_path / "home" / "ledger-lock.db").exists()
