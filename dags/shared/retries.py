"""What a task does with an error of `curation`: a final one ends the task, a retryable one is tried again, and the log names ids only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from curation.errors import CurationError
from shared.notices import TellHome

RETRIES = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "on_failure_callback": TellHome(),  # when the tries are used up
}
FAILURES = Path("home", "failures.jsonl")


class StepFailed(AirflowException):
    """Something outside the project failed; Airflow tries the task again."""


@contextmanager
def step(name: str, subject: str) -> Iterator[None]:
    """Turn an error of `curation` into one that Airflow retries or not, and whose text may be read away from home.

    An error's own text may name clips, files or vehicles. The task's log therefore gets its kind, what that kind means, and `subject` (a
    batch, release or source); the whole text goes to `home/failures.jsonl` in the work folder.

    Raises:
        AirflowFailException: the error is final; Airflow does not try again.
        StepFailed: the error is retryable.
    """
    try:
        yield
    except CurationError as error:
        kind = type(error)
        meaning = (kind.__doc__ or "").strip().split("\n", 1)[0]
        text = f"{name} of {subject}: {kind.__name__}. {meaning} {_kept(error, name=name, subject=subject)}"
        raise (StepFailed if error.retryable else AirflowFailException)(text) from None


def _kept(error: CurationError, *, name: str, subject: str) -> str:
    """Where the whole text of the error can be read; it is appended there."""
    work = os.environ.get("CURATION_WORK")
    if not work:
        return "Fix: set CURATION_WORK for every Airflow component."
    context = get_current_context()
    line = {
        "dag_id": context["dag"].dag_id,
        "run_id": context["run_id"],
        "try_number": context["ti"].try_number,
        "step": name,
        "subject": subject,
        "error": type(error).__name__,
        "text": str(error),
    }
    file = Path(work) / FAILURES
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError:
        return f"Its text could not be written to {FAILURES} of the work folder. Fix: look at the disk and at CURATION_WORK."
    return f"Fix: the last line of {FAILURES} in the work folder says what to do."
