"""Invented clips for benchmarks that move bytes: readable videos of any size, no two alike."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from curation import wiring

MIB: Final = 1024 * 1024
_BOX_HEADER_BYTES: Final = 8


def write_clips(folder: Path, count: int, size_bytes: int) -> list[Path]:
    """Clips of one second and exactly `size_bytes` each: a rendered mp4, filled up by a `free` box of random bytes."""
    folder.mkdir(parents=True)
    wiring.video_writer().write(folder / "video.mp4", iter(_pictures()), fps=Fraction(12))
    video = (folder / "video.mp4").read_bytes()
    (folder / "video.mp4").unlink()
    rng = np.random.default_rng(7)
    fill_bytes = size_bytes - len(video)
    files = [folder / f"clip-{number:04d}.mp4" for number in range(count)]
    for file in files:
        box = fill_bytes.to_bytes(4, "big") + b"free" + rng.bytes(fill_bytes - _BOX_HEADER_BYTES)
        file.write_bytes(video + box)
    return files


def _pictures() -> list[np.ndarray]:
    slope = np.linspace(0, 255, 320, dtype=np.uint8)
    return [np.broadcast_to(np.roll(slope, 8 * shift)[None, :, None], (180, 320, 3)).copy() for shift in range(12)]
