"""Clips made for tests: moving textures that show nothing, coded in several ways."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

FRAMES = 75
FPS = 25


def write(path: Path, options: dict[str, str], *, seed: int = 3) -> Path:
    """A clip of three seconds whose every frame shows another picture."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.integers(0, 255, (24, 60, 3), dtype=np.uint8), (480, 192), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast", **options})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, 2 * number : 2 * number + 320]), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
