"""Kinds of bad rows, each with the check that should catch it; data for the tests of this folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

A_VIN = "LSVNV2182E2100001"
Row = dict[str, Any]

# Which builder of `conftest.Manifests`, what is wrong, and the check that must name the row.
CLIPS: Sequence[tuple[str, Mapping[str, Any], str]] = [
    ("good", {"clip_id": "F" * 64}, "clip_id.pattern"),
    ("good", {"clip_id": A_VIN}, "clip_id.pattern"),
    ("good", {"clip_id": None}, "clip_id.not_null"),
    ("good", {"batch_id": "tuesday"}, "batch_id.pattern"),
    ("good", {"batch_id": None}, "batch_id.not_null"),
    ("good", {"source_uri": None}, "source_uri.not_null"),
    ("good", {"source_uri": ""}, "source_uri.not_empty"),
    ("good", {"object_uri": "clips/aa/other.mp4"}, "object_uri.names_clip"),
    ("good", {"size_bytes": -1}, "size_bytes.range"),
    ("good", {"size_bytes": None}, "size_bytes.not_null"),
    ("good", {"latitude_deg": 90.5}, "latitude_deg.range"),
    ("good", {"longitude_deg": -180.5}, "longitude_deg.range"),
    ("good", {"latitude_deg": None}, "fix.complete"),
    ("good", {"datum": None}, "fix.complete"),
    ("good", {"datum": "BD-09"}, "datum.vocabulary"),
    ("good", {"gnss_error_m": -2.0}, "gnss_error_m.range"),
    ("good", {"gnss_error_m": math.nan}, "values.finite"),
    ("good", {"speed_mean_mps": 300.0}, "speed_mean_mps.range"),
    ("good", {"speed_mean_mps": math.inf}, "values.finite"),
    ("good", {"speed_max_mps": -1.0}, "speed_max_mps.range"),
    ("good", {"sun_elevation_deg": 90.5}, "sun_elevation_deg.range"),
    ("good", {"track": [{"offset_s": 1.0, "latitude_deg": 91.0, "longitude_deg": 0.0}]}, "track.on_globe"),
    ("good", {"track": [{"offset_s": -1.0, "latitude_deg": 1.0, "longitude_deg": 0.0}]}, "track.on_globe"),
    ("good", {"track": [{"offset_s": 1.0, "latitude_deg": None, "longitude_deg": 0.0}]}, "track.on_globe"),
    ("good", {"track": [None]}, "track.on_globe"),
    ("good", {"province": "CN-HK"}, "province.vocabulary"),
    ("good", {"width_px": 0}, "width_px.range"),
    ("good", {"fps": 2000.0}, "fps.range"),
    ("good", {"fps": None}, "accepted.fps"),
    ("good", {"frame_count": -1}, "frame_count.range"),
    ("good", {"duration_s": -0.5}, "duration_s.range"),
    ("good", {"duration_s": math.nan}, "accepted.duration_s"),
    ("good", {"container": None}, "accepted.container"),
    ("good", {"brightness": 1.01}, "brightness.range"),
    ("good", {"dark_ratio": -0.1}, "dark_ratio.range"),
    ("good", {"noise_sigma": 300.0}, "noise_sigma.range"),
    ("good", {"brightness": None}, "brightness.measured_or_not"),
    ("good", {"brightness": math.nan}, "brightness.measured_or_not"),
    ("good", {"motion_px": 3.0}, "motion_px.measured_or_not"),
    ("good", {"face_count_max": None}, "face_count_max.measured_or_not"),
    ("good", {"unmeasured": [("motion_px", "why"), ("plate_count_max", "why")]}, "plate_count_max.measured_or_not"),
    ("good", {"detector_versions": None}, "face_count_max.measured_or_not"),
    ("good", {"detector_versions": " "}, "plate_count_max.measured_or_not"),
    ("quarantined", {"plate_count_max": 0}, "plate_count_max.measured_or_not"),
    ("quarantined", {"face_count_max": -1}, "face_count_max.range"),
    ("good", {"unmeasured": [("motion_px", "")]}, "unmeasured.explained"),
    ("good", {"unmeasured": [("motion_px", "why"), ("wetness", "why")]}, "unmeasured.known"),
    ("good", {"unmeasured": [("motion_px", "why"), ("fps", "why")]}, "unmeasured.no_value"),
    ("good", {"unmeasured": None}, "unmeasured.not_null"),
    ("good", {"timeofday": "noon"}, "timeofday.vocabulary"),
    ("good", {"timeofday": None}, "accepted.timeofday"),
    ("good", {"weather": "sunny"}, "weather.vocabulary"),
    ("good", {"scene": "City Street"}, "scene.vocabulary"),
    ("good", {"ego_motion": "parked"}, "ego_motion.vocabulary"),
    ("good", {"weather_confidence": 1.5}, "weather_confidence.range"),
    ("good", {"packet_digest": "abc"}, "packet_digest.pattern"),
    ("good", {"verdict": "ok"}, "verdict.vocabulary"),
    ("good", {"verdict": None}, "verdict.not_null"),
    ("good", {"reasons": ["too_dark"]}, "accepted.no_reasons"),
    ("good", {"reasons": None}, "reasons.not_null"),
    ("good", {"error": "boom"}, "measured.no_error"),
    ("rejected", {"reasons": []}, "rejected.reasons"),
    ("rejected", {"reasons": [""]}, "reasons.not_blank"),
    ("quarantined", {"error": None}, "quarantined.error"),
    ("good", {"inspect_depth": "deep"}, "inspect_depth.vocabulary"),
    ("good", {"settings_digest": "default"}, "settings_digest.pattern"),
    ("good", {"inspector_version": ""}, "inspector_version.not_empty"),
    ("good", {"inspected_at": None}, "inspected_at.not_null"),
]


def _id(number: int) -> str:
    return f"{number:064x}"


def _row_id(number: int) -> str:
    return f"{number:032x}"


def _listed(number: int, **changes: Any) -> Row:
    return {"name": f"a/{number}.mp4", "kind": "clip", "size_bytes": 10, "modified_ns": -1, "datum": "unknown", **changes}


def _decided(number: int, **changes: Any) -> Row:
    return {"clip_id": _id(number), "released": number == 1, "withheld_by": [] if number == 1 else ["k"], **changes}


def _released(number: int, **changes: Any) -> Row:
    return {
        "release_row_id": _row_id(number), "province": "CN-SH", "month": "2026-11", "resolution_class": "2160p or more",
        "video_codec": "h264", "fps_class": "20 to below 28", "duration_s": 3600, "sharpness": "1 lowest", "brightness": "5 highest",
        "contrast": "2 low", "noise": "3 middle", "timeofday": "dawn/dusk", "weather": "partly cloudy", "scene": "parking lot", **changes,
    }  # fmt: skip


def _sample(number: int, **changes: Any) -> Row:
    return {"shard": "train-000000.tar", "split": "train", "clip_id": _id(number), "suffix": ".mp4", "size_bytes": 1, **changes}


def _keys(name: str, values: Sequence[str]) -> pa.Table:
    return pa.table({name: values})


_LISTING = [
    (_listed(10, kind="folder"), "kind.vocabulary"),
    (_listed(11, kind=None), "kind.not_null"),
    (_listed(12, name=""), "name.not_empty"),
    (_listed(13, name=None), "name.not_null"),
    (_listed(14, name="../b.mp4"), "name.inside"),
    (_listed(15, name="/etc/b.mp4"), "name.inside"),
    (_listed(16, kind="refused"), "refused.reason"),
    (_listed(17, reason="unreadable"), "listed.no_reason"),
    (_listed(18, size_bytes=-1), "size_bytes.range"),
    (_listed(19, modified_ns=None), "modified_ns.not_null"),
    (_listed(20, latitude_deg=91.0), "latitude_deg.range"),
    (_listed(21, speed_max_mps=math.inf), "values.finite"),
    (_listed(22, datum="BD-09"), "datum.vocabulary"),
    (_listed(23, track=[{"offset_s": -1.0, "latitude_deg": 1.0, "longitude_deg": 1.0}]), "track.on_globe"),
    (_listed(1), "name.unique"),
    (_listed(99), "listing.conserved"),
]
_DECISIONS = [
    (_decided(10, clip_id="x"), "clip_id.pattern"),
    (_decided(11, clip_id=None), "clip_id.not_null"),
    (_decided(12, released=None), "released.not_null"),
    (_decided(13, withheld_by=None), "withheld_by.not_null"),
    (_decided(14, withheld_by=[]), "released.no_rules"),
    (_decided(15, released=True), "released.no_rules"),
    (_decided(16, withheld_by=[""]), "withheld_by.not_blank"),
    (_decided(1), "clip_id.unique"),
    (_decided(99), "decisions.conserved"),
    (_decided(18, released=True, withheld_by=[]), "released.conserved"),
]
_RELEASE = [
    (_released(10, release_row_id="1234"), "release_row_id.pattern"),
    (_released(11, release_row_id=None), "release_row_id.not_null"),
    (_released(12, province="CN-TW"), "province.vocabulary"),
    (_released(13, month="2026-11-21"), "month.coarse"),
    (_released(14, month="2026-13"), "month.coarse"),
    (_released(15, month="2026-11-21"), "month.nothing_sensitive"),
    (_released(16, resolution_class="1920x1080"), "resolution_class.vocabulary"),
    (_released(17, video_codec="H264"), "video_codec.vocabulary"),
    (_released(18, fps_class="29.97"), "fps_class.vocabulary"),
    (_released(19, duration_s=3601), "duration_s.range"),
    (_released(20, duration_s=-1), "duration_s.range"),
    (_released(21, sharpness="812.4"), "sharpness.vocabulary"),
    (_released(22, brightness="5"), "brightness.vocabulary"),
    (_released(23, contrast=None), "contrast.not_null"),
    (_released(24, noise=""), "noise.not_empty"),
    (_released(25, timeofday="14:05"), "timeofday.nothing_sensitive"),
    (_released(26, weather=A_VIN), "weather.nothing_sensitive"),
    (_released(27, scene="沪A12345"), "scene.nothing_sensitive"),
    (_released(28, scene="31.2304,121.4737"), "scene.nothing_sensitive"),
    (_released(29, scene="file:///clips/1.mp4"), "scene.nothing_sensitive"),
    (_released(30, weather=_id(1)), "weather.nothing_sensitive"),
    (_released(31, weather="call 13812345678"), "weather.nothing_sensitive"),
    (_released(1), "release_row_id.unique"),
    (_released(99), "release.conserved"),
]
_SHARDS = [
    (_sample(10, shard="train.tar"), "shard.pattern"),
    (_sample(11, shard="test-000000.tar"), "shard.of_its_split"),
    (_sample(12, clip_id="x"), "clip_id.pattern"),
    (_sample(13, suffix="mp4"), "suffix.pattern"),
    (_sample(14, size_bytes=-1), "size_bytes.range"),
    (_sample(15, split=""), "split.not_empty"),
    (_sample(16, split=None), "split.not_null"),
    (_sample(1), "clip_id.unique"),
    (_sample(98), "shards.accepted"),
    (_sample(99), "shards.conserved"),
]
# Table -> good rows, bad rows with the check that must find each, and the tables that its checks need.
OTHERS: Mapping[str, tuple[list[Row], list[tuple[Row, str]], dict[str, pa.Table]]] = {
    "listing": (
        [_listed(1), _listed(2, kind="refused", reason="hidden", name="../x"), _listed(3, kind="sidecar")],
        _LISTING,
        {"pulled": _keys("name", ["a/1.mp4", "../x", "a/3.mp4"])},
    ),
    "decisions": (
        [_decided(1), _decided(2)],
        _DECISIONS,
        {"clips": _keys("clip_id", [_id(1), _id(2)]), "mapped_clips": _keys("clip_id", [_id(1)])},
    ),
    "release": ([_released(1), _released(2)], _RELEASE, {"mapping": _keys("release_row_id", [_row_id(1), _row_id(2)])}),
    "shards": (
        [_sample(1), _sample(2, split="test", shard="test-000001.tar")],
        _SHARDS,
        {"accepted": _keys("clip_id", [_id(1), _id(2)]), "selected": _keys("clip_id", [_id(1), _id(2)])},
    ),
}
