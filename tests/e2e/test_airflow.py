"""The main job as its three users live it: the four components of `make up` on PostgreSQL, the officer's answer, the portal in a browser,
a withdrawal by two people. The components are started once; the tests follow one another as a day does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from rich.console import Console
from sqlalchemy import create_engine, text

from curation import notices, pipeline, wiring
from curation.audit import leaks, report_document, report_html
from curation.demo import airflow_stack, fleet, process_tree, run_demo
from curation.demo.airflow_stack import AirflowStack, Approval
from curation.errors import CurationError, OutsideError, UsageError
from curation.portal.app import create_app
from tests import postgres
from tests.rendered import SMALL

pytestmark = pytest.mark.airflow

ROOT = run_demo.ROOT
CLIPS = ("city-day", "city-day-back", "highway-overcast", "alone-in-cell", "inside-fence", "no-fix", "black", "text")
MEANT_S = 300
CHROMIUM = shutil.which("chromium")
WIDTHS = {"desk": 1280, "phone": 390}
STAYS_HOME = ("clip_id", "vehicle_id", "vin", "plate", "device_id", "driver_id", "source_uri", "object_uri")
PARSED_ONCE = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "900"}  # nobody edits a DAG meanwhile
FORGED = ("../../home/keys", "demo-0123456789abcdef")  # no batch id at all; one that is well-formed and of no batch
OTHERS = '''
"""DAGs of this test, beside those of the project."""
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


class Day:
    """The demo's own components, still running, and what the demo printed."""

    def __init__(self, stack: AirflowStack, said: str, work: Path, began: float) -> None:
        self.stack, self.said, self.work, self.began = stack, said, work, began
        self.settings = pipeline.open_settings(work)

    @property
    def entries(self) -> list[Any]:
        """The ledger."""
        return list(pipeline.ledger_entries(self.settings))

    def xcoms(self) -> str:
        """All XComs there are, from Airflow's own database."""
        engine = create_engine(self.stack.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.connect() as connection:
            found = str([tuple(row) for row in connection.execute(text("select dag_id, task_id, key, value from xcom"))])
        engine.dispose()
        return found

    def logs(self) -> str:
        """All that components and tasks logged."""
        return "".join(path.read_text(errors="replace") for path in (self.work / "airflow").rglob("*.log"))

    def repeat(self) -> str:
        """What the demo prints of the steps in Airflow when they are taken once more."""
        out = io.StringIO()
        run_demo.main_job(self.stack, self.settings, Console(file=out, width=160, markup=False))
        return out.getvalue()


@contextlib.contextmanager
def database() -> Iterator[dict[str, str]]:
    """PostgreSQL under the settings of deploy/, in a cluster of this test alone; Airflow's default where there is no server."""
    if postgres.MISSING:
        yield {}
        return
    with postgres.running() as cluster:
        said = (ROOT / "deploy" / "one-machine.env").read_text(encoding="utf-8")
        said = said.replace("USER:PASSWORD@127.0.0.1:PORT/DATABASE", f"owner:{cluster.password}@127.0.0.1:{cluster.port}/postgres")
        yield dict(line.split("=", 1) for line in said.splitlines() if line and not line.startswith("#"))


def dag_folder(folder: Path) -> Path:
    """The project's DAGs, those of this test, and one file that does not import."""
    shutil.copytree(ROOT / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "others.py").write_text(OTHERS, encoding="utf-8")
    (folder / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_thing\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """`curation demo` over a small rendered fleet; its components go on running when it is over."""
    began, root, running = time.monotonic(), tmp_path_factory.mktemp("day"), list[AirflowStack]()
    with database() as env, pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as over:

        class Kept(AirflowStack):
            def __init__(self, home: Path, dags: Path, **arguments: Any) -> None:
                assert dags == ROOT / "dags"
                super().__init__(home, dag_folder(root / "dags"), **{**arguments, "env": {**arguments["env"], **env, **PARSED_ONCE}})
                running.append(self)
                over.callback(self.stop)

            def __exit__(self, *_: object) -> None:
                """Goes on."""

        patch.setattr(run_demo, "AirflowStack", Kept)
        patch.setattr(run_demo.rendered, "make_fleet", partial(fleet.make_fleet, clip_format=SMALL, only=CLIPS))
        out = io.StringIO()
        run_demo.run(clips=None, fleet=None, work=root / "work", say=Console(file=out, width=160, markup=False))
        yield Day(running[0], out.getvalue(), root / "work", began)


def values_that_stay(day: Day) -> set[str]:
    """Each value of an id, name or address that neither a log nor an XCom may hold."""
    rows = pipeline.curated(day.settings)[0]
    found = {value for column in STAYS_HOME for value in rows[column].to_pylist() if value}
    assert len(found) > rows.num_rows  # a fleet without vehicles would prove nothing
    return found | {uri.rsplit("/", 1)[-1] for uri in rows["source_uri"].to_pylist()}


# --- the main job -----------------------------------------------------------------------------------------------------------------


def test_the_main_job_ends_in_a_publication_and_a_report(day: Day) -> None:
    """Ingested, validated, approved by the officer as a user, published, built into shards; the period's report names all of it."""
    assert pipeline.published(day.settings).num_rows == 3
    assert "answering as the officer over REST: Approve" in day.said
    assert "searched for" in day.said
    assert "none found" in day.said
    stages = [kind for kind in dict.fromkeys(entry.kind for entry in day.entries) if kind in run_demo.STAGES]
    assert list(run_demo.STAGES) == stages
    assert all({"code_version", "pack_in_force"} <= entry.facts.keys() for entry in day.entries)
    reading = pipeline.Reading(day.settings)
    told = reading.report(reading.today, reading.today)
    paper = report_html.render(report_document.document(told, "zh"))
    [release] = reading.releases()
    assert all(word in paper for word in (release.release_id, run_demo.TICKET, "officer"))


def test_the_same_again_changes_nothing_and_forged_events_start_nothing_that_publishes(day: Day) -> None:
    """The engineer triggers everything once more and nobody is asked; whoever may write asset events gets two failed validations."""
    stack, rows, entries = day.stack, pipeline.published(day.settings).num_rows, day.entries
    assert "nobody is asked" in day.repeat()
    assets = {one["name"]: one["id"] for one in stack._call("GET", "/assets", query={"limit": 50})["assets"]}
    known = {dag: len(stack.runs(dag)) for dag in ("validate_manifests", "publish_metadata")}
    for name in ("manifest", "curated_clips"):
        for key in FORGED:
            stack._call("POST", "/assets/events", user="officer", body={"asset_id": assets[name], "partition_key": key, "extra": {}})

    def over() -> list[str] | None:
        runs = stack.runs("validate_manifests")[known["validate_manifests"] :]
        return [run.run_type for run in runs] if [run.state for run in runs] == ["failed"] * len(FORGED) else None

    assert stack._until(over, 120.0, "forged events start no validation") == ["asset_triggered"] * len(FORGED)
    assert [run.run_type for run in stack.runs("publish_metadata")] == ["manual"] * known["publish_metadata"]
    assert (pipeline.published(day.settings).num_rows, day.entries) == (rows, entries)


# --- Airflow as the project starts it ---------------------------------------------------------------------------------------------


def test_a_run_goes_through_and_its_result_is_read(day: Day) -> None:
    """The engineer triggers, the scheduler runs it under the given environment, the answer comes back over REST."""
    run_id = day.stack.trigger("tiny", {"name": "clip"})
    day.stack.require_success("tiny", run_id, limit_s=60)
    assert day.stack.result("tiny", run_id, "say") == "clipwork"
    assert [run.run_id for run in day.stack.runs("tiny")] == [run_id]


def test_every_task_of_a_run_is_told_however_many_there_are(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow answers in pages, a hundred tasks at most: what is on the second page counts as well."""
    run_id = day.stack.runs("ingest_clips")[0].run_id
    at_once = {task["id"] for task in day.stack.tasks("ingest_clips", run_id)}
    monkeypatch.setattr(airflow_stack, "PAGE", 1)
    assert at_once == {task["id"] for task in day.stack.tasks("ingest_clips", run_id)}
    assert 1 < len(at_once)


def test_a_late_run_is_told_at_home(day: Day) -> None:
    """Airflow itself calls what our DAGs name as their deadline's callback, and a line of the work folder says which run is late."""
    run_id, file = day.stack.trigger("late"), day.work / notices.FILE

    def late() -> dict[str, str] | None:
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return next((told for told in map(json.loads, lines) if told["kind"] == "late"), None)

    told = day.stack._until(late, 60, "nobody is told")
    assert (told["dag_id"], told["run_id"]) == ("late", run_id)


def test_rights_are_airflows_own(day: Day) -> None:
    """A viewer may not trigger, nobody passes a Param that does not fit, and a stranger has no password."""
    with pytest.raises(UsageError, match="403"):
        day.stack.trigger("publish_metadata", user="auditor")
    with pytest.raises(UsageError, match="400"):
        day.stack.trigger("tiny", {"name": ""})
    with pytest.raises(UsageError, match="no such user"):
        day.stack.trigger("tiny", user="mallory")


def test_a_failed_run_names_its_task_and_log(day: Day) -> None:
    """The error says which task failed and where its log lies, and the log is there."""
    run_id = day.stack.trigger("fails")
    with pytest.raises(CurationError, match="stumble is failed") as refused:
        day.stack.require_success("fails", run_id, limit_s=60)
    folder = Path(str(refused.value).split("logs under ")[1].split(". Fix")[0])
    assert list(folder.rglob("*.log")) != []


def test_a_question_is_answered_by_the_officer_alone(day: Day) -> None:
    """The engineer who triggered it gets 403; the officer's answer, without a ticket first, is asked again and then lets the run go on."""
    run_id = day.stack.trigger("asks")
    question = day.stack.wait_approval("asks", run_id)
    assert question is not None
    assert (question.subject, question.options, question.assigned_users) == ("May it?", ("Approve", "Reject"), ("officer",))
    with pytest.raises(UsageError, match="403"):
        day.stack.answer(question, "Approve", {"ticket": "T-1"}, user="engineer")
    tickets = iter(["", "T-2", "T-2"])

    def decide(asked: Approval) -> tuple[str, dict[str, Any]]:
        return "Approve", {"ticket": next(tickets)}

    assert day.stack.answer_until_over("asks", run_id, decide) == "success"
    assert day.stack.result("asks", run_id, "ask")["params_input"] == {"ticket": "T-2"}
    assert day.stack.result("asks", run_id, "after") == "done"
    with pytest.raises(UsageError, match="409"):
        day.stack.answer(question, "Reject", {"ticket": "T-3"})


def test_a_dag_that_does_not_import_is_named(day: Day) -> None:
    """Waiting for a DAG that never comes ends with the import errors of the folder."""
    with pytest.raises(OutsideError, match=r"broken\.py: ModuleNotFoundError"):
        day.stack.wait_dag("broken", limit_s=1)


def test_only_loopback_listens_and_secrets_are_private(day: Day, tmp_path: Path) -> None:
    """All components listen on one port of 127.0.0.1; no two stacks share a password; nobody else reads the file; memory is sane."""
    stack = day.stack
    pids = [pid for grown in stack.pids().values() for pid in grown]
    assert process_tree.listening(pids) == {("0100007F", stack.port)}
    assert set(stack.passwords.values()).isdisjoint(AirflowStack(tmp_path, tmp_path).passwords.values())
    assert stat.S_IMODE((stack.home / "passwords.json").stat().st_mode) == 0o600
    assert set(stack.memory_mib()) == set(airflow_stack.COMPONENTS)
    assert all(30 < used < 1500 for used in stack.memory_mib().values())
    assert {one["name"] for one in stack._call("GET", "/pools")["pools"]} >= {"ingest", "overseas"}


# --- the portal -------------------------------------------------------------------------------------------------------------------


def portal_paths() -> set[str]:
    """Every route of the portal, with any word where it takes one."""
    app = create_app(lambda: pytest.fail("nothing is read"), lambda _: lambda: None, login_url=lambda _: "")
    found = {route.path for route in app.routes if isinstance(route, APIRoute)}
    assert isinstance(app, FastAPI)
    assert len(found) == 12
    return {re.sub(r"\{[^}]+\}", "anything", path) for path in found}


def pages(day: Day) -> list[str]:
    """An address of every page that no link of the navigation leads to."""
    reading = pipeline.Reading(day.settings)
    [release], [pack, *_] = reading.releases(), reading.packs()
    [batch], [shard_set, *_] = reading.batches(), reading.shard_sets()
    row = pipeline.published(day.settings)["release_row_id"][0].as_py()
    digest = pack.line.digest
    about = (row, shard_set.shard_set_id)
    compared = f"/packs/compare?old={digest}&new={digest}"
    return [
        f"/batches/{batch.batch_id}",
        f"/releases/{release.release_id}",
        *(f"/trace?id={one}" for one in about),
        f"/packs/{digest}",
        compared,
    ]


def test_a_stranger_gets_airflows_login_and_nothing_else_on_every_route(day: Day) -> None:
    """For each route, known pages among them: a browser is sent to the login without a word, a forged token is refused; a viewer reads."""
    address, browser = f"{day.stack.url}/curation", {"accept": "text/html"}
    known = {"authorization": f"Bearer {day.stack._token('auditor')}"}
    with httpx.Client(trust_env=False, timeout=60) as client:
        for path in (*sorted(portal_paths()), *pages(day)):
            stranger = client.get(address + path, headers=browser)
            assert (303, "") == (stranger.status_code, stranger.text), path
            assert stranger.headers["location"].startswith("/api/v2/auth/login?next=%2Fcuration%2F"), path
            forged = client.get(address + path, headers={"authorization": "Bearer stolen"})
            assert (403, "Not for you.\n") == (forged.status_code, forged.text), path
        followed = client.get(f"{address}/", headers=browser, follow_redirects=True)
        assert (200, "/auth/login") == (followed.status_code, followed.url.path)
        assert 405 == client.post(f"{address}/", headers=known).status_code
        session = {"cookie": f"_token={known['authorization'].split()[1]}"}  # of Airflow's own pages
        page = client.get(f"{address}/batches", headers=session)
        assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
        assert 404 == client.get(f"{address}/x", headers=known).status_code


@pytest.fixture(scope="module")
def auditor(day: Day) -> Iterator[Any]:
    """Debian's Chromium, and the session that the auditor's sign-in on Airflow's own page opened."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=switches)
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.set_default_timeout(90_000)  # a busy machine makes no page false
        page.goto(f"{day.stack.url}/curation/batches")
        page.fill("input[name=username]", "auditor")
        page.fill("input[name=password]", day.stack.passwords["auditor"])
        page.keyboard.press("Enter")
        page.wait_for_url(f"{day.stack.url}/curation/batches")  # the page that was asked for
        session = context.storage_state()

        def open_page(**named: Any) -> Any:
            opened = browser.new_context(storage_state=session, **named).new_page()
            opened.set_default_timeout(90_000)
            opened.heard, opened.asked = [], []
            opened.on("console", lambda message: opened.heard.append(message.text))
            opened.on("pageerror", lambda error: opened.heard.append(str(error)))
            opened.on("request", lambda request: opened.asked.append(request.url))
            return opened

        yield open_page
        browser.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("lang", "theme"), [("en", "light"), ("zh", "dark")])
def test_every_page_is_walked(day: Day, auditor: Any, tmp_path: Path, lang: str, theme: str, width: str) -> None:
    """Each page is reached, fits its width, speaks the language, shows no sensitive value, logs nothing and asks no other server."""
    locale = {"en": "en-GB", "zh": "zh-CN"}[lang]
    page, base = auditor(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=theme, locale=locale), f"{day.stack.url}/curation"
    rows = pipeline.curated(day.settings)[0]
    needles = {value.decode() for value, column in leaks.home_values(rows).items() if column not in {"clip_id", "datum"}}
    page.goto(f"{base}/")
    links = page.eval_on_selector_all(".nav a", "all => all.map(one => one.getAttribute('href'))")
    assert [f"/curation{path}" for path in ("/", "/batches", "/releases", "/trace", "/packs", "/counters", "/shard-sets")] == links
    walked = [*links, *pages(day)]
    for number, link in enumerate(walked):
        if link in links:
            page.click(f'.nav a[href="{link}"]')
        else:
            page.goto(base + link)
        page.screenshot(path=tmp_path / f"{number:02d}.png", full_page=True)
        shown = page.inner_text("body")
        assert [needle for needle in needles if needle in shown] == [], link
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), link
        assert page.evaluate("document.documentElement.lang") == ("zh-CN" if lang == "zh" else "en")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") not in {"", "rgba(0, 0, 0, 0)"}, "the style was blocked"
    assert {urlsplit(base).netloc} == {urlsplit(asked).netloc for asked in page.asked if not asked.startswith("data:")}
    assert [] == page.heard
    assert len(list(tmp_path.glob("*.png"))) == len(walked)
    page.context.close()


def test_airflow_frames_it_under_browse(day: Day, auditor: Any) -> None:
    """In the frame of Airflow's own page its links work, and no policy is broken."""
    page = auditor(locale="en-GB")
    page.goto(f"{day.stack.url}/plugin/auditor-portal")
    framed = page.frame_locator("iframe")
    framed.locator('.nav a[href="/curation/batches"]').click()
    framed.locator(f'a[href="/curation/batches/{pipeline.Reading(day.settings).batches()[0].batch_id}"]').wait_for()
    assert [said for said in page.heard if "Content Security Policy" in said or "Refused" in said] == []
    page.context.close()


# --- the way back -----------------------------------------------------------------------------------------------------------------


def test_two_people_withdraw_a_clip_and_the_portal_says_so(day: Day, auditor: Any) -> None:
    """The engineer fills in the form, the officer confirms; the row is gone overseas, shards are built again, release and clip say why."""
    stack, reading = day.stack, pipeline.Reading(day.settings)
    sets, [release] = {one.shard_set_id for one in reading.shard_sets()}, reading.releases()
    row_id = pipeline.published(day.settings)["release_row_id"][0].as_py()
    told = reading.story(row_id)
    clip_id = told.arrivals[0].clip_id
    run_id = stack.trigger("withdraw_clips", {"by": "clip", "value": clip_id, "reason": "the owner asked"}, user="engineer")
    asked: list[Approval] = []

    def confirm(question: Approval) -> tuple[str, dict[str, Any]]:
        asked.append(question)
        return "Approve", {}

    assert stack.answer_until_over("withdraw_clips", run_id, confirm, user="officer") == "success"
    assert all(clip_id not in question.subject + question.body for question in asked)
    left = pipeline.published(day.settings)
    assert (left.num_rows, row_id in left["release_row_id"].to_pylist()) == (2, False)
    assert {one.shard_set_id for one in pipeline.Reading(day.settings).shard_sets() if not one.is_removed}.isdisjoint(sets)
    page = auditor(locale="en-GB")
    page.goto(f"{stack.url}/curation/releases/{release.release_id}")
    assert "partly withdrawn" in page.inner_text("main").lower()
    page.click('.nav a[href="/curation/trace"]')
    page.fill("input[name=id]", clip_id)
    page.click("form button")
    story = page.inner_text("main")
    assert all(word in story for word in ("the owner asked", "engineer", "officer"))
    page.context.close()


# --- after it ---------------------------------------------------------------------------------------------------------------------


def test_neither_logs_nor_xcoms_hold_what_stays_home(day: Day) -> None:
    """What travelled through Airflow, the portal's requests included, is ids of batches, releases, withdrawals and shard sets."""
    stays, xcoms, logs = values_that_stay(day), day.xcoms(), day.logs()
    assert "list_batches" in xcoms
    assert "/curation/trace" in logs
    assert {"XComs": [], "logs": []} == {
        where: sorted(value for value in stays if value in said) for where, said in (("XComs", xcoms), ("logs", logs))
    }


def test_a_component_that_dies_is_named_and_stopping_leaves_nothing(day: Day, record_property: Any) -> None:
    """After the triggerer died, waiting ends with its log's name; after stop, none of the processes lives, and the ledger holds.

    How long all of it took, from the first file of the database on, is printed: five minutes are meant, on a quiet machine.
    """
    grown = {pid: process_tree.look(pid) for pids in day.stack.pids().values() for pid in pids}
    os.kill(day.stack.pids()["triggerer"][0], signal.SIGKILL)
    with pytest.raises(OutsideError, match=r"triggerer.*triggerer\.log"):
        day.stack.wait_run("tiny", day.stack.runs("tiny")[0].run_id + "-nowhere")
    day.stack.stop()
    assert [pid for pid, process in grown.items() if (now := process_tree.look(pid)) and process and now == process] == []
    assert wiring.ledger_public_key(day.settings) is not None
    assert pipeline.verify(day.settings).entry_count == len(day.entries)
    took_s, used = time.monotonic() - day.began, resource.getrusage(resource.RUSAGE_CHILDREN)
    record_property("end to end", f"{took_s:.0f} s of {MEANT_S} s, {used.ru_utime + used.ru_stime:.0f} s of CPU in what was started")
