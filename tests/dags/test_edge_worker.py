"""A worker with nothing but HTTP to the control plane, as deploy/ sets it up, here on loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from curation.demo import process_tree
from curation.demo.airflow_stack import AirflowStack, _airflow_executable
from tests import postgres

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(postgres.MISSING is not None, reason=postgres.MISSING or ""),
    pytest.mark.skipif(find_spec("airflow.providers.edge3") is None, reason="dashcam-curation[edge] is not installed"),
]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DAG = '''
"""A DAG that says where it ran."""
import os
from airflow.sdk import dag, task

@dag(dag_id="where", schedule=None)
def where():
    @task
    def say():
        return os.environ["CURATION_SITE"]
    say()

where()
'''


def settings(name: str, host: str) -> dict[str, str]:
    """What a file of deploy/ sets, for a control plane at `host` that speaks plain HTTP."""
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key: value.replace("https://AIRFLOW-HOST", host) for key, value in pairs}


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[AirflowStack]:
    """Four components that run no task themselves."""
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "where.py").write_text(DAG, encoding="utf-8")
    stack = AirflowStack(tmp_path / "airflow", dags)
    with postgres.running() as cluster:
        where = f"owner:{cluster.password}@127.0.0.1:{cluster.port}/postgres"
        stack._extra_env.update(
            {
                **settings("one-machine.env", stack.url),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{where}",
                **settings("edge-control-plane.env", stack.url),
                "CURATION_SITE": "control plane",
            }
        )
        with stack:
            yield stack


def test_a_worker_with_nothing_but_http_runs_the_task(control_plane: AirflowStack, tmp_path: Path) -> None:
    """The task runs where the worker is, which listens on no port and is told of no database; its result comes back over HTTP."""
    shared = ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER", "PYTHONPATH", "PATH")
    own = {"AIRFLOW_HOME": str(tmp_path / "worker"), "CURATION_SITE": "China", "HOME": os.environ["HOME"]}
    running = control_plane.environment
    env = {name: running[name] for name in shared} | own | settings("edge-worker.env", control_plane.url)
    command = [_airflow_executable(), "edge", "worker", "--queues", "china", "--concurrency", "1", "--edge-hostname", "worker-1"]
    log = tmp_path / "worker.log"
    with log.open("wb") as said, subprocess.Popen(command, env=env, stdout=said, stderr=said, start_new_session=True) as worker:
        try:
            run_id = control_plane.trigger("where")
            control_plane.require_success("where", run_id, limit_s=180)
            assert control_plane.result("where", run_id, "say") == "China"
            assert process_tree.listening(list(process_tree.family([worker.pid]))) == set()
        finally:
            grown = process_tree.family([worker.pid])
            worker.terminate()
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
            process_tree.kill(grown)
