"""Measure clips: one Inspection per clip, checkpointed as soon as it is known, so that a retried batch goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from curation import layout
from curation.errors import ClipUnreadable, CurationError, ImmutableConflict
from curation.model_settings import ObjectKind
from curation.ports import ClipStream, Clock, Detector, Engine, ObjectStore, Outcome, Tagger, VideoReader
from curation.privacy import census
from curation.records import Container, Inspection, Packet, Tags, Telemetry, TrackPoint
from curation.schema import SIGNALS
from curation.settings import INSPECTOR_VERSION, InspectSettings, Thresholds
from curation.signals import coding, looks, timeline
from curation.signals.verdict import TIMELINE_REASONS, judge, reasons
from curation.signals.watch import Watch
from curation.telemetry.embedded import read_embedded

CHUNK_CLIPS: Final = 128  # local files held at once
NO_LIMITS: Final = "none"  # an engine that stops no clip

NOT_AT_PACKETS: Final = "not measured at depth packets"
_TAGS: Final = ("timeofday", "weather", "scene")
_OF_PICTURES: Final = frozenset(SIGNALS) - {
    "gap_count",
    "dropped_frame_count",
    "duplicate_pts_count",
    "backward_frame_count",
    "start_offset_s",
    "frame_step_ratio",
    "duration_mismatch_s",
    "missing_byte_count",
    "bits_per_pixel",
}
_FACTS: Final = (
    "container",
    "video_codec",
    "width_px",
    "height_px",
    "camera_model",
    "fps",
    "frame_count",
    "decoded_frame_count",
    "duration_s",
    "packet_digest",
    "signature",
    *_TAGS,
)


Show = Callable[[Inspection, Watch], None]
Detectors = Mapping[ObjectKind, Detector | str]


def inspect_clip(
    path: Path,
    *,
    video: VideoReader,
    tagger: Tagger,
    policy: InspectSettings,
    clock: Clock,
    detectors: Detectors = MappingProxyType({}),
    show: Show | None = None,
) -> Inspection:
    """All that the clip's bytes say; bytes that are no video give a quarantined Inspection, never an exception.

    `show` is called with what was seen of a clip whose frames were looked at. `detectors` are those that `policy` names, or why one
    cannot be run.
    """
    try:
        with video.open(path) as clip:
            inspection, watch = _inspect(path.name, clip, tagger=tagger, policy=policy, clock=clock, detectors=detectors)
            if show is not None and watch is not None:
                show(inspection, watch)
            return inspection
    except ClipUnreadable as error:
        return quarantined(str(error), reason=error.problem, policy=policy, at=clock.now())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What looking at frames gave; `is_whole` where all of them were decoded."""

    watch: Watch
    is_whole: bool
    decode_errors: int
    because: tuple[str, ...] = ()


def _inspect(
    name: str, clip: ClipStream, *, tagger: Tagger, policy: InspectSettings, clock: Clock, detectors: Detectors
) -> tuple[Inspection, Watch | None]:
    packets, packet_digest = clip.packets()
    length_s = timeline.span_s(packets)
    facts = {"fps": timeline.fps(packets), "duration_s": length_s, "frame_count": float(len(packets))}
    told = _packet_signals(packets, clip.container)
    side_px = float(min(clip.container.width_px, clip.container.height_px))
    known = {**told, "side_px": side_px, **{fact: value for fact, value in facts.items() if value is not None}}
    limits = policy.thresholds_for(clip.container.camera_model, clip.container.width_px, clip.container.height_px)
    seen = None if policy.depth == "packets" else _look(clip, packets, known, limits, is_full=policy.depth == "full")
    if seen is not None and not seen.watch.seen_count:
        raise ClipUnreadable("has no frame that can be decoded", subject=name, fix="record it anew, or leave it out")
    signals = {**told, **_seen_signals(seen)}
    judgement = judge({**known, **signals}, limits, depth=policy.depth)
    missing = [*(signal for signal in SIGNALS if signal not in signals), *(fact for fact, value in facts.items() if value is None)]
    unmeasured = {one: _why(one, packets, seen) for one in missing}
    if clip.container.camera_model is None:
        unmeasured["camera_model"] = "the container's header names none"
    if seen is None:
        unmeasured |= dict.fromkeys(("decoded_frame_count", "signature", *_TAGS), NOT_AT_PACKETS)
    elif seen.watch.signature() is None:
        unmeasured["signature"] = "the pictures are flat"
    embedded = read_embedded(clip.embedded(), subject=name)
    error = None
    if judgement.unmeasured:
        error = f"{name}: could not be judged without {', '.join(f'{key} ({unmeasured[key]})' for key in judgement.unmeasured)}"
    counted = _census(clip, packets, policy, detectors)
    unmeasured |= counted.unmeasured
    inspection = Inspection(
        container=clip.container,
        fps=facts["fps"],
        frame_count=len(packets),
        decoded_frame_count=None if seen is None else seen.watch.seen_count,
        duration_s=length_s,
        signals=signals,
        unmeasured=unmeasured,
        tags=None if seen is None else tagger.tag(seen.watch.samples),
        packet_digest=packet_digest,
        signature=None if seen is None else seen.watch.signature(),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        error=error,
        inspector_version=INSPECTOR_VERSION,
        inspect_depth=policy.depth,
        settings_digest=policy.digest(),
        inspected_at=clock.now(),
        telemetry=embedded.telemetry,
        disbelieved=embedded.malformed,
        decoded_because=() if seen is None else seen.because,
        face_count_max=counted.counts.get("face_count_max"),
        plate_count_max=counted.counts.get("plate_count_max"),
        detector_versions=counted.versions,
    )
    return inspection, None if seen is None else seen.watch


def _census(clip: ClipStream, packets: Sequence[Packet], policy: InspectSettings, detectors: Detectors) -> census.Census:
    if policy.detect is None:  # the row says so of every clip
        return census.Census(counts={}, unmeasured={}, versions=None, frame_count=0)
    if policy.depth == "packets":
        return census.not_taken(NOT_AT_PACKETS)
    return census.take(clip, packets, detect=policy.detect, detectors=detectors)


def _look(clip: ClipStream, packets: Sequence[Packet], known: Mapping[str, float], limits: Thresholds, *, is_full: bool) -> _Seen:
    """Look at all frames, or at some: whatever these find wrong is settled by decoding the whole clip."""
    if is_full:
        return _watched(clip, known, None, looks.Plan(chosen=None))
    line = looks.Timeline(packets)
    plan = looks.plan(line, width_px=clip.container.width_px, height_px=clip.container.height_px)
    seen = _watched(clip, known, line, plan)
    if seen.is_whole:
        return seen
    still = line.keys_of(seen.watch.still_ranks)
    if still and not seen.watch.signals().get("frozen_ratio"):
        plan = looks.longer(line, plan, still)
        seen = _watched(clip, known, line, plan)
    doubts = _doubts(seen, known, limits)
    return _watched(clip, known, None, looks.Plan(chosen=None, because=(*plan.because, *doubts))) if doubts else seen


def _doubts(seen: _Seen, known: Mapping[str, float], limits: Thresholds) -> tuple[str, ...]:
    """Why a few looks do not settle the verdict: no clip is rejected for its pictures on a sample."""
    signals = seen.watch.signals()
    found = {
        "no_frame": not seen.watch.seen_count,
        "decode_errors": seen.decode_errors > 0,
        "black": signals.get("black_ratio", 0.0) > 0.0,
        "frozen": signals.get("frozen_ratio", 0.0) > 0.0,
    }
    found |= {reason: True for reason in reasons({**known, **signals}, limits) if reason not in TIMELINE_REASONS}
    return tuple(name for name, is_found in found.items() if is_found)


def _watched(clip: ClipStream, known: Mapping[str, float], line: looks.Timeline | None, plan: looks.Plan) -> _Seen:
    is_whole = plan.chosen is None or line is None
    shown_count = None if is_whole or line is None else line.shown_count
    samples_per_s = looks.samples_per_s(known.get("duration_s")) if is_whole else plan.samples_per_s
    watch = Watch(fps=known.get("fps", 25.0), frame_count=shown_count, samples_per_s=samples_per_s)
    for frame in clip.frames(None if is_whole else plan.chosen):
        watch.see(frame, None if is_whole or line is None else line.rank(frame.pts_s))
    return _Seen(watch=watch, is_whole=is_whole, decode_errors=clip.decode_errors, because=plan.because)


def _seen_signals(seen: _Seen | None) -> dict[str, float]:
    if seen is None:
        return {}
    return seen.watch.signals() | ({"decode_error_count": float(seen.decode_errors)} if seen.is_whole else {})


def _packet_signals(packets: Sequence[Packet], container: Container) -> dict[str, float]:
    found = {
        "gap_count": timeline.gap_count(packets),
        "dropped_frame_count": timeline.dropped_frame_count(packets),
        "duplicate_pts_count": timeline.duplicate_pts_count(packets),
        "backward_frame_count": timeline.backward_frame_count(packets),
        "start_offset_s": timeline.start_offset_s(packets),
        "frame_step_ratio": timeline.frame_step_ratio(packets),
        "duration_mismatch_s": timeline.duration_mismatch_s(container.duration_s, packets),
        "missing_byte_count": container.missing_byte_count,
        "bits_per_pixel": coding.bits_per_pixel(packets, container.width_px, container.height_px),
    }
    return {name: value for name, value in found.items() if value is not None}


def _why(name: str, packets: Sequence[Packet], seen: _Seen | None) -> str:
    """Why a value of a clip with packets could not be measured."""
    if name == "missing_byte_count":
        return "the container announces no size of its own"
    if name == "bits_per_pixel":
        return "the clip holds no video packet"
    if name == "backward_frame_count":
        return "the packets carry no decoding times"
    if name == "duration_mismatch_s" and timeline.span_s(packets) is not None:
        return "the container's header gives no duration"
    if name in _OF_PICTURES:
        return _why_unseen(name, len(packets), seen)
    return timeline.why_unmeasured(packets)


def _why_unseen(name: str, packet_count: int, seen: _Seen | None) -> str:
    if seen is None:
        return NOT_AT_PACKETS
    if name in {"decode_error_count", "scene_cut_count"}:
        return f"not measured at depth keyframes: {seen.watch.seen_count} of {packet_count} frames were decoded"
    if seen.watch.seen_count < 2:
        return "needs two decoded frames"
    return "the scene stands, is dark, or is too small" if name == "soiled_ratio" else "no two neighbouring frames have one size"


def quarantined(error: str, *, reason: str, policy: InspectSettings, at: datetime) -> Inspection:
    """The Inspection of a clip of which nothing could be measured: every value unmeasured for `reason`, the whole text in `error`."""
    return Inspection(
        container=None,
        fps=None,
        frame_count=None,
        decoded_frame_count=None,
        duration_s=None,
        unmeasured=dict.fromkeys((*SIGNALS, *_FACTS, *census.COUNTS), reason),
        verdict="quarantined",
        error=error,
        inspector_version=INSPECTOR_VERSION,
        inspect_depth=policy.depth,
        settings_digest=policy.digest(),
        inspected_at=at,
    )


def to_json(inspection: Inspection) -> bytes:
    """Canonical JSON of an Inspection: sorted keys, no spaces, times in ISO 8601; equal Inspections give equal bytes."""
    return json.dumps(_plain(inspection), default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> str | dict[str, Any]:
    """What JSON has no form for: a time as ISO 8601, a record by its fields, which `asdict` would copy one by one."""
    if isinstance(value, datetime):
        return value.isoformat()
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def from_json(data: bytes) -> Inspection:
    """The Inspection of `to_json`.

    Raises:
        CurationError: the bytes are not such an Inspection.
    """
    try:
        return _from_plain(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CurationError(
            f"is no inspection ({type(error).__name__}: {error})",
            subject="inspection",
            fix="delete the checkpoint and inspect the clip again",
        ) from error


def _from_plain(plain: Mapping[str, Any]) -> Inspection:
    return Inspection(
        **{
            **plain,
            "container": None if plain["container"] is None else Container(**plain["container"]),
            "tags": None if plain["tags"] is None else Tags(**plain["tags"]),
            "reasons": tuple(plain["reasons"]),
            "decoded_because": tuple(plain["decoded_because"]),
            "inspected_at": datetime.fromisoformat(plain["inspected_at"]),
            "telemetry": _telemetry_from(plain["telemetry"]),
        }
    )


def _telemetry_from(plain: Mapping[str, Any]) -> Telemetry:
    captured_at, track = plain["captured_at"], plain["track"]
    return Telemetry(
        **{
            **plain,
            "captured_at": None if captured_at is None else datetime.fromisoformat(captured_at),
            "track": None if track is None else tuple(TrackPoint(**point) for point in track),
        }
    )


def run(
    clip_keys: Mapping[str, str],
    *,
    store: ObjectStore,
    engine: Engine,
    policy: InspectSettings,
    clock: Clock,
    limits: str = NO_LIMITS,
    tell: Callable[[int, int], None] | None = None,
) -> dict[str, Inspection]:
    """The Inspection of every clip of `clip_keys` (clip_id -> object key), in its order.

    A clip with a checkpoint under these settings is not measured again; one whose worker died, ran out of time or out of
    memory is quarantined with that as its error, until the engine's `limits` (their digest) are other ones: how long a clip
    takes says as much of the machine as of the clip. `tell` hears at first and after
    each clip how many are done, of how many.

    Raises:
        CurationError: a clip's object is missing, or a checkpoint is damaged.
    """
    policy = _with_models_at_hand(policy, store)
    digest = policy.digest()
    found: dict[str, Inspection] = {}
    todo: list[str] = []
    for clip_id in clip_keys:
        keys = (layout.inspection_key(digest, clip_id), layout.overrun_key(digest, limits, clip_id))
        checkpoint = next((key for key in keys if store.size(key) is not None), None)
        if checkpoint is None:
            todo.append(clip_id)
        else:
            found[clip_id] = from_json(store.read(checkpoint))
    if tell is not None:
        tell(len(found), len(clip_keys))
    for start in range(0, len(todo), CHUNK_CLIPS):
        chunk = {clip_id: clip_keys[clip_id] for clip_id in todo[start : start + CHUNK_CLIPS]}
        for clip_id, outcome in _mapped(chunk, store=store, engine=engine, policy=policy):
            key = layout.inspection_key(digest, clip_id) if outcome.value is not None else layout.overrun_key(digest, limits, clip_id)
            inspection = inspection_of(outcome, clip_id=clip_id, policy=policy, clock=clock)
            found[clip_id] = _checkpoint(key, inspection, store=store)
            if tell is not None:
                tell(len(found), len(clip_keys))
    return {clip_id: found[clip_id] for clip_id in clip_keys}


def _with_models_at_hand(policy: InspectSettings, store: ObjectStore) -> InspectSettings:
    """The policy, naming the models that the store lacks: what is inspected without them is inspected again once they are there."""
    if policy.detect is None:
        return policy
    lacking = tuple(name for name, one in policy.detect.models.items() if store.size(layout.model_key(one.sha256, one.suffix)) is None)
    return policy.model_copy(update={"detect": policy.detect.model_copy(update={"lacking": lacking})})


def _model_paths(policy: InspectSettings, store: ObjectStore, local: ExitStack) -> dict[str, str]:
    """Name -> local file of each model that the store holds."""
    models = {} if policy.detect is None else {n: m for n, m in policy.detect.models.items() if n not in policy.detect.lacking}
    return {name: str(local.enter_context(store.local_path(layout.model_key(one.sha256, one.suffix)))) for name, one in models.items()}


def _mapped(chunk: Mapping[str, str], *, store: ObjectStore, engine: Engine, policy: InspectSettings) -> Iterator[tuple[str, Outcome]]:
    said = policy.model_dump(mode="json")
    with ExitStack() as local:
        given = {"policy": said, "models": _model_paths(policy, store, local)}
        items = [{"clip_id": clip_id, "path": str(local.enter_context(store.local_path(key))), **given} for clip_id, key in chunk.items()]
        yield from zip(chunk, engine.map("inspect", items), strict=True)


def inspection_of(outcome: Outcome, *, clip_id: str, policy: InspectSettings, clock: Clock) -> Inspection:
    """What a worker found out of a clip; quarantined where the worker died over it, with its end as the error."""
    if outcome.value is None:
        reason = outcome.failure or "the worker gave no answer"
        return quarantined(f"clip {clip_id}: {reason}. Fix: look at the clip alone", reason=reason, policy=policy, at=clock.now())
    return from_json(json.dumps(outcome.value).encode())


def _checkpoint(key: str, inspection: Inspection, *, store: ObjectStore) -> Inspection:
    try:
        store.create(key, to_json(inspection))
    except ImmutableConflict:  # another run was faster; what stands there is the clip's inspection
        return from_json(store.read(key))
    return inspection
