"""Tagger by a classifier in ONNX, run by OpenCV's `cv2.dnn`; the model is read by path and must have the digest that the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.digests import sha256_hex
from curation.errors import SettingsError
from curation.ports import Tagger
from curation.records import Tags
from curation.settings import OnnxTaggerSettings, TagName

_UNDEFINED = "undefined"


class OnnxTagger:
    """Names what the model has outputs for; `otherwise` names the rest. Implements `ports.Tagger`.

    Raises:
        SettingsError: the model cannot be read, is not the one that the settings name, or is no ONNX that OpenCV runs.
    """

    def __init__(self, settings: OnnxTaggerSettings, *, otherwise: Tagger) -> None:
        self._settings = settings
        self._otherwise = otherwise
        self._net = _net(settings.model, settings.sha256)
        self.version = f"onnx-{settings.sha256[:12]}+{otherwise.version}"

    def tag(self, frames: Sequence[npt.NDArray[np.uint8]]) -> Tags:
        """Tags of a clip from some of its BGR frames: the mean of their probabilities, `undefined` below the least confidence.

        Raises:
            SettingsError: an output is missing, or does not have one number for each value.
        """
        tags = replace(self._otherwise.tag(frames), tagger_version=self.version)
        if not frames:
            return tags
        named: dict[str, Any] = {}
        for tag, mean in self._probabilities(frames).items():
            best = int(mean.argmax())
            is_sure = float(mean[best]) >= self._settings.min_confidence
            named[tag] = self._settings.outputs[tag].values[best] if is_sure else _UNDEFINED
            named[f"{tag}_confidence"] = round(float(mean[best]), 4) if is_sure and named[tag] != _UNDEFINED else 0.0
        return replace(tags, **named)

    def _probabilities(self, frames: Sequence[npt.NDArray[np.uint8]]) -> Mapping[TagName, npt.NDArray[np.float64]]:
        sums: dict[TagName, npt.NDArray[np.float64]] = {}
        for frame in frames:
            for tag, found in self._one(frame).items():
                sums[tag] = sums.get(tag, np.zeros_like(found)) + found / len(frames)
        return sums

    def _one(self, frame: npt.NDArray[np.uint8]) -> dict[TagName, npt.NDArray[np.float64]]:
        asked = self._settings
        blob = cv2.dnn.blobFromImage(frame, 1.0 / 255.0, (asked.width_px, asked.height_px), swapRB=True)
        blob = (blob - np.reshape(asked.mean, (1, 3, 1, 1))) / np.reshape(asked.deviation, (1, 3, 1, 1))
        try:
            self._net.setInput(blob.astype(np.float32))
            names = self._net.getUnconnectedOutLayersNames()
            given = dict(zip(names, self._net.forward(names), strict=True))  # OpenCV 5 gives all outputs or none
        except cv2.error as error:
            raise _unfit(asked.model, f"does not run: {error.err}") from error
        missing = sorted({output.name for output in asked.outputs.values()} - given.keys())
        if missing:
            raise _unfit(asked.model, f"has no output {', '.join(missing)}, but {', '.join(sorted(given))}")
        return {tag: self._shares(tag, np.asarray(given[output.name], np.float64).ravel()) for tag, output in asked.outputs.items()}

    def _shares(self, tag: TagName, given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = self._settings.outputs[tag].values
        if len(given) != len(values) or not np.isfinite(given).all():
            raise _unfit(
                self._settings.model, f"output {self._settings.outputs[tag].name} gives {len(given)} numbers for {len(values)} values"
            )
        raised = np.exp(given - given.max()) if self._settings.gives_logits else np.clip(given, 0.0, None)
        total = raised.sum()
        return np.asarray(raised / total if total > 0 else raised, np.float64)


def _net(model: Path, sha256: str) -> Any:
    try:
        data = model.read_bytes()
    except OSError as error:
        raise _unfit(model, f"cannot be read: {error.strerror}") from error
    found = sha256_hex(data)
    if found != sha256:
        raise _unfit(model, f"has SHA-256 {found}, not {sha256}")
    try:
        return cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise _unfit(model, f"is no ONNX that OpenCV runs: {error.err}") from error


def _unfit(model: Path, problem: str) -> SettingsError:
    return SettingsError(problem, subject=f"model {model}", fix="correct [inspect.tagger] in curation.toml")
