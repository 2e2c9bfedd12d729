"""Airflow for the DAG tests: a home of its own, set before anything imports airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"


def _own_airflow() -> Path:
    if "airflow" in sys.modules:
        pytest.fail("airflow was imported before its test environment was set: no other conftest or test module may import it at its top")
    home = Path(tempfile.mkdtemp(prefix="airflow-test-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "GX_ANALYTICS_ENABLED": "false",
        }
    )
    sys.path.append(str(DAGS))  # as Airflow does, so that `shared` is found
    return home


AIRFLOW_HOME = _own_airflow()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests, and let Airflow's own deprecations pass: they are not ours to mend."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.airflow)
            for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"))


@pytest.fixture(scope="session")
def dagbag() -> Any:
    """The project's DAG folder, parsed, on a fresh metadata database."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils import db

    db.initdb()
    return DagBag(dag_folder=str(DAGS))


class FakePipeline:
    """Stands in for `curation.pipeline`: remembers calls, raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.batches: list[str] = ["north-0123456789abcdef", "north-fedcba9876543210"]
        self.summary: dict[str, Any] = {
            "release_id": "2026-W12-0123456789abcdef",
            "rows": 7,
            "withheld": 5,
            "rules": {"k-anonymity": 3, "fenced-place": 2},
            "home_only": "must not travel",
            "columns": [{"column": "province", "rule": "coarse-place"}, {"column": "month", "rule": "coarse-time"}],
            "recipient": "Example GmbH",
            "purpose": "scene statistics",
            "pack_digest": "a" * 64,
            "release_digest": "b" * 64,
            "evidence_digest": "c" * 64,
            "published": False,
        }
        found = SimpleNamespace(row_count=7, asked=SimpleNamespace(num_rows=0), pack="cn 1", days_left=9, is_announced=True, expires_on="x")
        self.reviewed = SimpleNamespace(found=found, withdrawal_id="", withdrawn=False)
        self.errors: dict[str, list[Exception]] = {}

    def _called(self, name: str, *args: Any) -> None:
        self.calls.append((name, *args))
        if self.errors.get(name):
            raise self.errors[name].pop(0)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The calls of one function."""
        return [call[1:] for call in self.calls if call[0] == name]

    def open_settings(self) -> SimpleNamespace:
        """Settings, as far as the DAGs look at them: the names of sources."""
        return SimpleNamespace(sources={"south": None, "north": None})

    def discover(self, settings: Any, source_name: str) -> list[str]:
        """The batches to do."""
        self._called("discover", source_name)
        return self.batches

    def ingest_batch(self, settings: Any, batch_id: str) -> None:
        """Ingest."""
        self._called("ingest_batch", batch_id)

    def validate_batch(self, settings: Any, batch_id: str) -> None:
        """Validate."""
        self._called("validate_batch", batch_id)

    def cut_release(self, settings: Any, *, requesters: Any) -> str:
        """Cut."""
        self._called("cut_release", list(requesters))
        return str(self.summary["release_id"])

    def release_summary(self, settings: Any, release_id: str) -> dict[str, Any]:
        """Summarise."""
        self._called("release_summary", release_id)
        return self.summary

    def approve(
        self, settings: Any, release_id: str, *, approver: str, ticket: str, digests: Any = None, requesters: Any = (), key: Any = None
    ) -> None:
        """Approve."""
        assert key is None  # Airflow vouches for the officer; nobody's key is at hand there
        self._called("approve", release_id, approver, ticket, digests, list(requesters))

    def publish_release(self, settings: Any, release_id: str) -> None:
        """Publish."""
        self._called("publish_release", release_id)

    def ask_withdrawal(self, settings: Any, *, by: str, value: str, reason: str, requester: str) -> str:
        """Ask."""
        self._called("ask_withdrawal", by, value, reason, requester)
        return "0123456789abcdef"

    def withdrawal_summary(self, settings: Any, withdrawal_id: str) -> dict[str, Any]:
        """Summarise."""
        self._called("withdrawal_summary", withdrawal_id)
        return {"withdrawal_id": withdrawal_id, "clips": 3, "by": "vehicle", "reason": "the owner asked", "requester": "engineer"}

    def confirm_withdrawal(self, settings: Any, withdrawal_id: str, *, approver: str) -> None:
        """Confirm."""
        self._called("confirm_withdrawal", withdrawal_id, approver)

    def rebuild_shard_sets(self, settings: Any, removal_id: str) -> dict[str, SimpleNamespace]:
        """Build again."""
        self._called("rebuild_shard_sets", removal_id)
        again = {"night-0123456789abcdef": "night-fedcba9876543210", "day-0123456789abcdef": None}
        return {name: SimpleNamespace(shard_set_id=one, why="" if one else "clip 7: cannot") for name, one in again.items()}

    def review(self, settings: Any) -> SimpleNamespace:
        """Review."""
        self._called("review")
        return self.reviewed

    def prune_masked_copies(self, settings: Any) -> SimpleNamespace:
        """Prune."""
        self._called("prune_masked_copies")
        return SimpleNamespace(accounted={"in_use": 4, "removed": 2})

    def upkeep(self, settings: Any) -> list[SimpleNamespace]:
        """Keep up."""
        self._called("upkeep")
        return [SimpleNamespace(table="curated.clips", compacted_files=3, expired_snapshots=2, removed_files=5)]

    def build_shards(self, settings: Any, request: Any, *, snapshot_id: Any = None, progress: Any = None) -> str:
        """Build."""
        self._called("build_shards", request)
        return "night-rain-0123456789abcdef"


@pytest.fixture
def fake_pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """`curation.pipeline` replaced for the tasks of this test."""
    import curation

    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "curation.pipeline", fake)
    monkeypatch.setattr(curation, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def fake_kind() -> type[FakePipeline]:
    """The class behind `fake_pipeline`."""
    return FakePipeline


@pytest.fixture
def log_text(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that tasks and Airflow logged since the last call."""

    def read() -> str:
        said = capfd.readouterr()
        return said.out + said.err + caplog.text

    return read


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder that tasks find in the environment."""
    monkeypatch.setenv("CURATION_WORK", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def synced() -> set[str]:
    """DAGs that were run; from the first on, the database knows them all."""
    return set()


@pytest.fixture
def run_dag(dagbag: Any, synced: set[str], work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a DAG in this process, retries without waiting; returns the finished run."""
    from datetime import timedelta

    from airflow.dag_processing import dagbag as parsing
    from airflow.models import dagrun

    def run(dag_id: str, partition_key: str | None = None, *, at: datetime | None = None, **conf: Any) -> Any:
        dag = dagbag.dags[dag_id]
        made = dagrun.get_or_create_dagrun

        def with_key(**arguments: Any) -> Any:
            run = made(**arguments)
            run.partition_key = partition_key
            arguments["session"].commit()
            return run

        with monkeypatch.context() as patch:
            # dag.test() knows no partition key, and retries wait as long in it as in real life.
            patch.setattr(dagrun, "get_or_create_dagrun", with_key)
            if synced:  # dag.test() parses the whole folder anew and writes it to the database, each time
                patch.setattr(parsing, "BundleDagBag", lambda **_: None)
                patch.setattr(parsing, "sync_bag_to_db", lambda *_: None)
            synced.add(dag_id)
            for one in dag.tasks:
                target = one.partial_kwargs if one.is_mapped else one.__dict__
                patch.setitem(target, "retry_delay", timedelta(0))
            patch.setattr(dag, "deadline", None)  # dag.test() of 3.3.2 cannot write one: "'dict' object has no attribute 'hex'"
            return dag.test(run_conf=conf, **({"logical_date": at} if at else {}))

    return run


@pytest.fixture
def states() -> Callable[[Any], dict[str, Any]]:
    """State of each task of a run by task id and, for mapped ones, index."""

    def of(run: Any) -> dict[str, Any]:
        return {one.task_id if one.map_index < 0 else f"{one.task_id}[{one.map_index}]": str(one.state) for one in run.get_task_instances()}

    return of


@pytest.fixture
def officer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Answers the approval task at once."""
    from datetime import UTC, datetime

    from airflow.providers.standard.operators.hitl import ApprovalOperator

    shown: list[tuple[str, str]] = []

    def answer(option: str, *, by: str | None = "officer", params: dict[str, Any] | None = None) -> list[tuple[str, str]]:
        def execute(self: Any, context: Any) -> Any:
            shown.append((self.subject, self.body))
            event = {
                "chosen_options": [option],
                "params_input": params or {},
                "responded_at": datetime.now(UTC),
                "responded_by_user": {"id": by, "name": by} if by else None,
            }
            return self.execute_complete(context, event)

        monkeypatch.setattr(ApprovalOperator, "execute", execute)
        return shown

    return answer
