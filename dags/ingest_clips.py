"""DAG: pull, inspect and describe what a source holds, one mapped task per batch."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Param, PartitionedAtRuntime, dag, get_current_context, task
from shared.assets import MANIFEST
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

MAX_BATCHES = 1000  # Airflow fails a task that maps over more than core.max_map_length, by default 1024

DOC = f"""
### Ingest clips

Lists what `source` (a name from `curation.toml`) holds, in batches of about 500 clips, and runs one `ingest` task per batch that is not
done yet: the clips are pulled into the home store, inspected, and described in the batch's manifest. Each batch then starts one run of
`validate_manifests`.

A run without any new clip ends green with `ingest` skipped. More than {MAX_BATCHES} batches are left for the next run, and the log says so.

**When it fails**

* *list_batches*: the source is unknown or unreachable. Check its entry in `curation.toml`, then trigger again.
* *ingest*, tried again by itself: disk, network or catalog failed for a while. Clear the task when the cause is gone; finished clips are
  not done twice.
* *ingest*, not tried again: the error is final. Its kind stands in the task's log, its whole text in `home/failures.jsonl` of the work
  folder.
* One bad clip never fails a batch: it is quarantined, with the reason in the manifest.
"""


@dag(
    dag_id="ingest_clips",
    schedule=PartitionedAtRuntime(),
    allowed_run_types=["manual", "operator_triggered"],
    max_active_runs=1,
    params={
        "source": Param(
            type="string",
            title="Source",
            description="Name of the source in curation.toml",
            pattern=r"^[\w.-]{1,128}$",
        ),
    },
    default_args={"owner": "data-engineering", **RETRIES},
    tags=["curation", "home"],
    doc_md=DOC,
)
def ingest_clips() -> None:
    """List batches, then ingest each."""

    @task
    def list_batches(params: dict[str, Any] | None = None) -> list[str]:
        from curation import pipeline

        source = str((params or {})["source"])
        with step("listing", source):
            batch_ids = pipeline.discover(pipeline.open_settings(), source)
        if len(batch_ids) > MAX_BATCHES:
            log.warning("%d batches found, %d taken now; trigger again for the rest", len(batch_ids), MAX_BATCHES)
        return list(batch_ids[:MAX_BATCHES])

    @task(pool="ingest", outlets=[MANIFEST], map_index_template="{{ batch_id }}")
    def ingest(batch_id: str, outlet_events: Any = None) -> None:
        from curation import pipeline

        get_current_context()["batch_id"] = batch_id  # type: ignore[typeddict-unknown-key]  # names the mapped task in the grid
        with step("ingest", batch_id):
            pipeline.ingest_batch(pipeline.open_settings(), batch_id)
        outlet_events[MANIFEST].add_partitions(batch_id)

    ingest.expand(batch_id=list_batches())


ingest_clips()
