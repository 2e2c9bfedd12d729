"""DAG: build the shard set that an ML engineer asks for."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

DOC = """
### Curate shards

Builds training shards at home from the curated clips, for one request. The form takes the same YAML that `curation shards build
REQUEST.yaml` takes; try it first with `curation shards preview REQUEST.yaml`. The same request on the same snapshot gives the same bytes,
so a second run writes nothing new. The log and the task's result name the shard set; its files lie under `shards/<shard_set_id>/` in the
home store.

**When it fails**

* *the request is not YAML* or *no mapping*: correct the form.
* Not tried again: the request asks for something that is not there. The whole text stands in `home/failures.jsonl` of the work folder.
* Tried again by itself: disk or catalog failed. Clear the task when the cause is gone.
"""

EXAMPLE = """\
name: night-rain
filter: timeofday = 'night' AND verdict = 'accepted'
seed: 7
"""


def parsed(text: str) -> dict[str, Any]:
    """The request as a mapping.

    Raises:
        AirflowFailException: the text is not YAML, or holds something else than a mapping.
    """
    import yaml

    try:
        request = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise AirflowFailException(f"the request is not YAML{where}. Fix: correct it and trigger again") from None
    if not isinstance(request, dict):
        raise AirflowFailException("the request is no mapping. Fix: write `name: …`, `filter: …` on lines of their own")
    return request


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
