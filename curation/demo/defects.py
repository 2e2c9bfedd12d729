"""What goes wrong with recordings, made on purpose: pure functions over frames, frame indices and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import cv2

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
