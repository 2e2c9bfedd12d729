"""What other models still find in a masked copy. A clip of which anything is found, or that could not be looked at, is in no masked set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from curation.errors import MaskRefused
from curation.model_settings import ObjectKind
from curation.privacy import plates
from curation.privacy.annex_b import MIN_COVER
from curation.privacy.paint import GREY
from curation.records import Detection, TextLine

Verdict = Literal["clean", "found", "unmeasured"]

# Half of what the standard asks to be masked: what another model sees there, a better one could know. Below it, BlazeFace sees faces in
# leaves and gravel.
LEAST_FACE_PX: Final = 16.0
EACH: Final = 2  # models for faces, and readers of text, that must find nothing: GB/T 44464-2024, Annex B
_NEAR_GREY: Final = 6  # of 255, each channel: what coding does to a solid mask
_SOLID_PX: Final = 5  # squares of it: single grey pixels of a street are no mask


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Residue:
    """A face, or a line in the form of a plate, that no mask hides. What the plate says is not kept.

    Attributes:
        model: that found it, by its name in the settings; of several nets the last.
        frame: number of the frame, from 0.
        at_s: seconds from the first frame.
        form: of the plate.
        hidden: share of its box under masks.
    """

    kind: ObjectKind
    model: str
    frame: int
    at_s: float
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    score: float
    hidden: float
    form: plates.Form | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MaskProof:
    """What looking at a masked copy again gave.

    Attributes:
        frames: numbers of the frames that were looked at.
        residues: what was found, by frame.
        unmeasured: why it could not be looked at by every model, where it could not.
        versions: of the models that looked.
    """

    frames: tuple[int, ...]
    residues: tuple[Residue, ...]
    unmeasured: str | None
    versions: str

    @property
    def verdict(self) -> Verdict:
        """`found` as soon as there is anything; `clean` only if all models looked at a frame or more."""
        if self.residues:
            return "found"
        return "unmeasured" if self.unmeasured is not None or not self.frames else "clean"

    def told(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"verdict": self.verdict, **dataclasses.asdict(self)}


def refusal(proof: MaskProof, *, subject: str) -> MaskRefused | None:
    """None where the copy may go into a masked set; else why not, to be raised or shown."""
    if proof.verdict == "clean":
        return None
    if proof.verdict == "found":
        first = proof.residues[0]
        kinds = " and ".join(f"{sum(one.kind == kind for one in proof.residues)} {kind}s" for kind in ("face", "plate"))
        where = f"a {first.kind} of {first.width_px:.0f} x {first.height_px:.0f} px at {first.at_s:.2f} s, by {first.model}"
        problem = f"after masking, other models still find {kinds}, first {where}"
    else:
        problem = f"could not be looked at after masking: {proof.unmeasured or 'it shows no frame'}"
    return MaskRefused(problem, subject=subject, fix="leave the clip out of masked shard sets, or mask it by better models")


def solid(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a BGR picture (height x width x 3) is masked: the grey of masks, in squares of 5 px or more.

    Measured on the copy itself, so that it does not rest on what the masker says it did.
    """
    grey = cv2.inRange(picture, np.full(3, GREY - _NEAR_GREY), np.full(3, GREY + _NEAR_GREY))
    kernel = np.ones((_SOLID_PX, _SOLID_PX), np.uint8)
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_OPEN, kernel) > 0, np.bool_)


def residues(
    picture: npt.NDArray[np.uint8], seen: Mapping[str, Sequence[Detection | TextLine]], *, frame: int, at_s: float
) -> tuple[Residue, ...]:
    """What of the findings in a masked frame is large enough and lies half in the open or more; of text, what has the form of a plate.

    Args:
        picture: the frame, BGR.
        seen: name of each model -> faces or lines that it found.
        frame: its number.
        at_s: its time.
    """
    masked, when = solid(picture), {"frame": frame, "at_s": round(at_s, 3)}
    kept = []
    for model, found in seen.items():
        for one in found:
            hidden = _hidden(masked, one)
            if hidden >= MIN_COVER:
                continue
            told = {"model": model, **when, "hidden": round(hidden, 3), **_told(one)}
            if isinstance(one, TextLine):
                form = plates.form(one.text)
                if form is not None and one.line_height_px >= plates.LEAST_HEIGHT_PX:
                    kept.append(Residue(kind="plate", form=form, **told))
            elif min(one.width_px, one.height_px) >= LEAST_FACE_PX:
                kept.append(Residue(kind="face", **told))
    return tuple(kept)


def _hidden(masked: npt.NDArray[np.bool_], one: Detection | TextLine) -> float:
    left, top = max(0, int(one.x_px)), max(0, int(one.y_px))
    part = masked[top : int(np.ceil(one.y_px + one.height_px)), left : int(np.ceil(one.x_px + one.width_px))]
    return float(part.mean()) if part.size else 1.0


def _told(one: Detection | TextLine) -> dict[str, Any]:
    return {name: round(float(getattr(one, name)), 3) for name in ("x_px", "y_px", "width_px", "height_px", "score")}
