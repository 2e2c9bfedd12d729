"""Boxes as rows of x, y, width, height in pixels from the top left: how they overlap, grow and are freed of doubles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]  # n x 4
Box = tuple[float, float, float, float]
MASK_SCALE = 1.3  # of a mask against the box it covers: boxes end at chin and brow, and plates at their characters
SAME_IOU = 0.3  # from which overlap two boxes of one picture are one thing; CenterFace's own value


def no_boxes() -> Boxes:
    """An array of no boxes."""
    return np.zeros((0, 4))


def intersections_px2(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Area that each box of `one` (n) shares with each of `other` (m): n x m."""
    left = np.maximum(one[:, None, 0], other[None, :, 0])
    top = np.maximum(one[:, None, 1], other[None, :, 1])
    right = np.minimum((one[:, 0] + one[:, 2])[:, None], (other[:, 0] + other[:, 2])[None])
    bottom = np.minimum((one[:, 1] + one[:, 3])[:, None], (other[:, 1] + other[:, 3])[None])
    shared: npt.NDArray[np.float64] = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    return shared


def areas_px2(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Area of each box."""
    area: npt.NDArray[np.float64] = boxes[:, 2] * boxes[:, 3]
    return area


def ious(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each box of `one` (n) with each of `other` (m), in [0, 1]: n x m; 0 for boxes without area."""
    shared = intersections_px2(one, other)
    union = areas_px2(one)[:, None] + areas_px2(other)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def distinct(boxes: Boxes, scores: npt.NDArray[np.float64], *, iou: float = SAME_IOU) -> npt.NDArray[np.intp]:
    """Indices of the boxes that are left, highest score first, once every box that overlaps a better one by over `iou` is dropped."""
    kept: list[int] = []
    rest = np.argsort(-scores, kind="stable")
    while rest.size:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[ious(boxes[best : best + 1], boxes[rest])[0] <= iou]
    return np.asarray(kept, np.intp)


def scaled(boxes: Boxes, scale: float = MASK_SCALE) -> Boxes:
    """The boxes about their centres, `scale` times as wide and as high; they may reach over the picture's edge."""
    grown = boxes[:, 2:] * scale
    return np.hstack([boxes[:, :2] - (grown - boxes[:, 2:]) / 2, grown])


def clipped(boxes: Boxes, width_px: int, height_px: int) -> Boxes:
    """The parts of the boxes that lie within a picture of this size; what lies outside comes out without area."""
    low = np.clip(boxes[:, :2], 0, (width_px, height_px))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (width_px, height_px))
    return np.hstack([low, np.maximum(high - low, 0)])


def covered(boxes: Boxes, masks: Boxes) -> npt.NDArray[np.float64]:
    """Which share of each box lies under the masks together, in [0, 1]; overlapping masks count once.

    The plane is cut along every edge of a mask, so that each cell lies under a mask whole or not at all.
    """
    if not len(masks):
        return np.zeros(len(boxes))
    across = np.unique(np.concatenate([masks[:, 0], masks[:, 0] + masks[:, 2]]))
    down = np.unique(np.concatenate([masks[:, 1], masks[:, 1] + masks[:, 3]]))
    middle_x, middle_y = (across[:-1] + across[1:]) / 2, (down[:-1] + down[1:]) / 2
    in_x = (masks[:, :1] <= middle_x) & (middle_x < masks[:, :1] + masks[:, 2:3])
    in_y = (masks[:, 1:2] <= middle_y) & (middle_y < masks[:, 1:2] + masks[:, 3:])
    under = (in_x.T.astype(np.int64) @ in_y.astype(np.int64)) > 0
    shares = np.zeros(len(boxes))
    for index, (x, y, width, height) in enumerate(boxes):
        wide = np.clip(np.minimum(across[1:], x + width) - np.maximum(across[:-1], x), 0, None)
        high = np.clip(np.minimum(down[1:], y + height) - np.maximum(down[:-1], y), 0, None)
        area = width * height
        shares[index] = float(wide @ under @ high) / area if area > 0 else 0.0
    return np.clip(shares, 0.0, 1.0)
