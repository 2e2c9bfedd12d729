"""Measure clips: one Inspection per clip, checkpointed as soon as it is known, so that a retried batch goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from curation import layout
from curation.errors import ClipUnreadable, CurationError, ImmutableConflict
from curation.ports import ClipStream, Clock, Engine, Frame, ObjectStore, Outcome, Tagger, VideoReader
from curation.records import Container, Inspection, Packet, Tags, Telemetry, TrackPoint
from curation.schema import SIGNALS
from curation.settings import INSPECTOR_VERSION, InspectSettings
from curation.signals import motion, picture, timeline
from curation.signals.verdict import judge
from curation.telemetry.embedded import read_embedded

SAMPLES_PER_S: Final = 2.0
TAGGED_FRAMES_MAX: Final = 16  # frames of 640 px width kept for the tagger: 11 MB at 16:9, whatever the clip's length
CHUNK_CLIPS: Final = 128  # local files held at once
NO_LIMITS: Final = "none"  # an engine that stops no clip

_FRAME_SIGNALS: Final[Mapping[str, Callable[[picture.Picture], float]]] = {
    "sharpness": picture.sharpness,
    "brightness": picture.brightness,
    "contrast": picture.contrast,
    "dark_ratio": picture.dark_ratio,
    "bright_ratio": picture.bright_ratio,
    "noise_sigma": picture.noise_sigma,
}
_FACTS: Final = (
    "container",
    "video_codec",
    "width_px",
    "height_px",
    "fps",
    "frame_count",
    "decoded_frame_count",
    "duration_s",
    "packet_digest",
    "timeofday",
    "weather",
    "scene",
)


class _Watch:
    """Sees every frame once and keeps numbers, two pictures and at most 16 samples."""

    def __init__(self) -> None:
        self.frame_count = 0
        self.black_count = 0
        self.differing: list[bool] = []
        self.measured: dict[str, list[float]] = {name: [] for name in (*_FRAME_SIGNALS, "saturation", "motion_px")}
        self.samples: list[picture.Picture] = []
        self._sample_count = 0
        self._sample_stride = 1
        self._next_sample_s: float | None = None
        self._previous: picture.Picture | None = None
        self._awaits_neighbour: picture.Picture | None = None

    def see(self, frame: Frame, fps: float) -> None:
        """Take the next frame in; `fps` places frames that carry no time."""
        luma = picture.luma_of(frame.bgr)
        self.black_count += picture.is_black(luma)
        if self._previous is not None:
            self.differing.append(picture.differ(self._previous, luma))
        if self._awaits_neighbour is not None and self._awaits_neighbour.shape == luma.shape:
            flow_px = motion.motion_px(motion.at_motion_width(self._awaits_neighbour), motion.at_motion_width(luma))
            self.measured["motion_px"].append(flow_px)
        self._awaits_neighbour = None
        at_s = frame.pts_s if frame.pts_s is not None else self.frame_count / fps
        if self._next_sample_s is None or at_s >= self._next_sample_s:
            self._sample(frame.bgr, luma)
            self._next_sample_s = at_s + 1.0 / SAMPLES_PER_S
        self._previous = luma
        self.frame_count += 1

    def _sample(self, bgr: picture.Picture, luma: picture.Picture) -> None:
        for name, signal in _FRAME_SIGNALS.items():
            self.measured[name].append(signal(luma))
        self.measured["saturation"].append(picture.saturation(bgr))
        self._awaits_neighbour = luma
        if self._sample_count % self._sample_stride == 0:
            if len(self.samples) == TAGGED_FRAMES_MAX:
                self.samples = self.samples[::2]
                self._sample_stride *= 2
            if self._sample_count % self._sample_stride == 0:
                self.samples.append(bgr)
        self._sample_count += 1

    def signals(self) -> dict[str, float]:
        """What the frames seen so far amount to; a signal that they cannot give is left out."""
        found = {name: median(values) for name, values in self.measured.items() if values and name != "motion_px"}
        if self.measured["motion_px"]:
            found["motion_px"] = fmean(self.measured["motion_px"])
        if self.differing:
            found["frozen_ratio"] = picture.frozen_ratio(self.differing)
        if self.frame_count:
            found["black_ratio"] = self.black_count / self.frame_count
        return found


def inspect_clip(path: Path, *, video: VideoReader, tagger: Tagger, policy: InspectSettings, clock: Clock) -> Inspection:
    """All that the clip's bytes say; bytes that are no video give a quarantined Inspection, never an exception."""
    try:
        with video.open(path) as clip:
            return _inspect(path.name, clip, tagger=tagger, policy=policy, clock=clock)
    except ClipUnreadable as error:
        return quarantined(str(error), reason=error.problem, policy=policy, at=clock.now())


def _inspect(name: str, clip: ClipStream, *, tagger: Tagger, policy: InspectSettings, clock: Clock) -> Inspection:
    packets, packet_digest = clip.packets()
    fps = timeline.fps(packets)
    watch = _Watch()
    for frame in clip.frames():
        watch.see(frame, fps or 25.0)
    if not watch.frame_count:
        raise ClipUnreadable("has no frame that can be decoded", subject=name, fix="record it anew, or leave it out")
    length_s = timeline.span_s(packets)
    signals = {**_timeline_signals(packets, clip.container), **watch.signals(), "decode_error_count": clip.decode_errors}
    facts = {"fps": fps, "duration_s": length_s, "frame_count": float(len(packets))}
    judgement = judge({**signals, **{fact: value for fact, value in facts.items() if value is not None}}, policy)
    unmeasured = {signal: _why(signal, packets, watch.frame_count) for signal in SIGNALS if signal not in signals}
    unmeasured |= {fact: _why(fact, packets, watch.frame_count) for fact, value in facts.items() if value is None}
    told = read_embedded(clip.embedded(), subject=name)
    error = None
    if judgement.unmeasured:
        error = f"{name}: could not be judged without {', '.join(f'{key} ({unmeasured[key]})' for key in judgement.unmeasured)}"
    return Inspection(
        container=clip.container,
        fps=fps,
        frame_count=len(packets),
        decoded_frame_count=watch.frame_count,
        duration_s=length_s,
        signals=signals,
        unmeasured=unmeasured,
        tags=tagger.tag(watch.samples),
        packet_digest=packet_digest,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        error=error,
        inspector_version=INSPECTOR_VERSION,
        inspect_depth=policy.depth,
        settings_digest=policy.digest(),
        inspected_at=clock.now(),
        telemetry=told.telemetry,
        disbelieved=told.malformed,
    )


def _timeline_signals(packets: Sequence[Packet], container: Container) -> dict[str, float]:
    found = {
        "gap_count": timeline.gap_count(packets),
        "dropped_frame_count": timeline.dropped_frame_count(packets),
        "duplicate_pts_count": timeline.duplicate_pts_count(packets),
        "duration_mismatch_s": timeline.duration_mismatch_s(container.duration_s, packets),
    }
    return {name: value for name, value in found.items() if value is not None}


def _why(name: str, packets: Sequence[Packet], decoded_frame_count: int) -> str:
    """Why a value of a clip that has at least one decoded frame could not be measured."""
    if name in {"motion_px", "frozen_ratio"}:
        return "needs two decoded frames" if decoded_frame_count < 2 else "no two neighbouring frames have one size"
    if name == "duration_mismatch_s" and timeline.span_s(packets) is not None:
        return "the container's header gives no duration"
    return timeline.why_unmeasured(packets)


def quarantined(error: str, *, reason: str, policy: InspectSettings, at: datetime) -> Inspection:
    """The Inspection of a clip of which nothing could be measured: every value unmeasured for `reason`, the whole text in `error`."""
    return Inspection(
        container=None,
        fps=None,
        frame_count=None,
        decoded_frame_count=None,
        duration_s=None,
        unmeasured=dict.fromkeys((*SIGNALS, *_FACTS), reason),
        verdict="quarantined",
        error=error,
        inspector_version=INSPECTOR_VERSION,
        inspect_depth=policy.depth,
        settings_digest=policy.digest(),
        inspected_at=at,
    )


def to_json(inspection: Inspection) -> bytes:
    """Canonical JSON of an Inspection: sorted keys, no spaces, times in ISO 8601; equal Inspections give equal bytes."""
    plain = {**dataclasses.asdict(inspection), "inspected_at": inspection.inspected_at.isoformat()}
    captured_at = inspection.telemetry.captured_at
    plain["telemetry"]["captured_at"] = None if captured_at is None else captured_at.isoformat()
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


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
    clip_keys: Mapping[str, str], *, store: ObjectStore, engine: Engine, policy: InspectSettings, clock: Clock, limits: str = NO_LIMITS
) -> dict[str, Inspection]:
    """The Inspection of every clip of `clip_keys` (clip_id -> object key), in its order.

    A clip with a checkpoint under these settings is not measured again; one whose worker died, ran out of time or out of
    memory is quarantined with that as its error, until the engine's `limits` (their digest) are other ones: how long a clip
    takes says as much of the machine as of the clip.

    Raises:
        CurationError: a clip's object is missing, or a checkpoint is damaged.
    """
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
    for start in range(0, len(todo), CHUNK_CLIPS):
        chunk = {clip_id: clip_keys[clip_id] for clip_id in todo[start : start + CHUNK_CLIPS]}
        for clip_id, outcome in _mapped(chunk, store=store, engine=engine, policy=policy):
            key = layout.inspection_key(digest, clip_id) if outcome.value is not None else layout.overrun_key(digest, limits, clip_id)
            inspection = inspection_of(outcome, clip_id=clip_id, policy=policy, clock=clock)
            found[clip_id] = _checkpoint(key, inspection, store=store)
    return {clip_id: found[clip_id] for clip_id in clip_keys}


def _mapped(chunk: Mapping[str, str], *, store: ObjectStore, engine: Engine, policy: InspectSettings) -> Iterator[tuple[str, Outcome]]:
    said = policy.model_dump(mode="json")
    with ExitStack() as local:
        items = [
            {"clip_id": clip_id, "path": str(local.enter_context(store.local_path(key))), "policy": said} for clip_id, key in chunk.items()
        ]
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
