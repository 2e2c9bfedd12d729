"""A masked shard set by the shipped models and real workers: a labelled face and plate are grey in every sample, the rest is as it was."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation import pipeline, wiring
from curation.demo import evaluation
from curation.layout import clip_key, shard_key
from curation.privacy.paint import GREY
from curation.settings import Settings, read_settings
from curation.shards import mds
from curation.shards.request import from_mapping
from tests.release.conftest import clip, table

_SHARED = Path(__file__).parents[3] / "shared" / "privacy"
NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
FRAMES = 2


@pytest.fixture
def settings(tmp_path: Path, models_at_home: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A work folder with the shipped models, and an evaluation of them that a demo's settings take."""
    monkeypatch.setenv("CURATION_NOW", NOW.isoformat())
    settings, models = read_settings({}, work=tmp_path / "work"), wiring.store(models_at_home)
    list(pipeline.pull_models(models_at_home, ("ppocr-lines", "ppocr-characters", "clp-lines", "clp-characters")))
    for key in models.keys("models/"):
        wiring.store(settings).create(key, models.read(key))
    return evaluation.trusting(settings, evaluation.make(tmp_path / "work" / "home" / "law", settings, now=NOW))


def _boxes(name: str, kind: str) -> list[tuple[float, float, float, float]]:
    with (_SHARED / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] == name and row["kind"] == kind]
    return [(float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"])) for row in rows]


def _street() -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """A picture with faces, into whose corner a part of another with one plate is set; and all boxes."""
    face, plate = (cv2.imread(str(_SHARED / name)) for name in ("faces/coco01.jpg", "plates_cn/ccpd0.jpg"))
    assert face is not None
    assert plate is not None
    of_faces, (of_plate,) = _boxes("faces/coco01.jpg", "face"), _boxes("plates_cn/ccpd0.jpg", "plate")
    left, top = max(0, round(of_plate[0]) - 60), max(0, round(of_plate[1]) - 60)
    part = plate[top : round(of_plate[1] + of_plate[3]) + 60, left : round(of_plate[0] + of_plate[2]) + 60]
    picture = np.ascontiguousarray(face[: face.shape[0] // 2 * 2, : face.shape[1] // 2 * 2], np.uint8)
    down = picture.shape[0] - part.shape[0]
    picture[down:, : part.shape[1]] = part
    return picture, [*of_faces, (of_plate[0] - left, of_plate[1] - top + down, of_plate[2], of_plate[3])]


@pytest.mark.clips
@pytest.mark.skipif(not _SHARED.is_dir(), reason="../shared/privacy is not there")
def test_a_real_face_and_plate_are_in_no_sample(settings: Settings, tmp_path: Path) -> None:
    """A curated clip of both, masked by a worker process and written as MDS pictures: the boxes are grey, a corner is as it was."""
    home, (picture, boxes) = wiring.home(settings), _street()
    wiring.video_writer().write(tmp_path / "clip.mp4", iter([picture] * FRAMES), fps=Fraction(2))
    data = (tmp_path / "clip.mp4").read_bytes()
    clip_id = hashlib.sha256(data).hexdigest()
    home.store.create(clip_key(clip_id, ".mp4"), data)
    where = {"clip_id": clip_id, "object_uri": f"home:{clip_key(clip_id, '.mp4')}", "size_bytes": len(data)}
    counts = {"face_count_max": 1, "plate_count_max": 1, "width_px": picture.shape[1], "height_px": picture.shape[0]}
    row = clip(1, vehicle="fleet-1", drive_id="drive-1", **where, **counts)
    home.catalog.write_branch(settings.curated_table, "test", table(row), replace=[], properties={})
    assert home.catalog.advance(settings.curated_table, "test")
    asked = {"name": "real", "masked": True, "form": "frames", "format": "mds", "frames": {"fps": 2, "jpeg_quality": 95}}
    shard_set_id = pipeline.build_shards(settings, from_mapping(asked))
    index = json.loads(home.store.read(shard_key(shard_set_id, "index.json")))
    assert {"face", "plate"} == {kind for kind, count in index["masking"]["tracks"].items() if count}
    key = shard_key(shard_set_id, "train/train-000000.mds")
    samples = list(mds.read_samples(io.BytesIO(home.store.read(key)), key))
    assert FRAMES == len(samples)
    for sample in samples:
        shown = np.asarray(cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR)).astype(int)
        for x, y, wide, high in boxes:
            inside = shown[round(y + 0.2 * high) : round(y + 0.8 * high), round(x + 0.2 * wide) : round(x + 0.8 * wide)]
            assert np.median(abs(inside - GREY)) < 6, (x, y)
        assert abs(shown[:24, :24] - picture[:24, :24].astype(int)).mean() < 12
