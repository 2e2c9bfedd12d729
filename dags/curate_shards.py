"""DAG: build the shard set that an ML engineer asks for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from shared.retries import RETRIES, step

if TYPE_CHECKING:
    from curation.shards.request import ShardRequest

log = logging.getLogger(__name__)

DOC = """
### Curate shards

Builds training shards at home from the curated clips, for one request. The form takes the same YAML that `curation shards build
REQUEST.yaml` takes; try it first with `curation shards preview REQUEST.yaml`. The same request on the same snapshot gives the same bytes,
so a second run writes nothing new. The log and the task's result name the shard set; its files lie under `shards/<shard_set_id>/` in the
home store.

**When it fails**

* *the request line 3 does not fit*: correct the form as the log says.
* Not tried again: the request asks for something that is not there. The whole text stands in `home/failures.jsonl` of the work folder.
* Tried again by itself: disk or catalog failed. Clear the task when the cause is gone.
"""

EXAMPLE = """\
name: night-rain
filter: timeofday = 'night'
seed: 7
"""


def parsed(text: str) -> ShardRequest:
    """The request, checked.

    Raises:
        AirflowFailException: it is none; names the line and what would be right, but repeats nothing of the text.
    """
    from curation.errors import UsageError
    from curation.shards.request import parse

    try:
        return parse(text.encode(), "the request")
    except UsageError as error:
        raise AirflowFailException(f"{error.subject} does not fit. Fix: {error.fix}; then trigger again") from None


@dag(
    dag_id="curate_shards",
    schedule=None,
    allowed_run_types=["manual"],
    params={
        "request": Param(
            EXAMPLE,
            type="string",
            format="multiline",
            title="Request",
            description="What the shard set holds, in YAML",
            minLength=1,
            maxLength=20_000,
        ),
    },
    default_args={"owner": "ml-engineering", **RETRIES},
    tags=["curation", "home", "shards"],
    doc_md=DOC,
)
def curate_shards() -> None:
    """Build one shard set."""

    @task
    def build(params: dict[str, Any] | None = None) -> str:
        from curation import pipeline

        request = parsed(str((params or {})["request"]))
        with step("shards", "the request"):
            shard_set_id = pipeline.build_shards(pipeline.open_settings(), request)
        log.info("shard set %s is ready", shard_set_id)
        return shard_set_id

    build()


curate_shards()
