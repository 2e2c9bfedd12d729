"""What a clip looks like, in bits that re-encoding, rescaling and re-wrapping hardly move: a perceptual signature.

A signature is a handful of moments of the clip, each with its time and a 256-bit hash of the picture then. The hash is that of PDQ (Meta,
2019): signs of the 16 x 16 lowest frequencies of a 64 x 64 luma against their median. Distances are counted in bits.

Robust against codec, bit rate, size, pixel format, container and interlacing: over ten such forms of a real clip they move at most 10 bits,
in a GIF 32, in rain at half the width and a tenth of the bytes 26. Pictures of two different real clips differ by 88 bits and more, one
camera's pictures a second apart by 12 (rain, night, standing still) to 136. Not robust against mirroring, cropping, panels laid over the
picture or another playing speed; a copy that lacks the beginning shares no times with its original.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.signals.picture import Picture

HASH_BITS: Final = 256
MOMENTS_MAX: Final = 16
SAME_BITS_MAX: Final = 31  # PDQ's own limit of one picture; vPDQ takes the same
COMMON_MS: Final = 25  # moments closer than this show one frame: less than a frame of 30 fps
MATCHING_SHARE_MIN: Final = 0.8  # vPDQ's share of frames
_SIDE_PX: Final = 64
_FREQUENCIES: Final = 16
_DETAIL_MIN: Final = 2.0  # luma; the flattest real picture, a night drive, has 4.5, a covered lens below 1

Bits = npt.NDArray[np.uint8]
_MOMENT: Final = re.compile(r"([0-9]{1,10}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The picture at `at_ms` after the clip's first frame; `bits` are 64 hex digits."""

    at_ms: int
    bits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How two signatures compare: moments at common times, how many of them show the same, and how much that proves.

    distinct_count: matching moments that differ from one another; a standing view has one, however long it is watched.
    changes: whether each of the clips shows anything else than at its beginning.
    """

    common_count: int
    matching_count: int
    distinct_count: int
    changes: bool


def picture_bits(luma: Picture) -> str | None:
    """64 hex digits of a height x width luma; None where the picture is too flat for its bits to be more than noise."""
    height, width = luma.shape
    if min(height, width) >= 4 * _SIDE_PX:  # means of whole pixels first, which cost next to nothing
        luma = np.asarray(cv2.resize(luma, (width // 4, height // 4), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    small = cv2.resize(luma, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[1 : _FREQUENCIES + 1, 1 : _FREQUENCIES + 1]
    if not float(np.sqrt((waves**2).sum())) / _SIDE_PX >= _DETAIL_MIN:
        return None
    return bytes(np.packbits(waves > np.median(waves))).hex()


def signature(moments: Sequence[Moment]) -> str | None:
    """Up to 16 moments as text, `at_ms:bits` in order of time with spaces between; None without any.

    Of more, every second one is left out until they fit: clips seen at different depths keep common times that way.
    """
    kept = sorted(moments, key=lambda moment: moment.at_ms)
    while len(kept) > MOMENTS_MAX:
        kept = kept[::2]
    return " ".join(f"{moment.at_ms}:{moment.bits}" for moment in kept) or None


def moments_of(text: str) -> tuple[Moment, ...]:
    """The moments of a signature.

    Raises:
        ValueError: the text is no signature.
    """
    found = [_MOMENT.fullmatch(part) for part in text.split(" ")]
    if None in found:
        raise ValueError(f"is no signature: {text[:80]!r}")
    return tuple(Moment(at_ms=int(one[1]), bits=one[2]) for one in found if one is not None)


def bits_apart(one: str, other: str) -> int:
    """Bits in which two hashes differ, 0 to 256; 128 for pictures that have nothing to do with one another."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def agreement(one: Sequence[Moment], other: Sequence[Moment], *, bits_max: int = SAME_BITS_MAX) -> Agreement:
    """How far two clips show the same at the same times, a match being at most `bits_max` bits apart."""
    common = [(mine, yours) for mine in one for yours in other if abs(mine.at_ms - yours.at_ms) <= COMMON_MS]
    apart = [bits_apart(mine.bits, yours.bits) for mine, yours in common]
    matching = [mine.bits for (mine, _), bits in zip(common, apart, strict=True) if bits <= bits_max]
    distinct: list[str] = []
    for bits in matching:
        if all(bits_apart(bits, seen) > SAME_BITS_MAX for seen in distinct):
            distinct.append(bits)
    return Agreement(
        common_count=len(common),
        matching_count=len(matching),
        distinct_count=len(distinct),
        changes=all(any(bits_apart(clip[0].bits, moment.bits) > SAME_BITS_MAX for moment in clip[1:]) for clip in (one, other)),
    )


def is_copy(found: Agreement, *, times_agree: bool | None) -> bool:
    """Whether an agreement proves one recording.

    Where the view changes, several different pictures at the same times are proof whatever the clocks say. A view that stands, or a
    single common picture, proves it only where the times of capture agree: a parked car records the same picture every minute. Where a time
    is unknown, both clips must go on to show something else; one in which nothing moves is nobody's copy for its looks.
    """
    if not found.common_count or found.matching_count < MATCHING_SHARE_MIN * found.common_count:
        return False
    if found.distinct_count >= 2:
        return True
    return times_agree is True or (times_agree is None and found.changes)
