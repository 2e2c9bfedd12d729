"""Airflow's own addresses are found wherever they are set, and what cannot be told is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.demo.airflow_stack import AirflowStack
from curation.errors import NotAtHome, SettingsError
from curation.residency.control_plane import control_plane, read_airflow_cfg
from curation.residency.jurisdiction import require_control_plane_home
from curation.settings import HomeSettings

HOME = HomeSettings(hosts=("db.home.example", "logs.home.example"))
ABROAD = "https://collector.evil.example"


def _refused(env: dict[str, str], cfg: str = "", lineage_file: str | None = None) -> str:
    with pytest.raises(NotAtHome) as refused:
        require_control_plane_home(control_plane(env, read_airflow_cfg(cfg), lineage_file=lineage_file), home=HOME)
    return refused.value.subject


@pytest.mark.parametrize(
    "name",
    [
        "api.base_url",
        "core.execution_api_server_url",
        "edge.api_url",
        "database.sql_alchemy_conn",
        "database.sql_alchemy_conn_async",
        "celery.broker_url",
        "celery.result_backend",
    ],
)
def test_an_address_abroad_is_refused_wherever_it_is_set(name: str) -> None:
    """By environment variable, in the file, from a command and from a secrets backend."""
    section, key = name.split(".")
    executor = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,EdgeExecutor"}
    variable = f"AIRFLOW__{section}__{key}".upper()
    assert name == _refused({**executor, variable: ABROAD})
    assert name == _refused(executor, f"[{section}]\n{key} = {ABROAD}\n")
    assert name == _refused({**executor, f"{variable}_CMD": "cat /run/url"})
    assert name == _refused({**executor, f"{variable}_SECRET": "url"})
    assert name == _refused(executor, f"[{section}]\n{key}_cmd = cat /run/url\n")


def test_the_environment_goes_before_the_file() -> None:
    """What Airflow would obey is what is guarded."""
    cfg = f"[api]\nbase_url = {ABROAD}\n"
    found = control_plane({"AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080"}, read_airflow_cfg(cfg))
    assert {"api.base_url": "http://127.0.0.1:8080"} == found


def test_a_control_plane_at_home_passes() -> None:
    """Loopback, local paths and listed hosts, with logs, metrics and lineage on."""
    env = {
        "AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow:secret@db.home.example/airflow",
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": "s3://airflow-logs/x",
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "home_logs",
        "AIRFLOW_CONN_HOME_LOGS": json.dumps({"conn_type": "aws", "extra": {"endpoint_url": "https://logs.home.example"}}),
        "AIRFLOW__METRICS__STATSD_ON": "true",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": '{"type": "file", "log_file_path": "/srv/lineage.ndjson"}',
    }
    found = control_plane(env, {})
    assert 5 == len(found)
    require_control_plane_home(found, home=HOME)


@pytest.mark.parametrize(
    ("folder", "connection"),
    [
        ("s3://airflow-logs", None),
        ("s3://airflow-logs", "aws://?endpoint_url=https%3A%2F%2Flogs.evil.example"),
        ("s3://airflow-logs", "aws://?__extra__=%7B%7D"),
        ("s3://airflow-logs", '{"conn_type": "aws"}'),
        ("s3://airflow-logs", '{"extra": {"endpoint_url": "https://logs.home.example", "service_config": {"s3": {"endpoint_url": "https://x.evil"}}}}'),
        ("s3://airflow-logs", "{broken"),
        ("gs://airflow-logs", "aws://?endpoint_url=https%3A%2F%2Flogs.home.example"),
        ("", None),
    ],
)  # fmt: skip
def test_remote_logs_that_lead_abroad_or_nowhere_certain_are_refused(folder: str, connection: str | None) -> None:
    """A bucket's name says nothing: the endpoint of its connection must be at home."""
    env = {
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": folder,
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "home_logs",
        **({"AIRFLOW_CONN_HOME_LOGS": connection} if connection else {}),
    }
    assert _refused(env).startswith("logging.remote_base_log_folder")


@pytest.mark.parametrize(
    "env",
    [
        {"OPENLINEAGE_URL": ABROAD},
        {"AIRFLOW__OPENLINEAGE__TRANSPORT": f'{{"type": "http", "url": "{ABROAD}"}}'},
        {"AIRFLOW__OPENLINEAGE__TRANSPORT": '{"type": "datazone"}'},
        {"AIRFLOW__OPENLINEAGE__TRANSPORT": "no transport"},
        {"AIRFLOW__OPENLINEAGE__TRANSPORT": '{"type": "kafka", "config": {"bootstrap.servers": "db.home.example:9092,evil.example:9092"}}'},
        {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "composite", "transports": {"a": {"type": "console"}, "b": {"type": "http", "url": ABROAD}}}
            )
        },
        {"OPENLINEAGE__TRANSPORT__TYPE": "http", "OPENLINEAGE__TRANSPORT__URL": ABROAD},
        {"OPENLINEAGE_CONFIG": "/etc/openlineage.yml"},
    ],
)
def test_lineage_abroad_is_refused(env: dict[str, str]) -> None:
    """Wherever OpenLineage reads its transport from, kinds that are not known included."""
    _refused(env)
    assert {} == control_plane({**env, "OPENLINEAGE_DISABLED": "true"}, {})


def test_the_lineage_file_is_read() -> None:
    """The transport within the file is what is guarded."""
    env = {"OPENLINEAGE_CONFIG": "/etc/openlineage.yml"}
    _refused(env, lineage_file=f"transport:\n  type: http\n  url: {ABROAD}\n")
    found = control_plane(env, {}, lineage_file="transport:\n  type: http\n  url: https://db.home.example\n")
    require_control_plane_home(found, home=HOME)


@pytest.mark.parametrize(
    "env",
    [
        {"AIRFLOW__METRICS__STATSD_ON": "True", "AIRFLOW__METRICS__STATSD_HOST": "evil.example"},
        {"AIRFLOW__TRACES__OTEL_ON": "True", "AIRFLOW__TRACES__OTEL_HOST": "evil.example"},
        {"AIRFLOW__SENTRY__SENTRY_ON": "True", "AIRFLOW__SENTRY__SENTRY_DSN": "https://key@evil.example/1@db.home.example"},
    ],
)
def test_metrics_and_crash_reports_abroad_are_refused(env: dict[str, str]) -> None:
    """They name DAGs, tasks and users."""
    _refused(env)


def test_the_queue_of_an_executor_that_is_not_used_is_no_address() -> None:
    """The file that Airflow writes itself names a broker that nobody asks; a command might name any executor."""
    cfg = read_airflow_cfg("[core]\nexecutor = LocalExecutor\n[celery]\nbroker_url = redis://redis:6379/0\n")
    assert {} == control_plane({}, cfg)
    assert {"celery.broker_url"} == set(
        control_plane({"AIRFLOW__CORE__EXECUTOR_CMD": "cat /run/x"}, {"celery.broker_url": cfg["celery.broker_url"]})
    )


def test_a_file_that_is_no_configuration_is_an_error() -> None:
    """Nothing is concluded from a file that cannot be read."""
    with pytest.raises(SettingsError, match=r"airflow\.cfg"):
        read_airflow_cfg("no section = here")


def test_airflow_is_not_started_with_lineage_abroad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's and `curation up`'s Airflow stops before its database is made."""
    monkeypatch.setenv("OPENLINEAGE_URL", ABROAD)
    stack = AirflowStack(tmp_path / "airflow", tmp_path)
    with pytest.raises(NotAtHome, match=r"collector\.evil\.example"):
        stack.start()
    assert not (tmp_path / "airflow" / "airflow.db").exists()
    stack.stop()


def test_an_edited_airflow_cfg_does_not_escape(tmp_path: Path) -> None:
    """A setting in airflow.cfg that the environment leaves alone is guarded too."""
    home = tmp_path / "airflow"
    home.mkdir()
    (home / "airflow.cfg").write_text("[database]\nsql_alchemy_conn_async = postgresql+asyncpg://evil.example/airflow\n")
    stack = AirflowStack(home, tmp_path)
    with pytest.raises(NotAtHome, match="sql_alchemy_conn_async"):
        stack.start()
    stack.stop()
