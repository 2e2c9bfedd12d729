"""A cascade of three nets that find faces (MTCNN, Zhang et al. 2016): what each is shown, and what its answers say of boxes.

The first net sees the whole picture at many sizes and proposes squares; the second and the third see each square that is left, enlarged
or reduced to theirs, and place it better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.privacy.boxes import Boxes

Picture = npt.NDArray[np.uint8]

LEAST_PX: Final = 16  # the smallest square that is proposed
LOOKS: Final = f"from-{LEAST_PX}px"  # for versions: another least size sees other faces
WINDOW_PX: Final = 12  # of the first net, which moves by two pixels
_STRIDE_PX: Final = 2
_STRIP_PX: Final = 1 << 19  # that the first net sees at once: 120 MiB, whatever the picture measures
_STEP: Final = 0.709  # from one size of the picture to the next: half the area, as its makers set it
# Of a pool over 3 x 3 pixels of an even side SAME_UPPER adds one behind, and OpenCV 5 one before; rounding up without any is as behind.
_POOL: Final = re.compile(rb"(\x0a\x08)auto_pad(\x22\x0aSAME_UPPER\xa0\x01\x03\x2a\x10\x0a\x09ceil_mode\x18)\x00", re.DOTALL)


def readable(model: bytes) -> bytes:
    """The ONNX file with its pools said in the way that OpenCV computes rightly; the self-test holds it against the file as it is."""
    return _POOL.sub(rb"\1not_used\2" + b"\x01", model)


def blob(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """n x width x height x 3 in [-1, 1], RGB, from BGR pictures (n x height x width x 3): these nets were trained on turned pictures."""
    taken = (pictures[..., ::-1].astype(np.float32) - np.float32(127.5)) / np.float32(128)
    return np.ascontiguousarray(taken.transpose(0, 2, 1, 3))


def zooms(width_px: int, height_px: int) -> Iterator[float]:
    """The sizes at which the first net sees the picture, against its own, largest first, down to one window."""
    zoom = WINDOW_PX / LEAST_PX
    while min(width_px, height_px) * zoom >= WINDOW_PX:
        yield zoom
        zoom *= _STEP


def strips(drawn: Picture) -> Sequence[Picture]:
    """The picture from the top, in strips that overlap so that the first net says of them, row by row, what it would of the whole."""
    windows = -(-(drawn.shape[0] - WINDOW_PX) // _STRIDE_PX) + 1
    each = max(1, _STRIP_PX // (_STRIDE_PX * drawn.shape[1]))
    return [
        drawn[_STRIDE_PX * top : _STRIDE_PX * (top + each - 1) + WINDOW_PX] if top + each < windows else drawn[_STRIDE_PX * top :]
        for top in range(0, windows, each)
    ]


def proposed(
    scores: npt.NDArray[np.float32], moves: npt.NDArray[np.float32], zoom: float, min_score: float
) -> tuple[Boxes, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Windows of the first net from that score on, their scores, and how far each is to move; in pixels of the picture.

    Args:
        scores: columns x rows x 2, no face and face.
        moves: columns x rows x 4.
        zoom: at which it saw the picture.
        min_score: from which score a window counts.
    """
    columns, rows = np.nonzero(scores[..., 1] >= min_score)
    corners = np.stack([columns, rows], axis=1) * (_STRIDE_PX / zoom)
    windows = np.hstack([corners, np.full_like(corners, WINDOW_PX / zoom)])
    return windows, scores[columns, rows, 1].astype(np.float64), moves[columns, rows].astype(np.float64)


def moved(boxes: Boxes, moves: npt.NDArray[np.float64]) -> Boxes:
    """The boxes with left, top, right and bottom moved by these shares of their width and height."""
    sides = np.hstack([boxes[:, 2:], boxes[:, 2:]])
    ends = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) + moves * sides
    return np.hstack([ends[:, :2], np.maximum(ends[:, 2:] - ends[:, :2], 0)])


def squares(boxes: Boxes) -> Boxes:
    """Squares about the same centres, as wide as each box's longer side."""
    side = boxes[:, 2:].max(axis=1, keepdims=True, initial=0)
    return np.hstack([boxes[:, :2] + boxes[:, 2:] / 2 - side / 2, side, side])


def cut_out(picture: Picture, boxes: Boxes, side_px: int) -> Picture:
    """What lies in each square of a BGR picture, n x side x side x 3; black where it reaches over the edge."""
    height_px, width_px = picture.shape[:2]
    parts = np.zeros((len(boxes), side_px, side_px, 3), np.uint8)
    for part, (left, top, wide, high) in zip(parts, np.rint(boxes).astype(int), strict=True):
        right, bottom = left + max(1, wide), top + max(1, high)
        within = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if not within.size:
            continue
        before, behind = (max(0, -top), max(0, bottom - height_px)), (max(0, -left), max(0, right - width_px))
        whole = cv2.copyMakeBorder(within, *before, *behind, cv2.BORDER_CONSTANT) if any(before + behind) else within
        part[:] = cv2.resize(whole, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return parts
