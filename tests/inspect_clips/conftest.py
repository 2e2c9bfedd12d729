"""Small clips made by PyAV, a store in memory, and the parts an inspection needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from curation.adapters.clock_system import PinnedClock
from curation.adapters.tagger_picture import PictureTagger
from curation.adapters.video_av import AvVideoReader
from curation.errors import CurationError, ImmutableConflict
from curation.records import Inspection
from curation.settings import InspectSettings
from curation.stages.inspect_clips import inspect_clip

FPS = 25
Pictures = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="session")
def scene() -> Callable[[int], Pictures]:
    """Renders a textured ground that slides under a bright sky, 640 x 360 BGR, as many frames as asked."""

    def render(count: int) -> Pictures:
        rng = np.random.default_rng(7)
        texture = cv2.resize(rng.integers(40, 200, (60, 200, 3), dtype=np.uint8), (2000, 600), interpolation=cv2.INTER_LINEAR)
        frames = []
        for index in range(count):
            frame = texture[:360, 4 * index : 4 * index + 640].copy()
            frame[:140] = (230, 200, 180)
            frames.append(frame)
        return frames

    return render


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Path]:
    """Writes BGR frames as H.264, or by another encoder; `ticks` are presentation times in frames, by default 0, 1, 2 …"""

    def write(frames: Pictures, *, name: str = "clip.mp4", ticks: Sequence[int] | None = None, encoder: str = "libx264") -> Path:
        path = tmp_path / name
        with av.open(path, "w") as container:
            stream = container.add_stream(encoder, rate=FPS, options={"preset": "ultrafast", "crf": "18", "g": "25"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, FPS)
            for tick, picture in zip(ticks or range(len(frames)), frames, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = tick, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def clock() -> PinnedClock:
    """Noon of one day."""
    return PinnedClock(datetime(2026, 11, 21, 12, tzinfo=UTC))


@pytest.fixture
def inspect(clock: PinnedClock) -> Callable[[Path], Inspection]:
    """Inspects one file in this process under default settings."""

    def call(path: Path) -> Inspection:
        return inspect_clip(path, video=AvVideoReader(), tagger=PictureTagger(), policy=InspectSettings(), clock=clock)

    return call


class MemoryStore:
    """An ObjectStore of what inspection needs; `paths` stand for the local copies of clips."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.paths: dict[str, Path] = {}
        self.held = 0

    def create(self, key: str, data: bytes) -> bool:
        """As the port says."""
        if key in self.objects and self.objects[key] != data:
            raise ImmutableConflict("exists with other bytes", subject=key, fix="use another key")
        created = key not in self.objects
        self.objects[key] = data
        return created

    def read(self, key: str) -> bytes:
        """As the port says."""
        return self.objects[key]

    def size(self, key: str) -> int | None:
        """As the port says."""
        return len(self.objects[key]) if key in self.objects else None

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """As the port says."""
        if key not in self.paths:
            raise CurationError("there is no such object", subject=key, fix="pull it again")
        self.held += 1
        try:
            yield self.paths[key]
        finally:
            self.held -= 1


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore()
