"""Write a masked copy of a clip: all frames looked at, tracked, and every mask painted over before anything is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curation import __version__
from curation.digests import canonical_json, file_digest, sha256_hex
from curation.errors import ClipUnreadable, CurationError, EvidenceBroken, ImmutableConflict, MaskingRefused, UsageError
from curation.layout import clip_key, masked_copy_key, masked_note_key, tombstone_key
from curation.model_settings import ModelSettings, ObjectKind
from curation.ports import Detector, Masker, ObjectStore
from curation.privacy.boxes import Boxes
from curation.privacy.paint import GREY, painted
from curation.privacy.tracks import Track, TrackLimits, masks, tracks
from curation.records import Detection
from curation.shards.crossing import refused

EVERY_MAX = 6  # a fifth of a second at 30 frames a second: in a longer pause a head turns out from under its mask
DOUBTFUL = 0.5  # of the least score, from which a sight carries a track on: hysteresis
_CHUNK_BYTES: Final = 1024 * 1024


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


# --- copies for shards --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What masks: reads and writes frames, finds faces and plates, and how each model is run. `identity` names all of it."""

    masker: Masker
    detectors: Mapping[ObjectKind, Detector]
    models: Mapping[ObjectKind, ModelSettings]

    @property
    def identity(self) -> str:
        """The digest under which its copies rest."""
        return identity({kind: one.version for kind, one in self.detectors.items()})


def identity(versions: Mapping[ObjectKind, str]) -> str:
    """SHA-256, hex, over all that decides what a copy shows: versions of models and program, limits of tracks, size and colour of masks."""
    limits = dataclasses.asdict(TrackLimits(start_score=1.0, keep_score=DOUBTFUL))
    return sha256_hex(canonical_json({"version": __version__, "models": dict(versions), "every": 1, "limits": limits, "grey": GREY}))


def answer_copy(item: Mapping[str, Any], *, store: ObjectStore, equipment: Equipment) -> dict[str, Any]:
    """`write_copy` as a worker's job: {"copy": …}, {"unmaskable": why}, or what it refuses by name, which stops the set."""
    try:
        if equipment.identity != item["masking"]:  # what the gate let mask is not what stands here
            fix = "build again, and leave [privacy] and [models] as they are meanwhile"
            raise MaskingRefused("would be masked by other models than were allowed", subject=f"clip {item['clip_id']}", fix=fix)
        return {"copy": write_copy(item["clip_id"], item["suffix"], store=store, equipment=equipment)}
    except ClipUnreadable as error:
        return {"unmaskable": error.problem}
    except CurationError as error:
        return refused(error)


def write_copy(clip_id: str, suffix: str, *, store: ObjectStore, equipment: Equipment) -> dict[str, Any]:
    """What stands beside the clip's masked copy in the home store, whole or not at all; one that stands there is not made again.

    Args:
        clip_id: the clip.
        suffix: of its object, with its dot.
        store: the home store.
        equipment: what masks; every frame is looked at.

    Raises:
        EvidenceBroken: the clip's bytes are not those that its id names.
        ClipUnreadable: it cannot be masked; nothing is written.
        MaskingRefused: the clip was erased meanwhile.
    """
    key = masked_note_key(clip_id, equipment.identity)
    if not _stands(key, store):
        with store.local_path(clip_key(clip_id, suffix)) as path:
            if file_digest(path) != clip_id:
                problem = f"the bytes under {clip_key(clip_id, suffix)} are not those that its id names"
                raise EvidenceBroken(problem, subject=f"clip {clip_id}", fix="restore them from a copy")
            said = _stored_copy(path, clip_id, store, equipment)
        with contextlib.suppress(ImmutableConflict):  # another run was faster, and its bytes differ; what stands is the clip's copy
            store.create(key, canonical_json(said))
    copy: dict[str, Any] = json.loads(store.read(key))
    return copy


def _stands(note_key: str, store: ObjectStore) -> bool:
    if store.size(note_key) is None:
        return False
    said: dict[str, Any] = json.loads(store.read(note_key))
    return bool(store.size(said["key"]) == said["size_bytes"])


def _stored_copy(path: Path, clip_id: str, store: ObjectStore, equipment: Equipment) -> dict[str, Any]:
    with store.stage() as staged:
        target = staged.path.with_name(f"{staged.path.name}.mp4")
        try:
            told = run(path, target, masker=equipment.masker, detectors=equipment.detectors, models=equipment.models)
            hasher, size_bytes = hashlib.sha256(), 0
            with target.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    size_bytes += len(chunk)
                    staged.write(chunk)
        finally:
            target.unlink(missing_ok=True)
        if store.size(tombstone_key(clip_id)) is not None:
            raise MaskingRefused("was erased while it was masked", subject=f"clip {clip_id}", fix="build the set again")
        key = masked_copy_key(clip_id, equipment.identity, hasher.hexdigest())
        staged.commit(key)
    return {**dataclasses.asdict(told), "key": key, "sha256": hasher.hexdigest(), "size_bytes": size_bytes}


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
