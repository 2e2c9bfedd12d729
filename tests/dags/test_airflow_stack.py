"""Components that do not start as they should, and what they inherit; real ones are started in tests/e2e/test_airflow.py."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from curation.demo import airflow_stack, process_tree
from curation.demo.airflow_stack import AirflowStack
from curation.errors import OutsideError


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An `airflow` command of a few lines of shell."""

    def make(script: str) -> AirflowStack:
        command = tmp_path / "airflow"
        command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        command.chmod(0o755)
        monkeypatch.setattr(airflow_stack, "_airflow_executable", lambda: str(command))
        return AirflowStack(tmp_path / "home", tmp_path, start_limit_s=1.0)

    return make


def test_a_component_that_ends_at_once_is_told_with_its_last_words(pretended: Any) -> None:
    """The error holds the exit code, the last line and the log's name."""
    with pytest.raises(OutsideError, match=r"ended with 3: port taken.*\.log"):
        pretended('[ "$1" = db ] || { echo "port taken"; exit 3; }').start()


def test_a_database_that_does_not_migrate_is_told(pretended: Any) -> None:
    """Nothing is started on a database that could not be brought up to date."""
    stack = pretended("echo wrong version; exit 1")
    with pytest.raises(OutsideError, match=r"db migrate ended with 1.*db-migrate\.log"):
        stack.start()
    assert stack.pids() == {}


def test_a_stack_that_never_gets_healthy_is_taken_down(pretended: Any, tmp_path: Path) -> None:
    """After the time limit the error says so, and no component, nor what it spawned in a session of its own, is left."""
    pid_file = tmp_path / "pids"
    script = f'[ "$1" = db ] && exit 0\nsetsid sleep 60 &\necho $! >> {pid_file}\necho $$ >> {pid_file}\nexec sleep 60'
    with pytest.raises(OutsideError, match="not healthy after 1 s"):
        pretended(script).start()
    time.sleep(0.2)
    pids = [int(pid) for pid in pid_file.read_text().split()]
    assert len(pids) == 8
    assert [pid for pid in pids if process_tree.look(pid) is not None] == []


def test_a_fresh_start_forgets_earlier_runs(pretended: Any) -> None:
    """Only where it is asked for is the earlier database removed, before it would be migrated."""
    stack = pretended('[ -e "$AIRFLOW_HOME/airflow.db" ] && echo found || echo gone; exit 1')
    stack.home.mkdir()
    for fresh, word in ((False, "found"), (True, "gone")):
        (stack.home / "airflow.db").touch()
        stack.fresh = fresh
        with pytest.raises(OutsideError):
            stack.start()
        assert stack.log("db-migrate").read_text().strip() == word


def test_nothing_of_another_airflow_is_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of a surrounding Airflow, the no-byte-code switch and proxies before loopback stay outside."""
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////elsewhere.db")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = AirflowStack(tmp_path, tmp_path)._environment()
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow.db"
    assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_a_process_is_not_killed_for_anothers_pid() -> None:
    """A remembered process whose pid now belongs to a later one is left alone."""
    me = process_tree.look(os.getpid())
    assert me is not None
    earlier = process_tree.Process(pid=me.pid, parent_pid=me.parent_pid, session=me.session, state="S", started_ticks=me.started_ticks - 1)
    assert process_tree.kill({me.pid: earlier}) == []
