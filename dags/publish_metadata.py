"""DAG: cut the window's release, have the compliance officer decide, publish what was approved."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, task
from shared.answers import second_person
from shared.notices import late_after
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

OFFICER = "officer"
SCHEDULER = "scheduler"  # who asked, where no person did
APPROVAL_TASK = "officer_approval"

DOC = """
### Publish metadata

Every Monday at 02:00 (Asia/Shanghai), or by hand: cuts a release from the curated clips under the residency pack in force, asks the
compliance officer, and publishes exactly the bytes that were approved to the overseas catalog. Clips, places and identities never leave;
the form shows which columns do.

`release` → `anything_new` → `officer_approval` → `record_approval` → `publish`. The run stops green after `anything_new` when nothing
may leave or everything already left, and after `officer_approval` when the officer rejects or is silent for two days. Whoever triggered
the run cannot approve it.

**When it fails**

* *release*, *PackRefused*: the pack is missing, expired or unsigned. Have it signed (`curation residency sign`); nothing left.
* *officer_approval*: answered without a ticket, or in the same second in which it was asked. It asks again by itself, twice; then clear
  the task.
* *record_approval*, *ApprovalRefused*: no ticket, the approver asked for the release, or its bytes changed since the form was shown.
  Trigger a new run.
* *publish*, *GateRefused*: what was about to leave was not what the rules let out, or something failed after the commit. Nothing
  stays abroad; look into it, then trigger a new run.
* *publish*, tried again by itself: the overseas catalog failed. Publishing the same release twice is a no-op.
* The whole text of every error stands in `home/failures.jsonl` of the work folder.
"""

SUBJECT = "Release {{ ti.xcom_pull(task_ids='release') }}: may its metadata leave?"

BODY = """\
{% set release = release_summary(ti.xcom_pull(task_ids='release')) -%}
| | |
|---|---|
| rows that leave | **{{ release['rows'] }}** |
| rows withheld | {{ release['withheld'] }} |
| recipient | {{ release['recipient'] | replace('|', '/') }} |
| purpose | {{ release['purpose'] | replace('|', '/') }} |
| asked for by | {{ dag_run.triggering_user_name or 'scheduler' }} |

{% if release['rules'] -%}
| rule that withholds | rows |
|---|---|
{% for rule, rows in release['rules'] | dictsort -%}
| {{ rule | replace('|', '/') }} | {{ rows }} |
{% endfor %}
{% endif -%}
{% set close = release.get('counters', []) | rejectattr('level', 'equalto', 'open') | list -%}
{% if close -%}
| counter close to its limit | counted | level |
|---|---|---|
{% for one in close -%}
| {{ one['counter'] | replace('|', '/') }} | {{ one['after'] }} of {{ one['limit'] }} | {{ one['level'] }} |
{% endfor %}
{% endif -%}
| column that leaves | rule that lets it |
|---|---|
{% for item in release['columns'] -%}
| {{ item['column'] | replace('|', '/') }} | {{ item['rule'] | replace('|', '/') }} |
{% endfor %}
Approving covers these bytes and no others:

| | SHA-256 |
|---|---|
| release | `{{ release['release_digest'] }}` |
| evidence | `{{ release['evidence_digest'] }}` |
| pack | `{{ release['pack_digest'] }}` |
"""


def decided(approval: dict[str, Any], requester: str) -> tuple[str, str]:
    """Who approved and under which ticket, from the officer's answer.

    Raises:
        AirflowFailException: it is no approval, nobody gave it, no ticket was given, or the approver triggered this very run.
    """
    ticket = str((approval.get("params_input") or {}).get("ticket") or "").strip()
    return second_person(approval, requester, problems={"the ticket is empty": not ticket}), ticket


def release_summary(release_id: str) -> dict[str, Any]:
    """A release's counts, rules, columns and digests."""
    from curation import pipeline

    with step("summary", release_id):
        return pipeline.release_summary(pipeline.open_settings(), release_id)


class ReleaseApproval(ApprovalOperator):
    """Asks about a release, and shows what the store holds of it when the question is asked: XCom carries the id alone.

    Not a macro of the DAG: Airflow writes a macro's address into the DAG, which would be a new version at each parse.
    """

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render with `release_summary` at hand."""
        environment = jinja_env or self.get_template_env(dag=context["dag"])
        environment.globals["release_summary"] = release_summary
        super().render_template_fields(context, environment)


@task
def release(dag_run: Any = None) -> str:
    """Cut this window's release."""
    from curation import pipeline

    requester = dag_run.triggering_user_name or SCHEDULER
    with step("release", "this window"):
        release_id = pipeline.cut_release(pipeline.open_settings(), requesters=[requester])
    log.info("release %s is cut", release_id)
    return release_id


@task.short_circuit
def anything_new(release_id: str) -> bool:
    """Whether the officer need be asked."""
    summary = release_summary(release_id)
    if summary["published"] or not summary["rows"]:
        log.info("release %s: %s", release_id, "published already" if summary["published"] else "no row may leave")
        return False
    return True


@task
def record_approval(release_id: str, approval: dict[str, Any], dag_run: Any = None) -> str:
    """Bind the officer's answer to the release's bytes as the ledger recorded them at the cut: those that the form showed."""
    from curation import pipeline

    requester = dag_run.triggering_user_name or SCHEDULER
    approver, ticket = decided(approval, requester)
    with step("approval", release_id):
        pipeline.approve(pipeline.open_settings(), release_id, approver=approver, ticket=ticket, requesters=[requester])
    log.info("release %s is approved", release_id)
    return release_id


@task(pool="overseas")
def publish(release_id: str) -> None:
    """Publish what was approved."""
    from curation import pipeline

    with step("publication", release_id):
        pipeline.publish_release(pipeline.open_settings(), release_id)
    log.info("release %s is published", release_id)


@dag(
    dag_id="publish_metadata",
    # Without an explicit zero, a DAG first seen within a tenth of the week after the hour runs at once, unasked.
    schedule=CronTriggerTimetable("0 2 * * 1", timezone="Asia/Shanghai", run_immediately=timedelta(0)),
    catchup=False,
    allowed_run_types=["scheduled", "manual"],  # never by an asset event, which anyone may forge, and never by a backfill
    max_active_runs=1,
    deadline=late_after(timedelta(days=3)),  # a day more than the officer has
    default_args={"owner": "compliance", **RETRIES},
    tags=["curation", "overseas"],
    doc_md=DOC,
)
def publish_metadata() -> None:
    """Release, ask, record, publish."""

    ask = ReleaseApproval(
        task_id=APPROVAL_TASK,
        subject=SUBJECT,
        body=BODY,
        params={
            "ticket": Param(
                None,
                type=["null", "string"],
                title="Ticket",
                description="Reference of the transfer assessment",
                minLength=1,
                maxLength=200,
            ),
        },
        assigned_users=[{"id": OFFICER, "name": OFFICER}],
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(days=2),
        retries=2,  # an answer given while the task is still being parked fails it; it then asks again
        retry_delay=timedelta(seconds=5),
        retry_exponential_backoff=0,
    )

    release_id = release()
    anything_new(release_id) >> ask
    publish(record_approval(release_id, ask.output))


publish_metadata()
