"""The auditor's portal in Airflow's web server, under Browse: each page is shown to whom Airflow lets read the runs that it speaks of.

Airflow imports this in each of its processes; only the one that is asked for a page loads the portal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import Request

PREFIX: Final = "/curation"
# Whoever may read the runs of this DAG may see the page.
RIGHTS: Final = {
    "overview": "publish_metadata",
    "batches": "validate_manifests",
    "releases": "publish_metadata",
    "trace": "publish_metadata",
    "packs": "review_publications",
    "counters": "review_publications",
    "shard_sets": "curate_shards",
}


@cache
def _portal() -> Any:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag

    from curation import pipeline
    from curation.portal.app import create_app

    def authorize(page: str) -> Callable[..., Any]:
        return requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN, param_dag_id=RIGHTS[page])

    def open_reading() -> pipeline.Reading:
        work = os.environ.get("CURATION_WORK")
        return pipeline.Reading(pipeline.open_settings(Path(work) if work else None))

    return create_app(open_reading, authorize, login_url=_login_url, framed=True)


def _login_url(request: Request) -> str:
    """Airflow's login, which brings the reader back to the page."""
    base = str(request.scope.get("root_path", ""))
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"{base.removesuffix(PREFIX)}/api/v2/auth/login?next={quote(asked, safe='')}"


async def portal(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """The portal as Airflow mounts it, made when it is first asked."""
    await _portal()(scope, receive, send)


class AuditorPortal(AirflowPlugin):
    """Mounts the portal and puts it into the Browse menu."""

    name = "auditor_portal"
    fastapi_apps = [{"app": portal, "url_prefix": PREFIX, "name": "Auditor's portal"}]  # noqa: RUF012 - Airflow's form
    external_views = [  # noqa: RUF012 - Airflow's form
        {
            "name": "Auditor's portal",
            "href": f"{PREFIX.removeprefix('/')}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "auditor-portal",
        }
    ]
