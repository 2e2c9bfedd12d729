"""DAG: each day, decide again on everything that is overseas, and take back what may not stay."""

from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException
from shared.notices import TellHome, late_after
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

DOC = """
### Review publications

Every day at 03:00 (Asia/Shanghai), or by hand: decides every row overseas again, under today's residency pack and on the curated clips as
they are now. Up to 5 % of the rows are withdrawn at once. More than that, or a whole publication, waits for a second person; so does
everything under an expired pack that no review announced 30 days before. Clips and shard sets at home stay as they are.

**When it fails**

* *review*, *PackRefused* or *SettingsError*: the pack, its signatures or its fences are missing or broken. Nothing was withdrawn, and
  nothing is published until a review succeeds. Put them back, then clear the task.
* *review*, *GateRefused*: the overseas table holds rows that no release let out. Find out who put them there.
* *review*, rows may not stay: nobody may take them back alone. Somebody else than the scheduler runs the command that the log names.
* *review*, tried again by itself: the overseas catalog failed.
* The whole text of every error stands in `home/failures.jsonl` of the work folder.
"""


@task(pool="overseas")
def review() -> None:
    """Decide again; fail where a second person must act, so that somebody is told."""
    from curation import pipeline

    with step("review", "publications"):
        done = pipeline.review(pipeline.open_settings())
    found = done.found
    told = (found.row_count, found.asked.num_rows, found.pack, found.days_left)
    log.info("%d rows overseas, %d may not stay; pack %s expires in %d days", *told)
    if found.is_announced:
        log.warning("pack %s expires on %s: the day after, every row is withdrawn", found.pack, found.expires_on)
    if done.withdrawal_id and not done.withdrawn:
        command = f"curation withdraw confirm {done.withdrawal_id} --approver NAME"
        raise AirflowFailException(f"{found.asked.num_rows} rows may not stay. Fix: a second person runs `{command}`")


@dag(
    dag_id="review_publications",
    # Without an explicit zero, a DAG first seen shortly after the hour runs at once, unasked.
    schedule=CronTriggerTimetable("0 3 * * *", timezone="Asia/Shanghai", run_immediately=timedelta(0)),
    catchup=False,
    allowed_run_types=["scheduled", "manual"],
    max_active_runs=1,
    deadline=late_after(timedelta(hours=6)),
    default_args={"owner": "compliance", **RETRIES, "on_failure_callback": TellHome("review failed")},
    tags=["curation", "overseas"],
    doc_md=DOC,
)
def review_publications() -> None:
    """One review."""
    review()


review_publications()
