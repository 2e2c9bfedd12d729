"""DAG: pull, inspect and describe what sources hold, one mapped task per batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task
from shared.assets import MANIFEST
from shared.notices import late_after
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

MAX_BATCHES = 1000  # Airflow fails a task that maps over more than core.max_map_length, by default 1024

DOC = f"""
### Ingest clips

Every night at 01:00 (Asia/Shanghai), by hand, or by backfill: lists what `sources` (names from `curation.toml`; none means all) hold, in
batches of about 500 clips, and runs one `ingest` task per batch that is not done yet: the clips are pulled into the home store, inspected,
and described in the batch's manifest. Each batch then starts one run of `validate_manifests`.

A listing takes what is new, whenever it arrived: a run that was missed is made good by the next, and a backfill of days that are done adds
nothing. A run without any new clip ends green with `ingest` skipped. More than {MAX_BATCHES} batches are left for the next run, and the log
says so.

**When it fails**

* *list_batches*: that source is unknown or unreachable; the others are ingested all the same. Check its entry in `curation.toml`, then
  trigger again.
* *ingest*, tried again by itself: disk, network or catalog failed for a while. Clear the task when the cause is gone; finished clips are
  not done twice.
* *ingest*, not tried again: the error is final. Its kind stands in the task's log, its whole text in `home/failures.jsonl` of the work
  folder.
* *sources_listed* shows red where a source could not be listed; there is nothing to do about it by itself.
* One bad clip never fails a batch: it is quarantined, with the reason in the manifest.
"""


@task
def sources(params: dict[str, Any] | None = None) -> list[str]:
    """Names of the sources to list."""
    from curation import pipeline

    asked = list((params or {})["sources"])
    with step("sources", "curation.toml"):
        return asked or sorted(pipeline.open_settings().sources)


@task(map_index_template="{{ source_name }}")
def list_batches(source: str) -> list[str]:
    """Ids of a source's batches that are to do."""
    from curation import pipeline

    get_current_context()["source_name"] = source  # type: ignore[typeddict-unknown-key]  # names the mapped task in the grid
    with step("listing", source):
        return list(pipeline.discover(pipeline.open_settings(), source))


@task(trigger_rule="all_done")
def batches(listed: Sequence[list[str] | None]) -> list[str]:
    """All that was listed, up to what one run takes; a source that failed holds no other back."""
    found = [batch_id for of_source in listed for batch_id in of_source or ()]
    if len(found) > MAX_BATCHES:
        log.warning("%d batches found, %d taken now; trigger again for the rest", len(found), MAX_BATCHES)
    return found[:MAX_BATCHES]


@task(pool="ingest", outlets=[MANIFEST], map_index_template="{{ batch_id }}")
def ingest(batch_id: str, outlet_events: Any = None) -> None:
    """Pull, inspect and describe one batch; a retry goes on from the clips that are finished."""
    from curation import pipeline

    get_current_context()["batch_id"] = batch_id  # type: ignore[typeddict-unknown-key]  # names the mapped task in the grid
    with step("ingest", batch_id):
        pipeline.ingest_batch(pipeline.open_settings(), batch_id)
    outlet_events[MANIFEST].add_partitions(batch_id)


@dag(
    dag_id="ingest_clips",
    # Without an explicit zero, a DAG first seen shortly after the hour runs at once, unasked.
    schedule=CronTriggerTimetable("0 1 * * *", timezone="Asia/Shanghai", run_immediately=timedelta(0)),
    catchup=False,
    allowed_run_types=["scheduled", "manual", "backfill", "operator_triggered"],
    max_active_runs=1,
    deadline=late_after(timedelta(hours=20)),  # before the next night's
    params={
        "sources": Param(
            [],
            type="array",
            items={"type": "string", "pattern": r"^[\w.-]{1,128}$"},
            title="Sources",
            description="Names of sources in curation.toml, one a line; none means all",
        ),
    },
    default_args={"owner": "data-engineering", **RETRIES},
    tags=["curation", "home"],
    doc_md=DOC,
)
def ingest_clips() -> None:
    """List each source, then ingest each batch."""
    listed = list_batches.expand(source=sources())
    listed >> EmptyOperator(task_id="sources_listed", trigger_rule="none_failed")  # a leaf: without it the run would be green
    ingest.expand(batch_id=batches(listed))


ingest_clips()
