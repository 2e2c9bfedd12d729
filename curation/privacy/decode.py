"""What goes into each form of model, and how boxes are read from what comes out. Sizes are those that the model saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.model_settings import ModelForm
from curation.privacy.boxes import Boxes

Outputs = Mapping[str, npt.NDArray[np.float32]]
Found = tuple[Boxes, npt.NDArray[np.float64]]  # boxes and their scores

_CENTERFACE_STRIDE: Final = 4
_BLAZEFACE_STRIDE: Final = 4
# Of RetinaFace's anchors, as clp_det was trained with them (zeusees/License-Plate-Detector, data/config.py).
_RETINA_STEPS: Final = ((8, (24, 48)), (16, (96, 192)), (32, (384, 768)))
_RETINA_VARIANCES: Final = (0.1, 0.2)
_RETINA_MEAN_BGR: Final = (104.0, 117.0, 123.0)


def blob(form: ModelForm, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """1 x 3 x height x width as a model of this form takes it, from BGR whose sides are multiples of 32."""
    if form == "blazeface":
        taken = picture[..., ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
        return np.ascontiguousarray(taken.transpose(2, 0, 1)[None])
    mean = _RETINA_MEAN_BGR if form == "retina" else (0.0, 0.0, 0.0)
    made: npt.NDArray[np.float32] = cv2.dnn.blobFromImage(picture, mean=mean, swapRB=form == "centerface")
    return made


def centerface(outputs: Outputs, width_px: int, height_px: int, min_score: float) -> Found:  # noqa: ARG001 - as the other forms
    """Boxes of CenterFace: a map of centres at a quarter of the size, with logarithms of sizes and offsets."""
    heat, sizes, offsets = outputs["537"][0, 0], outputs["538"][0], outputs["539"][0]
    rows, columns = np.nonzero(heat >= min_score)
    high, wide = (np.exp(sizes[axis, rows, columns].astype(np.float64)) * _CENTERFACE_STRIDE for axis in (0, 1))
    down, across = (offsets[axis, rows, columns].astype(np.float64) for axis in (0, 1))
    x = (columns + across + 0.5) * _CENTERFACE_STRIDE - wide / 2
    y = (rows + down + 0.5) * _CENTERFACE_STRIDE - high / 2
    return np.stack([x, y, wide, high], axis=1), heat[rows, columns].astype(np.float64)


def retina(outputs: Outputs, width_px: int, height_px: int, min_score: float) -> Found:
    """Boxes of a RetinaFace: offsets from anchors, and two class scores for each; the second is the one that counts."""
    scores = outputs["conf"][0, :, 1].astype(np.float64)
    chosen = np.flatnonzero(scores >= min_score)
    anchors = _anchors(width_px, height_px)[chosen]
    told = outputs["loc"][0][chosen].astype(np.float64)
    centres = anchors[:, :2] + told[:, :2] * _RETINA_VARIANCES[0] * anchors[:, 2:]
    sizes = anchors[:, 2:] * np.exp(told[:, 2:] * _RETINA_VARIANCES[1])
    return np.hstack([centres - sizes / 2, sizes]), scores[chosen]


def _anchors(width_px: int, height_px: int) -> npt.NDArray[np.float64]:
    """Centre and size of every anchor, in the model's order."""
    levels = []
    for step, sizes in _RETINA_STEPS:
        rows, columns = np.indices((-(-height_px // step), -(-width_px // step)))
        centres = np.stack([(columns.ravel() + 0.5) * step, (rows.ravel() + 0.5) * step], axis=1)
        each = np.repeat(centres, len(sizes), axis=0)
        side = np.tile(np.asarray(sizes, np.float64), len(centres))[:, None]
        levels.append(np.hstack([each, side, side]))
    return np.concatenate(levels)


def blazeface(outputs: Outputs, width_px: int, height_px: int, min_score: float) -> Found:  # noqa: ARG001 - as the other forms
    """Boxes of BlazeFace, full range: one anchor in every fourth pixel each way, logits clipped as its makers clip them."""
    columns = width_px // _BLAZEFACE_STRIDE
    logits = np.clip(outputs["reshaped_classifier_face_4"].ravel().astype(np.float64), -80, 80)
    scores = 1 / (1 + np.exp(-logits))
    chosen = np.flatnonzero(scores >= min_score)
    told = outputs["reshaped_regressor_face_4"].reshape(-1, 16)[chosen, :4].astype(np.float64)
    anchors = (np.stack([chosen % columns, chosen // columns], axis=1) + 0.5) * _BLAZEFACE_STRIDE
    return np.hstack([anchors + told[:, :2] - told[:, 2:] / 2, told[:, 2:]]), scores[chosen]


Reader = Callable[[Outputs, int, int, float], Found]
READERS: Final[Mapping[ModelForm, Reader]] = {"centerface": centerface, "retina": retina, "blazeface": blazeface}
