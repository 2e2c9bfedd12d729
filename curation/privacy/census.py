"""How many faces and plates a clip shows at once, counted on a few of its frames, within a fixed cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curation.model_settings import DetectSettings, ObjectKind
from curation.ports import ClipStream, Detector
from curation.privacy import tiles
from curation.privacy.paint import upright
from curation.records import Container, Packet
from curation.signals import looks

COUNTS: Final[Mapping[str, ObjectKind]] = {"face_count_max": "face", "plate_count_max": "plate"}
NOT_LOOKED_FOR: Final = "not looked for: [privacy] detect_at_ingest is off"
NO_FRAME: Final = "no frame that was to be looked at could be decoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What was counted: column -> the most in one frame, or column -> why it was not; and on how many frames."""

    counts: Mapping[str, int]
    unmeasured: Mapping[str, str]
    versions: str | None
    frame_count: int


def not_taken(reason: str) -> Census:
    """The census of a clip in which nothing was looked for."""
    return Census(counts={}, unmeasured=dict.fromkeys(COUNTS, reason), versions=None, frame_count=0)


def frames_for(container: Container, detect: DetectSettings) -> int:
    """On how many frames of such a clip is counted: fewer where each takes many looks, but one at least."""
    size = (max(1, container.width_px), max(1, container.height_px))
    looks_each = max(
        len(tiles.looks(*size, width_px=one.width_px, height_px=one.height_px, max_zoom=one.max_zoom, coarser=one.coarser))
        for one in detect.models.values()
    )
    return max(1, min(detect.frames_per_clip, detect.looks_per_clip // looks_each))


def wanted(timeline: looks.Timeline, most: int) -> list[int]:
    """Up to `most` packets, spread evenly over the clip: key frames, or any where there are too few of them."""
    keys = sorted(timeline.keys, key=timeline.shown_s) if timeline.can_skip else []
    pool = keys if 2 * len(keys) >= most else (timeline.order if timeline.can_skip else list(range(len(timeline.packets))))
    if not pool:
        return []
    if most == 1:  # the first is the one that edit lists hide
        return [pool[len(pool) // 2]]
    spread = np.linspace(0, len(pool) - 1, min(most, len(pool)))
    return sorted({pool[round(float(at))] for at in spread})


def take(clip: ClipStream, packets: Sequence[Packet], *, detect: DetectSettings, detectors: Mapping[ObjectKind, Detector | str]) -> Census:
    """The census of a clip.

    Args:
        clip: opened; its frames are read once more.
        packets: of the clip.
        detect: how many frames are looked at.
        detectors: kind -> what finds it, or why nothing can.
    """
    running = {kind: one for kind, one in detectors.items() if not isinstance(one, str)}
    refused = {column: str(detectors[kind]) for column, kind in COUNTS.items() if kind not in running}
    if not running:
        return Census(counts={}, unmeasured=refused, versions=None, frame_count=0)
    most = _counted(clip, packets, frames_for(clip.container, detect), running)
    if not most:
        return not_taken(NO_FRAME)
    return Census(
        counts={column: max(one[kind] for one in most) for column, kind in COUNTS.items() if kind in running},
        unmeasured=refused,
        versions=" ".join(running[kind].version for kind in sorted(running)),
        frame_count=len(most),
    )


def _counted(
    clip: ClipStream, packets: Sequence[Packet], frames: int, detectors: Mapping[ObjectKind, Detector]
) -> list[dict[ObjectKind, int]]:
    """How many of each kind each looked at frame shows."""
    timeline = looks.Timeline(packets)
    positions = wanted(timeline, frames)
    chosen = looks.needed_for(timeline, positions) if timeline.can_skip else None
    ranks = {timeline.order.index(at) for at in positions} if timeline.can_skip else set(positions)
    said = clip.container
    found: list[dict[ObjectKind, int]] = []
    for number, frame in enumerate(clip.frames(chosen)):
        rank = timeline.rank(frame.pts_s) if timeline.can_skip else number
        if rank in ranks:
            picture = upright(frame.sized(said.width_px, said.height_px), frame.quarter_turns)
            found.append({kind: len(one.find(picture)) for kind, one in detectors.items()})
    return found
