"""What must hold of every DAG file, before any run."""

from __future__ import annotations

from typing import Any

import pytest

EXPECTED = {"ingest_clips", "validate_manifests", "publish_metadata", "curate_shards", "review_publications", "withdraw_clips", "upkeep"}


def test_every_dag_parses(dagbag: Any) -> None:
    """All DAGs are there, no file fails to import, and the shared package is not searched for DAGs."""
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) >= EXPECTED
    assert not [stat.file for stat in dagbag.dagbag_stats if "shared" in stat.file]


def test_dag_files_import_fast(dagbag: Any) -> None:
    """No file takes two seconds to parse: heavy things are imported inside tasks."""
    slow = {stat.file: stat.duration.total_seconds() for stat in dagbag.dagbag_stats if stat.duration.total_seconds() >= 2}
    assert slow == {}


def test_every_dag_says_what_to_do_when_it_fails(dagbag: Any) -> None:
    """Documentation with a failure section, tags and a named owner stand on every DAG."""
    for dag_id in EXPECTED:
        dag = dagbag.dags[dag_id]
        assert "**When it fails**" in (dag.doc_md or ""), dag_id
        assert dag.tags, dag_id
        assert {one.owner for one in dag.tasks}.isdisjoint({"airflow"}), dag_id


def test_who_may_start_what(dagbag: Any) -> None:
    """No asset event and no backfill can start a publication; validation is started by its asset or by hand."""
    kinds = {dag_id: {kind.value for kind in dagbag.dags[dag_id].allowed_run_types} for dag_id in EXPECTED}
    assert kinds["publish_metadata"] == {"scheduled", "manual"}
    assert kinds["validate_manifests"] == {"asset_triggered", "manual"}
    assert kinds["curate_shards"] == kinds["withdraw_clips"] == {"manual"}
    assert "asset_triggered" not in kinds["ingest_clips"]


def test_partition_keys_meet(dagbag: Any) -> None:
    """What ingest_clips emits under the batch id is what validate_manifests waits for, key unchanged."""
    from airflow.sdk import IdentityMapper
    from shared.assets import MANIFEST

    produced = dagbag.dags["ingest_clips"].get_task("ingest").partial_kwargs["outlets"]
    timetable = dagbag.dags["validate_manifests"].timetable
    assert produced == [MANIFEST]
    assert timetable.asset_condition == MANIFEST
    assert isinstance(timetable.default_partition_mapper, IdentityMapper)
    assert timetable.partition_mapper_config == {}


def test_the_graphs_stay_small(dagbag: Any) -> None:
    """A batch costs at most two validation tasks, a release at most eight tasks."""
    assert len(dagbag.dags["validate_manifests"].tasks) <= 2
    assert len(dagbag.dags["publish_metadata"].tasks) <= 8


def test_the_officer_is_asked_rightly(dagbag: Any) -> None:
    """Only the officer may answer, silence means no, and a lost answer is asked for again."""
    from datetime import timedelta

    ask = dagbag.dags["publish_metadata"].get_task("officer_approval")
    assert [user["id"] for user in ask.assigned_users] == ["officer"]
    assert ask.defaults == ["Reject"]
    assert ask.response_timeout == timedelta(days=2)
    assert ask.retries == 2


def test_no_run_comes_unasked(dagbag: Any) -> None:
    """A publication DAG seen for the first time shortly after its hour waits for next week."""
    from datetime import UTC, datetime
    from unittest.mock import patch

    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction

    monday_3_am_shanghai = datetime(2026, 3, 8, 19, tzinfo=UTC)
    with patch.object(trigger, "utcnow", return_value=monday_3_am_shanghai):
        timetable = coerce_to_core_timetable(dagbag.dags["publish_metadata"].timetable)
        info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False))
    assert info is not None
    assert info.run_after == datetime(2026, 3, 15, 18, tzinfo=UTC)


def test_files_carry_nothing_that_changes_by_itself(dagbag: Any) -> None:
    """Parsing twice gives the same serialised DAGs, so that no parse makes a new version."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bags = [DagBag(dag_folder=dagbag.dag_folder) for _ in range(2)]  # two fresh ones: a run of dag.test() changes its own
    for dag_id in EXPECTED:
        first, second = (DagSerialization.to_dict(bag.dags[dag_id]) for bag in bags)
        assert first == second, dag_id


def test_every_pool_is_made_where_the_stack_starts(dagbag: Any) -> None:
    """A task whose pool is missing would wait for ever; all that tasks name stand in deploy/pools.json, and none there is for nothing."""
    import json
    from pathlib import Path

    made = json.loads((Path(dagbag.dag_folder).parent / "deploy" / "pools.json").read_text(encoding="utf-8"))
    named = {one.pool for dag_id in EXPECTED for one in dagbag.dags[dag_id].tasks} - {"default_pool"}
    assert named == set(made)
    assert all(pool["slots"] > 0 for pool in made.values())


def test_the_form_for_shards_has_every_key(dagbag: Any) -> None:
    """Each key of a request is a field with its words, values of tags are offered, and nothing that does not fit passes."""
    from airflow.sdk.exceptions import ParamValidationError

    from curation.shards.request import ShardRequest

    params = dagbag.dags["curate_shards"].params
    assert {*ShardRequest.model_fields, "request"} == set(params)
    quotas = params.get_param("quotas")
    assert "rainy" in quotas.schema["properties"]["weather"]["propertyNames"]["enum"]
    assert quotas.resolve({"weather": {"rainy": 3}})
    for name, wrong in {"quotas": {"weather": {"rain": 3}}, "seed": -1, "near_duplicates": "keep", "quality": {"sharpnes": {}}}.items():
        with pytest.raises(ParamValidationError):
            params.get_param(name).resolve(wrong)
