"""Geofences: what withholds a clip, that buffers are never too narrow, and that no fence is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import PackRefused
from curation.residency import evaluate, geofence
from curation.residency import pack as packs
from curation.residency.pack import Pack
from curation.schema import CLIPS

Row = dict[str, Any]


@pytest.fixture
def reasons(demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]) -> Callable[..., list[str]]:
    """Geofence reasons of one row with changes."""
    parsed = geofence.parse_fences(fences, demo_pack.geofence)
    return lambda **changes: geofence.withheld(clips(clip_row(1, **changes)), parsed, demo_pack.geofence)[0]


def _at(*points: tuple[float, float], every_s: float = 1.0) -> list[dict[str, float] | None]:
    return [{"offset_s": i and i * every_s, "latitude_deg": lat, "longitude_deg": lon} for i, (lat, lon) in enumerate(points)]


def _later(by_s: float, *points: tuple[float, float]) -> list[dict[str, float]]:
    return [point | {"offset_s": point["offset_s"] + by_s} for point in _at(*points) if point is not None]


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
        ({"track": _at((31.245, 121.47), (31.249, 121.47), every_s=30), "duration_s": 31.0}, []),
        ({"track": _at((31.245, 121.47), (31.245, 121.47), every_s=31), "duration_s": 31.0}, ["geofence.gap"]),
        ({"track": _at((31.245, 121.47), (31.249515, 121.47))}, ["geofence.gap"]),
        ({"track": _at((31.245, 121.47), (31.246, 121.471), every_s=math.inf)}, ["geofence.missing_fix"]),
        ({"track": [*_at((31.245, 121.47)), None]}, ["geofence.missing_fix"]),
        ({"track": []}, []),
        ({"track": _at((31.245, 121.47)), "duration_s": 14.99}, []),
        ({"track": _at((31.245, 121.47)), "duration_s": 15.01}, ["geofence.gap"]),
        ({"track": _at((31.245, 121.47)), "duration_s": None}, ["geofence.gap"]),
        ({"track": _at((31.245, 121.47)), "duration_s": math.nan}, ["geofence.gap"]),
        ({"track": _at((31.245, 121.47), (31.246, 121.47), every_s=20), "duration_s": 36.0}, ["geofence.gap"]),
        ({"track": _later(15.01, (31.245, 121.47)), "duration_s": 16.0}, ["geofence.gap"]),
        ({"track": _later(14.99, (31.245, 121.47)), "duration_s": 29.9}, []),
        ({"track": _later(-1.0, (31.245, 121.47)), "duration_s": 13.9}, []),
        ({"track": _later(20.0, (31.245, 121.47), (math.nan, 121.47)), "duration_s": 21.0}, ["geofence.gap", "geofence.missing_fix"]),
        ({"track": None, "duration_s": 60.0}, []),
    ],
)
def test_each_reason_withholds(changes: Row, wanted: list[str], reasons: Callable[..., list[str]]) -> None:
    """Every doubt about the place, and every segment near a fence, withholds the clip under its own id."""
    assert wanted == reasons(**changes)


def test_a_track_is_its_segments_in_the_order_of_time(reasons: Callable[..., list[str]]) -> None:
    """Two points 510 m from a fence of 500 m, 431 m apart, join into a way that comes within 462 m; the order of the list is no matter."""
    left, right = (30.004168, 119.997766), (30.004168, 120.002234)
    assert [] == reasons(track=_at(left))
    assert [] == reasons(track=_at(right))
    track = _at(left, right)
    assert ["geofence.inside"] == reasons(track=track)
    assert ["geofence.inside"] == reasons(track=track[::-1])


def test_which_fence_it_was_is_not_told(demo_pack: Pack, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]) -> None:
    """Whichever of two fences of other classes and buffers withholds a clip, and however many, the answer is the same."""
    places = [(110.0, 25.0, "military"), (112.0, 26.0, "dam")]
    features = [
        {"type": "Feature", "properties": {"class": kind, "name": kind}, "geometry": {"type": "Point", "coordinates": [lon, lat]}}
        for lon, lat, kind in places
    ]
    parsed = geofence.parse_fences(json.dumps({"type": "FeatureCollection", "features": features}).encode(), demo_pack.geofence)
    rows = [clip_row(i, longitude_deg=lon, latitude_deg=lat) for i, (lon, lat, _) in enumerate(places)]
    both = [{"offset_s": float(i), "longitude_deg": lon, "latitude_deg": lat} for i, (lon, lat, _) in enumerate(places)]
    rows.append(clip_row(2, longitude_deg=110.0, latitude_deg=25.0, track=both[:1]))
    assert [["geofence.inside"]] * 3 == geofence.withheld(clips(*rows), parsed, demo_pack.geofence)


def test_a_slice_of_a_table_is_judged_as_its_own_rows(
    demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]
) -> None:
    """Rows cut out of a larger table, in several chunks, keep their own tracks."""
    parsed = geofence.parse_fences(fences, demo_pack.geofence)
    tracks = [None, _at((31.15, 121.80)), [], _at((31.245, 121.47), (31.245, 121.48)), _at((31.245, 121.47), (math.nan, 121.47)), None]
    rows = [clip_row(i, track=track) for i, track in enumerate(tracks)]
    wanted = geofence.withheld(clips(*rows), parsed, demo_pack.geofence)
    assert [[], ["geofence.inside"], [], ["geofence.gap"], ["geofence.missing_fix"], []] == wanted
    chunked = pa.concat_tables([clips(*rows).slice(0, 2), clips(*rows).slice(2)])
    for start, stop in ((0, 6), (1, 4), (3, 6), (4, 5)):
        assert wanted[start:stop] == geofence.withheld(chunked.slice(start, stop - start), parsed, demo_pack.geofence)


_PLACES = st.tuples(st.floats(29.95, 30.05), st.floats(119.95, 120.05))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fence_places=st.lists(_PLACES, min_size=1, max_size=4), way=st.lists(_PLACES, min_size=1, max_size=5), fix=_PLACES)
def test_inside_is_what_a_plain_look_at_every_fence_says(
    fence_places: list[tuple[float, float]], way: list[tuple[float, float]], fix: tuple[float, float],
    demo_pack: Pack, clip_row: Callable[..., Row], clips: Callable[..., pa.Table],
) -> None:  # fmt: skip
    """The raster, the bounds and the tree only save work: the answer is that of the whole track against each fence in turn."""
    features = [
        {"type": "Feature", "properties": {"class": "dam"}, "geometry": {"type": "Point", "coordinates": [lon, lat]}}
        for lat, lon in fence_places
    ]
    parsed = geofence.parse_fences(json.dumps({"type": "FeatureCollection", "features": features}).encode(), demo_pack.geofence)
    row = clip_row(1, latitude_deg=fix[0], longitude_deg=fix[1], track=_at(*way))
    drawn = [shapely.Point(fix[::-1]), shapely.LineString([place[::-1] for place in (way * 2)[: max(2, len(way))]])]
    wanted = any(shape.intersects(fence) for shape in drawn for fence in parsed.buffered)
    assert wanted == ("geofence.inside" in geofence.withheld(clips(row), parsed, demo_pack.geofence)[0])


def test_every_corner_of_every_fence_is_found_among_many(demo_pack: Pack) -> None:
    """With 200 fences, the outermost points of each buffer are inside, however the raster's cells fall."""
    rng = np.random.default_rng(5)
    features = [
        {"type": "Feature", "properties": {"class": "dam"}, "geometry": {"type": "Point", "coordinates": [lon, lat]}}
        for lon, lat in zip(rng.uniform(75, 130, 200), rng.uniform(20, 50, 200), strict=True)
    ]
    parsed = geofence.parse_fences(json.dumps({"type": "FeatureCollection", "features": features}).encode(), demo_pack.geofence)
    corners = np.concatenate([shapely.get_coordinates(fence) for fence in parsed.buffered])
    columns = {"latitude_deg": corners[:, 1], "longitude_deg": corners[:, 0], "gnss_error_m": np.ones(len(corners))}
    columns |= {
        "datum": pa.array(["WGS-84"] * len(corners)),
        "duration_s": np.ones(len(corners)),
        "track": pa.nulls(len(corners), CLIPS.field("track").type),
    }
    assert geofence.flags(pa.table(columns), parsed, demo_pack.geofence)["geofence.inside"].all()


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


def test_old_pack_that_asks_for_no_whole_clip_is_replayed_as_it_was_signed_and_lets_nothing_new_out(
    demo_pack: Pack, fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]
) -> None:
    """What a pack of before says is what its signers signed, so its bytes and decisions stay; a release under it is refused."""
    old = demo_pack.model_copy(update={"geofence": demo_pack.geofence.model_copy(update={"track_covers": None})})
    assert b"track_covers" not in packs.canonical_bytes(old)
    assert packs.digest(old) != packs.digest(demo_pack)
    rows = clips(*(clip_row(number, track=_at((31.245, 121.47)), duration_s=600.0) for number in (1, 2)))
    assert [[], []] == evaluate.replay(rows, pack=old, fences=fences)["withheld_by"].to_pylist()
    assert [["geofence.gap"]] * 2 == evaluate.replay(rows, pack=demo_pack, fences=fences)["withheld_by"].to_pylist()
    with pytest.raises(PackRefused, match="track_covers"):
        evaluate.decide(rows, pack=old, fences=fences)
