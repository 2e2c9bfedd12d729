"""Every fault that inspection tells apart, rendered: a clip for each verdict and each reason, and the truth about it. All invented."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from curation.choices import Depth
from curation.demo import defects
from curation.demo.paint import Image
from curation.demo.road import Scene, render
from curation.ports import VideoWriter

WIDTH_PX: Final = 640
HEIGHT_PX: Final = 360
FPS: Final = 12
DURATION_S: Final = 3.0
FRAME_COUNT: Final = round(FPS * DURATION_S)
SCENES: Final[Mapping[str, Scene]] = {
    "day": Scene(scene="city street", speed_mps=9.0),
    "night": Scene(timeofday="night", scene="city street", speed_mps=10.0),
    "rain": Scene(weather="rainy", scene="city street", speed_mps=8.0),
    "overcast": Scene(weather="overcast", speed_mps=24.0, traffic=8),
}

Frames = Sequence[Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done to a good clip, and what a report must say of it.

    `reason` is None where none is given: of good clips, and of those that cannot be measured. `starves` spends next to no bits.
    `depth` is the least at which the report must say so.
    """

    name: str
    verdict: str
    reason: str | None = None
    of_frames: Callable[[Frames], Iterator[Image]] = iter
    skip: frozenset[int] = frozenset()
    of_bytes: Callable[[bytes], bytes] | None = None
    starves: bool = False
    depth: Depth = "keyframes"


def _rejected(reason: str, of_frames: Callable[[Frames], Iterator[Image]] = iter, **how: object) -> Fault:
    return Fault(name=reason, verdict="rejected", reason=reason, of_frames=of_frames, **how)  # type: ignore[arg-type]


def _quarantined(name: str, of_bytes: Callable[[bytes], bytes]) -> Fault:
    return Fault(name=name, verdict="quarantined", of_bytes=of_bytes)


def _part(made: Callable[[Iterator[Image]], Iterator[Image]]) -> Callable[[Frames], Iterator[Image]]:
    """The defect in the middle third alone: what a glance at the clip's beginning and end misses."""

    def frames(given: Frames) -> Iterator[Image]:
        third = len(given) // 3
        yield from given[:third]
        yield from made(iter(given[third : 2 * third]))
        yield from given[2 * third :]

    return frames


def _whole(made: Callable[[Image], Image]) -> Callable[[Frames], Iterator[Image]]:
    return lambda given: (made(frame) for frame in given)


def _noisy(given: Frames) -> Iterator[Image]:
    rng = np.random.default_rng(5)
    for frame in given:
        yield cv2.add(frame, rng.normal(0.0, 45.0, frame.shape), dtype=cv2.CV_8U)


def _mosaic(frame: Image) -> Image:
    small = cv2.resize(frame, (WIDTH_PX // 12, HEIGHT_PX // 12), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_NEAREST), np.uint8)


def _grown(frame: Image) -> Image:
    """Four times the pixels, and no more to see: what few bits are then spread over."""
    return np.asarray(cv2.resize(cv2.GaussianBlur(frame, (0, 0), 2.0), (2 * WIDTH_PX, 2 * HEIGHT_PX)), np.uint8)


def _covered(frame: Image) -> Image:
    hidden = frame.copy()
    hidden[:, : WIDTH_PX * 4 // 5] = 110
    return hidden


def _cut(given: Frames) -> Iterator[Image]:
    yield from given[: len(given) // 2]
    yield from (255 - np.flipud(frame) for frame in given[len(given) // 2 :])


def _bars(given: Frames) -> Iterator[Image]:
    colours = [(191, 191, 191), (0, 191, 191), (191, 191, 0), (0, 191, 0), (191, 0, 191), (0, 0, 191), (191, 0, 0)]
    row = np.repeat(np.array(colours, np.uint8), -(-WIDTH_PX // len(colours)), axis=0)[:WIDTH_PX]
    return (np.broadcast_to(row, (HEIGHT_PX, WIDTH_PX, 3)).copy() for _ in given)


FAULTS: Final = (
    Fault(name="good", verdict="accepted"),
    _rejected("too_short", lambda given: iter(given[: FPS // 3])),
    _rejected("too_small", _whole(lambda frame: cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA))),
    _rejected("blurred", lambda given: defects.blurred(iter(given))),
    _rejected("low_contrast", _whole(lambda frame: cv2.convertScaleAbs(frame, alpha=0.012, beta=128.0))),
    _rejected("black", _part(defects.black)),
    _rejected("frozen", _part(defects.frozen)),
    _rejected("noisy", _noisy),
    _rejected("over_exposed", _whole(lambda frame: cv2.convertScaleAbs(frame, beta=250.0 - float(np.median(frame))))),
    _rejected("under_exposed", _whole(lambda frame: cv2.convertScaleAbs(frame, alpha=0.22))),
    _rejected("blocky", _whole(_mosaic)),
    _rejected("starved", _whole(_grown), starves=True),
    _rejected("covered", _whole(_covered)),
    _rejected("test_pattern", _bars),
    _rejected("scene_cut", _cut, depth="full"),
    _rejected("dropped_frames", skip=defects.dropped_indices(FRAME_COUNT)),
    _rejected("disordered_frames", skip=frozenset(range(3, FRAME_COUNT, 8)), of_bytes=defects.standing_twice),
    _rejected("variable_rate", skip=frozenset(index for index in range(4, FRAME_COUNT) if index % 5)),
    _rejected("truncated", of_bytes=lambda data: defects.truncated(data, kept_share=0.5)),
    _rejected("decode_errors", of_bytes=defects.holed),
    _rejected("duration_mismatch", of_bytes=lambda data: defects.promising(data, times=3)),
    _quarantined("empty", lambda _: b""),
    _quarantined("text", lambda _: defects.TEXT_AS_CLIP),
    _quarantined("zeros", lambda data: bytes(len(data))),
    _quarantined("random", lambda data: np.random.default_rng(9).bytes(len(data))),
    _quarantined("picture", lambda _: cv2.imencode(".png", np.zeros((36, 64, 3), np.uint8))[1].tobytes()),
    _quarantined("no_index", lambda data: data.replace(b"moov", b"skip", 1)),
)


def make_faults(folder: Path, *, writer: VideoWriter, starving: VideoWriter, scene: Scene, seed: int = 7) -> Mapping[str, Fault]:
    """File name -> the fault of that file, one for each of `FAULTS`, rendered into `folder`.

    Args:
        writer: encodes the clips.
        starving: a writer that spends next to nothing on them.
        scene: what the camera would show without the fault.
        seed: of every random choice in the pictures.

    Raises:
        OutsideError: a file could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = list(render(scene, width_px=WIDTH_PX, height_px=HEIGHT_PX, fps=FPS, duration_s=DURATION_S, seed=seed))
    made = {}
    for fault in FAULTS:
        path = folder / f"{fault.name}.mp4"
        encoder = starving if fault.starves else writer
        encoder.write(path, fault.of_frames(given), fps=Fraction(FPS), skip=fault.skip)
        if fault.of_bytes is not None:
            path.write_bytes(fault.of_bytes(path.read_bytes()))
        made[path.name] = fault
    return made
