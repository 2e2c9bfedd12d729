"""Rows made under other settings are measured again and replaced, and a better clip takes over, whatever is killed on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from curation import layout, pipeline, wiring
from curation.audit.ledger import StoreLedger
from curation.errors import ValidationFailed
from curation.pipeline import batch
from curation.records import CheckFailure, ValidationResult
from curation.settings import Settings

TOML = '[sources.car]\npath = "{source}"\n[pull]\nsettle_s = 0.0\n[inspect.thresholds]\nmin_duration_s = {min_duration_s}\n'


class Killed(BaseException):
    """The process ends here."""


def _write(path: Path, seed: int, *, height: int) -> None:
    texture = cv2.resize(np.random.default_rng(seed).integers(20, 230, (40, 120, 3), dtype=np.uint8), (2000, 600))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = height * 16 // 9, height, "yuv420p"
        for at in range(40):
            picture = cv2.resize(texture[:360, 8 * at : 8 * at + 640], (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _settings(work: Path, *, min_duration_s: float = 1.0) -> Settings:
    (work / "curation.toml").write_text(TOML.format(source=work / "car", min_duration_s=min_duration_s))
    return pipeline.open_settings(work)


def _ingest(settings: Settings) -> None:
    for batch_id in pipeline.discover(settings, "car"):
        pipeline.ingest_batch(settings, batch_id)
        pipeline.validate_batch(settings, batch_id)


def _rows(settings: Settings) -> dict[str, dict[str, Any]]:
    return {Path(row["source_uri"]).name: row for row in pipeline.curated(settings)[0].to_pylist()}


class Passing:
    """A validator that passes every row unless given failures; tests/validate holds the real one to its word."""

    failures: tuple[CheckFailure, ...] = ()

    def validate(self, suite: str, rows: pa.Table, related: object = None) -> ValidationResult:
        """One declared check, executed over all rows."""
        held = {"declared": 1, "executed": 1, "skipped": 0, "errored": 0, "rows_examined": rows.num_rows, "rows_present": rows.num_rows}
        return ValidationResult(suite=suite, suite_digest="d" * 64, failures=self.failures, **held)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A work folder with a small clip and another one, and a second batch that brings the small one at full size."""
    work = tmp_path_factory.mktemp("work")
    (work / "car").mkdir()
    passing = pytest.MonkeyPatch()
    passing.setattr(wiring, "validator", lambda _: Passing())
    _write(work / "car" / "small.mp4", 1, height=180)
    _write(work / "car" / "other.mp4", 2, height=180)
    _ingest(_settings(work))
    _write(work / "car" / "full.mp4", 1, height=360)
    _ingest(_settings(work))
    yield work
    passing.undo()


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    """The validator of this test."""
    validator = Passing()
    monkeypatch.setattr(wiring, "validator", lambda _: validator)
    return validator


@pytest.fixture
def work(ingested: Path, tmp_path: Path) -> Iterator[Path]:
    """The work folder, put back afterwards as it was: the catalog knows its warehouse by path."""
    saved = tmp_path / "saved"
    shutil.copytree(ingested, saved)
    yield ingested
    shutil.rmtree(ingested)
    shutil.copytree(saved, ingested)


def test_the_better_clip_of_a_later_batch_takes_over(work: Path) -> None:
    """The curated small clip is told of its full-size survivor on main; the manifests that were written stay as they were."""
    settings = _settings(work)
    rows = _rows(settings)
    assert {"small.mp4": rows["full.mp4"]["clip_id"], "other.mp4": None, "full.mp4": None} == {
        name: row["duplicate_of"] for name, row in rows.items()
    }
    pipeline.verify(settings)
    head = wiring.home(settings).catalog.head(settings.curated_table)
    for batch_id in {row["batch_id"] for row in rows.values()}:
        pipeline.validate_batch(settings, batch_id)
    assert head == wiring.home(settings).catalog.head(settings.curated_table)


def test_rows_of_other_settings_are_replaced_once(work: Path) -> None:
    """Every row carries the new digest, survivors stay; a second run does nothing; going back brings the rows of then."""
    before = _rows(_settings(work))
    changed = _settings(work, min_duration_s=1.8)
    counts = list(pipeline.reinspect(changed))
    assert {"manifest": 3, "validate": 3} == {
        stage: sum(count.rows_in for count in counts if count.stage == stage) for stage in ("manifest", "validate")
    }
    rows = _rows(changed)
    assert {changed.inspect.digest()} == {row["settings_digest"] for row in rows.values()}
    assert {"rejected"} == {row["verdict"] for row in rows.values()}
    assert rows["full.mp4"]["clip_id"] == rows["small.mp4"]["duplicate_of"]
    assert [] == list(pipeline.reinspect(changed))
    pipeline.verify(changed)
    again = _settings(work)
    list(pipeline.reinspect(again))
    assert before == _rows(again)
    list(pipeline.reinspect(_settings(work, min_duration_s=1.8)))
    assert rows == _rows(changed)


def _before_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(batch.validate, "run", killed)


def _before_the_ledger_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    record = StoreLedger.record

    def killed(ledger: StoreLedger, count: Any, **given: Any) -> Any:
        if count.stage == "validate" and any(layout.batch_of_revision(key) for key in given["files"]):
            raise Killed
        return record(ledger, count, **given)

    monkeypatch.setattr(StoreLedger, "record", killed)


@pytest.mark.parametrize("kill", [_before_audit, _before_the_ledger_knows])
def test_a_killed_run_goes_on(work: Path, kill: Callable[[pytest.MonkeyPatch], None]) -> None:
    """After a kill the next run leads to the same rows, and the ledger covers every revision."""
    changed = _settings(work, min_duration_s=1.8)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(Killed):
            list(pipeline.reinspect(changed))
    list(pipeline.reinspect(changed))
    assert {changed.inspect.digest()} == {row["settings_digest"] for row in _rows(changed).values()}
    assert () == pipeline.verify(changed).uncovered
    assert [] == list(pipeline.reinspect(changed))


def test_rows_that_fail_the_audit_replace_nothing(work: Path, passing: Passing) -> None:
    """Main keeps its rows where the new ones do not pass, and the run says so each time."""
    before = _rows(_settings(work))
    changed = _settings(work, min_duration_s=1.8)
    passing.failures = (CheckFailure(check="verdict.vocabulary", column="verdict", problem="unexpected", row_count=1),)
    for _ in range(2):
        with pytest.raises(ValidationFailed, match="verdict"):
            list(pipeline.reinspect(changed))
    assert before == _rows(changed)
