"""Who is told of what failed or is late: a file at home, an address at home, and nobody elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from curation import notices
from curation.errors import NotAtHome, OutsideError, PackRefused, ValidationFailed
from curation.settings import read_settings

BATCH = "north-0123456789abcdef"
VIN = "LSVAA2180E2100001"
NOTICE = notices.Notice(kind="failed", dag_id="upkeep", run_id="r")
NOW = datetime(2026, 3, 9, tzinfo=UTC)


def told(work: Path) -> list[dict[str, Any]]:
    """The notices of a work folder."""
    file = work / notices.FILE
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A server on loopback: `.url`, what it `.got`, and the `.status` it answers with."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(server.status)
            self.send_header("location", "http://example.com/")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.status, server.url = [], 204, f"http://127.0.0.1:{server.server_port}/notices"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings_with(work: Path, webhook: str) -> Any:
    """Settings of a work folder whose notices are posted there."""
    (work / "curation.toml").write_text(f'[notices]\nwebhook = "{webhook}"\n', encoding="utf-8")
    return read_settings(work=work)


def test_a_task_that_failed_for_good_is_told_once(run_dag: Any, fake_pipeline: Any, work: Path) -> None:
    """One notice when the tries are used up, none for a try that is made good; it names run and task, and nothing of the error."""
    fake_pipeline.errors["validate_batch"] = [OutsideError(f"vin {VIN}", subject=BATCH, fix="wait")]
    run_dag("validate_manifests", partition_key=BATCH)
    assert told(work) == []
    fake_pipeline.errors["validate_batch"] = [ValidationFailed(f"vin {VIN}", subject=BATCH, fix="look")]
    run = run_dag("validate_manifests", partition_key=BATCH)
    (notice,) = told(work)
    assert (notice["kind"], notice["dag_id"], notice["task_id"], notice["run_id"]) == (
        "failed", "validate_manifests", "validate", run.run_id)  # fmt: skip
    assert VIN not in str(notice)


def test_a_review_that_failed_is_told_as_such(run_dag: Any, fake_pipeline: Any, work: Path, receiver: Any) -> None:
    """Nothing is published until a review succeeds: its notice says that it is one, and the address at home gets it, too."""
    settings_with(work, receiver.url)
    fake_pipeline.errors["review"] = [PackRefused("unsigned", subject="pack", fix="sign it")]
    run_dag("review_publications")
    assert [notice["kind"] for notice in told(work)] == ["review failed"]
    assert receiver.got == told(work)


def test_a_late_run_is_told_without_what_was_typed_in(work: Path, receiver: Any) -> None:
    """Airflow hands over the whole run, form and all; the notice names DAG and run alone."""
    settings_with(work, receiver.url)
    run = {"dag_id": "withdraw_clips", "dag_run_id": "manual__1", "conf": {"value": VIN}}
    notices.deadline_missed(context={"dag_run": run, "deadline": {}})
    assert [(one["kind"], one["dag_id"], one["run_id"]) for one in told(work)] == [("late", "withdraw_clips", "manual__1")]
    assert receiver.got == told(work)
    assert VIN not in str(told(work))


@pytest.mark.parametrize("abroad", ["https://hooks.eu.example/x", "http://127.0.0.1@hooks.eu.example/x"])
def test_an_address_abroad_gets_nothing(tmp_path: Path, abroad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard says no before a connection is made; the file at home is written all the same."""
    monkeypatch.setattr(notices.httpx, "Client", lambda **_: pytest.fail("a connection was made"))
    with pytest.raises(NotAtHome, match=r"\[notices\] webhook"):
        notices.tell(settings_with(tmp_path, abroad), NOTICE, at=NOW)
    assert [one["dag_id"] for one in told(tmp_path)] == ["upkeep"]


@pytest.mark.parametrize("status", [302, 500])
def test_an_address_that_does_not_take_it_is_named(tmp_path: Path, receiver: Any, status: int) -> None:
    """A redirect is not followed: it is an answer like any other that is no yes."""
    receiver.status = status
    with pytest.raises(OutsideError, match=f"answers {status}"):
        notices.tell(settings_with(tmp_path, receiver.url), NOTICE, at=NOW)
    assert len(receiver.got) == 1


def test_an_address_where_nobody_listens_and_a_full_disk_are_named(tmp_path: Path) -> None:
    """Both are said, and neither is a success."""
    with pytest.raises(OutsideError, match="does not answer"):
        notices.tell(settings_with(tmp_path, "http://127.0.0.1:9/"), NOTICE, at=NOW)
    other = tmp_path / "other"
    other.mkdir()
    (other / "home").write_text("a file where a folder should be")
    with pytest.raises(OutsideError, match="cannot be written"):
        notices.tell(read_settings(work=other), NOTICE, at=NOW)


def test_a_task_whose_failure_cannot_be_told_fails_as_it_did(run_dag: Any, fake_pipeline: Any, work: Path, log_text: Any) -> None:
    """The log says so, without the address."""
    settings_with(work, "https://hooks.eu.example/x")
    fake_pipeline.errors["validate_batch"] = [ValidationFailed("no", subject=BATCH, fix="look")]
    assert run_dag("validate_manifests", partition_key=BATCH).state == "failed"
    said = log_text()
    assert "nobody could be told of it: NotAtHome" in said
    assert "hooks.eu.example" not in said


def test_every_dag_tells_of_failure_and_all_with_a_clock_of_delay(dagbag: Any) -> None:
    """Each task has the notifier, each DAG a deadline that calls a function which is there, and time for whom it asks."""
    for dag_id, dag in dagbag.dags.items():
        calls = [one.on_failure_callback for one in dag.tasks]
        assert {type(call[0] if isinstance(call, list) else call).__name__ for call in calls} == {"TellHome"}, dag_id
        (deadline,) = dag.deadline
        assert deadline.callback.path == f"{notices.deadline_missed.__module__}.{notices.deadline_missed.__name__}"
        asks = [one.response_timeout for one in dag.tasks if hasattr(one, "response_timeout")]
        assert all(deadline.interval > wait for wait in asks), dag_id
    assert dagbag.dags["publish_metadata"].deadline[0].interval == timedelta(days=3)
