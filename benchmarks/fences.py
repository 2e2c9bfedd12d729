"""Geofences over many points: 500 polygons and a million points of tracks, beside the bare STRtree of shapely on the same points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import shapely

from benchmarks.measure import Figure, Work, cpu_s, figure, interleave, timed
from curation.residency import geofence
from curation.residency import pack as packs
from curation.schema import CLIPS

FENCES: Final = 500
POINTS_A_TRACK: Final = 50
_STEP_DEG: Final = 1e-4  # some 10 m a second
_CHINA_DEG: Final = (75.0, 20.0, 130.0, 50.0)  # west, south, east, north


def figures(law: packs.Pack, *, point_count: int, runs: int) -> Iterator[Figure]:
    """CPU seconds beside the bare tree's; and points per CPU second beside the million that issue D asks for."""
    clips, parsed = _clips(point_count), geofence.parse_fences(_fences(), law.geofence)
    found = interleave({"ours": timed(lambda: _ours(clips, parsed, law)), "other": timed(lambda: _bare(clips, parsed))}, runs=runs)
    ours_s, points = cpu_s(found["ours"]), clips.num_rows * POINTS_A_TRACK
    yield figure("residency.geofence/shapely_strtree", ours_s, cpu_s(found["other"]), unit="CPU s", better="less")
    rate = [points / seconds for seconds in ours_s]
    yield figure("residency.geofence_rate/1_million", rate, [1e6] * runs, unit="points/s", better="more", goal=1.0)


def _ours(clips: pa.Table, parsed: geofence.Fences, law: packs.Pack) -> Work:
    return lambda: geofence.flags(clips, parsed, law.geofence)


def _bare(clips: pa.Table, parsed: geofence.Fences) -> Work:
    points = clips.column("track").combine_chunks().flatten()
    places = [points.field(name).to_numpy() for name in ("longitude_deg", "latitude_deg")]
    return lambda: shapely.STRtree(parsed.buffered).query(shapely.points(*places), predicate="intersects")


def _fences(seed: int = 7) -> bytes:
    """Polygons of 4 to 23 corners, some 3 to 10 km wide, all over China."""
    rng = np.random.default_rng(seed)
    west, south, east, north = _CHINA_DEG
    features = []
    for _ in range(FENCES):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 24)))
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.02, 0.05)
        ring = np.add(ring, [rng.uniform(west, east), rng.uniform(south, north)]).tolist()
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "properties": {"class": "military"}, "geometry": geometry})
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _clips(point_count: int, seed: int = 7) -> pa.Table:
    """Clips with tracks of 50 points, one a second; only the columns that geofences read."""
    rng = np.random.default_rng(seed)
    rows = max(1, point_count // POINTS_A_TRACK)
    west, south, east, north = _CHINA_DEG
    latitude_deg, longitude_deg = (
        rng.uniform(low, high, rows)[:, None] + np.cumsum(rng.normal(0, _STEP_DEG, (rows, POINTS_A_TRACK)), axis=1)
        for low, high in ((south, north), (west, east))
    )
    kind = CLIPS.field("track").type
    values = [np.tile(np.arange(POINTS_A_TRACK, dtype=float), rows), latitude_deg.ravel(), longitude_deg.ravel()]
    points = pa.StructArray.from_arrays([pa.array(one) for one in values], fields=list(kind.value_type))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * POINTS_A_TRACK)
    columns = {
        "latitude_deg": latitude_deg[:, 0],
        "longitude_deg": longitude_deg[:, 0],
        "gnss_error_m": np.full(rows, 3.0),
        "duration_s": np.full(rows, float(POINTS_A_TRACK)),
        "datum": pa.array(["WGS-84"] * rows),
        "track": pa.ListArray.from_arrays(offsets, points).cast(kind),
    }
    return pa.table(columns)
