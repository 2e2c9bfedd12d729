"""DAG: build the shard set that an ML engineer asks for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from shared.notices import late_after
from shared.request_form import fields
from shared.retries import RETRIES, step

if TYPE_CHECKING:
    from curation.shards.request import ShardRequest

log = logging.getLogger(__name__)

DOC = """
### Curate shards

Builds training shards at home from the curated clips, for one request. The form has a field for each key of a request, or takes the same
YAML that `curation shards build REQUEST.yaml` takes; try it first with `curation shards preview REQUEST.yaml`. The same request on the
same snapshot gives the same bytes, so a second run writes nothing new. The log and the task's result name the shard set; its files lie
under `shards/<shard_set_id>/` in the home store.

**When it fails**

* *the request line 3 does not fit*: correct the form as the log says.
* Not tried again: the request asks for something that is not there. The whole text stands in `home/failures.jsonl` of the work folder.
* *EvaluationRefused*, *ModelRefused*, *MaskingRefused*: faces and plates must be masked, and the evaluation of the models does not hold, a
  model is not in the home store, or a clip was not looked at for them. `curation shards preview` says which, and the next step.
* Tried again by itself: disk or catalog failed. Clear the task when the cause is gone.
"""

PASTED = "request"


def asked(form: Mapping[str, Any]) -> ShardRequest:
    """The request, checked: the pasted one where there is one, else that of the fields that are filled in.

    Raises:
        AirflowFailException: it is none; names the line and what would be right, but repeats nothing of the text.
    """
    from curation.errors import UsageError
    from curation.shards.request import from_mapping, parse

    try:
        if form.get(PASTED):
            return parse(str(form[PASTED]).encode(), "the request")
        return from_mapping({name: value for name, value in form.items() if name != PASTED and value is not None}, "the form")
    except UsageError as error:
        raise AirflowFailException(f"{error.subject} does not fit. Fix: {error.fix}; then trigger again") from None


@dag(
    dag_id="curate_shards",
    schedule=None,
    allowed_run_types=["manual"],
    deadline=late_after(timedelta(hours=12)),
    params={
        **fields(),
        PASTED: Param(
            None,
            type=["string", "null"],
            format="multiline",
            title="Or a whole request in YAML",
            description="Where something stands here, the fields above are left aside",
            section="Paste a request",
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

        request = asked(params or {})
        with step("shards", "the request"):
            shard_set_id = pipeline.build_shards(pipeline.open_settings(), request)
        log.info("shard set %s is ready", shard_set_id)
        return shard_set_id

    build()


curate_shards()
