"""Write a masked copy of a clip: all frames looked at, tracked, and every mask painted over before anything is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from curation import __version__
from curation.digests import canonical_json, file_digest, sha256_hex
from curation.errors import ClipUnreadable, CurationError, EvidenceBroken, ImmutableConflict, MaskingRefused, MaskRefused, UsageError
from curation.layout import clip_key, masked_copy_key, masked_note_key, tombstone_key
from curation.model_settings import ModelSettings, ObjectKind
from curation.ports import Detector, Masker, ObjectStore, ShownFrame
from curation.privacy.boxes import Boxes
from curation.privacy.paint import GREY
from curation.privacy.proof import MaskProof, refusal
from curation.privacy.tracks import TrackLimits, masks, tracks
from curation.privacy.watch import EVERY_MAX, unseen_frames, watch
from curation.shards.crossing import refused

DOUBTFUL = 0.5  # of the least score, from which a sight carries a track on: hysteresis
TOGETHER = 2 / 3  # of the least score, from which two sights start a track as one of the least score does
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
        every: look at every n-th frame at least, at four a second at least, and at the last, and follow between; 1 looks at all.
            Above 1 every second look is at that part of the picture alone where something was seen.

    Raises:
        UsageError: `every` is less than 1 or over `EVERY_MAX`.
        ClipUnreadable: a frame cannot be decoded, or its time cannot be kept; nothing is written.
    """
    if not 1 <= every <= EVERY_MAX:
        raise UsageError(f"looks at every {every}th frame", subject="masking", fix=f"choose from 1 to {EVERY_MAX}")
    limits = {kind: _limits(model, every) for kind, model in models.items()}
    reach_frames = max((one.reach_frames for one in limits.values()), default=0)
    least_scores = {kind: one.keep_score for kind, one in limits.items()}
    checksums: list[int] = []
    with masker.open(path) as frames:
        seen, (width_px, height_px) = watch(
            _noted(frames, checksums), detectors, least_scores=least_scores, reach_frames=reach_frames, every=every, subject=path.name
        )
    found = {kind: tracks(one.frames, limits[kind], one.paths) for kind, one in seen.items()}
    frame_count = len(next(iter(seen.values())).frames) if seen else 0
    of_frame = [
        list(masks(one, frame_count=frame_count, width_px=width_px, height_px=height_px, limits=limits[kind]))
        for kind, one in found.items()
    ]
    boxes: list[Boxes] = [np.concatenate(of_kinds) for of_kinds in zip(*of_frame, strict=True)]

    def masks_of(number: int, frame: ShownFrame) -> Boxes:
        if number >= frame_count or checksums[number] != frame.checksum:  # what was not looked at would be written
            raise ClipUnreadable("gave another frame when it was read again", subject=path.name, fix="read it again; it may have changed")
        return boxes[number]

    written = masker.write(path, target, masks_of)
    if written != frame_count:
        target.unlink(missing_ok=True)
        raise ClipUnreadable(f"{written} of {frame_count} frames came out masked", subject=path.name, fix="leave the clip out")
    return Masked(
        frame_count=frame_count,
        track_counts={kind: len(one) for kind, one in found.items()},
        mask_count=sum(map(len, boxes)),
        detector_versions=" ".join(detectors[kind].version for kind in sorted(detectors)),
    )


def _noted(frames: Iterable[ShownFrame], checksums: list[int]) -> Iterator[ShownFrame]:
    for frame in frames:
        checksums.append(frame.checksum)
        yield frame


# --- copies for shards --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What masks: reads and writes frames, finds faces and plates, how each model is run, and what looks at a copy again.

    `identity` names all of it: the digest under which its copies rest.
    """

    masker: Masker
    detectors: Mapping[ObjectKind, Detector]
    models: Mapping[ObjectKind, ModelSettings]
    prove: Callable[[Path], MaskProof]
    identity: str


def identity(versions: Mapping[ObjectKind, str], proof: Mapping[str, str], proof_step_s: float) -> str:
    """SHA-256, hex, over all that decides what a copy shows, and whether it may stand.

    Args:
        versions: of the models that find faces and plates.
        proof: versions of the models that look at the copy again, and their ways of looking.
        proof_step_s: how often they look.
    """
    limits = dataclasses.asdict(TrackLimits(start_score=1.0, keep_score=DOUBTFUL, together_score=TOGETHER))
    shown = {"version": __version__, "models": dict(versions), "every": 1, "limits": limits, "grey": GREY}
    return sha256_hex(canonical_json({**shown, "proof": dict(proof), "proof_step_s": proof_step_s}))


def answer_copy(item: Mapping[str, Any], *, store: ObjectStore, equipment: Equipment) -> dict[str, Any]:
    """`write_copy` as a worker's job: {"copy": …}, {"unmaskable": why}, {"not_clean": why}, or what it refuses by name.

    A refusal stops the set. The two before it leave out the clip: it cannot be masked, or other models did not find its copy clean.
    """
    try:
        if equipment.identity != item["masking"]:  # what the gate let mask is not what stands here
            fix = "build again, and leave [privacy] and [models] as they are meanwhile"
            raise MaskingRefused("would be masked by other models than were allowed", subject=f"clip {item['clip_id']}", fix=fix)
        return {"copy": write_copy(item["clip_id"], item["suffix"], store=store, equipment=equipment)}
    except ClipUnreadable as error:
        return {"unmaskable": error.problem}
    except MaskRefused as error:
        return {"not_clean": error.problem}
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
        MaskRefused: other models still find a face or plate in the copy, or could not look; nothing is written.
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
            proof = equipment.prove(target)
            if (refused_copy := refusal(proof, subject=f"clip {clip_id}")) is not None:
                raise refused_copy
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
    return {**dataclasses.asdict(told), "proof": proof.told(), "key": key, "sha256": hasher.hexdigest(), "size_bytes": size_bytes}


def _limits(model: ModelSettings, every: int) -> TrackLimits:
    least = model.min_score
    limits = TrackLimits(start_score=least, keep_score=DOUBTFUL * least, together_score=TOGETHER * least)
    # What came into the picture since all of it was last looked at is masked from where it came.
    return dataclasses.replace(limits, extend_frames=max(limits.extend_frames, unseen_frames(every)))
