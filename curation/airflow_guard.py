"""Whether the Airflow around this process is at home. Its plugins folder has every component ask at start-up, and `shared` every DAG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curation.residency.control_plane import control_plane, read_airflow_cfg
from curation.residency.jurisdiction import require_control_plane_home
from curation.settings import HomeSettings, read_settings


def require_airflow_home(env: Mapping[str, str], *, home: HomeSettings | None = None) -> None:
    """Nothing, if API, metadata database, queue, remote log, metrics and lineage lead nowhere but home.

    Args:
        env: the environment of an Airflow component or task; it names airflow.cfg, which is read too.
        home: the allow-list; else that of `CURATION_WORK`, and without such a work folder this machine alone.

    Raises:
        NotAtHome: one of them leads elsewhere, or cannot be told; names the setting.
        SettingsError: airflow.cfg or curation.toml cannot be read.
    """
    if home is None:
        home = read_settings(env).home if env.get("CURATION_WORK") else HomeSettings()
    file = Path(env.get("AIRFLOW_CONFIG") or Path(env.get("AIRFLOW_HOME") or "~/airflow", "airflow.cfg")).expanduser()
    config = read_airflow_cfg(file.read_text(encoding="utf-8")) if file.is_file() else {}
    lineage = env.get("OPENLINEAGE_CONFIG") or config.get("openlineage.config_path") or ""
    text = Path(lineage).read_text(encoding="utf-8") if lineage and Path(lineage).is_file() else None
    require_control_plane_home(control_plane(env, config, lineage_file=text), home=home)
