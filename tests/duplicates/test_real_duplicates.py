"""On the real clips: no false duplicate among 18, and every re-coded copy found, at the depth that inspection takes by default."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pytest

from curation.adapters.engine_local import LocalEngine
from curation.adapters.index_faiss import FaissHashIndex
from curation.digests import file_digest
from curation.schema import CLIPS as SCHEMA
from curation.settings import EngineSettings, InspectSettings
from curation.stages import duplicates
from curation.stages.inspect_clips import from_json
from curation.stages.manifest import inspected_row

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"
RECODED = ("S02", "S05", "S13")  # rain, a highway, a shaking stand
NEAR_DUPLICATE = {"S07": "S06"}  # 352 x 288 in another container, as clips.tsv says

pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared real clips are not beside the project"),
]


def _recode(path: Path, to: Path) -> None:
    """Half the width, another encoder setting, other key frames, another container."""
    with av.open(str(path)) as source, av.open(str(to), "w") as sink:
        video = source.streams.video[0]
        stream = sink.add_stream("libx264", rate=video.average_rate or Fraction(25), options={"crf": "32", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = video.width // 4 * 2, video.height // 4 * 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = video.time_base
        for frame in source.decode(video):
            small = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
            small.pts, small.time_base, small.pict_type = frame.pts, frame.time_base, av.video.frame.PictureType.NONE
            sink.mux(stream.encode(small))
        sink.mux(stream.encode(None))


@pytest.fixture(scope="module")
def names_and_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """clip_id -> name, and a row with the fleet's telemetry for every real clip; rows of copies have none of it."""
    folder = tmp_path_factory.mktemp("copies")
    files = {path.name[:3]: path for path in sorted((CLIPS / "videos").iterdir())}
    for name in RECODED:
        _recode(files[name], folder / f"{name}.mkv")
        files[f"{name} recoded"] = folder / f"{name}.mkv"
    files |= {"F01": CLIPS / "formats" / "F01_h264_copy.ts", "F02": CLIPS / "formats" / "F02_h264_copy.mov"}
    with (CLIPS / "fleet.csv").open(encoding="utf-8") as file:
        fleet = {row["file"][:3]: row for row in csv.DictReader(file)}
    policy = InspectSettings().model_dump(mode="json")
    outcomes = LocalEngine(EngineSettings(workers=2)).map(
        "inspect", [{"clip_id": name, "path": str(path), "policy": policy} for name, path in files.items()]
    )
    rows, names = [], {}
    for (name, path), outcome in zip(files.items(), outcomes, strict=True):
        assert outcome.value is not None, (name, outcome.failure)
        clip_id = file_digest(path)
        names[clip_id] = name
        row: dict[str, Any] = dict.fromkeys(duplicates.COLUMNS) | _telemetry(fleet.get(name, {}))
        row |= {"clip_id": clip_id, "size_bytes": path.stat().st_size}
        rows.append(_finished(row, outcome.value))
    return names, rows


def _telemetry(told: dict[str, str]) -> dict[str, Any]:
    at = told.get("captured_at")
    return {"vehicle_id": told.get("vehicle_id"), "captured_at": datetime.fromisoformat(at) if at else None, "camera": told.get("camera")}


def _finished(row: dict[str, Any], plain: Any) -> dict[str, Any]:
    blank = dict.fromkeys(SCHEMA.names)
    return inspected_row(blank | row, from_json(json.dumps(plain).encode()))


def _told(names: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, str]:
    kinds = pa.schema([SCHEMA.field(name).with_nullable(nullable=True) for name in duplicates.COLUMNS])
    table = pa.Table.from_pylist([{name: row[name] for name in duplicates.COLUMNS} for row in rows], schema=kinds)
    found = duplicates.run(table, kinds.empty_table(), index=FaissHashIndex())
    return {names[clip_id]: names[survivor] for clip_id, survivor in found.survivors.items() if survivor is not None}


def test_no_real_clip_is_a_false_duplicate(names_and_rows) -> None:
    """Of the 18 only the one that is a near-duplicate may be named, and only of its original."""
    names, rows = names_and_rows
    found = _told(names, [row for row in rows if len(names[row["clip_id"]]) == 3 and names[row["clip_id"]].startswith("S")])
    assert found.items() <= NEAR_DUPLICATE.items()


def test_recoded_and_rewrapped_copies_are_found(names_and_rows) -> None:
    """Copies at half the width, with other key frames and no telemetry, name their original; a re-wrapped stream names its twin."""
    names, rows = names_and_rows
    found = _told(names, rows)
    assert {f"{name} recoded": name for name in RECODED}.items() <= found.items()
    assert "S05" == found["F01"] == found["F02"]
