"""Who is told when a task has failed for good or a run is late: `curation.notices` at home, with ids of runs and tasks alone."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, DeadlineAlert, DeadlineReference, SyncCallback

from curation.errors import CurationError

if TYPE_CHECKING:
    from curation.notices import Kind

log = logging.getLogger(__name__)


class TellHome(BaseNotifier):
    """Tells of a task that has used up its tries."""

    def __init__(self, kind: Kind = "failed") -> None:
        """Tell of it as `kind`."""
        super().__init__()
        self.kind = kind

    def notify(self, context: Any) -> None:
        """Tell; that nobody could be told is logged, and changes nothing about the task."""
        from curation.notices import Notice, tell
        from curation.settings import read_settings

        ti = context["ti"]
        where = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index, "try_number": ti.try_number}
        try:
            tell(read_settings(os.environ), Notice(kind=self.kind, **where), at=datetime.now(UTC))
        except CurationError as error:
            log.error("nobody could be told of it: %s. Fix: look at [notices] and at the work folder", type(error).__name__)  # noqa: TRY400  # the error's own words may name a host


def late_after(interval: timedelta) -> DeadlineAlert:
    """Tells of a run that is not over `interval` after it was queued."""
    # By name: a callable would have to be importable in the scheduler's executor, where the DAG folder is not on the path.
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=interval, callback=SyncCallback("curation.notices.deadline_missed")
    )
