"""Tagger from the picture alone: time of day. Weather and scene stay `undefined`, since nothing here can tell them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curation.records import Tags
from curation.signals.timeofday import timeofday


class PictureTagger:
    """Names the time of day from light and colour."""

    version = "picture-1"

    def tag(self, frames: Sequence[npt.NDArray[np.uint8]]) -> Tags:
        """Tags of a clip from some of its BGR frames; weather and scene are `undefined` with confidence 0."""
        value, confidence = timeofday(frames)
        return Tags(timeofday=value, timeofday_confidence=confidence, tagger_version=self.version)
