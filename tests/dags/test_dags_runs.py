"""Each DAG run through in one process, `curation.pipeline` replaced; what reaches it, what is tried again, what is let through."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from curation.errors import ApprovalRefused, GateRefused, OutsideError, PackRefused, UsageError, ValidationFailed

BATCH = "north-0123456789abcdef"
VIN = "LSVAA2180E2100001"  # as an error's own text may name it


def tries(run: Any, task_id: str) -> int:
    """How often the task ran."""
    return next(one.try_number for one in run.get_task_instances() if one.task_id == task_id)


def asset_events(run: Any) -> set[tuple[str, str | None]]:
    """The run's asset events: asset name and partition key."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id, AssetEvent.source_dag_id == run.dag_id))
        return {(event.asset.name, event.partition_key) for event in found}


def test_each_batch_is_ingested_under_its_own_key(run_dag: Any, fake_pipeline: Any, states: Any) -> None:
    """One mapped task per batch, each named after it, each with an asset event whose partition is the batch."""
    run = run_dag("ingest_clips", sources=["north"])
    assert run.state == "success"
    tasks = ("sources", "list_batches[0]", "sources_listed", "batches", "ingest[0]", "ingest[1]")
    assert states(run) == dict.fromkeys(tasks, "success")
    assert fake_pipeline.named("discover") == [("north",)]
    assert sorted(fake_pipeline.named("ingest_batch")) == [(batch,) for batch in fake_pipeline.batches]  # in no promised order
    assert {one.rendered_map_index for one in run.get_task_instances() if one.task_id == "ingest"} == set(fake_pipeline.batches)
    assert asset_events(run) == {("manifest", batch) for batch in fake_pipeline.batches}


def test_all_sources_are_listed_and_one_that_fails_holds_no_other_back(run_dag: Any, fake_pipeline: Any, states: Any) -> None:
    """With none named every source of the settings is listed; where one cannot be, the others' batches come in and the run is red."""
    fake_pipeline.batches = [BATCH]
    fake_pipeline.errors["discover"] = [UsageError("is not there", subject="source", fix="look")]
    run = run_dag("ingest_clips", sources=[])
    assert sorted(fake_pipeline.named("discover")) == [("north",), ("south",)]
    assert sorted(value for key, value in states(run).items() if key.startswith("list")) == ["failed", "success"]
    assert (states(run)["ingest[0]"], states(run)["sources_listed"], run.state) == ("success", "upstream_failed", "failed")


def test_nothing_new_is_a_green_run(run_dag: Any, fake_pipeline: Any, states: Any) -> None:
    """A source without new batches ends green and starts no validation."""
    fake_pipeline.batches = []
    run = run_dag("ingest_clips", sources=["north"])
    assert run.state == "success"
    assert "skipped" in states(run).values()
    assert asset_events(run) == set()


def test_one_batch_that_fails_leaves_the_others(run_dag: Any, fake_pipeline: Any, states: Any) -> None:
    """A final error in one batch emits no event for it, and the other batch is ingested."""
    fake_pipeline.errors["ingest_batch"] = [ValidationFailed("no", subject=BATCH, fix="look")]
    run = run_dag("ingest_clips", sources=["north"])
    assert sorted(value for key, value in states(run).items() if key.startswith("ingest")) == ["failed", "success"]
    assert len(asset_events(run)) == 1


def test_more_batches_than_airflow_maps_are_left_for_the_next_run(dagbag: Any) -> None:
    """Listings longer than the limit are cut to it instead of failing the run; a source that failed has none."""
    taking = dagbag.dags["ingest_clips"].get_task("batches").python_callable
    assert len(taking([[f"north-{number:016x}" for number in range(999)], None, [BATCH, BATCH]])) == 1000


def test_a_source_name_that_is_no_name_is_refused(run_dag: Any, fake_pipeline: Any) -> None:
    """The form takes names, not paths or URIs."""
    with pytest.raises(Exception, match="does not match"):
        run_dag("ingest_clips", sources=["s3://elsewhere/bucket"])
    assert fake_pipeline.calls == []


def test_validation_takes_the_batch_from_its_partition(run_dag: Any, fake_pipeline: Any) -> None:
    """The run's key names the batch, and the curated asset carries the same key on."""
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "success"
    assert fake_pipeline.named("validate_batch") == [(BATCH,)]
    assert asset_events(run) == {("curated_clips", BATCH)}


@pytest.mark.parametrize("key", [None, "../../home/keys", "north", "s3://elsewhere/north-0123456789abcdef", f"{BATCH}\n"])
def test_a_forged_key_reaches_nothing(key: str | None, run_dag: Any, fake_pipeline: Any) -> None:
    """A run without a batch id as key fails at once and never touches the store."""
    run = run_dag("validate_manifests", partition_key=key)
    assert run.state == "failed"
    assert tries(run, "validate") == 1
    assert fake_pipeline.calls == []


def test_a_final_error_is_not_tried_again(run_dag: Any, fake_pipeline: Any) -> None:
    """A batch that does not pass its suite fails at the first try and emits nothing."""
    fake_pipeline.errors["validate_batch"] = [ValidationFailed("3 checks did not pass", subject=BATCH, fix="read the report")]
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "failed"
    assert tries(run, "validate") == 1
    assert len(fake_pipeline.named("validate_batch")) == 1
    assert asset_events(run) == set()


def test_a_retryable_error_is_tried_again(run_dag: Any, fake_pipeline: Any) -> None:
    """A catalog that fails once costs one more try."""
    fake_pipeline.errors["validate_batch"] = [OutsideError("no answer", subject="home catalog", fix="wait")]
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "success"
    assert tries(run, "validate") == 2


def test_tries_end(run_dag: Any, fake_pipeline: Any) -> None:
    """What fails at every try fails in the end."""
    fake_pipeline.errors["validate_batch"] = [OutsideError("no answer", subject="home catalog", fix="wait") for _ in range(9)]
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "failed"
    assert len(fake_pipeline.named("validate_batch")) == 3


def test_an_error_keeps_its_own_words_at_home(run_dag: Any, fake_pipeline: Any, work: Path, log_text: Any) -> None:
    """The log names the kind and the batch; what the error says of vehicles and files stands in the work folder only."""
    fake_pipeline.errors["validate_batch"] = [ValidationFailed(f"vin {VIN} twice", subject=f"/clips/{VIN}.mp4", fix="look")]
    run = run_dag("validate_manifests", partition_key=BATCH)
    log = log_text()
    assert "ValidationFailed" in log
    assert BATCH in log
    assert VIN not in log
    (line,) = (work / "home" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    kept = json.loads(line)
    assert kept["subject"] == BATCH
    assert kept["run_id"] == run.run_id
    assert VIN in kept["text"]


def test_a_disk_that_is_full_does_not_hide_the_error(run_dag: Any, fake_pipeline: Any, work: Path, log_text: Any) -> None:
    """Where the error's words cannot be kept, the task still fails as it should, and says so."""
    (work / "home").write_text("a file where a folder should be")
    fake_pipeline.errors["validate_batch"] = [ValidationFailed(f"vin {VIN} twice", subject=BATCH, fix="look")]
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "failed"
    log = log_text()
    assert "could not be written" in log
    assert VIN not in log


def test_shards_are_built_from_the_form(run_dag: Any, fake_pipeline: Any) -> None:
    """The YAML of the form reaches the pipeline as a checked request."""
    run = run_dag("curate_shards", request="name: night-rain\nseed: 7\n")
    assert run.state == "success"
    ((request,),) = fake_pipeline.named("build_shards")
    assert (request.name, request.seed) == ("night-rain", 7)


EMPTY = dict.fromkeys(("request", "name", "quotas", "splits", "max_per_drive", "masked"))  # dag.test() keeps what an earlier run filled in


def test_shards_are_built_from_fields(run_dag: Any, fake_pipeline: Any) -> None:
    """What is filled in beside the defaults of the form is the same request as its YAML."""
    from curation.shards.request import from_mapping

    filled: dict[str, Any] = {"name": "night-rain", "quotas": {"weather": {"rainy": 200}}, "max_per_drive": 5, "masked": True}
    filled |= {"splits": {"train": 0.9, "val": 0.1}}
    assert run_dag("curate_shards", **{**EMPTY, **filled}).state == "success"
    ((request,),) = fake_pipeline.named("build_shards")
    assert (from_mapping(filled), True) == (request, request.masked)


def test_a_form_that_is_no_request_is_refused(run_dag: Any, fake_pipeline: Any) -> None:
    """Without a name, or where the fields do not fit one another, the run fails before anything is read."""
    for filled in ({}, {"name": "a", "splits": {"train": 0.5}}):
        assert run_dag("curate_shards", **{**EMPTY, **filled}).state == "failed"
    assert fake_pipeline.calls == []


@pytest.mark.parametrize("request_text", ["name: [", "- a list", "just words", "name: night\nsede: 7"])
def test_a_request_that_is_none_is_refused(request_text: str, run_dag: Any, fake_pipeline: Any) -> None:
    """Broken YAML and unknown keys fail the run at once, before anything is read."""
    run = run_dag("curate_shards", request=request_text)
    assert run.state == "failed"
    assert tries(run, "build") == 1
    assert fake_pipeline.calls == []


def test_an_approved_release_is_published(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """The approval carries name and ticket, and the form showed the digests it is bound to; the requester is whoever triggered the run."""
    shown = officer("Approve", params={"ticket": "DTA-2026-17"})
    run = run_dag("publish_metadata")
    assert run.state == "success"
    assert set(states(run).values()) == {"success"}
    release_id = fake_pipeline.summary["release_id"]
    assert fake_pipeline.named("cut_release") == [(["dag_test"],)]
    assert fake_pipeline.named("approve") == [(release_id, "officer", "DTA-2026-17", None, ["dag_test"])]
    assert fake_pipeline.named("publish_release") == [(release_id,)]
    ((subject, body),) = shown
    assert release_id in subject
    for said in (
        "**7**",
        "| rows withheld | 5 |",
        "| province | coarse-place |",
        "| k-anonymity | 3 |",
        "Example GmbH",
        "b" * 64,
        "c" * 64,
        "a" * 64,
    ):
        assert said in body


def test_a_rejected_release_stays(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """Reject ends the run green with nothing recorded and nothing published."""
    officer("Reject", params={"ticket": "DTA-2026-18"})
    run = run_dag("publish_metadata")
    assert run.state == "success"
    assert states(run)["record_approval"] == "skipped"
    assert states(run)["publish"] == "skipped"
    assert fake_pipeline.named("approve") == []
    assert fake_pipeline.named("publish_release") == []


def test_whoever_triggered_the_run_cannot_approve_it(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """An approval by the requester is refused before it is recorded, and is not tried again."""
    officer("Approve", by="dag_test", params={"ticket": "DTA-2026-19"})
    run = run_dag("publish_metadata")
    assert run.state == "failed"
    assert states(run)["record_approval"] == "failed"
    assert tries(run, "record_approval") == 1
    assert fake_pipeline.named("approve") == []
    assert fake_pipeline.named("publish_release") == []


def test_an_empty_ticket_is_asked_again(run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """The form is put up again, and the run fails in the end; nothing is recorded."""
    shown = officer("Approve", params={"ticket": ""})
    run = run_dag("publish_metadata")
    assert run.state == "failed"
    assert states(run)["officer_approval"] == "failed"
    assert len(shown) == 3
    assert fake_pipeline.named("approve") == []


@pytest.mark.parametrize(
    "answer",
    [{"params": {}}, {"params": {"ticket": "   "}}, {"params": {"ticket": None}}, {"by": None, "params": {"ticket": "DTA-2026-20"}}],
)
def test_an_approval_without_ticket_or_name_is_refused(
    answer: dict[str, Any], run_dag: Any, fake_pipeline: Any, officer: Any, states: Any
) -> None:
    """What Airflow lets pass, the DAG does not: no ticket at all, a blank one, nobody named."""
    officer("Approve", **answer)
    run = run_dag("publish_metadata")
    assert states(run)["record_approval"] == "failed"
    assert fake_pipeline.named("approve") == []
    assert fake_pipeline.named("publish_release") == []


@pytest.mark.parametrize("change", [{"rows": 0}, {"published": True}])
def test_nothing_to_publish_asks_nobody(change: dict[str, Any], run_dag: Any, fake_pipeline: Any, officer: Any, states: Any) -> None:
    """No row may leave, or all did: the officer is not bothered."""
    fake_pipeline.summary |= change
    shown = officer("Approve", params={"ticket": "DTA-2026-21"})
    run = run_dag("publish_metadata")
    assert run.state == "success"
    assert states(run)["officer_approval"] == "skipped"
    assert states(run)["publish"] == "skipped"
    assert shown == []


def test_a_gate_that_says_no_ends_the_publication(run_dag: Any, fake_pipeline: Any, officer: Any) -> None:
    """A refused gate is final."""
    fake_pipeline.errors["publish_release"] = [GateRefused("a column too many", subject="release", fix="look")]
    officer("Approve", params={"ticket": "DTA-2026-22"})
    run = run_dag("publish_metadata")
    assert run.state == "failed"
    assert len(fake_pipeline.named("publish_release")) == 1


@pytest.mark.parametrize(
    ("call", "task"), [("approve", "record_approval"), ("publish_release", "publish")], ids=["when it is recorded", "when it is used"]
)
def test_an_approval_that_does_not_hold_ends_the_run(
    call: str, task: str, run_dag: Any, fake_pipeline: Any, officer: Any, states: Any
) -> None:
    """Expired, of other bytes, without a requester: what `curation` refuses fails the task at its first try, and nothing is published."""
    fake_pipeline.errors[call] = [ApprovalRefused("the approval expired", subject="release", fix="approve it again")]
    officer("Approve", params={"ticket": "DTA-2026-23"})
    run = run_dag("publish_metadata")
    assert (run.state, states(run)[task], tries(run, task)) == ("failed", "failed", 1)
    assert len(fake_pipeline.named("publish_release")) == (call == "publish_release")


def test_only_ids_and_counts_travel(run_dag: Any, fake_pipeline: Any, officer: Any) -> None:
    """XComs of a publication hold the release id, whether to ask, and the answer, and nothing else."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    officer("Approve", params={"ticket": "DTA-2026-23"})
    run = run_dag("publish_metadata")
    with create_session() as session:
        found = session.scalars(select(XComModel).where(XComModel.run_id == run.run_id, XComModel.dag_id == run.dag_id)).all()
        returned = {one.task_id: one.value for one in found if one.key == "return_value"}
    assert set(returned) == {"release", "anything_new", "officer_approval", "record_approval"}
    assert returned["anything_new"] is True
    assert "must not travel" not in str(returned)
    for task_id in ("release", "record_approval"):
        assert fake_pipeline.summary["release_id"] in str(returned[task_id])


def test_the_fake_fits_the_pipeline(fake_kind: Any) -> None:
    """What these tests let the DAGs call takes the arguments that `curation.pipeline` takes."""
    from curation import pipeline

    fake = fake_kind()
    names = ("discover", "ingest_batch", "validate_batch", "release_summary", "approve", "publish_release", "build_shards")
    for name in (*names, "ask_withdrawal", "withdrawal_summary", "confirm_withdrawal", "rebuild_shard_sets"):
        real = inspect.signature(getattr(pipeline, name)).parameters
        assert list(real) == list(inspect.signature(getattr(fake, name)).parameters), name
    assert {"settings", "requesters"} <= set(inspect.signature(pipeline.cut_release).parameters)


def test_a_real_store_knows_no_such_batch(run_dag: Any) -> None:
    """With the real pipeline, a well-formed key of a batch that is not there fails at the first try, and says so at home."""
    run = run_dag("validate_manifests", partition_key=BATCH)
    assert run.state == "failed"
    assert tries(run, "validate") == 1


def test_a_review_that_needs_nobody_is_green_and_announces_expiry(run_dag: Any, fake_pipeline: Any, log_text: Any) -> None:
    """Nothing to take back: the run succeeds, and the log says when the pack expires."""
    assert run_dag("review_publications").state == "success"
    assert "every row is withdrawn" in log_text()
    fake_pipeline.reviewed.withdrawal_id, fake_pipeline.reviewed.withdrawn = "0123456789abcdef", True
    assert run_dag("review_publications").state == "success"


def test_a_review_that_fails_or_waits_for_a_second_person_fails_its_run(run_dag: Any, fake_pipeline: Any, log_text: Any) -> None:
    """Somebody is told: a broken pack is final, and a withdrawal that nobody may confirm alone names the command."""
    fake_pipeline.errors["review"] = [PackRefused("unsigned", subject="pack", fix="sign it")]
    assert run_dag("review_publications").state == "failed"
    fake_pipeline.reviewed.withdrawal_id = "0123456789abcdef"
    assert run_dag("review_publications").state == "failed"
    assert "curation withdraw confirm 0123456789abcdef" in log_text()
    assert len(fake_pipeline.named("review")) == 2


def test_upkeep_is_tried_again(run_dag: Any, fake_pipeline: Any) -> None:
    """A catalog that failed once costs one more try."""
    fake_pipeline.errors["upkeep"] = [OutsideError("no answer", subject="home catalog", fix="wait")]
    assert run_dag("upkeep").state == "success"
    assert len(fake_pipeline.named("upkeep")) == 2
