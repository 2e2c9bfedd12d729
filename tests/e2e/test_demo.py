"""The demo as a newcomer runs it: four real Airflow components, triggers and the officer's answer over REST."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from curation import pipeline
from curation.demo import run_demo

SHARED = Path(__file__).resolve().parents[3] / "shared" / "clips"

pytestmark = pytest.mark.airflow


def demo(work, **options) -> str:
    """What the demo printed."""
    out = io.StringIO()
    run_demo.run(work=work, say=Console(file=out, width=160, markup=False), **options)
    return out.getvalue()


def test_the_demo_on_rendered_clips_runs_twice(tmp_path):
    """Rendered fleet through all DAGs: rows reach the catalog after the officer's answer; a second run does nothing new."""
    first = demo(tmp_path, clips=None, fleet=None)
    rows = pipeline.published(pipeline.open_settings(tmp_path)).num_rows
    entries = len(list(pipeline.ledger_entries(pipeline.open_settings(tmp_path))))
    assert rows > 0
    assert "answering as the officer over REST: Approve" in first
    assert "none found" in first
    second = demo(tmp_path, clips=None, fleet=None)
    assert "nobody is asked" in second
    assert pipeline.published(pipeline.open_settings(tmp_path)).num_rows == rows
    assert len(list(pipeline.ledger_entries(pipeline.open_settings(tmp_path)))) == entries
    logs = "".join(path.read_text(errors="replace") for path in (tmp_path / "airflow" / "logs").rglob("*.log"))
    clip_ids = pipeline.curated(pipeline.open_settings(tmp_path))[0]["clip_id"].to_pylist()
    assert [clip_id for clip_id in clip_ids if clip_id in logs] == []


@pytest.mark.clips
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real clips are not beside the project")
def test_without_a_fleet_file_nothing_leaves_and_the_demo_says_so(tmp_path):
    """Real clips without telemetry: all are curated, nothing is published, and the demo ends well and says why."""
    said = demo(tmp_path, clips=SHARED / "videos", fleet=None)
    assert "no clip has a fix, so nothing may leave" in said
    assert "nobody is asked" in said
    assert pipeline.published(pipeline.open_settings(tmp_path)).num_rows == 0
    assert pipeline.curated(pipeline.open_settings(tmp_path))[0].num_rows == 18
