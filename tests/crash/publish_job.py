"""Publication of an approved release and withdrawal of one of its clips, in processes that can be killed as those of `main_job.py`."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

from curation import pipeline
from curation.stages.withdraw import Selection


def run_publication(work: Path, enter: Callable[[str], None] = lambda _: None) -> None:
    """Publish the one release there is, then withdraw the first clip of vehicle fleet-0000."""
    settings = pipeline.open_settings(work)
    [release] = pipeline.releases(settings)
    enter("publish")
    pipeline.publish_release(settings, release["release_id"])
    enter("withdraw")
    asked = pipeline.request_withdrawal(settings, Selection(by="device", value="DEV-0"), reason="sold", requester="engineer")
    pipeline.confirm_withdrawal(settings, asked.withdrawal_id, approver="officer")


if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("main_job.py")))["serve"](run_publication, ["curation.adapters.catalog_home"])
