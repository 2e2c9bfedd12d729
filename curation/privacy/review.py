"""What a person looks at of masked copies, and says of it: sheets of sampled frames, and signed answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from curation.digests import canonical_json, sha256_hex
from curation.model_settings import ObjectKind
from curation.privacy.proof import solid

Answer = Literal["ok", "missed"]
MaskSize = Literal["none", "small", "medium", "large"]
PICTURES: Final = 100  # Annex B's check by a person
_LARGEST_SIDE_PX: Final[Mapping[MaskSize, float]] = {"none": 0.0, "small": 32.0, "medium": 96.0, "large": float("inf")}
_DOMAIN: Final = b"curation privacy review signature 1\n"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SampledPicture(_Frozen):
    """A frame of a masked copy as it lies in the home store; `mask_size` is that of its smallest mask."""

    number: int = Field(ge=1)
    key: str
    sha256: Sha256
    clip_id: str
    copy_sha256: Sha256
    frame: int
    at_s: float
    mask_size: MaskSize


class Sheet(_Frozen):
    """What a reviewer is shown: from which copies, made by which models, drawn by which seed, asked for by whom."""

    review_id: str
    seed: str
    requester: str = Field(min_length=1)
    made_at: datetime
    models: Mapping[ObjectKind, str]
    copies_count: int
    pictures: tuple[SampledPicture, ...] = Field(min_length=1)


class Answers(_Frozen):
    """What a reviewer said of the pictures of a sheet, by their numbers, which the sheet's digest binds; signed over all of it."""

    review_id: str
    sheet_sha256: Sha256
    reviewer: str = Field(min_length=1)
    answered_at: datetime
    answers: Mapping[int, Answer] = Field(min_length=1)
    public_key: Sha256
    signature: str = ""

    def is_signed(self) -> bool:
        """Whether the signature is that of its key over all the rest."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key)).verify(bytes.fromhex(self.signature), _message(self))
        except (InvalidSignature, ValueError):
            return False
        return True


def signed(answers: Answers, key: Ed25519PrivateKey) -> Answers:
    """The answers under the key's signature, and its public half."""
    named = answers.model_copy(update={"public_key": key.public_key().public_bytes_raw().hex()})
    return named.model_copy(update={"signature": key.sign(_message(named)).hex()})


def _message(answers: Answers) -> bytes:
    return _DOMAIN + canonical_json(answers.model_dump(mode="json", exclude={"signature"}))


def models_text(models: Mapping[ObjectKind, str]) -> str:
    """The models of a sheet as the ledger's facts name them."""
    return " ".join(models[kind] for kind in sorted(models))


def mask_size(picture: npt.NDArray[np.uint8]) -> MaskSize:
    """How large the smallest mask of a BGR picture is, by its shorter side: the smallest ones cover what is hardest to find."""
    count, _, parts, _ = cv2.connectedComponentsWithStats(solid(picture).astype(np.uint8))
    if count < 2:
        return "none"
    sides = np.minimum(parts[1:, cv2.CC_STAT_WIDTH], parts[1:, cv2.CC_STAT_HEIGHT])
    return next(name for name, largest in _LARGEST_SIDE_PX.items() if float(sides.min()) <= largest)


def in_drawn_order(seed: str, names: Iterable[str]) -> list[str]:
    """The names in an order that the seed alone decides, and nobody can choose by choosing names."""
    return sorted(names, key=lambda name: sha256_hex(f"{seed}|{name}".encode()))


def chosen(seed: str, candidates: Mapping[str, tuple[str, MaskSize]], count: int) -> list[str]:
    """Up to `count` names: turn by turn one of each clip, each time of the mask size that was taken least so far.

    Args:
        seed: decides the order.
        candidates: name -> its clip and mask size.
        count: how many.
    """
    of_clip: dict[str, list[str]] = {}
    for name in in_drawn_order(seed, candidates):
        of_clip.setdefault(candidates[name][0], []).append(name)
    taken: list[str] = []
    sizes: dict[MaskSize, int] = dict.fromkeys(_LARGEST_SIDE_PX, 0)
    while len(taken) < count and of_clip:
        for clip_id in in_drawn_order(seed, of_clip):
            names = of_clip[clip_id]
            best = min(names, key=lambda name: sizes[candidates[name][1]])
            names.remove(best)
            sizes[candidates[best][1]] += 1
            taken.append(best)
            if not names:
                del of_clip[clip_id]
            if len(taken) == count:
                break
    return taken


def spread(count: int, most: int) -> list[int]:
    """Up to `most` numbers of `count`, evenly spread, the first and the last among them."""
    return sorted({round(float(at)) for at in np.linspace(0, count - 1, min(count, most))}) if count else []


def standing(sheet: Sheet, said: Sequence[Answers]) -> dict[str, int]:
    """How many pictures of the sheet were called ok, missed, or nothing yet; one that anybody called missed is missed."""
    found = {"ok": 0, "missed": 0, "open": 0}
    for picture in sheet.pictures:
        given = {one.answers[picture.number] for one in said if picture.number in one.answers}
        found["missed" if "missed" in given else "ok" if given else "open"] += 1
    return found
