"""`withdraw_clips`: one person asks, another confirms; each refusal, and what the log and XCom do not say."""

from __future__ import annotations

from typing import Any

import pytest

from curation.errors import ApprovalRefused, ConcurrentChange, UsageError

VEHICLE = "LSVAA2180E2100001"
FORM = {"by": "vehicle", "value": VEHICLE, "reason": "the owner asked"}
WITHDRAWAL = "0123456789abcdef"


def tries(run: Any, task_id: str) -> int:
    """How often the task ran."""
    return next(one.try_number for one in run.get_task_instances() if one.task_id == task_id)


def test_a_confirmed_request_is_carried_out(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any, log_text: Any) -> None:
    """The form reaches the record under the name of who triggered it; the other person's name confirms; shard sets are built again."""
    shown = officer("Approve")
    run = run_dag("withdraw_clips", **FORM)
    assert set(states(run).values()) == {"success"}
    assert fake_pipeline.named("ask_withdrawal") == [("vehicle", VEHICLE, "the owner asked", "dag_test")]
    assert fake_pipeline.named("confirm_withdrawal") == [(WITHDRAWAL, "officer")]
    assert fake_pipeline.named("rebuild_shard_sets") == [(WITHDRAWAL,)]
    ((subject, body),) = shown
    assert WITHDRAWAL in subject
    assert all(said in body for said in ("**3**", "vehicle", "the owner asked", "engineer"))
    assert VEHICLE not in log_text() + subject + body


def test_what_travels_is_the_id_alone(run_dag: Any, fake_pipeline: Any, officer: Any) -> None:
    """No XCom of the run holds what was typed into the form."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    officer("Approve")
    run = run_dag("withdraw_clips", **FORM)
    with create_session() as session:
        found = session.scalars(select(XComModel).where(XComModel.run_id == run.run_id, XComModel.dag_id == run.dag_id)).all()
        values = {one.task_id: str(one.value) for one in found if one.key == "return_value"}
    assert {WITHDRAWAL} == {values[task].strip('"') for task in ("request", "withdraw")}
    assert VEHICLE not in str(values)


def test_a_rejected_request_takes_nothing_back(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """Reject, which silence counts as, ends the run green after the request."""
    officer("Reject")
    run = run_dag("withdraw_clips", **FORM)
    assert run.state == "success"
    assert [states(run)[task] for task in ("withdraw", "rebuild_shard_sets")] == ["skipped", "skipped"]
    assert fake_pipeline.named("confirm_withdrawal") == []


@pytest.mark.parametrize("by", ["dag_test", None], ids=["who asked", "nobody"])
def test_who_asked_cannot_confirm(by: str | None, run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """An approval by the run's own trigger, or without a name, fails at its first try."""
    officer("Approve", by=by)
    run = run_dag("withdraw_clips", **FORM)
    assert (run.state, states(run)["withdraw"], tries(run, "withdraw")) == ("failed", "failed", 1)
    assert fake_pipeline.named("confirm_withdrawal") == []


def test_a_request_of_nobody_is_refused(fake_pipeline: Any, dagbag: Any) -> None:
    """A run that no signed-in person triggered records nothing."""
    from types import SimpleNamespace

    from airflow.sdk.exceptions import AirflowFailException

    asking = dagbag.dags["withdraw_clips"].get_task("request").python_callable
    with pytest.raises(AirflowFailException, match="nobody is named"):
        asking(params=FORM, dag_run=SimpleNamespace(triggering_user_name=None))
    assert fake_pipeline.calls == []


@pytest.mark.parametrize("wrong", [{"by": "driver"}, {"value": ""}, {"reason": ""}], ids=lambda one: next(iter(one)))
def test_a_form_that_does_not_fit_is_refused(wrong: dict[str, str], run_dag: Any, fake_pipeline: Any) -> None:
    """Airflow itself refuses what the form does not allow, before a run exists."""
    with pytest.raises(Exception, match=r"Invalid input|not one of|non-empty|too short"):
        run_dag("withdraw_clips", **(FORM | wrong))
    assert fake_pipeline.calls == []


@pytest.mark.parametrize(
    ("call", "task", "error"),
    [
        ("ask_withdrawal", "request", UsageError("nothing is known of it", subject=f"vehicle {VEHICLE}", fix="check the id")),
        ("confirm_withdrawal", "withdraw", ApprovalRefused("is confirmed by who asked", subject="withdrawal", fix="another person")),
    ],
    ids=["unknown", "refused"],
)
def test_what_curation_refuses_is_final(
    call: str, task: str, error: Exception, run_dag: Any, fake_pipeline: Any, officer: Any, states: Any, log_text: Any
) -> None:
    """Fails at the first try, and the log does not repeat the vehicle that the error names."""
    fake_pipeline.errors[call] = [error]
    officer("Approve")
    run = run_dag("withdraw_clips", **FORM)
    assert (run.state, states(run)[task], tries(run, task)) == ("failed", "failed", 1)
    assert VEHICLE not in log_text()


def test_a_withdrawal_in_the_way_is_waited_for(run_dag: Any, fake_pipeline: Any, officer: Any) -> None:
    """Another one that is not finished costs a try, not the run."""
    fake_pipeline.errors["confirm_withdrawal"] = [ConcurrentChange("is not finished", subject="withdrawal", fix="finish it first")]
    officer("Approve")
    assert run_dag("withdraw_clips", **FORM).state == "success"
    assert len(fake_pipeline.named("confirm_withdrawal")) == 2


def test_the_pipeline_itself_knows_five_kinds(tmp_path: Any) -> None:
    """What the form does not allow, the pipeline refuses as well, before it opens anything."""
    from curation import pipeline

    with pytest.raises(UsageError, match="clip, vehicle, device, drive, release"):
        pipeline.ask_withdrawal(pipeline.open_settings(tmp_path), by="driver", value="x", reason="x", requester="x")
    assert list(tmp_path.iterdir()) == []


def test_the_second_person_is_asked_rightly(dagbag: Any) -> None:
    """Two may answer, so that one always did not ask; silence means no; a lost answer is asked for again."""
    from datetime import timedelta

    ask = dagbag.dags["withdraw_clips"].get_task("confirmation")
    assert [user["id"] for user in ask.assigned_users] == ["officer", "engineer"]
    assert (ask.defaults, ask.response_timeout, ask.retries) == (["Reject"], timedelta(days=2), 2)
