"""Text read by OpenCV's `cv2.dnn`: one model finds lines, another reads them; both prove themselves before the first picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.adapters.net_onnx import Named, Net
from curation.model_settings import SIZE_STEP_PX
from curation.privacy import lines, self_test, tiles
from curation.privacy.boxes import distinct
from curation.records import TextLine

_LONGEST: Final = 12.0  # times as long as high: what is longer is no plate, and costs most to read


class DnnTextReader:
    """Implements `ports.TextReader`: looks at a picture whole, and in overlapping tiles where it is larger than the working size.

    Raises:
        ModelRefused: bytes are not the model that the settings name, OpenCV does not run them, or a self-test says no.
    """

    def __init__(self, finder: Named, reader: Named) -> None:
        self.version = " ".join([*(model.version(name) for name, model, _ in (finder, reader)), lines.LOOKS])
        self._finder, self._reader = Net(*finder), Net(*reader)
        self._find_at, self._read_at = finder[1], reader[1]
        self._finder.prove(lines.blob(self_test.writing()))
        (scores,) = self._reader.prove(lines.blob(self_test.writing(self._read_at.width_px, self._read_at.height_px))).values()
        try:
            self._characters = ("", *self._read_at.characters) if self._read_at.characters else lines.characters_of(reader[2])
        except ValueError as error:
            raise self._reader.refused("names no characters that can be read") from error
        if len(self._characters) != scores.shape[-1]:
            raise self._reader.refused(f"gives {scores.shape[-1]} scores a step and names {len(self._characters)} characters")

    def read(self, picture: npt.NDArray[np.uint8], *, least_height_px: float) -> Sequence[TextLine]:
        """Every line of a BGR picture that is as high as that and says something, from the top.

        It is looked at as it is and with even contrast, in which plates in the shade can be read; a line that reads the same in both
        comes once.

        Raises:
            ModelRefused: OpenCV cannot run a model on it.
        """
        read = [one for shown in (picture, lines.evened(picture)) for one in self._read(shown, least_height_px)]
        once = {(one.text, round(one.x_px / one.width_px), round(one.y_px / one.height_px)): one for one in reversed(read)}
        return tuple(sorted(once.values(), key=lambda one: (one.y_px, one.x_px)))

    def _read(self, picture: npt.NDArray[np.uint8], least_height_px: float) -> list[TextLine]:
        height_px, width_px = picture.shape[:2]
        model = self._find_at
        looks = tiles.looks(width_px, height_px, width_px=model.width_px, height_px=model.height_px, max_zoom=model.max_zoom)
        found = [one for look in looks for one in self._lines(picture, look, least_height_px)]
        if not found:
            return []
        boxes = np.asarray([(*corners.min(axis=0), *np.ptp(corners, axis=0)) for corners, _ in found], np.float64)
        kept = distinct(boxes, np.asarray([score for _, score in found]))
        read = [self._line(picture, found[index][0], boxes[index]) for index in kept]
        return [one for one in read if one is not None]

    def _lines(self, picture: npt.NDArray[np.uint8], look: tiles.Look, least_height_px: float) -> list[tuple[lines.Corners, float]]:
        """Corners and score of each line that is high enough and no longer than a plate, in pixels of the picture."""
        part = picture[look.y_px : look.y_px + look.height_px, look.x_px : look.x_px + look.width_px]
        size = (max(1, round(part.shape[1] * look.zoom)), max(1, round(part.shape[0] * look.zoom)))
        drawn = part if look.zoom == 1 else cv2.resize(part, size, interpolation=cv2.INTER_AREA if look.zoom < 1 else cv2.INTER_LINEAR)
        right, below = -size[0] % SIZE_STEP_PX, -size[1] % SIZE_STEP_PX
        laid = cv2.copyMakeBorder(drawn, 0, below, 0, right, cv2.BORDER_REPLICATE)  # an edge of another colour reads as a line
        (map_of_ink,) = self._finder.run(lines.blob(laid)).values()
        ink = map_of_ink[0, 0, : size[1], : size[0]]
        found = []
        for corners, score in lines.found(ink, self._find_at.min_score):
            placed = corners / np.float32(look.zoom) + np.asarray((look.x_px, look.y_px), np.float32)
            high = lines.height_px(placed)
            if high >= least_height_px and np.linalg.norm(np.ptp(placed, axis=0)) <= _LONGEST * high:
                found.append((placed, score))
        return found

    def _line(self, picture: npt.NDArray[np.uint8], corners: lines.Corners, box: npt.NDArray[np.float64]) -> TextLine | None:
        straight = lines.straightened(picture, corners, self._read_at.height_px)
        short = max(0, self._read_at.width_px - straight.shape[1])
        laid = cv2.copyMakeBorder(straight, 0, 0, 0, short, cv2.BORDER_CONSTANT, value=(127.5, 127.5, 127.5))
        (scores,) = self._reader.run(lines.blob(np.asarray(laid, np.uint8))).values()
        text, score = lines.read(scores[0], self._characters)
        if not text.strip() or score < self._read_at.min_score:
            return None
        x, y, wide, high = map(float, box)
        return TextLine(
            x_px=x, y_px=y, width_px=wide, height_px=high, line_height_px=lines.height_px(corners), text=text, score=min(score, 1.0)
        )
