"""Counting faces and plates at ingest: few frames, a bounded cost, and a reason wherever nothing was counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from curation import pipeline, wiring
from curation.layout import model_key
from curation.model_settings import DetectSettings, ObjectKind
from curation.ports import Detector
from curation.privacy import census
from curation.records import Container, Detection, Packet, Telemetry
from curation.settings import InspectSettings, Settings, read_settings
from curation.signals.looks import Timeline
from curation.stages import inspect_clips, manifest
from tests.turned import turned

_CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips" / "videos"
_AT = datetime(2026, 11, 21, tzinfo=UTC)


class _Stub:
    """Finds a bright square, and remembers how many pictures it was shown."""

    version = "bright-1"

    def __init__(self, finds: ObjectKind) -> None:
        self.finds: ObjectKind = finds
        self.shown = 0

    def find(self, picture: np.ndarray, *, min_score: float | None = None) -> Sequence[Detection]:
        self.shown += 1
        one = Detection(x_px=0, y_px=0, width_px=9, height_px=9, score=0.9)
        return (one, one) if picture.mean() > 150 else ()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with a key frame a second, bright in the last of them."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    pictures = (np.full((96, 160, 3), 200 if number >= 20 else 40, np.uint8) for number in range(30))
    wiring.video_writer().write(path, pictures, fps=Fraction(10))
    return path


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a work folder that look for faces and plates at ingest; its store holds no model."""
    work = tmp_path_factory.mktemp("looking")
    (work / "curation.toml").write_text("[privacy]\ndetect_at_ingest = true\n", encoding="utf-8")
    return read_settings({}, work=work)


def _inspected(clip: Path, policy: InspectSettings, detectors: inspect_clips.Detectors) -> inspect_clips.Inspection:
    return inspect_clips.inspect_clip(
        clip,
        video=wiring.video_reader(beside_models=True),
        tagger=wiring.tagger(),
        policy=policy,
        clock=wiring.clock(),
        detectors=detectors,
    )


def test_a_turned_clip_is_looked_at_upright(clip: Path, looking: Settings, tmp_path: Path) -> None:
    """A display matrix of 90 degrees: the detector is shown pictures 96 wide and 160 high."""
    sizes: set[tuple[int, ...]] = set()

    class _Sizes(_Stub):
        def find(self, picture: np.ndarray, *, min_score: float | None = None) -> Sequence[Detection]:
            sizes.add(picture.shape)
            return super().find(picture)

    _inspected(turned(clip, tmp_path / "turned.mp4", 1), looking.inspect, {"face": _Sizes("face"), "plate": _Sizes("plate")})
    assert {(160, 96, 3)} == sizes


def test_the_most_of_one_frame_is_what_is_counted(clip: Path, looking: Settings) -> None:
    """Two in the last second, none before: two at most; the versions of both detectors are named; twelve frames at most are looked at."""
    stubs: dict[ObjectKind, Detector] = {"face": _Stub("face"), "plate": _Stub("plate")}
    found = _inspected(clip, looking.inspect, stubs)
    assert (2, 2, "bright-1 bright-1") == (found.face_count_max, found.plate_count_max, found.detector_versions)
    assert not {"face_count_max", "plate_count_max"} & found.unmeasured.keys()
    assert [12, 12] == [one.shown for one in stubs.values() if isinstance(one, _Stub)]


def test_a_kind_without_a_detector_is_unmeasured_with_the_reason(clip: Path, looking: Settings) -> None:
    """Nothing is made up for it, and the other kind is counted."""
    found = _inspected(clip, looking.inspect, {"face": "model x is not in the home store", "plate": _Stub("plate")})
    assert (None, 2) == (found.face_count_max, found.plate_count_max)
    assert "model x is not in the home store" == found.unmeasured["face_count_max"]


def test_off_by_default_and_at_depth_packets_nothing_is_looked_for(clip: Path, looking: Settings) -> None:
    """Both counts stand unmeasured in the row, each with its reason; inspections by other settings have another name."""
    off = manifest.inspected_row({"clip_id": "clip", **asdict(Telemetry())}, _inspected(clip, InspectSettings(), {}))
    assert {(None, census.NOT_LOOKED_FOR)} == {(off[name], off["unmeasured"][name]) for name in census.COUNTS}
    flat = _inspected(clip, looking.inspect.model_copy(update={"depth": "packets"}), {"face": _Stub("face"), "plate": _Stub("plate")})
    assert {inspect_clips.NOT_AT_PACKETS} == {flat.unmeasured[name] for name in census.COUNTS}
    assert InspectSettings().digest() != looking.inspect.digest()


@pytest.mark.parametrize(
    ("width_px", "height_px", "expected"),
    [(1280, 720, 12), (1920, 1080, 10), (3840, 2160, 3), (7680, 4320, 1)],
)
def test_larger_pictures_are_looked_at_on_fewer_frames(looking: Settings, width_px: int, height_px: int, expected: int) -> None:
    """72 looks of a model are the most that a clip costs, tiles included; one frame is looked at whatever it costs."""
    assert looking.inspect.detect is not None
    said = Container(container="mp4", video_codec="h264", width_px=width_px, height_px=height_px, duration_s=9.0)
    assert expected == census.frames_for(said, looking.inspect.detect)


def _packets(count: int, key_every: int) -> list[Packet]:
    return [
        Packet(pts_s=number / 10, dts_s=number / 10, duration_s=0.1, size_bytes=100, is_keyframe=number % key_every == 0, is_corrupt=False)
        for number in range(count)
    ]


def test_frames_are_spread_over_the_clip_and_key_frames_come_first() -> None:
    """Key frames where there are enough of them, because they decode alone; else any frame."""
    assert [0, 20, 40, 70, 90] == census.wanted(Timeline(_packets(100, 10)), 5)
    assert [0, 33, 66, 99] == census.wanted(Timeline(_packets(100, 100)), 4)
    assert [50] == census.wanted(Timeline(_packets(100, 10)), 1)  # a single one from the middle: edit lists hide the first
    assert [] == census.wanted(Timeline([]), 4)


def test_a_clip_is_inspected_without_a_model_and_again_once_it_was_pulled(clip: Path, looking: Settings, models_at_home: Settings) -> None:
    """Missing models leave the counts unmeasured, and the resume point does not outlive that: real models then count none."""
    store, here = wiring.store(looking), wiring.store(models_at_home)
    store.create("clips/aa/clip.mp4", clip.read_bytes())
    run = {"store": store, "engine": wiring.engine(looking.engine), "policy": looking.inspect, "clock": wiring.clock()}
    before = inspect_clips.run({"clip": "clips/aa/clip.mp4"}, **run)["clip"]
    assert "curation models pull centerface" in before.unmeasured["face_count_max"]
    assert looking.inspect.detect is not None
    for model in looking.inspect.detect.models.values():
        key = model_key(model.sha256, model.suffix)
        store.create(key, here.read(key))
    after = inspect_clips.run({"clip": "clips/aa/clip.mp4"}, **run)["clip"]
    assert (0, 0) == (after.face_count_max, after.plate_count_max)
    assert " ".join(pipeline.models_in_use(looking)[kind] for kind in ("face", "plate")) == after.detector_versions
    assert after == inspect_clips.from_json(inspect_clips.to_json(after))


def test_a_wrong_model_leaves_its_kind_unmeasured(looking: Settings, tmp_path: Path) -> None:
    """What is no model is told as the reason, not raised: one clip's other signals do not depend on it."""
    assert looking.inspect.detect is not None
    (tmp_path / "x").write_bytes(b"no model")
    found = wiring.detectors(looking.inspect.detect, {"centerface": str(tmp_path / "x")})
    assert "SHA-256" in str(found["face"])
    assert "not in the home store" in str(found["plate"])
    assert {} == wiring.detectors(None, {})


@pytest.mark.clips
@pytest.mark.skipif(not _CLIPS.is_dir(), reason="../shared/clips is not there")
def test_the_plate_of_a_real_clip_is_counted(models_at_home: Settings) -> None:
    """S14 shows the plates of taxis that pass."""
    clip = next(_CLIPS.glob("S14*"))
    model = models_at_home.models["clp-det"]
    detect = DetectSettings(models={"clp-det": model}, frames_per_clip=6)
    found = _inspected(clip, InspectSettings(detect=detect), {"face": "not asked", "plate": pipeline.detector(models_at_home, "clp-det")})
    assert found.plate_count_max is not None
    assert found.plate_count_max >= 1
