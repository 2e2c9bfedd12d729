"""Eighteen real clips and labelled photos: verdicts, time of day, and numbers that stay where they are.

`CURATION_WRITE_GOLDEN=1` writes the golden numbers anew.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import pytest

from curation.adapters.engine_local import LocalEngine
from curation.adapters.tagger_picture import PictureTagger
from curation.choices import Depth
from curation.records import Inspection
from curation.settings import EngineSettings, InspectSettings, Thresholds
from curation.stages.inspect_clips import from_json

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "inspect_clips.json"
VERDICTS = GOLDEN.with_name("inspect_verdicts.json")
EXACT = {"gap_count", "dropped_frame_count", "duplicate_pts_count", "backward_frame_count", "frame_count", "decoded_frame_count"}
SMALL = ("S01", "S02", "S03", "S04", "S07", "S08", "S09", "S10", "S15")

pytestmark = [
    pytest.mark.clips,
    pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared real clips are not beside the project"),
]


def _labels() -> dict[str, Mapping[str, str]]:
    with (CLIPS / "clips.tsv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}


def _right_times(timeofday: str, notes: str) -> set[str]:
    named = {timeofday, *re.findall(r"(?:tod )?alt (dawn_dusk|daytime|night)", notes)}
    return {name.replace("dawn_dusk", "dawn/dusk") for name in named}


def _inspected(paths: Mapping[str, Path], depth: Depth) -> dict[str, Inspection]:
    policy = InspectSettings(depth=depth).model_dump(mode="json")
    items = [{"clip_id": name, "path": str(path), "policy": policy} for name, path in paths.items()]
    outcomes = list(LocalEngine(EngineSettings(workers=2)).map("inspect", items))
    assert [outcome.failure for outcome in outcomes if outcome.failure] == []
    return {name: from_json(json.dumps(outcome.value).encode()) for name, outcome in zip(paths, outcomes, strict=True)}


@pytest.fixture(scope="module")
def inspections() -> dict[str, Inspection]:
    """All 18 clips, measured once by two workers under default settings."""
    return _inspected({name: CLIPS / label["file"] for name, label in _labels().items()}, "keyframes")


@pytest.fixture(scope="module")
def whole() -> dict[str, Inspection]:
    """The clips of few pixels, decoded whole: those of many would take four times as long, and are part of the benchmark."""
    return _inspected({name: CLIPS / label["file"] for name, label in _labels().items() if name in SMALL}, "full")


def test_no_good_clip_is_rejected(inspections: Mapping[str, Inspection]):
    """None of the 18 has a defect that inspection judges, so all of them are accepted."""
    found = {name: (inspection.verdict, inspection.reasons) for name, inspection in inspections.items()}
    assert found == dict.fromkeys(found, ("accepted", ()))
    assert len(found) == 18


def test_depths_agree_and_each_says_what_it_could_not_measure(inspections: Mapping[str, Inspection], whole: Mapping[str, Inspection]):
    """Decoded whole, the same verdicts, and nothing unmeasured but what the container or the scene does not give."""
    assert {name: (one.verdict, one.reasons) for name, one in whole.items()} == dict.fromkeys(SMALL, ("accepted", ()))
    excused = {"S03": {"soiled_ratio"}, "S07": {"missing_byte_count"}}
    assert {name: set(one.unmeasured) - {"camera_model"} for name, one in whole.items()} == {
        name: excused.get(name, set()) for name in SMALL
    }
    depth_excuses = {one.unmeasured["decode_error_count"].split(":")[0] for one in inspections.values()}
    assert depth_excuses == {"not measured at depth keyframes"}


def test_few_frames_are_decoded(inspections: Mapping[str, Inspection]):
    """Key frames and a frame after each are under a tenth of all frames; clips with one key frame say that they have few."""
    decoded = sum(one.decoded_frame_count or 0 for one in inspections.values())
    assert decoded < 0.1 * sum(one.frame_count or 0 for one in inspections.values())
    assert {name for name, one in inspections.items() if one.decoded_because} == {"S11", "S12", "S13", "S16", "S17"}
    assert {one.decoded_because for one in inspections.values()} == {(), ("few_key_frames",)}


def test_verdicts_stay_where_they_are(inspections: Mapping[str, Inspection]):
    """18 clips, and fourteen containers and codecs of one: all accepted but the raw stream, which carries no times."""
    formats = _inspected({path.name[:3]: path for path in sorted((CLIPS / "formats").glob("F*"))}, "keyframes")
    found = {name: [one.verdict, *one.reasons] for name, one in {**inspections, **formats}.items()}
    if os.environ.get("CURATION_WRITE_GOLDEN"):
        VERDICTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert found == json.loads(VERDICTS.read_text(encoding="utf-8"))
    assert (32, {"F12": ["quarantined"]}) == (len(found), {name: told for name, told in found.items() if told != ["accepted"]})


def test_no_good_clip_lies_near_a_threshold(inspections: Mapping[str, Inspection]):
    """Thresholds doubled in strictness reject only the clips known to lie close: short, soft and late-starting ones."""
    strict = Thresholds(min_sharpness=12.0, min_contrast=0.04, max_black_ratio=0.0, max_frozen_ratio=0.0, max_dropped_ratio=0.035)
    from curation.signals.verdict import reasons

    found = {
        name: reasons(
            {**inspection.signals, "duration_s": inspection.duration_s or 0.0, "frame_count": inspection.frame_count or 0}, strict
        )
        for name, inspection in inspections.items()
    }
    assert {name: broken for name, broken in found.items() if broken} == {}


def test_the_time_of_day_is_right_or_undefined(inspections: Mapping[str, Inspection]):
    """No clip gets a wrong time of day, alternatives of the labels counted as right, and at most three of 18 get none."""
    labels = _labels()
    found = {name: inspection.tags.timeofday for name, inspection in inspections.items() if inspection.tags}
    wrong = {
        name: value
        for name, value in found.items()
        if value not in {"undefined", *_right_times(labels[name]["timeofday"], labels[name]["defects_notes"])}
    }
    assert wrong == {}
    assert list(found.values()).count("undefined") <= 3


def test_weather_and_scene_are_not_guessed(inspections: Mapping[str, Inspection]):
    """The picture tagger leaves both undefined, with confidence 0."""
    tags = [inspection.tags for inspection in inspections.values() if inspection.tags]
    assert {(tag.weather, tag.weather_confidence, tag.scene, tag.scene_confidence) for tag in tags} == {("undefined", 0.0) * 2}


def test_labelled_photos_are_right_or_undefined():
    """Thirteen driving photos, snow, rain and night among them: no wrong time of day, and few undefined."""
    with (CLIPS / "stills" / "labels.tsv").open(encoding="utf-8") as file:
        labels = {row["file"]: _right_times(row["timeofday"], row["notes"]) for row in csv.DictReader(file, delimiter="\t")}
    photos = {name: cv2.imread(str(CLIPS / "stills" / name)) for name in labels if (CLIPS / "stills" / name).is_file()}
    found = {
        name: PictureTagger()
        .tag([cv2.resize(photo, (640, photo.shape[0] * 640 // photo.shape[1]), interpolation=cv2.INTER_AREA)])
        .timeofday
        for name, photo in photos.items()
    }
    assert {name: value for name, value in found.items() if value not in {"undefined", *labels[name]}} == {}
    assert list(found.values()).count("undefined") <= 4


def test_little_flow_is_measured_as_it_is(inspections: Mapping[str, Inspection]):
    """Rain hides the flow of a moving car: the number is low, and nothing calls it or the night drive frozen."""
    assert inspections["S02"].signals["motion_px"] < 0.5
    assert [inspections[name].signals["frozen_ratio"] for name in ("S02", "S03")] == [0.0, 0.0]


def test_edit_lists_and_late_starts_are_no_defects(inspections: Mapping[str, Inspection], whole: Mapping[str, Inspection]):
    """S01 to S04 hold packets that are not to be shown; S11's picture begins after its sound: measured, and no gap."""
    surplus = {name: (one.frame_count or 0) - (one.decoded_frame_count or 0) for name, one in whole.items()}
    assert {name: count for name, count in surplus.items() if count} == {"S01": 1, "S02": 9, "S03": 39, "S04": 34}
    assert inspections["S11"].signals["duration_mismatch_s"] == pytest.approx(0.78, abs=0.02)
    assert inspections["S11"].signals["start_offset_s"] == pytest.approx(0.8, abs=0.01)
    gaps = {name: inspection.signals["gap_count"] for name, inspection in inspections.items() if inspection.signals["gap_count"]}
    assert gaps == {"S10": 1, "S12": 4}


def test_the_container_is_what_the_bytes_are(inspections: Mapping[str, Inspection]):
    """S07 is named .avi and is MPEG-PS; S12 is HEVC."""
    s07, s12 = inspections["S07"].container, inspections["S12"].container
    assert s07 is not None
    assert s12 is not None
    assert (s07.container, s07.video_codec, s12.video_codec) == ("mpeg", "mpeg1video", "hevc")


def test_numbers_stay_where_they_are(inspections: Mapping[str, Inspection]):
    """Every number of every clip equals the golden one: counts exactly, the rest within 2 %."""
    found = {name: _numbers(inspection) for name, inspection in inspections.items()}
    if os.environ.get("CURATION_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert found.keys() == golden.keys()
    for name, numbers in golden.items():
        assert {key: numbers[key] for key in EXACT} == {key: found[name][key] for key in EXACT}, name
        assert numbers == pytest.approx(found[name], rel=0.02, abs=0.005), name


def _numbers(inspection: Inspection) -> dict[str, float]:
    facts = {
        "fps": inspection.fps,
        "frame_count": inspection.frame_count,
        "decoded_frame_count": inspection.decoded_frame_count,
        "duration_s": inspection.duration_s,
    }
    return {name: round(value, 4) for name, value in {**inspection.signals, **facts}.items() if value is not None}
