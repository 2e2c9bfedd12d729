"""The four real components: started, spoken to as four people, watched, stopped without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from curation import notices, wiring
from curation.demo import airflow_stack, process_tree
from curation.demo.airflow_stack import AirflowStack, Approval
from curation.errors import CurationError, OutsideError, UsageError
from curation.pipeline import open_settings
from curation.records import StageCount

ROOT = Path(__file__).resolve().parents[2]
PORTAL = ("/", "/batches", "/batches/fleet-0123456789abcdef", "/releases", "/trace?id=00", "/packs", "/counters", "/shard-sets")

TINY = '''
"""DAGs of the stack's test."""
import os
import time
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DeadlineAlert, DeadlineReference, Param, SyncCallback, dag, task
from airflow.sdk.exceptions import AirflowFailException
from datetime import timedelta

@dag(dag_id="tiny", schedule=None, params={"name": Param("x", type="string", minLength=1)})
def tiny():
    @task
    def say(params=None):
        return params["name"] + os.path.basename(os.environ["CURATION_WORK"])
    say()

@dag(dag_id="late", schedule=None, deadline=DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=SyncCallback("curation.notices.deadline_missed"),
))
def late():
    @task
    def dawdle():
        time.sleep(5)
    dawdle()

@dag(dag_id="fails", schedule=None)
def fails():
    @task
    def stumble():
        raise AirflowFailException("no")
    stumble()

@dag(dag_id="asks", schedule=None)
def asks():
    @task
    def after():
        return "done"
    ask = ApprovalOperator(
        task_id="ask", subject="May it?", body="Say", assigned_users=[{"id": "officer", "name": "officer"}], defaults="Reject",
        params={"ticket": Param(None, type=["null", "string"], minLength=1)}, retries=2, retry_delay=timedelta(seconds=1),
    )
    ask >> after()

tiny(); fails(); asks(); late()
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """A running stack with DAGs of its own, and one file that does not import."""
    folder = tmp_path_factory.mktemp("stack")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "tiny.py").write_text(TINY, encoding="utf-8")
    (dags / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_thing\n", encoding="utf-8")
    with AirflowStack(folder / "airflow", dags, plugins=ROOT / "plugins", env={"CURATION_WORK": str(recorded_work(folder))}) as running:
        yield running


def recorded_work(folder: Path) -> Path:
    """A work folder whose ledger holds one entry."""
    work = folder / "work"
    ground = wiring.ground(open_settings(work))
    ground.ledger.record(StageCount(stage="pull", subject="fleet-0123456789abcdef", rows_in=3, accounted={"stored": 3}), files={})
    return work


def test_a_run_goes_through_and_its_result_is_read(stack: AirflowStack) -> None:
    """The engineer triggers, the scheduler runs it under the given environment, the answer comes back over REST."""
    run_id = stack.trigger("tiny", {"name": "clip"})
    stack.require_success("tiny", run_id, limit_s=60)
    assert stack.result("tiny", run_id, "say") == "clipwork"
    assert [run.run_id for run in stack.runs("tiny")] == [run_id]


def test_a_late_run_is_told_at_home(stack: AirflowStack) -> None:
    """Airflow itself calls what our DAGs name as their deadline's callback, and a line of the work folder says which run is late."""
    run_id = stack.trigger("late")
    file = Path(stack.environment["CURATION_WORK"]) / notices.FILE
    line = stack._until(lambda: file.read_text(encoding="utf-8") if file.is_file() else None, 60, "nobody is told")
    told = json.loads(line)
    assert (told["kind"], told["dag_id"], told["run_id"]) == ("late", "late", run_id)


def test_rights_are_airflows_own(stack: AirflowStack) -> None:
    """A viewer may not trigger, nobody passes a Param that does not fit, and a stranger has no password."""
    with pytest.raises(UsageError, match="403"):
        stack.trigger("tiny", user="auditor")
    with pytest.raises(UsageError, match="400"):
        stack.trigger("tiny", {"name": ""})
    with pytest.raises(UsageError, match="no such user"):
        stack.trigger("tiny", user="mallory")


def test_a_failed_run_names_its_task_and_log(stack: AirflowStack) -> None:
    """The error says which task failed and where its log lies, and the log is there."""
    run_id = stack.trigger("fails")
    with pytest.raises(CurationError, match="stumble is failed") as refused:
        stack.require_success("fails", run_id, limit_s=60)
    folder = Path(str(refused.value).split("logs under ")[1].split(". Fix")[0])
    assert list(folder.rglob("*.log")) != []


def test_a_question_is_answered_by_the_officer_alone(stack: AirflowStack) -> None:
    """The engineer who triggered it gets 403; the officer's answer, without a ticket first, is asked again and then lets the run go on."""
    run_id = stack.trigger("asks")
    question = stack.wait_approval("asks", run_id)
    assert question is not None
    assert (question.subject, question.options, question.assigned_users) == ("May it?", ("Approve", "Reject"), ("officer",))
    with pytest.raises(UsageError, match="403"):
        stack.answer(question, "Approve", {"ticket": "T-1"}, user="engineer")
    tickets = iter(["", "T-2", "T-2"])

    def decide(asked: Approval) -> tuple[str, dict[str, Any]]:
        return "Approve", {"ticket": next(tickets)}

    assert stack.answer_until_over("asks", run_id, decide) == "success"
    assert stack.result("asks", run_id, "ask")["params_input"] == {"ticket": "T-2"}
    assert stack.result("asks", run_id, "after") == "done"
    with pytest.raises(UsageError, match="409"):
        stack.answer(question, "Reject", {"ticket": "T-3"})


def test_a_dag_that_does_not_import_is_named(stack: AirflowStack) -> None:
    """Waiting for a DAG that never comes ends with the import errors of the folder."""
    with pytest.raises(OutsideError, match=r"broken\.py: ModuleNotFoundError"):
        stack.wait_dag("broken", limit_s=1)


def test_only_loopback_listens(stack: AirflowStack) -> None:
    """All components together listen on one port, on 127.0.0.1."""
    pids = [pid for grown in stack.pids().values() for pid in grown]
    assert process_tree.listening(pids) == {("0100007F", stack.port)}


def test_the_portal_is_shown_to_whom_airflow_knows_and_to_nobody_else(stack: AirflowStack) -> None:
    """Anonymous gets Airflow's login for every page and no word of it; the auditor, a viewer, reads them all and can write nowhere."""
    address = f"{stack.url}/curation"
    browser = {"accept": "text/html"}
    token = stack._token("auditor")
    for path in (*PORTAL, "/x"):
        stranger = httpx.get(address + path, headers=browser)
        assert (303, "") == (stranger.status_code, stranger.text), path
        assert stranger.headers["location"].startswith("/api/v2/auth/login?next=%2Fcuration%2F"), path
        forged = httpx.get(address + path, headers={"authorization": "Bearer stolen"})
        assert (403, "Not for you.\n") == (forged.status_code, forged.text), path
        known = httpx.get(address + path, headers={**browser, "authorization": f"Bearer {token}"})
        assert (404 if path == "/x" else 200) == known.status_code, path
    assert 405 == httpx.post(f"{address}/", headers={"authorization": f"Bearer {token}"}).status_code
    page = httpx.get(f"{address}/batches", cookies={"_token": token})  # the session of Airflow's own pages
    assert "fleet-0123456789abcdef" in page.text
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    followed = httpx.get(f"{address}/", headers=browser, follow_redirects=True)
    assert (200, "/auth/login") == (followed.status_code, followed.url.path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium: apt-get install chromium")
def test_the_portal_stands_inside_airflows_pages(stack: AirflowStack, tmp_path: Path) -> None:
    """The auditor is sent to Airflow's login and from there to the page asked for; under Browse Airflow frames it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(locale="en-GB")
        page.set_default_timeout(90_000)
        heard: list[str] = []
        page.goto(f"{stack.url}/curation/batches")
        page.fill("input[name=username]", "auditor")
        page.fill("input[name=password]", stack.passwords["auditor"])
        page.keyboard.press("Enter")
        page.wait_for_url(f"{stack.url}/curation/batches")
        assert "fleet-0123456789abcdef" in page.inner_text("main")
        page.on("console", lambda message: heard.append(message.text))
        page.goto(f"{stack.url}/plugin/auditor-portal")
        framed = page.frame_locator("iframe")
        framed.locator('.nav a[href="/curation/batches"]').click()
        framed.locator("text=fleet-0123456789abcdef").wait_for()
        page.screenshot(path=tmp_path / "framed.png")
        assert [said for said in heard if "Content Security Policy" in said or "Refused" in said] == []
        browser.close()


def test_secrets_are_drawn_anew_and_kept_private(stack: AirflowStack, tmp_path: Path) -> None:
    """No two stacks share a password, and nobody else reads the file."""
    other = AirflowStack(tmp_path, tmp_path)
    assert set(stack.passwords.values()).isdisjoint(other.passwords.values())
    assert stat.S_IMODE((stack.home / "passwords.json").stat().st_mode) == 0o600


def test_memory_is_told_per_component(stack: AirflowStack) -> None:
    """Each component's memory is between a bare interpreter's and a runaway's."""
    assert set(stack.memory_mib()) == set(airflow_stack.COMPONENTS)
    assert all(30 < used < 1500 for used in stack.memory_mib().values())


def test_a_component_that_dies_is_named_and_stopping_leaves_nothing(stack: AirflowStack) -> None:
    """After the triggerer died, waiting ends with its log's name; after stop, none of the processes lives."""
    grown = {pid: process_tree.look(pid) for pids in stack.pids().values() for pid in pids}
    triggerer = stack.pids()["triggerer"][0]
    os.kill(triggerer, signal.SIGKILL)
    with pytest.raises(OutsideError, match=r"triggerer.*triggerer\.log"):
        stack.wait_run("tiny", stack.runs("tiny")[0].run_id + "-nowhere")
    stack.stop()
    assert [pid for pid, process in grown.items() if (now := process_tree.look(pid)) and process and now == process] == []


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
