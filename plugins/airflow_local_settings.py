"""Airflow imports this in each of its processes as it starts, and does not start where it fails: the control plane must be at home."""

from __future__ import annotations

import os

from curation.airflow_guard import require_airflow_home

__all__: list[str] = []  # nothing here overrides a setting of Airflow

require_airflow_home(os.environ)
