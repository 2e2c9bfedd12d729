"""One net that OpenCV's `cv2.dnn` runs: its bytes are what the settings name, and its numbers what they were under ONNX Runtime."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.digests import sha256_hex
from curation.errors import ModelRefused
from curation.model_settings import ModelSettings
from curation.privacy import cascade, self_test

Named = tuple[str, ModelSettings, bytes]  # a model's name, how it is run, and its bytes
Outputs = dict[str, npt.NDArray[np.float32]]


class Net:
    """A net by its name in the settings; `prove` it before the first picture. `least` is the score from which something counts.

    Raises:
        ModelRefused: the bytes are not the model that the settings name, or OpenCV cannot read them.
    """

    def __init__(self, name: str, model: ModelSettings, data: bytes) -> None:
        self._name, self._model, self.least = name, model, model.min_score
        if sha256_hex(data) != model.sha256:
            raise self.refused(f"its bytes have SHA-256 {sha256_hex(data)}, the settings name {model.sha256}")
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(np.frombuffer(cascade.readable(data), np.uint8))
        except cv2.error as error:
            raise self.refused(f"is no model that OpenCV runs: {error.err}") from error

    def run(self, blob: npt.NDArray[np.float32]) -> Outputs:
        """Name -> output.

        Raises:
            ModelRefused: OpenCV cannot run it on this.
        """
        try:
            self._net.setInput(blob)
            names = self._net.getUnconnectedOutLayersNames()
            return dict(zip(names, self._net.forward(names), strict=True))  # OpenCV 5 gives all outputs or none
        except cv2.error as error:
            raise self.refused(f"does not run: {error.err}") from error

    def prove(self, blob: npt.NDArray[np.float32]) -> Outputs:
        """Its outputs on the fixed picture.

        Raises:
            ModelRefused: they are not what was written down.
        """
        outputs = self.run(blob)
        wrong = self_test.differing(outputs, self._model.self_test)
        if wrong is not None:
            raise self.refused(f"the self-test on a fixed picture says no: {wrong}")
        return outputs

    def refused(self, problem: str) -> ModelRefused:
        """The refusal of this model."""
        fix = f"run `curation models pull {self._name}` again, or correct [models.{self._name}]"
        return ModelRefused(problem, subject=f"model {self._name}", fix=fix)
