"""MosaicML Streaming's own MDS writer over listed clips, in its own environment: `python streaming_writer.py LISTING TARGET SHARD_BYTES`.

Prints the seconds it took, with the bytes on disk and SHA-256 of each shard, as on our side.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # PyPI's build needs CUDA; Streaming imports it, and uses none of its operators
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from streaming import MDSWriter

listing, target, shard_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
samples = json.loads(listing.read_text())
columns = {"__key__": "str", "clip": "bytes", "json": "json", "suffix": "str"}
begin = time.perf_counter()
with MDSWriter(out=str(target), columns=columns, hashes=["sha256"], size_limit=shard_bytes) as writer:
    for clip_id, path, description in samples:
        told = json.loads(description)
        writer.write({"__key__": clip_id, "clip": Path(path).read_bytes(), "json": told, "suffix": ".mp4"})
for shard in sorted(target.iterdir()):
    with shard.open("rb") as file:
        os.fsync(file.fileno())
print(time.perf_counter() - begin)
