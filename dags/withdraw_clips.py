"""DAG: take clips back from overseas and out of shard sets; one person asks, another confirms."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from shared.answers import second_person
from shared.notices import late_after
from shared.retries import RETRIES, step

log = logging.getLogger(__name__)

CONFIRMERS = ("officer", "engineer")  # whichever of them did not ask
CONFIRMATION_TASK = "confirmation"

DOC = """
### Withdraw clips

Takes back the rows of a clip, vehicle, device, drive or release from the overseas catalog: rows, snapshots and files go for good. The clips
never leave again, shard sets that hold them are removed, and each is built again without them. Clips themselves stay at home (`curation
erase` removes those). One person fills in the form; another one, officer or engineer, confirms.

`request` → `confirmation` → `withdraw` → `rebuild_shard_sets`. Log and results name the withdrawal's id alone; what was typed into the form
stays in Airflow's own database, which is at home. `curation withdraw show ID` prints the receipt.

Where the second person rejects, or is silent for two days, the run ends green and nothing is taken back; the request stays recorded, and
`curation withdraw confirm ID --approver NAME` still confirms it.

**When it fails**

* *request*, *UsageError*: nothing is known of what was typed in, or the reason is empty. Trigger again with the right id.
* *request*, nobody is named: trigger it in the web UI or over REST, signed in as yourself.
* *confirmation*: answered in the same second in which it was asked. It asks again by itself, twice; then clear the task.
* *withdraw*, approval refused or *ApprovalRefused*: who confirmed is who asked. Trigger a new run and have another person confirm it.
* *withdraw*, tried again by itself: another withdrawal or a publication of one of the clips is not finished, or the overseas catalog
  failed. If all tries are used up, finish the other one, then clear the task.
* *rebuild_shard_sets*: the withdrawal itself is done. Clear the task when the cause is gone.
* The whole text of every error stands in `home/failures.jsonl` of the work folder.
"""

SUBJECT = "Withdrawal {{ ti.xcom_pull(task_ids='request') }}: may it be carried out?"

BODY = """\
{% set asked = withdrawal_summary(ti.xcom_pull(task_ids='request')) -%}
| | |
|---|---|
| clips asked for | **{{ asked['clips'] }}** |
| named by | {{ asked['by'] }} |
| reason | {{ asked['reason'] | replace('|', '/') | replace('\\n', ' ') }} |
| asked for by | {{ asked['requester'] | replace('|', '/') }} |

Confirming takes their rows back from overseas, bars them for good and removes every shard set that holds one of them. It cannot be undone.
"""


def withdrawal_summary(withdrawal_id: str) -> dict[str, Any]:
    """What the recorded request says: how many clips, named by what, why, and who asked."""
    from curation import pipeline

    with step("summary", withdrawal_id):
        return pipeline.withdrawal_summary(pipeline.open_settings(), withdrawal_id)


class WithdrawalConfirmation(ApprovalOperator):
    """Asks about a recorded request, and shows what the store holds of it when the question is asked: XCom carries the id alone."""

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render with `withdrawal_summary` at hand."""
        environment = jinja_env or self.get_template_env(dag=context["dag"])
        environment.globals["withdrawal_summary"] = withdrawal_summary
        super().render_template_fields(context, environment)


@task
def request(params: dict[str, Any] | None = None, dag_run: Any = None) -> str:
    """Record the request; nothing is taken back yet."""
    from curation import pipeline

    form, requester = params or {}, dag_run.triggering_user_name
    if not requester:
        raise AirflowFailException("nobody is named as who asks. Fix: trigger the run in the web UI or over REST, signed in as yourself")
    with step("request", "the withdrawal"):
        withdrawal_id = pipeline.ask_withdrawal(
            pipeline.open_settings(), by=form["by"], value=str(form["value"]).strip(), reason=str(form["reason"]), requester=requester
        )
    log.info("withdrawal %s is asked for", withdrawal_id)
    return withdrawal_id


@task(pool="overseas")
def withdraw(withdrawal_id: str, approval: dict[str, Any], dag_run: Any = None) -> str:
    """Carry it out; one that was interrupted is finished."""
    from curation import pipeline

    approver = second_person(approval, dag_run.triggering_user_name or "")
    with step("withdrawal", withdrawal_id):
        pipeline.confirm_withdrawal(pipeline.open_settings(), withdrawal_id, approver=approver)
    log.info("withdrawal %s is done; `curation withdraw show %s` prints the receipt", withdrawal_id, withdrawal_id)
    return withdrawal_id


@task
def rebuild_shard_sets(withdrawal_id: str) -> None:
    """Build what was removed again, without the clips."""
    from curation import pipeline

    with step("shard sets", withdrawal_id):
        built = pipeline.rebuild_shard_sets(pipeline.open_settings(), withdrawal_id)
    for removed, instead in sorted(built.items()):
        again = f"built again as {instead.shard_set_id}" if instead.shard_set_id else "ask for it again, which says why it was not"
        log.info("shard set %s is removed; %s", removed, again)


@dag(
    dag_id="withdraw_clips",
    schedule=None,
    allowed_run_types=["manual"],
    params={
        "by": Param(
            "clip",
            type="string",
            enum=["clip", "vehicle", "device", "drive", "release"],
            title="Withdraw the rows of",
            description="What the id below names",
        ),
        "value": Param(type="string", title="Its id", minLength=1, maxLength=256),
        "reason": Param(
            type="string",
            title="Reason",
            description="Why, for the record; it stays, so name no person",
            minLength=1,
            maxLength=1000,
        ),
    },
    deadline=late_after(timedelta(days=3)),  # a day more than the second person has
    default_args={"owner": "compliance", **RETRIES},
    tags=["curation", "overseas"],
    doc_md=DOC,
)
def withdraw_clips() -> None:
    """Ask, have it confirmed, withdraw, rebuild."""

    confirmation = WithdrawalConfirmation(
        task_id=CONFIRMATION_TASK,
        subject=SUBJECT,
        body=BODY,
        assigned_users=[{"id": user, "name": user} for user in CONFIRMERS],
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(days=2),
        retries=2,  # an answer given while the task is still being parked fails it; it then asks again
        retry_delay=timedelta(seconds=5),
        retry_exponential_backoff=0,
    )

    withdrawal_id = request()
    withdrawal_id >> confirmation
    rebuild_shard_sets(withdraw(withdrawal_id, confirmation.output))


withdraw_clips()
