"""Nothing of Airflow starts, and no DAG is parsed, where its control plane is not at home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.airflow_guard import require_airflow_home
from curation.errors import NotAtHome, SettingsError
from curation.settings import HomeSettings

ROOT = Path(__file__).resolve().parents[2]
ABROAD = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://airflow@db.eu.example/airflow",
    "AIRFLOW__API__BASE_URL": "https://airflow.eu.example",
    "OPENLINEAGE_URL": "https://lineage.eu.example",
}


def _run(code: str, tmp_path: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process that runs the code as a component of this project's Airflow would."""
    own = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'dags'}",
    }
    return subprocess.run([sys.executable, "-c", code], env=own | env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variable", sorted(ABROAD))
def test_a_component_whose_control_plane_is_abroad_does_not_start(tmp_path: Path, variable: str) -> None:
    """Importing Airflow, with which every component and task begins, ends with the name of the setting."""
    done = _run("import airflow", tmp_path, {variable: ABROAD[variable]})
    assert done.returncode == 1
    assert "NotAtHome" in done.stderr
    assert "allow-list" in done.stderr


def test_a_component_at_home_starts_and_a_dag_abroad_is_not_parsed(tmp_path: Path) -> None:
    """On this machine all is well; a DAG file ends at its first line where the database is abroad, whatever the plugins folder is."""
    done = _run("import airflow, shared; print('up')", tmp_path, {})
    assert (0, "up") == (done.returncode, done.stdout.strip()), done.stderr
    abroad = {**ABROAD, "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path / "none")}
    done = _run("import shared", tmp_path, abroad)
    assert (1, True) == (done.returncode, "NotAtHome" in done.stderr)


def test_the_work_folder_says_what_is_home(tmp_path: Path) -> None:
    """A database on the work folder's allow-list passes; airflow.cfg counts as the environment does; a broken file is no consent."""
    env = {"AIRFLOW_HOME": str(tmp_path), "CURATION_WORK": str(tmp_path)}
    (tmp_path / "airflow.cfg").write_text("[database]\nsql_alchemy_conn = postgresql://a@db.fleet.example/airflow\n", encoding="utf-8")
    with pytest.raises(NotAtHome, match=r"database\.sql_alchemy_conn"):
        require_airflow_home(env)
    (tmp_path / "curation.toml").write_text('[home]\nhosts = ["db.fleet.example"]\n', encoding="utf-8")
    require_airflow_home(env)
    with pytest.raises(NotAtHome):
        require_airflow_home(env, home=HomeSettings())
    (tmp_path / "curation.toml").write_text("[home\n", encoding="utf-8")
    with pytest.raises(SettingsError):
        require_airflow_home(env)


def test_a_task_that_is_kept_off_the_database_passes(tmp_path: Path) -> None:
    """Airflow hides the address from tasks; the components that have it asked before."""
    require_airflow_home({"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "airflow-db-not-allowed:///"})
