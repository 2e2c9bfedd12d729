"""Run the protocol of GB/T 44464-2024 Annex B over labelled pictures and frames of video, with the models in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.choices import Part
from curation.digests import canonical_json, file_digest, sha256_hex
from curation.errors import UsageError
from curation.model_settings import ModelSettings, ObjectKind
from curation.ports import Clock, Detector, VideoReader
from curation.privacy import annex_b
from curation.privacy.boxes import MASK_SCALE
from curation.privacy.gate import EvaluatedModel, Evaluation
from curation.privacy.labels import LABELS_FILE, Sample, half, parse
from curation.privacy.paint import upright

_AT_ONCE_S: Final = 1e-3  # how far a frame's time may lie from the label's
_RUNTIME: Final = f"OpenCV {cv2.__version__}"
Picture = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """A model in use: its name, how it is run, and what runs it."""

    name: str
    model: ModelSettings
    detector: Detector


def run(
    folder: Path,
    in_use: Mapping[ObjectKind, InUse],
    *,
    video: VideoReader,
    clock: Clock,
    valid_days: int,
    part: Part = "all",
    demo: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """The unsigned evaluation of the models on what `boxes.csv` of the folder labels.

    Args:
        folder: holds `boxes.csv` and the files that it names.
        in_use: the models for faces and for plates.
        video: reads frames of labelled videos.
        clock: dates the evaluation.
        valid_days: after how many days it expires.
        part: all files, or the half that is for tuning, or the half that is not.
        demo: marks it as one that proves nothing.
        progress: called with how many samples are done, and how many there are.

    Raises:
        UsageError: the labels are malformed, or a file that they name is missing or unreadable, or the part is empty.
        ModelRefused: a model cannot be run.
    """
    labels, samples, files = _listed(folder, part)
    found: dict[ObjectKind, list[annex_b.Outcome]] = {kind: [] for kind in in_use}
    for done, (sample, picture) in enumerate(_pictures(folder, samples, video), start=1):
        for kind, one in in_use.items():
            found[kind].append(_judged(sample, picture, kind, one))
        if progress is not None:
            progress(done, len(samples))
    figures = {kind: annex_b.figures(kind, outcomes) for kind, outcomes in found.items()}
    result, reasons = annex_b.result(list(figures.values()), samples)
    now = clock.now()
    return Evaluation(
        result=result,
        reasons=reasons,
        demo=demo,
        part=part,
        evaluated_at=now,
        expires_at=now + timedelta(days=valid_days),
        models={kind: _evaluated(one) for kind, one in in_use.items()},
        labels_sha256=sha256_hex(labels),
        pictures_sha256=sha256_hex(canonical_json(files)),
        sample_count=len(samples),
        protocol=_protocol(),
        figures={kind: _plain(one) for kind, one in figures.items()},
    )


def _judged(sample: Sample, picture: Picture, kind: ObjectKind, one: InUse) -> annex_b.Outcome:
    seen = one.detector.find(picture, min_score=min(annex_b.FLOOR_SCORE, one.model.min_score))
    height_px, width_px = picture.shape[:2]
    return annex_b.judge(sample, seen, kind, min_score=one.model.min_score, width_px=width_px, height_px=height_px)


def _listed(folder: Path, part: Part) -> tuple[bytes, tuple[Sample, ...], dict[str, str]]:
    """Bytes of the labels, the samples of the part, and the digest of each of their files."""
    place = folder / LABELS_FILE
    try:
        data = place.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(place), fix="put the labels there (docs/privacy.md)") from error
    samples, files = [], {}
    for sample in parse(data, subject=str(place)):
        if sample.file not in files:
            files[sample.file] = _digest(folder / sample.file, part)
        if files[sample.file] is not None:
            samples.append(sample)
    if not samples:
        raise UsageError(f"part {part} holds nothing", subject=str(place), fix="label more files, or evaluate --part all")
    return data, tuple(samples), {file: digest for file, digest in sorted(files.items()) if digest is not None}


def _digest(path: Path, part: Part) -> str | None:
    """SHA-256 of a file of the part, None for one of the other half."""
    try:
        if part != "all" and half(path.read_bytes()) != part:
            return None
        return file_digest(path)
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error


def _pictures(folder: Path, samples: Sequence[Sample], video: VideoReader) -> Iterator[tuple[Sample, Picture]]:
    of_file: dict[str, list[Sample]] = {}
    for sample in samples:
        of_file.setdefault(sample.file, []).append(sample)
    for file, listed in of_file.items():
        stills = [sample for sample in listed if sample.at_s is None]
        if stills:
            yield from ((sample, _still(folder / file)) for sample in stills)
        if len(stills) < len(listed):
            yield from _frames(folder / file, [sample for sample in listed if sample.at_s is not None], video)


def _still(path: Path) -> Picture:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise _unreadable(path, "is no picture; a frame of a video needs its time in the column at_s")
    return np.asarray(picture, np.uint8)


def _frames(path: Path, samples: Sequence[Sample], video: VideoReader) -> Iterator[tuple[Sample, Picture]]:
    """Each sample with the first frame that is shown at its time or later, as the clip's first frame is at 0."""
    waiting = sorted(samples, key=lambda sample: sample.at_s or 0.0)
    with video.open(path) as clip:
        start_s: float | None = None
        for frame in clip.frames():
            if frame.pts_s is None:
                continue
            start_s = frame.pts_s if start_s is None else start_s
            if waiting and frame.pts_s - start_s >= (waiting[0].at_s or 0.0) - _AT_ONCE_S:
                yield waiting.pop(0), upright(frame.sized(clip.container.width_px, clip.container.height_px), frame.quarter_turns)
            if not waiting:
                return
    raise _unreadable(path, f"has no frame at {waiting[0].at_s} s")


def _unreadable(path: Path, problem: str) -> UsageError:
    return UsageError(problem, subject=str(path), fix=f"correct {LABELS_FILE}, or put the file there")


def _evaluated(one: InUse) -> EvaluatedModel:
    model = one.model
    return EvaluatedModel(
        name=one.name,
        version=one.detector.version,
        sha256=model.sha256,
        licence=model.licence,
        min_score=model.min_score,
        runtime=_RUNTIME,
    )


def _protocol() -> dict[str, float]:
    """What was asked for, so that the report can be read without this program."""
    return {
        "least_face_side_px": annex_b.LEAST_SIDE_PX["face"],
        "least_plate_side_px": annex_b.LEAST_SIDE_PX["plate"],
        "min_detection_rate": annex_b.MIN_DETECTION_RATE,
        "max_false_rate": annex_b.MAX_FALSE_RATE,
        "min_cover": annex_b.MIN_COVER,
        "min_samples": annex_b.MIN_SAMPLES,
        "min_objects": annex_b.MIN_OBJECTS,
        "confidence": annex_b.CONFIDENCE,
        "mask_scale": MASK_SCALE,
        "false_below_iou": annex_b.FALSE_BELOW_IOU,
    }


def _plain(figures: annex_b.Figures) -> dict[str, Any]:
    return {**dataclasses.asdict(figures), "missed": [dataclasses.asdict(one) for one in figures.missed]}
