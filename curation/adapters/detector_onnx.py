"""Detectors run by OpenCV's `cv2.dnn`. Before the first picture each proves that it computes what it did for its maker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.digests import sha256_hex
from curation.errors import ModelRefused
from curation.model_settings import SIZE_STEP_PX, ModelSettings, ObjectKind
from curation.privacy import decode, self_test, tiles
from curation.privacy.boxes import Box, Boxes, clipped, distinct
from curation.records import Detection

_LEAST_SIDE_PX: Final = 1.0  # what is thinner than a pixel once it is cut to the picture is no box


class DnnDetector:
    """Implements `ports.Detector`: looks at a picture whole, and in overlapping tiles where it is larger than the working size.

    Raises:
        ModelRefused: the bytes are not the model that the settings name, OpenCV does not run them, or the self-test says no.
    """

    def __init__(self, name: str, model: ModelSettings, data: bytes) -> None:
        self.version = model.version(name)
        self._name, self._model = name, model
        if model.finds == "text":
            raise self._refused("finds text, neither faces nor plates")
        if model.form not in decode.READERS:
            raise self._refused("is a net of a cascade, which finds nothing by itself")
        self.finds: ObjectKind = model.finds
        if sha256_hex(data) != model.sha256:
            raise self._refused(f"its bytes have SHA-256 {sha256_hex(data)}, the settings name {model.sha256}")
        self._net = self._read(data)
        wrong = self_test.differing(self._run(self._self_test_picture()), model.self_test)
        if wrong is not None:
            raise self._refused(f"the self-test on a fixed picture says no: {wrong}")

    def find(self, picture: npt.NDArray[np.uint8], *, min_score: float | None = None, within: Box | None = None) -> Sequence[Detection]:
        """What is seen in a BGR picture, or in a part of it, highest score first; boxes lie within it.

        Raises:
            ModelRefused: OpenCV cannot run the model on it.
        """
        height_px, width_px = picture.shape[:2]
        least = self._model.min_score if min_score is None else min_score
        model, found, scored = self._model, [], []
        looks = tiles.looks(
            width_px,
            height_px,
            width_px=model.width_px,
            height_px=model.height_px,
            max_zoom=model.max_zoom,
            coarser=model.coarser,
            coarser_from_px=model.coarser_from_px,
        )
        if within is not None:
            looks = tiles.cut_to(looks, within)
        if not looks:
            return ()
        for look in looks:
            boxes, scores = self._look(picture, look, least)
            counts = tiles.uncut(boxes, look, width_px, height_px) & (boxes[:, 2:].min(axis=1, initial=np.inf) >= look.least_px)
            found.append(boxes[counts])
            scored.append(scores[counts])
        boxes, scores = clipped(np.concatenate(found), width_px, height_px), np.concatenate(scored)
        is_box = boxes[:, 2:].min(axis=1, initial=np.inf) >= _LEAST_SIDE_PX
        boxes, scores = boxes[is_box], scores[is_box]
        return tuple(
            Detection(x_px=float(x), y_px=float(y), width_px=float(wide), height_px=float(high), score=float(score))
            for (x, y, wide, high), score in ((boxes[index], scores[index]) for index in distinct(boxes, scores))
        )

    def _look(self, picture: npt.NDArray[np.uint8], look: tiles.Look, min_score: float) -> tuple[Boxes, npt.NDArray[np.float64]]:
        """Boxes in pixels of the picture, and their scores."""
        part = picture[look.y_px : look.y_px + look.height_px, look.x_px : look.x_px + look.width_px]
        seen = _laid(part, look.zoom, fixed=(self._model.width_px, self._model.height_px) if self._is_fixed else None)
        boxes, scores = decode.READERS[self._model.form](self._run(seen), seen.shape[1], seen.shape[0], min_score)
        return boxes / look.zoom + (look.x_px, look.y_px, 0, 0), scores

    def _run(self, picture: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        try:
            self._net.setInput(decode.blob(self._model.form, picture))
            if self._is_fixed:  # OpenCV 5 takes only the last of a TFLite graph's outputs for one, but gives any by its name
                return {name: self._net.forward(name) for name in self._model.self_test}
            names = self._net.getUnconnectedOutLayersNames()
            return dict(zip(names, self._net.forward(names), strict=True))  # OpenCV 5 gives all outputs or none
        except cv2.error as error:
            raise self._refused(f"does not run: {error.err}") from error

    @property
    def _is_fixed(self) -> bool:
        """Whether the model takes pictures of one size alone."""
        return self._model.form == "blazeface"

    def _self_test_picture(self) -> npt.NDArray[np.uint8]:
        return self_test.picture(self._model.width_px, self._model.height_px) if self._is_fixed else self_test.picture()

    def _read(self, data: bytes) -> Any:
        read = cv2.dnn.readNetFromTFLite if self._is_fixed else cv2.dnn.readNetFromONNX
        try:
            return read(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise self._refused(f"is no model that OpenCV runs: {error.err}") from error

    def _refused(self, problem: str) -> ModelRefused:
        fix = f"run `curation models pull {self._name}` again, or correct [models.{self._name}]"
        return ModelRefused(problem, subject=f"model {self._name}", fix=fix)


def _laid(part: npt.NDArray[np.uint8], zoom: float, *, fixed: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """The part at the zoom, black added right and below up to multiples of 32, or to the fixed width and height: nothing is stretched."""
    height_px, width_px = part.shape[:2]
    size = (max(1, round(width_px * zoom)), max(1, round(height_px * zoom)))
    drawn = part if zoom == 1 else cv2.resize(part, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    if fixed is not None:
        right, bottom = fixed[0] - drawn.shape[1], fixed[1] - drawn.shape[0]
    else:
        right, bottom = -drawn.shape[1] % SIZE_STEP_PX, -drawn.shape[0] % SIZE_STEP_PX
    laid: npt.NDArray[np.uint8] = cv2.copyMakeBorder(drawn, 0, bottom, 0, right, cv2.BORDER_CONSTANT) if right or bottom else drawn
    return laid
