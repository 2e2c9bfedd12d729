"""`ingest_clips` with the real pipeline on three clips: a retry goes on where it stopped, a month's backfill adds nothing twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clip_files import write_clips
from curation import pipeline, wiring
from curation.adapters.engine_local import InlineEngine
from curation.errors import OutsideError
from curation.ports import Outcome
from curation.worker import build_inspector

CLIPS = 3


@pytest.fixture
def source(work: Path, tmp_path: Path) -> Path:
    """A work folder with one source of three clips."""
    folder = tmp_path / "incoming"
    write_clips(folder, CLIPS, 65536)
    (work / "curation.toml").write_text(f'[sources.north]\npath = "{folder}"\n[pull]\nsettle_s = 0.0\n', encoding="utf-8")
    return folder


class FailingEngine:
    """Measures, and fails after the first clip of its first map as a disk does."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """One outcome, then an error that a retry may mend; all outcomes from the second map on."""
        self.asked.append(len(items))
        for outcome in InlineEngine({"inspect": build_inspector()}).map(job, items):
            yield outcome
            if len(self.asked) == 1:
                raise OutsideError("is full", subject="disk", fix="make room")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FailingEngine:
    """The engine of every batch of this test."""
    made = FailingEngine()
    monkeypatch.setattr(wiring, "engine", lambda *_, **__: made)
    return made


def counts(kind: str) -> list[Mapping[str, int]]:
    """What the ledger's entries of a kind count."""
    return [entry.counts for entry in pipeline.ledger_entries(pipeline.open_settings()) if entry.kind == kind]


def backfill(first: datetime, last: datetime) -> list[tuple[datetime, str]]:
    """What Airflow's own backfill makes of the days: logical date and kind of run of each that it made."""
    from airflow.models.backfill import Backfill, ReprocessBehavior, _create_backfill
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    made = _create_backfill(
        dag_id="ingest_clips", from_date=first, to_date=last, max_active_runs=1, reverse=False, dag_run_conf={},
        triggering_user_name="engineer", reprocess_behavior=ReprocessBehavior.NONE,
    )  # fmt: skip
    with create_session() as session:
        session.execute(update(Backfill).where(Backfill.id == made.id).values(completed_at=datetime.now(UTC)))
        found = session.scalars(select(DagRun).where(DagRun.backfill_id == made.id)).all()
        return [(run.logical_date, str(run.run_type)) for run in found]


def test_a_retried_batch_goes_on_and_a_backfill_adds_nothing(run_dag: Any, source: Path, engine: FailingEngine) -> None:
    """The second try measures the two clips that the first did not; of a month's days the first takes all, and the others nothing."""
    first = datetime(2026, 9, 30, 17, tzinfo=UTC)  # 01:00 in Shanghai, as the schedule has it
    run = run_dag("ingest_clips", at=first, sources=[])
    assert run.state == "success"
    assert next(one.try_number for one in run.get_task_instances() if one.task_id == "ingest") == 2
    assert engine.asked == [CLIPS, CLIPS - 1]
    assert [count["rows_in"] for count in counts("manifest")] == [CLIPS]
    entries = list(pipeline.ledger_entries(pipeline.open_settings()))

    month = backfill(first, first + timedelta(days=30, hours=1))
    assert [kind for _, kind in month] == ["backfill"] * 30  # the day that was run already is left as it is
    assert sorted({at for at, _ in month} | {first}) == [first + timedelta(days=day) for day in range(31)]
    assert backfill(first, first + timedelta(days=30, hours=1)) == []
    for at, _ in (month[0], month[-1]):
        assert run_dag("ingest_clips", at=at, sources=[]).state == "success"
    assert engine.asked == [CLIPS, CLIPS - 1]
    assert list(pipeline.ledger_entries(pipeline.open_settings())) == entries


def test_no_publication_is_backfilled(run_dag: Any, fake_pipeline: Any) -> None:
    """What leaves is decided once a week by a person; Airflow refuses to make up for weeks that are gone."""
    from airflow.exceptions import DagRunTypeNotAllowed

    run_dag("upkeep")  # the database knows the DAGs
    from airflow.models.backfill import _create_backfill

    days = {"from_date": datetime(2026, 10, 1, tzinfo=UTC), "to_date": datetime(2026, 10, 31, tzinfo=UTC)}
    with pytest.raises(DagRunTypeNotAllowed):
        _create_backfill(
            dag_id="publish_metadata", **days, max_active_runs=1, reverse=False, dag_run_conf={}, triggering_user_name="engineer"
        )
