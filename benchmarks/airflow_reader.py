"""An invented video reader for the benchmark of the scheduler: tiny files stand for clips, and nothing is decoded.

No setting of the project leads here. The benchmark's own DAG file installs it in the task's process before it runs the real DAG file, and
it refuses every work folder but one that the benchmark has made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from curation import wiring
from curation.adapters.engine_local import InlineEngine
from curation.errors import ClipUnreadable, UsageError
from curation.ports import Engine, Frame, VideoReader
from curation.records import Container, Embedded, Packet
from curation.settings import EngineSettings, HomeSettings, InspectSettings
from curation.stages import inspect_clips

MARK: Final = "invented-clips"  # the file by which a work folder of the benchmark is known
MAGIC: Final = b"invented clip "
FPS: Final = 25
_CONTAINER: Final = Container(container="mp4", video_codec="h264", width_px=1280, height_px=720, duration_s=1.0)
_PACKETS: Final = tuple(
    Packet(pts_s=number / FPS, duration_s=1 / FPS, size_bytes=8192, is_keyframe=number == 0, is_corrupt=False, dts_s=number / FPS)
    for number in range(FPS)
)


class _Stream:
    """One second of video that nobody recorded; its packets' digest is that of the file."""

    container = _CONTAINER
    decode_errors = 0

    def __init__(self, data: bytes) -> None:
        self._data = data

    def packets(self) -> tuple[Sequence[Packet], str]:
        """25 sound packets."""
        return _PACKETS, hashlib.sha256(self._data).hexdigest()

    def frames(self, chosen: Collection[int] | None = None) -> Iterator[Frame]:
        """None: the benchmark inspects at depth packets."""
        del chosen
        return iter(())

    def embedded(self) -> Embedded:
        """Nothing."""
        return Embedded()


class InventedReader:
    """Opens the files that the benchmark wrote, and no others."""

    @contextmanager
    def open(self, path: Path) -> Iterator[_Stream]:
        """The file as a clip.

        Raises:
            ClipUnreadable: it is not one of them.
        """
        data = path.read_bytes()
        if not data.startswith(MAGIC):
            raise ClipUnreadable("is no invented clip", subject=path.name, fix="leave real clips to the real reader")
        yield _Stream(data)


def install() -> None:
    """Have this process read invented clips.

    Raises:
        UsageError: the work folder is none that the benchmark made.
    """
    work = os.environ.get("CURATION_WORK")
    if not work or not Path(work, MARK).is_file():
        raise UsageError("was not made by the benchmark", subject="CURATION_WORK", fix="use the real DAG folder for real clips")
    wiring.video_reader = _reader
    wiring.engine = _engine


def _reader() -> VideoReader:
    return InventedReader()


def _engine(_: EngineSettings, *, home: HomeSettings | None = None) -> Engine:
    del home
    reader, tagger, clock = InventedReader(), wiring.tagger(), wiring.clock()

    def inspect(item: Mapping[str, Any]) -> Mapping[str, Any]:
        policy = InspectSettings.model_validate(item["policy"])
        found = inspect_clips.inspect_clip(Path(item["path"]), video=reader, tagger=tagger, policy=policy, clock=clock)
        value: Mapping[str, Any] = json.loads(inspect_clips.to_json(found))
        return value

    return InlineEngine({"inspect": inspect})
