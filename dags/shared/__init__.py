"""What the DAG files share. Airflow puts the DAG folder on the path, so they import it as `shared`.

No DAG of this folder is parsed, and no task of it runs, where Airflow's control plane is not at home.
"""

from __future__ import annotations

import os

from curation.airflow_guard import require_airflow_home

require_airflow_home(os.environ)
