"""Tells people at home that a run failed or is late: a line in the work folder, and a post to one address that must be at home, too.

A notice names a DAG, a run and a task, and nothing of what they worked on: it may be read wherever its receiver shows it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from curation.errors import OutsideError
from curation.residency.jurisdiction import require_home
from curation.settings import Settings, read_settings

FILE: Final = Path("home", "notices.jsonl")
_LIMIT_S: Final = 10.0
Kind = Literal["failed", "review failed", "late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What somebody should look at. `task_id` is empty where a run as a whole is meant; `map_index` is -1 for a task that is not mapped."""

    kind: Kind
    dag_id: str
    run_id: str
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0


def tell(settings: Settings, notice: Notice, *, at: datetime) -> None:
    """Nothing; the notice stands in `home/notices.jsonl`, and was taken by `[notices] webhook` where there is one.

    Raises:
        NotAtHome: the webhook leads elsewhere; nothing was sent.
        OutsideError: the file or the webhook failed.
    """
    line = json.dumps({"at": at.astimezone(UTC).isoformat(timespec="seconds"), **asdict(notice)}, ensure_ascii=False)
    file = settings.work / FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")
    except OSError as error:
        raise OutsideError(f"cannot be written: {error.strerror}", subject=str(FILE), fix="look at the disk of the work folder") from error
    if settings.notices.webhook is not None:
        _post(settings, settings.notices.webhook, line)


def _post(settings: Settings, url: str, line: str) -> None:
    home, subject = settings.home, "[notices] webhook"
    require_home(subject=subject, jurisdiction=home.jurisdiction, home_jurisdiction=home.jurisdiction, url=url, home=home)
    try:
        # Neither a redirect nor a proxy of the environment may lead away from what was just checked.
        with httpx.Client(timeout=_LIMIT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.post(url, content=line, headers={"content-type": "application/json"})
    except httpx.TransportError as error:
        raise OutsideError(f"does not answer: {type(error).__name__}", subject=subject, fix="see whether it runs") from error
    if not answer.is_success:
        raise OutsideError(f"answers {answer.status_code}", subject=subject, fix="see whether it takes JSON by POST")


def deadline_missed(context: Mapping[str, Any]) -> None:
    """Tell that a run is late. Airflow calls this by its name, in a process of its own, with what it knows of the run.

    Raises:
        SettingsError: no work folder is named, or its settings do not hold.
        NotAtHome, OutsideError: as `tell`.
    """
    run = context["dag_run"]
    notice = Notice(kind="late", dag_id=str(run["dag_id"]), run_id=str(run["dag_run_id"]))
    tell(read_settings(os.environ), notice, at=datetime.now(UTC))
