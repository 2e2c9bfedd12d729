"""DAG: prove one batch's manifest and let it into the curated table."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import PartitionedAssetTimetable, dag, task
from shared.assets import CURATED, MANIFEST, batch_of
from shared.notices import late_after
from shared.retries import RETRIES, step

DOC = """
### Validate manifests

One run per batch, started when `ingest_clips` has written the batch's manifest. The suite of `expectations/` runs over it; only after
every declared check ran and passed does `curated.clips` advance. By hand: trigger with the batch id as partition key.

The run's key only says *which* batch to look at. What is validated is read from the home store, so an invented asset event changes nothing:
a batch that is not there fails, and a batch that is there is validated once more.

**When it fails**

* Not tried again, *ValidationFailed*: `validation/<batch_id>/report.html` in the home store names the checks and how many rows. The table
  did not move. Mend the cause, `curation reinspect` if the inspection was at fault, then trigger again with the same key.
* Not tried again, anything else: the whole text stands in `home/failures.jsonl` of the work folder.
* Tried again by itself: another batch moved the table first, or disk or catalog failed. Nothing to do unless all tries are used up; then
  clear the task.
"""


@dag(
    dag_id="validate_manifests",
    schedule=PartitionedAssetTimetable(assets=MANIFEST),
    catchup=False,
    allowed_run_types=["asset_triggered", "manual"],
    deadline=late_after(timedelta(hours=2)),
    default_args={"owner": "data-engineering", **RETRIES},
    tags=["curation", "home"],
    doc_md=DOC,
)
def validate_manifests() -> None:
    """Validate the batch that the partition key names."""

    @task(outlets=[CURATED])
    def validate(partition_key: str | None = None) -> None:
        from curation import pipeline

        batch_id = batch_of(partition_key)
        with step("validation", batch_id):
            pipeline.validate_batch(pipeline.open_settings(), batch_id)

    validate()


validate_manifests()
