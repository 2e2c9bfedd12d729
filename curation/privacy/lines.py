"""Lines of text: where a map of probabilities says they stand, and what a row of character scores says they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.float32]  # 4 x 2: top left, top right, bottom right, bottom left of a line as it is read

# Of PaddleOCR's DB post-processing, as the wheel of the shipped models sets it.
_INK_FROM: Final = 0.3
_GROW: Final = 1.6
_LEAST_SIDE_PX: Final = 3.0
_UPRIGHT_FROM: Final = 1.5  # times as high as wide: such a line stands on end
_PATCH_PX: Final = 128
_CONTRAST: Final = 3.0
LOOKS: Final = f"plain+even-{_CONTRAST:g}-{_PATCH_PX}px"  # for versions: as it is, and by `evened`
_CHARACTERS_FIELD: Final = 14  # metadata_props of an ONNX ModelProto
_CHARACTERS_KEY: Final = b"character"


def blob(picture: Picture) -> npt.NDArray[np.float32]:
    """1 x 3 x height x width in [-1, 1], BGR, as both models take it."""
    return np.ascontiguousarray((picture.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)[None])


def evened(picture: Picture) -> Picture:
    """The BGR picture with the contrast of each patch of about 128 px evened out, as far as three times the mean of its histogram."""
    patches = (max(1, round(picture.shape[1] / _PATCH_PX)), max(1, round(picture.shape[0] / _PATCH_PX)))
    planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV)
    planes[..., 0] = cv2.createCLAHE(_CONTRAST, patches).apply(np.ascontiguousarray(planes[..., 0]))
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR), np.uint8)


def found(ink: npt.NDArray[np.float32], min_score: float) -> list[tuple[Corners, float]]:
    """Corners and score of each line in a map of probabilities (height x width), in pixels of the map.

    The map marks the core of a line; its rectangle is grown as far as the core was shrunk for training: by its area over its outline.
    """
    marked = cv2.dilate((ink > _INK_FROM).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(marked, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    lines = []
    for contour in contours:
        centre, (wide, high), angle = cv2.minAreaRect(contour)
        if min(wide, high) < _LEAST_SIDE_PX:
            continue
        score = _mean_within(ink, cv2.boxPoints((centre, (wide, high), angle)))
        if score >= min_score:
            margin = 2 * _GROW * wide * high / (2 * (wide + high))
            lines.append((ordered(cv2.boxPoints((centre, (wide + margin, high + margin), angle))), score))
    return lines


def _mean_within(ink: npt.NDArray[np.float32], corners: Corners) -> float:
    height, width = ink.shape
    low = np.clip(np.floor(corners.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, (width - 1, height - 1)).astype(int)
    part = ink[low[1] : high[1] + 1, low[0] : high[0] + 1]
    within = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(within, [(corners - low).astype(np.int32)], 1)
    return float(cv2.mean(part, within)[0])


def ordered(corners: Corners) -> Corners:
    """The four corners of a rectangle, from the top left the way a clock goes."""
    across = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = across[:2][np.argsort(across[:2, 1])], across[2:][np.argsort(across[2:, 1])]
    return np.asarray([left[0], right[0], right[1], left[1]], np.float32)


def height_px(corners: Corners) -> float:
    """The shorter side of a line's rectangle."""
    return float(min(np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[1] - corners[2])))


def straightened(picture: Picture, corners: Corners, line_height_px: int) -> Picture:
    """The line by itself, level and `line_height_px` high; one that stands on end is laid down."""
    wide, high = float(np.linalg.norm(corners[0] - corners[1])), float(np.linalg.norm(corners[0] - corners[3]))
    if high >= _UPRIGHT_FROM * wide:
        corners, wide, high = np.roll(corners, -1, axis=0), high, wide
    width_px = max(1, round(wide / max(high, 1.0) * line_height_px))
    target = np.asarray([[0, 0], [width_px, 0], [width_px, line_height_px], [0, line_height_px]], np.float32)
    turn = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    flags, border = cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpPerspective(picture, turn, (width_px, line_height_px), flags=flags, borderMode=border), np.uint8)


def read(scores: npt.NDArray[np.float32], characters: Sequence[str]) -> tuple[str, float]:
    """What a row of scores (steps x characters) says, and the mean score of its characters; ("", 0) for nothing.

    Of each step the best counts; the same again is the same character still, and the first of `characters` is a pause.
    """
    best = scores.argmax(axis=1)
    is_new = np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)
    if not is_new.any():
        return "", 0.0
    return "".join(characters[one] for one in best[is_new]), float(scores.max(axis=1)[is_new].mean())


def characters_of(model: bytes) -> tuple[str, ...]:
    """The characters that an ONNX file's metadata names, with the pause before them and the space behind; () where it names none.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    for number, entry in _fields(model):
        if number == _CHARACTERS_FIELD:
            told = dict(_fields(entry))
            if told.get(1) == _CHARACTERS_KEY:
                return ("", *told.get(2, b"").decode().splitlines(), " ")
    return ()


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field of a protobuf message that has a length; the others are passed over.

    Raises:
        ValueError: it is no such message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("ends within a number")
