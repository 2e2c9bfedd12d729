"""Inspection of whole clips: verdicts on made defects, and checkpoints that a retry goes on from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation import layout
from curation.adapters.clock_system import PinnedClock
from curation.adapters.engine_local import InlineEngine, LocalEngine
from curation.adapters.tagger_picture import PictureTagger
from curation.adapters.video_av import AvVideoReader
from curation.errors import CurationError
from curation.ports import Outcome
from curation.records import Inspection
from curation.schema import CLIPS, SIGNALS
from curation.settings import EngineSettings, InspectSettings, Thresholds
from curation.signals.watch import TAGGED_FRAMES_MAX
from curation.stages.inspect_clips import from_json, inspect_clip, quarantined, run, to_json
from curation.worker import JOBS

Pictures = list[np.ndarray]
POLICY = InspectSettings()


def _blurred(frames: Pictures) -> Pictures:
    return [cv2.GaussianBlur(frame, (0, 0), 8) for frame in frames]


def _noisy(frames: Pictures) -> Pictures:
    rng = np.random.default_rng(5)
    return [np.clip(frame + rng.normal(0, 45, frame.shape), 0, 255).astype(np.uint8) for frame in frames]


def _frozen(frames: Pictures) -> Pictures:
    return frames[:20] + [frames[20]] * 20 + frames[20:40]


def _partly_black(frames: Pictures) -> Pictures:
    return frames[:25] + [np.zeros_like(frames[0])] * 10 + frames[25:40]


def _black(frames: Pictures) -> Pictures:
    return [np.zeros_like(frames[0])] * 40


def _fog(frames: Pictures) -> Pictures:
    return [(frame * 0.01 + 128).astype(np.uint8) for frame in frames]


@pytest.mark.parametrize(
    ("defect", "reasons"),
    [
        (lambda frames: frames, set()),
        (lambda frames: frames[:8], {"too_short"}),
        (_blurred, {"blurred"}),
        (_noisy, {"noisy"}),
        (_frozen, {"frozen"}),
        (_partly_black, {"black", "frozen"}),
        (_black, {"black", "frozen"}),
    ],
    ids=["good", "short", "blurred", "noisy", "frozen", "partly black", "black"],
)
def test_a_made_defect_is_found_and_no_other(scene: Callable, encode: Callable, inspect: Callable, defect: Callable, reasons: set[str]):
    """Each defect painted into a good clip rejects it for that reason, and the good clip passes."""
    inspection = inspect(encode(defect(scene(60))))
    assert (inspection.verdict, set(inspection.reasons)) == ("rejected" if reasons else "accepted", reasons)


def test_a_picture_without_contrast_is_rejected(scene: Callable, encode: Callable, inspect: Callable):
    """Fog that leaves no contrast is named low contrast."""
    assert "low_contrast" in inspect(encode(_fog(scene(40)))).reasons


def test_missing_frames_are_counted_and_rejected(scene: Callable, encode: Callable, inspect: Callable):
    """Ten of fifty frames missing in two holes: two gaps, ten dropped frames, rejected for it."""
    ticks = [tick for tick in range(50) if tick not in {*range(15, 20), *range(30, 35)}]
    inspection = inspect(encode(scene(40), ticks=ticks))
    assert (inspection.signals["gap_count"], inspection.signals["dropped_frame_count"]) == (2, 10)
    assert inspection.reasons == ("dropped_frames",)


def test_a_damaged_clip_is_rejected_for_its_errors(scene: Callable, encode: Callable, inspect: Callable):
    """A hole of zeros in the packets is measured as decode errors."""
    path = encode(scene(60))
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + (len(data) - data.find(b"mdat")) * 2 // 5
    data[start : start + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    inspection = inspect(path)
    assert inspection.verdict == "rejected"
    assert "decode_errors" in inspection.reasons


def test_every_signal_is_measured_or_has_its_reason(scene: Callable, encode: Callable, inspect: Callable, tmp_path: Path):
    """Good, single-framed and meaningless: each signal is a number or stands in `unmeasured`, never both, never neither."""
    meaningless = tmp_path / "text.mp4"
    meaningless.write_bytes(b"hello")
    for inspection in (inspect(encode(scene(40))), inspect(encode(scene(1))), inspect(meaningless)):
        assert set(SIGNALS) == set(inspection.signals) | (set(inspection.unmeasured) & set(SIGNALS))
        assert set(inspection.signals) & set(inspection.unmeasured) == set()
        facts = ("fps", "frame_count", "decoded_frame_count", "duration_s", "packet_digest", "container")
        assert [fact for fact in facts if getattr(inspection, fact) is None and fact not in inspection.unmeasured] == []
        assert set(inspection.unmeasured) - set(CLIPS.names) == set()


def test_a_single_frame_is_short_and_its_motion_unmeasured(scene: Callable, encode: Callable, inspect: Callable):
    """One frame: too short; motion and freeze need two, and say so instead of reading 0."""
    inspection = inspect(encode(scene(1)))
    assert inspection.reasons == ("too_short",)
    assert inspection.unmeasured["motion_px"] == "needs two decoded frames"
    assert inspection.unmeasured["frozen_ratio"] == "needs two decoded frames"


def test_a_stream_without_times_is_quarantined_not_rejected(scene: Callable, encode: Callable, inspect: Callable):
    """A raw H.264 stream carries no times: its length is unmeasured, which is neither short nor accepted."""
    inspection = inspect(encode(scene(40), name="clip.h264"))
    assert (inspection.verdict, inspection.reasons, inspection.duration_s) == ("quarantined", (), None)
    assert "duration_s (the packets carry no presentation times)" in str(inspection.error)
    assert inspection.signals["sharpness"] > POLICY.thresholds.min_sharpness


def test_meaningless_bytes_are_quarantined_with_their_error(inspect: Callable, tmp_path: Path):
    """What is no video is a row with its error and the clock's time, not an exception."""
    path = tmp_path / "text.mp4"
    path.write_bytes(b"hello")
    inspection = inspect(path)
    assert (inspection.verdict, inspection.container, inspection.signals) == ("quarantined", None, {})
    assert str(inspection.error).startswith("text.mp4: cannot be read as video")
    assert inspection.inspected_at.isoformat() == "2026-11-21T12:00:00+00:00"


def test_motion_is_measured_in_pixels_at_320(scene: Callable, encode: Callable, inspect: Callable):
    """A ground that slides 4 px a frame at 640 px width moves 2 px at 320; the flat sky over four tenths follows it or stands."""
    assert 1.2 <= inspect(encode(scene(40))).signals["motion_px"] <= 2.0


def test_the_tagger_sees_few_frames_however_long_the_clip(scene: Callable, encode: Callable, clock: PinnedClock):
    """A clip of 24 s gives 48 samples, of which the tagger holds at most 16, first and late ones alike."""

    class Counting(PictureTagger):
        count = 0

        def tag(self, frames: Sequence[np.ndarray]) -> Any:
            self.count = len(frames)
            return super().tag(frames)

    tagger = Counting()
    small = [frame[:90, :160] for frame in scene(30)]
    path = encode(small * 20)
    inspect_clip(path, video=AvVideoReader(), tagger=tagger, policy=POLICY, clock=clock)
    assert 8 <= tagger.count <= TAGGED_FRAMES_MAX


def test_an_inspection_survives_its_json(scene: Callable, encode: Callable, inspect: Callable, clock: PinnedClock):
    """There and back gives the same record, and equal records give equal bytes."""
    for inspection in (inspect(encode(scene(30))), quarantined("clip: why. Fix: none", reason="why", policy=POLICY, at=clock.now())):
        assert from_json(to_json(inspection)) == inspection
        assert to_json(from_json(to_json(inspection))) == to_json(inspection)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"container": 3}', b"\xff"])
def test_a_damaged_checkpoint_is_refused(data: bytes):
    """Bytes that are no inspection stop the stage and name the fix."""
    with pytest.raises(CurationError, match="is no inspection"):
        from_json(data)


class Recording:
    """An engine that notes what it was asked to measure, and may lose its breath."""

    def __init__(self, *, dies_after: int | None = None) -> None:
        self.seen: list[str] = []
        self._dies_after = dies_after
        self._inner = InlineEngine(JOBS)

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """As the port says."""
        for item, outcome in zip(items, self._inner.map(job, items), strict=True):
            if len(self.seen) == self._dies_after:
                raise KeyboardInterrupt
            self.seen.append(item["clip_id"])
            yield outcome


@pytest.fixture
def three(scene: Callable, encode: Callable, store: Any) -> dict[str, str]:
    """Three clips in the store: good, good, meaningless."""
    frames = scene(30)
    store.paths = {f"clips/{name}": encode(frames, name=f"{name}.mp4") for name in ("aa", "bb")}
    store.paths["clips/cc"] = store.paths["clips/aa"].with_name("cc.mp4")
    store.paths["clips/cc"].write_bytes(b"hello")
    return {name: f"clips/{name}" for name in ("aa", "bb", "cc")}


def test_every_clip_gets_its_inspection_and_checkpoint(three: dict[str, str], store: Any, clock: PinnedClock):
    """Clips in, inspections out in the same order, each written under its key; no local copy stays held."""
    found = run(three, store=store, engine=Recording(), policy=POLICY, clock=clock)
    assert [(clip_id, inspection.verdict) for clip_id, inspection in found.items()] == [
        ("aa", "accepted"),
        ("bb", "accepted"),
        ("cc", "quarantined"),
    ]
    assert set(store.objects) == {layout.inspection_key(POLICY.digest(), clip_id) for clip_id in three}
    assert store.held == 0


def test_a_retry_measures_only_what_is_missing(three: dict[str, str], store: Any, clock: PinnedClock):
    """After a kill between two clips the next run measures the rest, and one more run measures nothing."""
    with pytest.raises(KeyboardInterrupt):
        run(three, store=store, engine=Recording(dies_after=1), policy=POLICY, clock=clock)
    second, third = Recording(), Recording()
    found = run(three, store=store, engine=second, policy=POLICY, clock=clock)
    again = run(three, store=store, engine=third, policy=POLICY, clock=clock)
    assert [second.seen, third.seen] == [["bb", "cc"], []]
    assert again == found
    assert store.held == 0


def test_other_settings_measure_again(three: dict[str, str], store: Any, clock: PinnedClock):
    """A checkpoint counts only under the settings that made it, and a new threshold changes the verdict."""
    run(three, store=store, engine=Recording(), policy=POLICY, clock=clock)
    engine, strict = Recording(), InspectSettings(thresholds=Thresholds(min_duration_s=60.0))
    found = run(three, store=store, engine=engine, policy=strict, clock=clock)
    assert [engine.seen, found["aa"].reasons] == [["aa", "bb", "cc"], ("too_short",)]


def test_a_camera_is_judged_by_its_own_thresholds(scene: Callable, encode: Callable, clock: PinnedClock):
    """One clip under an override for its size and model is rejected, and accepted where the model is another; its model is recorded."""
    path, named = encode(scene(40)), encode(scene(40), name="named.mov")
    with av.open(path) as source, av.open(named, "w", options={"movflags": "use_metadata_tags"}) as target:
        target.metadata["com.apple.quicktime.model"] = "Rear Cam 2"
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    strict = {"name": "rear", "camera_model": "Rear Cam*", "width_px": 640, "thresholds": {"min_sharpness": 1e6}}
    found = {}
    for depth in ("packets", "keyframes", "full"):
        policy = InspectSettings.model_validate({"depth": depth, "overrides": [strict]})
        for clip in (path, named):
            one = inspect_clip(clip, video=AvVideoReader(), tagger=PictureTagger(), policy=policy, clock=clock)
            found[depth, clip.name] = (one.container.camera_model if one.container else "", one.reasons)
            assert (clip == named) == ("camera_model" not in one.unmeasured)
    plain, rear = (None, ()), ("Rear Cam 2", ("blurred",))
    by_depth = {("packets", "clip.mp4"): plain, ("packets", "named.mov"): ("Rear Cam 2", ())}
    assert {(d, n): w for d in ("keyframes", "full") for n, w in (("clip.mp4", plain), ("named.mov", rear))} | by_depth == found


def test_a_lost_race_takes_what_stands(three: dict[str, str], store: Any, clock: PinnedClock):
    """If another run wrote the checkpoint first, its inspection is the clip's inspection."""
    key = layout.inspection_key(POLICY.digest(), "aa")

    class Faster(Recording):
        def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
            store.objects[key] = to_json(quarantined("by the other run", reason="raced", policy=POLICY, at=clock.now()))
            yield from super().map(job, items)

    found = run({"aa": three["aa"]}, store=store, engine=Faster(), policy=POLICY, clock=clock)
    assert found["aa"].error == "by the other run"


def test_a_missing_object_stops_the_stage(three: dict[str, str], store: Any, clock: PinnedClock):
    """A clip whose bytes are gone is a broken world, not a bad clip."""
    with pytest.raises(CurationError, match="no such object"):
        run({**three, "dd": "clips/dd"}, store=store, engine=Recording(), policy=POLICY, clock=clock)
    assert store.held == 0


def test_a_dead_worker_quarantines_its_clip_and_is_remembered(
    three: dict[str, str], store: Any, clock: PinnedClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A clip that kills its worker is quarantined with that as its error, checkpointed, and not tried again."""
    (tmp_path / "deadly_jobs.py").write_text(
        "import os\nfrom curation.worker import JOBS as real\n"
        "def inspect(item):\n    return os._exit(9) if item['clip_id'] == 'bb' else real['inspect'](item)\n"
        "JOBS = {'inspect': inspect}\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    engine = LocalEngine(EngineSettings(workers=2), jobs="deadly_jobs:JOBS")
    found = run(three, store=store, engine=engine, policy=POLICY, clock=clock)
    assert [inspection.verdict for inspection in found.values()] == ["accepted", "quarantined", "quarantined"]
    assert found["bb"].error == "clip bb: worker died: exit status 9. Fix: look at the clip alone"
    assert set(found["bb"].unmeasured.values()) == {"worker died: exit status 9"}
    assert found["bb"].inspected_at == clock.now()
    after = Recording()
    assert run(three, store=store, engine=after, policy=POLICY, clock=clock) == found
    assert after.seen == []


def test_a_clip_that_overran_is_measured_again_under_other_limits_only(three: dict[str, str], store: Any, clock: PinnedClock):
    """Under equal limits an overrun stands, so that running twice changes nothing; under other limits the clip gets its chance."""

    class Slow(Recording):
        def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
            self.seen += [item["clip_id"] for item in items]
            yield from (Outcome(value=None, failure="took longer than 1 s") for _ in items)

    engine, one = Slow(), {"aa": three["aa"]}
    first = run(one, store=store, engine=engine, policy=POLICY, clock=clock, limits="short")
    assert run(one, store=store, engine=engine, policy=POLICY, clock=clock, limits="short") == first
    assert [engine.seen, first["aa"].verdict] == [["aa"], "quarantined"]
    assert run(one, store=store, engine=Recording(), policy=POLICY, clock=clock, limits="long")["aa"].verdict == "accepted"
    assert run(one, store=store, engine=Slow(), policy=POLICY, clock=clock, limits="short")["aa"].verdict == "accepted"
    assert EngineSettings(workers=9).limits_digest() == EngineSettings().limits_digest() != EngineSettings(time_limit_s=1).limits_digest()


def test_worker_and_inline_measure_the_same(three: dict[str, str], store: Any, clock: PinnedClock, monkeypatch: pytest.MonkeyPatch):
    """The process a clip is measured in leaves no trace in its inspection."""
    monkeypatch.setenv("CURATION_NOW", clock.now().isoformat())
    inline = run(three, store=store, engine=InlineEngine(JOBS), policy=POLICY, clock=clock)
    store.objects.clear()
    worker = run(three, store=store, engine=LocalEngine(EngineSettings()), policy=POLICY, clock=clock)
    assert [_without_time(inspection) for inspection in inline.values()] == [_without_time(inspection) for inspection in worker.values()]


def _without_time(inspection: Inspection) -> Mapping[str, Any]:
    plain = json.loads(to_json(dataclasses.replace(inspection)))
    return {name: value for name, value in plain.items() if name != "inspected_at"}
