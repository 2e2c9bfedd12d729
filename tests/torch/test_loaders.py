"""Shard sets load in PyTorch's DataLoader with several workers and in MosaicML's StreamingDataset; run by `make test-torch`."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: run `make test-torch`")
pytestmark = pytest.mark.torch

WORKERS = 2
COLOUR_TOLERANCE = 3.0  # of 255: FFmpeg and OpenCV convert colours each in their way, and JPEG loses some


def opened(data: bytes) -> Any:
    """A picture as a tensor, height x width x 3, red first."""
    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))


def check_pictures(found: dict[str, Any], frames: dict[str, dict[str, list[float]]]) -> None:
    """Every picture is there once, has the clip's size, and the colours of its frame."""
    expected = {f"{clip_id}-{index}": colour for clip_id, of_clip in frames.items() for index, colour in of_clip.items()}
    assert sorted(found) == sorted(expected)
    for key, picture in found.items():
        assert tuple(picture.shape) == (192, 320, 3)
        mean = picture.reshape(-1, 3).float().mean(dim=0).flip(0).tolist()
        assert max(abs(one - other) for one, other in zip(mean, expected[key], strict=True)) < COLOUR_TOLERANCE, key


def tar_loader(folder: str) -> Any:
    """A DataLoader of several workers over a set's tars."""
    import webdataset

    urls = sorted(str(path) for path in Path(folder).glob("train-*.tar"))
    assert len(urls) > WORKERS
    dataset = webdataset.WebDataset(urls, shardshuffle=False, workersplitter=webdataset.split_by_worker, empty_check=False)
    return torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=WORKERS)


def test_a_dataloader_reads_every_picture_of_tars(sets: dict[str, Any]) -> None:
    """Two workers share the shards; every picture comes once, and shows its frame."""
    found = {}
    for sample in tar_loader(sets["sets"]["frames-webdataset"]):
        assert sample["__key__"] not in found
        found[sample["__key__"]] = opened(sample["jpg"])
        assert json.loads(sample["json"])["weather"] == "clear"
    check_pictures(found, sets["frames"])


def test_a_dataloader_reads_every_clip_of_tars(sets: dict[str, Any]) -> None:
    """Whole clips come once each, to the byte."""
    found = [(sample["__key__"], hashlib.sha256(sample["mp4"]).hexdigest()) for sample in tar_loader(sets["sets"]["clips-webdataset"])]
    assert sorted(found) == sorted((clip_id, clip_id) for clip_id in sets["frames"])


@pytest.fixture(scope="module")
def _importable_torchvision() -> None:
    """Streaming imports torchvision and uses none of its operators, which in PyPI's build need CUDA and are missing beside a CPU torch."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture
def streaming_loader(tmp_path: Path, _importable_torchvision: None) -> Any:
    """A DataLoader of several workers over a split of MDS."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    def build(folder: str) -> Any:
        dataset = StreamingDataset(remote=folder, local=str(tmp_path / "cache"), split="train", batch_size=4, validate_hash="sha256")
        return torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=WORKERS, collate_fn=list)

    yield build
    clean_stale_shared_memory()


def test_streaming_reads_every_picture(sets: dict[str, Any], streaming_loader: Any) -> None:
    """Streaming checks each shard's digest, and decodes each picture by itself."""
    import numpy as np

    found = {}
    for batch in streaming_loader(sets["sets"]["frames-mds"]):
        for sample in batch:
            found[sample["__key__"]] = torch.from_numpy(np.array(sample["jpg"].convert("RGB")))
            assert sample["json"]["weather"] == "clear"
    check_pictures(found, sets["frames"])


def test_streaming_reads_masked_pictures(sets: dict[str, Any], streaming_loader: Any) -> None:
    """A masked set: four pictures, each grey where the white square was, and white nowhere; the texture below is there."""
    import numpy as np

    found = {}
    for batch in streaming_loader(sets["sets"]["masked-frames-mds"]):
        found |= {one["__key__"]: np.array(one["jpg"].convert("RGB")).astype(int) for one in batch}
    assert [f"{index:06d}" for index in range(4)] == [key[-6:] for key in sorted(found)]
    for index, key in enumerate(sorted(found)):
        left = 8 * 3 * index + 4  # of every third frame, in which the square, 16 px wide, has moved by 8 px a frame
        assert abs(found[key][12:24, left + 2 : left + 14] - 114).max() < 20, key
        assert found[key].max() < 160
        assert found[key][56:].std() > 10


def test_streaming_reads_every_clip(sets: dict[str, Any], streaming_loader: Any) -> None:
    """Whole clips come to the byte, with what they are called after their dot."""
    found = {}
    for batch in streaming_loader(sets["sets"]["clips-mds"]):
        found |= {one["__key__"]: (hashlib.sha256(one["clip"]).hexdigest(), one["suffix"]) for one in batch}
    assert found == {clip_id: (clip_id, ".mp4") for clip_id in sets["frames"]}
