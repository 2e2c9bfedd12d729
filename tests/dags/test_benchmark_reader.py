"""The benchmark's invented video reader cannot get at clips that anybody recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import airflow_reader
from curation import wiring
from curation.errors import ClipUnreadable, UsageError


@pytest.mark.parametrize("folder", ["", "work"])
def test_a_work_folder_that_the_benchmark_did_not_make_is_refused(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replaced where the folder lacks the benchmark's mark, or where none is named."""
    real = wiring.video_reader, wiring.engine
    monkeypatch.setenv("CURATION_WORK", str(tmp_path) if folder else "")
    with pytest.raises(UsageError, match="not made by the benchmark"):
        airflow_reader.install()
    assert (wiring.video_reader, wiring.engine) == real


def test_real_bytes_are_refused(tmp_path: Path) -> None:
    """What the benchmark did not write is no clip to its reader."""
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"\x00\x00\x00\x18ftypmp42")
    with pytest.raises(ClipUnreadable, match="no invented clip"), airflow_reader.InventedReader().open(file):
        pass


def test_the_project_does_not_know_it() -> None:
    """No line of the package, the DAGs or the plugins names the benchmarks."""
    root = Path(wiring.__file__).parents[1]
    files = [file for folder in ("curation", "dags", "plugins") for file in (root / folder).rglob("*.py")]
    assert [
        file.name for file in files if "airflow_reader" in (text := file.read_text(encoding="utf-8")) or "import benchmarks" in text
    ] == []
