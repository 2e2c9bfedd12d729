"""What goes wrong with recordings, made on purpose: pure functions over frames, frame indices and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import cv2
import numpy as np

from curation.demo.paint import Image
from curation.errors import UsageError

TEXT_AS_CLIP: Final = b"This is a note that somebody saved under the name of a clip. It holds no video.\n"


def black(frames: Iterator[Image]) -> Iterator[Image]:
    """The frames as a covered lens gives them: nearly nothing."""
    for frame in frames:
        yield cv2.convertScaleAbs(frame, alpha=0.02)


def frozen(frames: Iterator[Image]) -> Iterator[Image]:
    """The first frame as often as there are frames: the recorder hung."""
    first = next(frames, None)
    if first is None:
        return
    yield first
    for _ in frames:
        yield first


def blurred(frames: Iterator[Image]) -> Iterator[Image]:
    """The frames far out of focus, sensor noise included: a greasy or misted lens cover."""
    for frame in frames:
        yield cv2.GaussianBlur(frame, (0, 0), frame.shape[1] / 70)


FRAME_DEFECTS: Final[Mapping[str, Callable[[Iterator[Image]], Iterator[Image]]]] = {"black": black, "frozen": frozen, "blurred": blurred}


def dropped_indices(frame_count: int) -> frozenset[int]:
    """Indices of about a quarter of the frames, in two runs within the clip: what an overloaded recorder leaves out."""
    run = frame_count // 8
    return frozenset(range(frame_count // 4, frame_count // 4 + run)) | frozenset(range(frame_count * 5 // 8, frame_count * 5 // 8 + run))


def truncated(data: bytes, *, kept_share: float) -> bytes:
    """The beginning of a file: the card was pulled out while it was written.

    Raises:
        UsageError: `kept_share` is not inside (0, 1).
    """
    if not 0 < kept_share < 1:
        raise UsageError(f"kept_share is {kept_share}", subject="truncated", fix="keep a share between 0 and 1")
    return data[: round(len(data) * kept_share)]


def holed(data: bytes) -> bytes:
    """The file with a tenth of its media data zeroed, in the middle: a bad sector of the card."""
    start = data.rfind(b"mdat") + 4
    at, length = start + (len(data) - start) * 2 // 5, (len(data) - start) // 10
    return data[:at] + bytes(length) + data[at + length :]


def standing_twice(data: bytes) -> bytes:
    """The mp4 with every step that is longer than the usual one set to nothing: each of these frames has the time of the next.

    Raises:
        UsageError: all steps are equal; leave frames out where the clip is written.
    """
    at, count = _behind(data, b"stts", 8)
    entries = np.frombuffer(data, ">u4", count=2 * count, offset=at).reshape(count, 2).copy()
    usual = entries[entries[:, 0].argmax(), 1]
    longer = entries[:, 1] > usual
    if not longer.any():
        raise UsageError("all frames are one step apart", subject="standing_twice", fix="leave frames out where the clip is written")
    entries[longer, 1] = 0
    return data[:at] + entries.tobytes() + data[at + entries.nbytes :]


def promising(data: bytes, *, times: int) -> bytes:
    """The mp4 with headers that promise `times` its length: the recorder stopped, and never corrected what it wrote first."""
    for name, after in ((b"mdhd", 20), (b"stts", 12), (b"elst", 12)):  # ticks of the track, frames of its first run, ticks to be shown
        at, promised = _behind(data, name, after)
        data = data[: at - 4] + (times * promised).to_bytes(4, "big") + data[at:]
    return data


def _behind(data: bytes, name: bytes, after: int) -> tuple[int, int]:
    """The place `after` bytes behind the name of a box, and the number that stands before it."""
    at = data.find(name) + len(name) + after
    return at, int.from_bytes(data[at - 4 : at], "big")
