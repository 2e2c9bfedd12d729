"""Look at a masked copy again, with models other than those that masked it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.errors import ClipUnreadable, ModelRefused
from curation.ports import ClipStream, FaceFinder, TextReader, VideoReader
from curation.privacy import plates, proof
from curation.records import Detection, TextLine


def run(
    path: Path, *, video: VideoReader, faces: Mapping[str, FaceFinder | str], texts: Mapping[str, TextReader | str], step_s: float
) -> proof.MaskProof:
    """What is still found in the masked copy at `path`; never clean if a model or a frame is missing.

    Args:
        path: the copy.
        video: reads it.
        faces: name -> what finds faces, or why it cannot.
        texts: name -> what reads text, or why it cannot.
        step_s: seconds between two frames that are looked at, 0 for all; the last frame always is.
    """
    missing = [one for one in (*faces.values(), *texts.values()) if isinstance(one, str)]
    for models, are in ((faces, "models for faces"), (texts, "readers of text")):
        if len(models) < proof.EACH:
            missing.append(f"{len(models)} {are} look, Annex B asks for {proof.EACH}")
    versions = " ".join(one.version for one in (*faces.values(), *texts.values()) if not isinstance(one, str))
    frames: list[int] = []
    found: list[proof.Residue] = []
    try:
        with video.open(path) as clip:
            for number, at_s, picture in _chosen(clip, step_s):
                found.extend(proof.residues(picture, _seen(picture, faces, texts), frame=number, at_s=at_s))
                frames.append(number)
            if clip.decode_errors:
                missing.append(f"{clip.decode_errors} packets cannot be decoded")
    except (ClipUnreadable, ModelRefused) as error:
        missing.append(str(error))
    return proof.MaskProof(frames=tuple(frames), residues=tuple(found), unmeasured="; ".join(missing) or None, versions=versions)


def _seen(
    picture: npt.NDArray[np.uint8], faces: Mapping[str, FaceFinder | str], texts: Mapping[str, TextReader | str]
) -> Mapping[str, Sequence[Detection | TextLine]]:
    """Name -> what each model that can look finds in a picture."""
    seen: dict[str, Sequence[Detection | TextLine]] = {}
    for name, finder in faces.items():
        if not isinstance(finder, str):
            seen[name] = finder.find(picture)
    for name, reader in texts.items():
        if not isinstance(reader, str):
            seen[name] = reader.read(picture, least_height_px=plates.LEAST_HEIGHT_PX)
    return seen


def _chosen(clip: ClipStream, step_s: float) -> Iterator[tuple[int, float, npt.NDArray[np.uint8]]]:
    """Number, seconds from the first frame and BGR picture at full size of the first frame, of one each `step_s`, and of the last."""
    said = clip.container
    start_s, due_s, number, last = None, 0.0, -1, None
    for number, frame in enumerate(clip.frames()):
        if frame.pts_s is None:
            raise ClipUnreadable("has a frame without a time", subject="masked copy", fix="mask the clip again")
        start_s = frame.pts_s if start_s is None else start_s
        at_s = frame.pts_s - start_s
        last = frame
        if at_s >= due_s:
            last, due_s = None, at_s + step_s
            yield number, at_s, frame.sized(said.width_px, said.height_px)
    if last is not None and last.pts_s is not None and start_s is not None:
        yield number, last.pts_s - start_s, last.sized(said.width_px, said.height_px)
