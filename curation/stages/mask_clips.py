"""Write a masked copy of a clip: all frames looked at, tracked, and every mask painted over before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.errors import ClipUnreadable, UsageError
from curation.model_settings import ModelSettings, ObjectKind
from curation.ports import Detector, Masker
from curation.privacy.boxes import Boxes
from curation.privacy.paint import painted
from curation.privacy.tracks import Track, TrackLimits, masks, tracks
from curation.records import Detection

EVERY_MAX = 6  # a fifth of a second at 30 frames a second: in a longer pause a head turns out from under its mask
DOUBTFUL = 0.5  # of the least score, from which a sight carries a track on: hysteresis


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """What was masked: frames written, tracks and masks by kind."""

    frame_count: int
    track_counts: Mapping[ObjectKind, int]
    mask_count: int
    detector_versions: str


def run(
    path: Path,
    target: Path,
    *,
    masker: Masker,
    detectors: Mapping[ObjectKind, Detector],
    models: Mapping[ObjectKind, ModelSettings],
    every: int = 1,
) -> Masked:
    """The masked copy of the clip at `target`: as many frames, at the same times.

    Args:
        path: the clip.
        target: the mp4 to write.
        masker: reads and writes frames.
        detectors: by kind.
        models: how each is run; tells from which score a track starts.
        every: look at every n-th frame, and the last, and track between; 1 looks at all.

    Raises:
        UsageError: `every` is less than 1 or over `EVERY_MAX`.
        ClipUnreadable: a frame cannot be decoded, or its time cannot be kept; nothing is written.
    """
    if not 1 <= every <= EVERY_MAX:
        raise UsageError(f"looks at every {every}th frame", subject="masking", fix=f"choose from 1 to {EVERY_MAX}")
    seen, size = _seen(path, masker=masker, detectors=detectors, models=models, every=every)
    limits = {kind: _limits(model) for kind, model in models.items()}
    found: dict[ObjectKind, tuple[Track, ...]] = {kind: tracks(frames, limits[kind]) for kind, frames in seen.items()}
    frame_count = len(next(iter(seen.values()))) if seen else 0
    of_frame = [
        list(masks(found[kind], frame_count=frame_count, width_px=size[0], height_px=size[1], limits=limits[kind])) for kind in found
    ]
    boxes: list[Boxes] = [np.concatenate(of_kinds) for of_kinds in zip(*of_frame, strict=True)]

    def paint(number: int, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if number >= frame_count:
            raise ClipUnreadable("gave another frame when it was read again", subject=path.name, fix="read it again; it may have changed")
        return painted(picture, boxes[number])

    written = masker.write(path, target, paint)
    if written != frame_count:
        target.unlink(missing_ok=True)
        raise ClipUnreadable(f"{written} of {frame_count} frames came out masked", subject=path.name, fix="leave the clip out")
    return Masked(
        frame_count=frame_count,
        track_counts={kind: len(one) for kind, one in found.items()},
        mask_count=sum(map(len, boxes)),
        detector_versions=" ".join(detectors[kind].version for kind in sorted(detectors)),
    )


def _seen(
    path: Path, *, masker: Masker, detectors: Mapping[ObjectKind, Detector], models: Mapping[ObjectKind, ModelSettings], every: int
) -> tuple[dict[ObjectKind, list[tuple[Detection, ...] | None]], tuple[int, int]]:
    """What each frame shows, None for those that were not looked at, and their size; the last one is always looked at."""
    seen: dict[ObjectKind, list[tuple[Detection, ...] | None]] = {kind: [] for kind in detectors}
    size = (0, 0)

    def look(picture: npt.NDArray[np.uint8], kind: ObjectKind) -> tuple[Detection, ...]:
        return tuple(detectors[kind].find(picture, min_score=DOUBTFUL * models[kind].min_score))

    with masker.open(path) as pictures:
        last: npt.NDArray[np.uint8] | None = None
        for number, picture in enumerate(pictures):
            size = _same_size(path, size, (picture.shape[1], picture.shape[0]))
            for kind, found in seen.items():
                found.append(look(picture, kind) if number % every == 0 else None)
            last = picture
    for kind, found in seen.items():
        if last is not None and found[-1] is None:
            found[-1] = look(last, kind)
    return seen, size


def _same_size(path: Path, before: tuple[int, int], now: tuple[int, int]) -> tuple[int, int]:
    if before not in {(0, 0), now}:
        raise ClipUnreadable("changes its size on the way", subject=path.name, fix="leave the clip out of masked shard sets")
    return now


def _limits(model: ModelSettings) -> TrackLimits:
    return TrackLimits(start_score=model.min_score, keep_score=DOUBTFUL * model.min_score)
