"""`python -m tests.torch.make_sets FOLDER`: shard sets in every form and format, and what a reader must find in them, as JSON.

Runs in the project's own environment, where nothing of torch is.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation.adapters.engine_local import InlineEngine
from curation.adapters.store_local import DirectoryStore
from curation.adapters.video_av import AvVideoReader
from curation.audit.ledger import StoreLedger
from curation.layout import clip_key, object_uri, shard_key
from curation.schema import CLIPS
from curation.shards.request import from_mapping
from curation.stages import shards
from tests.shards import masked
from tests.shards.conftest import StoppedClock
from tests.shards.invented import FPS, FRAMES, write

CODINGS = ("keyint=25:scenecut=0:bframes=0", "keyint=25:scenecut=0:bframes=3", "keyint=20:bframes=3:open-gop=1", "keyint=75:bframes=0")
PICTURE_FPS = 2
MASKED_SEED = 3


def make(folder: Path) -> dict[str, Any]:
    """Folder of each set; by clip the mean colour of each frame that a picture is of, as OpenCV decodes it from the clip itself."""
    folder.mkdir(parents=True, exist_ok=True)
    store = DirectoryStore(folder / "store", jurisdiction="CN")
    rows, frames = [], {}
    for seed, coding in enumerate(CODINGS):
        video = write(folder / f"{seed}.mp4", {"x264-params": coding}, seed=seed)
        data = video.read_bytes()
        clip_id = hashlib.sha256(data).hexdigest()
        store.create(clip_key(clip_id, ".mp4"), data)
        frames[clip_id] = _colours(video)
        known = {"duration_s": FRAMES / FPS, "width_px": 320, "height_px": 192, "weather": "clear", "vehicle_id": f"V{seed}"}
        place = {"object_uri": object_uri(clip_key(clip_id, ".mp4")), "size_bytes": len(data), "verdict": "accepted", "reasons": []}
        rows.append({**dict.fromkeys(CLIPS.names), **known, **place, "clip_id": clip_id, "drive_id": f"D{seed}", "batch_id": "b"})
    table = pa.Table.from_pylist(rows, schema=pa.schema([pa.field(field.name, field.type) for field in CLIPS]))
    ledger = StoreLedger(store, StoppedClock(), Ed25519PrivateKey.generate())
    jobs = {shards.JOB: partial(shards.answer_shard, store=store, video=AvVideoReader())}
    sets = {}
    for form in ("clips", "frames"):
        for kind in ("webdataset", "mds"):
            asked = {"name": f"{form}-{kind}", "form": form, "format": kind, "shard_size_bytes": 100_000, "columns": ["weather"]}
            workers = shards.Workers(engine=InlineEngine(jobs), settings={})
            made = shards.run(from_mapping(asked), table, 1, store=store, ledger=ledger, workers=workers)
            sets[f"{form}-{kind}"] = str(folder / "store" / shard_key(made.shard_set_id, ""))
    sets["masked-frames-mds"] = _masked(folder / "masked")
    return {"sets": sets, "frames": frames}


def _masked(folder: Path) -> str:
    """Folder of a masked set of one clip's pictures."""
    folder.mkdir()
    store = DirectoryStore(folder / "store", jurisdiction="CN")
    data = masked.write(folder / "clip.mp4", seed=MASKED_SEED).read_bytes()
    clip_id = hashlib.sha256(data).hexdigest()
    store.create(clip_key(clip_id, ".mp4"), data)
    known = {
        "duration_s": masked.FRAMES / masked.FPS,
        "width_px": 160,
        "height_px": 96,
        "weather": "clear",
        "vehicle_id": "V",
        "drive_id": "D",
    }
    looked_at = {"face_count_max": 1, "plate_count_max": 0}
    place = {"object_uri": object_uri(clip_key(clip_id, ".mp4")), "size_bytes": len(data), "verdict": "accepted", "reasons": []}
    row = {**dict.fromkeys(CLIPS.names), **known, **looked_at, **place, "clip_id": clip_id, "batch_id": "b"}
    table = pa.Table.from_pylist([row], schema=pa.schema([pa.field(field.name, field.type) for field in CLIPS]))
    asked = {"name": "masked", "masked": True, "form": "frames", "format": "mds", "columns": ["weather"]}
    ledger = StoreLedger(store, StoppedClock(), Ed25519PrivateKey.generate())
    workers = shards.Workers(engine=masked.engine(store), settings={})
    made = shards.run(from_mapping(asked), table, 1, store=store, ledger=ledger, workers=workers, permit=masked.PERMIT)
    return str(folder / "store" / shard_key(made.shard_set_id, ""))


def _colours(video: Path) -> dict[str, list[float]]:
    """Index of a picture -> mean blue, green and red of its frame."""
    capture, found, number = cv2.VideoCapture(str(video)), {}, 0
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return found
        index = number * PICTURE_FPS // FPS
        if number == -(-index * FPS // PICTURE_FPS):
            found[f"{index:06d}"] = frame.reshape(-1, 3).mean(axis=0).tolist()
        number += 1


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make(Path(sys.argv[1]))) + "\n")
