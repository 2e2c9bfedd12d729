"""A cascade of three nets run by OpenCV's `cv2.dnn`: each proves itself before the first picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.adapters.net_onnx import Named, Net
from curation.privacy import cascade, self_test
from curation.privacy.boxes import Boxes, clipped, distinct, no_boxes
from curation.records import Detection

Scored = tuple[Boxes, npt.NDArray[np.float64]]  # boxes and their scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """What a net is shown, and the names of its outputs."""

    side_px: int
    scores: str
    moves: str


_FIRST: Final = ("softmax", "conv2d_4")  # scores and moves
_SECOND: Final = _Judge(side_px=24, scores="softmax_1", moves="dense_2")
_THIRD: Final = _Judge(side_px=48, scores="softmax_2", moves="dense_5")
_AT_ONCE: Final = 256  # squares in one run: 20 MB of the third net's first layer
# From which overlap two boxes are one, as its makers set it, within a size of the picture and after each net.
_SAME_IN_SIZE: Final = 0.5
_SAME: Final = 0.7
_LEAST_SIDE_PX: Final = 1.0


class DnnCascade:
    """Implements `ports.FaceFinder`.

    Raises:
        ModelRefused: bytes are not the model that the settings name, OpenCV does not run them, or a self-test says no.
    """

    def __init__(self, first: Named, second: Named, third: Named) -> None:
        self.version = " ".join([*(model.version(name) for name, model, _ in (first, second, third)), cascade.LOOKS])
        self._first, self._second, self._third = Net(*first), Net(*second), Net(*third)
        self._first.prove(cascade.blob(self_test.picture()[None]))
        for net, judge in ((self._second, _SECOND), (self._third, _THIRD)):
            net.prove(cascade.blob(self_test.picture(judge.side_px, judge.side_px)[None]))

    def find(self, picture: npt.NDArray[np.uint8]) -> Sequence[Detection]:
        """Faces in a BGR picture, highest score first; boxes lie within it.

        Raises:
            ModelRefused: OpenCV cannot run a net on it.
        """
        height_px, width_px = picture.shape[:2]
        squares = self._proposed(picture)
        boxes, scores = _judged(self._second, _SECOND, picture, squares)
        kept = distinct(boxes, scores, iou=_SAME)
        boxes, scores = _judged(self._third, _THIRD, picture, cascade.squares(boxes[kept]))
        boxes = clipped(boxes, width_px, height_px)
        is_box = boxes[:, 2:].min(axis=1, initial=np.inf) >= _LEAST_SIDE_PX
        boxes, scores = boxes[is_box], scores[is_box]
        return tuple(
            Detection(x_px=float(x), y_px=float(y), width_px=float(wide), height_px=float(high), score=min(float(score), 1.0))
            for (x, y, wide, high), score in ((boxes[index], scores[index]) for index in distinct(boxes, scores))
        )

    def _proposed(self, picture: npt.NDArray[np.uint8]) -> Boxes:
        height_px, width_px = picture.shape[:2]
        found, scored, moves = [no_boxes()], [np.zeros(0)], [np.zeros((0, 4))]
        for zoom in cascade.zooms(width_px, height_px):
            size = (int(np.ceil(width_px * zoom)), int(np.ceil(height_px * zoom)))
            drawn = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
            outputs = [self._first.run(cascade.blob(strip[None])) for strip in cascade.strips(drawn)]
            seen, moves_seen = (np.concatenate([one[name][0] for one in outputs], axis=1) for name in _FIRST)
            windows, scores, told = cascade.proposed(seen, moves_seen, zoom, self._first.least)
            kept = distinct(windows, scores, iou=_SAME_IN_SIZE)
            found.append(windows[kept])
            scored.append(scores[kept])
            moves.append(told[kept])
        windows, scores, told = np.concatenate(found), np.concatenate(scored), np.concatenate(moves)
        kept = distinct(windows, scores, iou=_SAME)
        return cascade.squares(cascade.moved(windows[kept], told[kept]))


def _judged(net: Net, judge: _Judge, picture: npt.NDArray[np.uint8], squares: Boxes) -> Scored:
    """The squares that a net takes for faces, placed by it, and their scores."""
    found, scored = [no_boxes()], [np.zeros(0)]
    for start in range(0, len(squares), _AT_ONCE):
        part = squares[start : start + _AT_ONCE]
        outputs = net.run(cascade.blob(cascade.cut_out(picture, part, judge.side_px)))
        scores, moves = outputs[judge.scores][:, 1].astype(np.float64), outputs[judge.moves].astype(np.float64)
        counts = scores >= net.least
        found.append(cascade.moved(part[counts], moves[counts]))
        scored.append(scores[counts])
    return np.concatenate(found), np.concatenate(scored)
