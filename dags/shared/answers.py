"""What a person answered to a question that a DAG asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException


def second_person(approval: Mapping[str, Any], requester: str, *, problems: Mapping[str, bool] | None = None) -> str:
    """Name of who approved, who is somebody else than `requester`.

    Args:
        approval: what the approval step returned.
        requester: who triggered the run.
        problems: what else may be wrong with the answer, and whether it is.

    Raises:
        AirflowFailException: it is no approval, nobody gave it, the approver triggered this very run, or one of `problems` is there.
    """
    person = approval.get("responded_by_user") or {}
    names = {str(person[key]) for key in ("id", "name") if person.get(key)}
    checks = {
        "the answer is no approval": approval.get("chosen_options") != [ApprovalOperator.APPROVE],
        "nobody is named as approver": not names,
        **(problems or {}),
        "the approver triggered this run": requester in names,
    }
    for problem, hit in checks.items():
        if hit:
            raise AirflowFailException(f"approval refused: {problem}. Fix: trigger a new run and have another person approve it rightly")
    return str(person.get("name") or person["id"])
