"""The demo as a newcomer runs it: four real Airflow components, triggers and the officer's answer over REST."""

import contextlib
import io
import json
import sqlite3
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from curation import pipeline
from curation.demo import run_demo
from curation.demo.airflow_stack import AirflowStack
from tests import postgres

pytestmark = pytest.mark.airflow

STAYS_HOME = ("clip_id", "vehicle_id", "vin", "plate", "device_id", "driver_id", "source_uri", "object_uri")
FORGED = ("../../home/keys", "demo-0123456789abcdef")  # no batch id at all; one that is well-formed and of no batch


@dataclass
class Looked:
    """What was seen of a running stack before it stopped."""

    pools: set[str] = field(default_factory=set)
    runs: dict[str, list[str]] = field(default_factory=dict)


def forge(stack):
    """Asset events as anyone who may write them writes them; returns when what they start is over."""
    assets = {one["name"]: one["id"] for one in stack._call("GET", "/assets", query={"limit": 50})["assets"]}
    known = len(stack.runs("validate_manifests"))
    for name in ("manifest", "curated_clips"):
        for key in FORGED:
            stack._call("POST", "/assets/events", user="officer", body={"asset_id": assets[name], "partition_key": key, "extra": {}})

    def over():
        runs = stack.runs("validate_manifests")[known:]
        return runs if len(runs) == len(FORGED) and all(run.state in {"success", "failed"} for run in runs) else None

    return [run.state for run in stack._until(over, 120.0, "forged events start no validation")]


@pytest.fixture
def watched(monkeypatch):
    """Has the demo's own stack looked at by a function before it stops; with a database of its own where one is named."""
    seen, options = Looked(), {"look": None, "env": {}}

    class Watched(AirflowStack):
        def __init__(self, *places, env, **arguments):
            super().__init__(*places, env={**env, **options["env"]}, **arguments)

        def __exit__(self, kind, error, trace):
            try:
                if kind is None:
                    seen.pools = {one["name"] for one in self._call("GET", "/pools")["pools"]}
                    options["look"](self)
                    seen.runs = {dag: [run.run_type for run in self.runs(dag)] for dag in ("publish_metadata", "validate_manifests")}
            finally:
                super().__exit__(kind, error, trace)

    monkeypatch.setattr(run_demo, "AirflowStack", Watched)
    return seen, options


@pytest.fixture
def database():
    """Settings for PostgreSQL as deploy/ has them, in a cluster of this test alone; none where there is no server."""
    with contextlib.ExitStack() as stack:
        if postgres.MISSING:
            yield {}
            return
        cluster = stack.enter_context(postgres.running())
        text = (run_demo.ROOT / "deploy" / "one-machine.env").read_text(encoding="utf-8")
        text = text.replace("USER:PASSWORD@127.0.0.1:PORT/DATABASE", f"owner:{cluster.password}@127.0.0.1:{cluster.port}/postgres")
        yield dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def demo(work, **options) -> str:
    """What the demo printed."""
    out = io.StringIO()
    run_demo.run(work=work, say=Console(file=out, width=160, markup=False), **options)
    return out.getvalue()


def logs_of(work) -> str:
    """All that components and tasks logged."""
    return "".join(path.read_text(errors="replace") for path in (work / "airflow").rglob("*.log"))


def values_that_stay(settings) -> set[str]:
    """Each value of an id, name or address that neither a log nor an XCom may hold."""
    rows = pipeline.curated(settings)[0]
    found = {value for column in STAYS_HOME for value in rows[column].to_pylist() if value}
    assert len(found) > rows.num_rows  # a fleet without vehicles would prove nothing
    return found | {uri.rsplit("/", 1)[-1] for uri in rows["source_uri"].to_pylist()}


def test_the_demo_on_rendered_clips_runs_twice(tmp_path, watched, database):
    """Rendered fleet through all DAGs: rows reach the catalog after the officer's answer; a second run does nothing new.

    What travels through Airflow is ids of batches, releases and shard sets; the second run is on PostgreSQL, and forged events start
    nothing there that publishes.
    """
    seen, options = watched
    options["look"] = lambda _: None
    first = demo(tmp_path, clips=None, fleet=None)
    settings = pipeline.open_settings(tmp_path)
    rows, entries = pipeline.published(settings).num_rows, list(pipeline.ledger_entries(settings))
    assert rows > 0
    assert "answering as the officer over REST: Approve" in first
    assert "none found" in first
    assert seen.pools >= {"ingest", "overseas"}
    assert all({"code_version", "pack_in_force"} <= entry.facts.keys() for entry in entries)
    with contextlib.closing(sqlite3.connect(tmp_path / "airflow" / "airflow.db")) as db:
        xcoms = json.dumps(db.execute("select dag_id, task_id, key, value from xcom").fetchall())
    assert "list_batches" in xcoms
    stays = values_that_stay(settings)
    said = {"logs": logs_of(tmp_path), "XComs": xcoms}
    assert {where: sorted(value for value in stays if value in text) for where, text in said.items()} == {"logs": [], "XComs": []}

    forged = []
    options.update(look=lambda stack: forged.extend(forge(stack)), env=database)
    second = demo(tmp_path, clips=None, fleet=None)
    assert "nobody is asked" in second
    assert forged == ["failed", "failed"]
    assert seen.runs == {"publish_metadata": ["manual"], "validate_manifests": ["asset_triggered"] * len(FORGED)}
    assert pipeline.published(settings).num_rows == rows
    assert list(pipeline.ledger_entries(settings)) == entries
    text = logs_of(tmp_path)
    assert [value for value in stays if value in text] == []
