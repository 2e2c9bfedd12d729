"""Pictures of a clip: which moments of it, how large, and as which JPEG. Exact, so that every machine makes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curation.errors import ClipUnreadable
from curation.ports import ClipStream, Frame
from curation.privacy.paint import upright
from curation.records import Packet
from curation.shards.request import FrameRequest
from curation.signals import looks

MAX_INDEX: Final = 999_999  # six digits
_EARLY_S: Final = 1e-6  # times are whole ticks of some clock, so that the tenth frame of 0.1 s each lies a hair before 1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a clip: the `index`-th moment asked for, when its frame is shown after the clip's first, and its JPEG."""

    index: int
    pts_s: float
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A frame that is asked for: its packet, and the time at which it is shown on the stream's clock."""

    index: int
    at: int
    shown_s: float


def moments(packets: Sequence[Packet], fps: float) -> list[Moment]:
    """The frames that a clip shows at 0, 1, 2 … `fps`-ths of a second after its first, or next after that; no frame twice.

    A moment in a hole of the timeline, or between two frames of a slower clip, has none of its own and is left out.
    """
    shown = sorted((packet.pts_s, at) for at, packet in enumerate(packets) if packet.pts_s is not None and not packet.is_discarded)
    found: list[Moment] = []
    for shown_s, at in shown:
        # the latest moment that this frame is the first to reach, counted from the clip's first frame
        index = int((shown_s - shown[0][0] + _EARLY_S) * fps)
        if (not found or index > found[-1].index) and index <= MAX_INDEX:
            found.append(Moment(index=index, at=at, shown_s=shown_s))
    return found


def pictures(clip: ClipStream, frames: FrameRequest) -> Iterator[Picture]:
    """The clip's pictures in order; after the last one an error counts those that did not come out.

    Only what they need is decoded. Where one does not come out of that, the whole clip is decoded for the rest.

    Raises:
        ClipUnreadable: the clip's frames carry no times, or some of those asked for, or all, do not decode.
    """
    packets, _ = clip.packets()
    asked = moments(packets, frames.fps)
    if not asked:
        raise ClipUnreadable("its frames carry no times", subject="clip", fix="leave it out, or ask for whole clips")
    chosen = looks.needed_for(looks.Timeline(packets), [one.at for one in asked])
    start_s, own_px = asked[0].shown_s, (clip.container.width_px, clip.container.height_px)
    done, given = 0, 0  # how far in what is asked, and how much of it came out
    for attempt in (chosen, None) if chosen is not None else (None,):
        ranks = {_tick(one.shown_s): rank for rank, one in enumerate(asked) if rank >= done}
        for frame in clip.frames(attempt):
            rank = None if frame.pts_s is None else ranks.get(_tick(frame.pts_s))
            if rank is None or rank < done:
                continue
            if attempt is not None and rank > done:
                break  # one is missing: the whole clip is decoded for the rest
            done, moment = rank + 1, asked[rank]
            jpeg = _jpeg(_shown(frame, own_px, frames), frames.jpeg_quality)
            given += 1
            yield Picture(index=moment.index, pts_s=round(moment.shown_s - start_s, 6), jpeg=jpeg)
        if done == len(asked):
            break
    if given < len(asked):
        problem = f"{len(asked) - given} of {len(asked)} pictures asked of it do not decode"
        raise ClipUnreadable(problem, subject="clip", fix="leave it out, or inspect it again")


def _shown(frame: Frame, own_px: tuple[int, int], frames: FrameRequest) -> npt.NDArray[np.uint8]:
    """The frame as players show it, of the sides asked for: a clip may say that it lies on its side."""
    if frame.quarter_turns % 2:
        width_px, height_px = sides_px(own_px[::-1], frames)
        return upright(frame.sized(height_px, width_px), frame.quarter_turns)
    return upright(frame.sized(*sides_px(own_px, frames)), frame.quarter_turns)


def sides_px(own: tuple[int, int], frames: FrameRequest) -> tuple[int, int]:
    """Width and height of a clip's pictures: as asked for; a side that is not follows the clip's shape."""
    width_px, height_px = own
    if frames.width_px is not None and frames.height_px is not None:
        return frames.width_px, frames.height_px
    if frames.width_px is not None:
        return frames.width_px, max(1, round(height_px * frames.width_px / width_px))
    if frames.height_px is not None:
        return max(1, round(width_px * frames.height_px / height_px)), frames.height_px
    return own


def _jpeg(bgr: npt.NDArray[np.uint8], quality: int) -> bytes:
    """JPEG of a BGR picture, 4:2:0, without a time or a name in it; its transform is the slow exact one, alike with and without SIMD."""
    is_made, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_made:
        raise ClipUnreadable("a picture of it cannot be written as JPEG", subject="clip", fix="ask for another size")
    return bytes(data)


def _tick(shown_s: float) -> int:
    return round(shown_s * 1e6)
