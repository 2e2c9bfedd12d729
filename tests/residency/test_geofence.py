"""Geofences: what withholds a clip, that buffers are never too narrow, and that no fence is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import PackRefused
from curation.residency import geofence
from curation.residency.pack import Pack

Row = dict[str, Any]


@pytest.fixture
def reasons(demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]) -> Callable[..., list[str]]:
    """Geofence reasons of one row with changes."""
    parsed = geofence.parse_fences(fences, demo_pack.geofence)
    return lambda **changes: geofence.withheld(clips(clip_row(1, **changes)), parsed, demo_pack.geofence)[0]


def _at(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"offset_s": float(i), "latitude_deg": lat, "longitude_deg": lon} for i, (lat, lon) in enumerate(points)]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, []),
        ({"latitude_deg": None}, ["geofence.missing_fix"]),
        ({"longitude_deg": None}, ["geofence.missing_fix"]),
        ({"latitude_deg": 0.0, "longitude_deg": 0.0}, ["geofence.missing_fix"]),
        ({"latitude_deg": math.nan}, ["geofence.missing_fix"]),
        ({"longitude_deg": math.inf}, ["geofence.missing_fix"]),
        ({"latitude_deg": 91.0}, ["geofence.missing_fix"]),
        ({"datum": "GCJ-02"}, ["geofence.datum"]),
        ({"datum": "unknown"}, ["geofence.datum"]),
        ({"datum": None}, ["geofence.datum"]),
        ({"gnss_error_m": None}, ["geofence.gnss_error"]),
        ({"gnss_error_m": 850.0}, ["geofence.gnss_error"]),
        ({"gnss_error_m": 500.0}, []),
        ({"gnss_error_m": math.nan}, ["geofence.gnss_error"]),
        ({"gnss_error_m": -1.0}, ["geofence.gnss_error"]),
        ({"latitude_deg": 31.15, "longitude_deg": 121.80}, ["geofence.inside"]),
        ({"latitude_deg": 31.1785, "longitude_deg": 121.80}, ["geofence.inside"]),
        ({"latitude_deg": 31.1815, "longitude_deg": 121.80}, []),
        ({"track": _at((31.245, 121.47), (math.nan, 121.47))}, ["geofence.missing_fix"]),
        ({"track": _at((31.245, 121.47), (0.0, 0.0))}, ["geofence.missing_fix"]),
        ({"track": _at((31.15, 121.80))}, ["geofence.inside"]),
        ({"track": _at((31.15, 121.767), (31.15, 121.768), (31.15, 121.771))}, ["geofence.inside"]),
        ({"track": _at((31.245, 121.47), (31.245, 121.48))}, ["geofence.gap"]),
        ({"track": _at((31.15, 121.70), (31.15, 121.90))}, ["geofence.gap", "geofence.inside"]),
        ({"track": _at((31.245, 121.47), (31.246, 121.471))}, []),
        ({"track": []}, []),
    ],
)
def test_each_reason_withholds(changes: Row, wanted: list[str], reasons: Callable[..., list[str]]) -> None:
    """Every doubt about the place, and every segment near a fence, withholds the clip under its own id."""
    assert wanted == reasons(**changes)


@pytest.mark.parametrize("latitude_deg", [-60.0, 0.5, 23.0, 31.15, 53.0])
def test_buffer_is_never_narrower_than_its_metres(latitude_deg: float, demo_pack: Pack) -> None:
    """Points up to 999 m from a fence of 1 km lie inside, in every direction and at every latitude."""
    feature = {"type": "Feature", "properties": {"class": "military"}, "geometry": {"type": "Point", "coordinates": [110.0, latitude_deg]}}
    data = json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()
    [buffered] = geofence.parse_fences(data, demo_pack.geofence).buffered
    phi = math.radians(latitude_deg)
    flattening = 1 - 0.00669438 * math.sin(phi) ** 2
    m_per_lat = math.radians(6_378_137 * (1 - 0.00669438) / flattening**1.5)
    m_per_lon = math.radians(6_378_137 * math.cos(phi) / math.sqrt(flattening))
    for bearing in range(0, 360, 3):
        east, north = 999 * math.sin(math.radians(bearing)), 999 * math.cos(math.radians(bearing))
        assert buffered.contains(geofence.shapely.Point(110.0 + east / m_per_lon, latitude_deg + north / m_per_lat))


def test_fence_can_widen_its_buffer_but_not_narrow_it(demo_pack: Pack, fences: bytes) -> None:
    """A feature's own buffer counts only above its class's: a file cannot open a hole."""
    raw = json.loads(fences)
    for own_m, wanted_m in ((1, 500.0), (2_000, 1_000.0)):
        raw["features"][1]["properties"]["buffer_m"] = own_m
        assert wanted_m == geofence.parse_fences(json.dumps(raw).encode(), demo_pack.geofence).smallest_buffer_m


BROKEN: dict[str, Callable[[Any], Any]] = {
    "no features": lambda raw: raw | {"features": []},
    "another type": lambda raw: raw | {"type": "Feature"},
    "another system": lambda raw: raw | {"crs": {"type": "name", "properties": {"name": "EPSG:3857"}}},
    "feature is null": lambda raw: raw | {"features": [None]},
    "no class": lambda raw: raw | {"features": [raw["features"][0] | {"properties": {}}]},
    "no geometry": lambda raw: raw | {"features": [raw["features"][0] | {"geometry": None}]},
    "bow tie": lambda raw: (
        raw
        | {"features": [raw["features"][0] | {"geometry": {"type": "Polygon", "coordinates": [[[0, 1], [1, 2], [1, 1], [0, 2], [0, 1]]]}}]}
    ),
    "open ring": lambda raw: (
        raw | {"features": [raw["features"][0] | {"geometry": {"type": "Polygon", "coordinates": [[[0, 1], [1, 2]]]}}]}
    ),
    "metres": lambda raw: (
        raw | {"features": [raw["features"][0] | {"geometry": {"type": "Point", "coordinates": [13_000_000, 3_600_000]}}]}
    ),
    "collection": lambda raw: raw | {"features": [raw["features"][0] | {"geometry": {"type": "GeometryCollection", "geometries": []}}]},
    "zero buffer": lambda raw: raw | {"features": [raw["features"][0] | {"properties": {"class": "dam", "buffer_m": 0}}]},
    "true buffer": lambda raw: raw | {"features": [raw["features"][0] | {"properties": {"class": "dam", "buffer_m": True}}]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_fences_are_refused(name: str, demo_pack: Pack, fences: bytes) -> None:
    """A fences file that is not whole stops everything, and the refusal names no fence."""
    with pytest.raises(PackRefused) as refusal:
        geofence.parse_fences(json.dumps(BROKEN[name](json.loads(fences))).encode(), demo_pack.geofence)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"\xff"])
def test_missing_fences_are_refused(data: bytes | None, demo_pack: Pack) -> None:
    """No fences file, or one that is not JSON, stops everything."""
    with pytest.raises(PackRefused):
        geofence.parse_fences(data, demo_pack.geofence)
