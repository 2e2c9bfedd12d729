"""The demo as a newcomer runs it: four real Airflow components, triggers and the officer's answer over REST."""

import io

import pytest
from rich.console import Console

from curation import pipeline
from curation.demo import run_demo

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
