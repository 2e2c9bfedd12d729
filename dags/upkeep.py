"""DAG: each night, keep both catalogs small."""

from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from shared.notices import late_after
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

DOC = """
### Upkeep

Every night at 04:00 (Asia/Shanghai), or by hand: makes small files of the home and the overseas catalog one, forgets snapshots that others
took the place of over a day ago (`[upkeep] keep_hours`), and removes files that nothing refers to. What shard sets and open releases were
made of is pinned by tags and stays. No row changes, and a commit costs the same after years. Masked copies of clips that were made by
models which are out of use go, unless a shard set that stands was made of such.

**When it fails**

* Tried again by itself: a catalog failed, or other writers were faster. A run that was interrupted is finished by the next.
* *NotConserved*: a compacted file held another number of rows. Nothing was committed; keep the catalog as it is and report it.
* The whole text of every error stands in `home/failures.jsonl` of the work folder.
"""


@task(pool="overseas")
def keep_up() -> None:
    """Compact, forget, remove; in both catalogs."""
    from curation import pipeline

    with step("upkeep", "catalogs"):
        settings = pipeline.open_settings()
        copies = pipeline.prune_masked_copies(settings)
        counts = pipeline.upkeep(settings)
    log.info("masked copies: %s", ", ".join(f"{count} {name}" for name, count in copies.accounted.items()))
    for one in counts:
        did = (one.compacted_files, one.expired_snapshots, one.removed_files)
        log.info("%s: %d files compacted, %d snapshots forgotten, %d files removed", one.table, *did)


@dag(
    dag_id="upkeep",
    # Without an explicit zero, a DAG first seen shortly after the hour runs at once, unasked.
    schedule=CronTriggerTimetable("0 4 * * *", timezone="Asia/Shanghai", run_immediately=timedelta(0)),
    catchup=False,
    allowed_run_types=["scheduled", "manual"],
    max_active_runs=1,
    deadline=late_after(timedelta(hours=6)),
    default_args={"owner": "data-engineering", **RETRIES},
    tags=["curation", "home", "overseas"],
    doc_md=DOC,
)
def upkeep() -> None:
    """One night's upkeep."""
    keep_up()


upkeep()
