"""Geofences: which clips come near a place that must not be spoken of, without ever saying which place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from curation.errors import PackRefused
from curation.residency.pack import GEOFENCE_REASONS, GeofenceRule

Flags = npt.NDArray[np.bool_]
Degrees = npt.NDArray[np.float64]

# Least metres per degree on the WGS-84 ellipsoid (at the equator for latitude; times cos(latitude) for longitude), so that a
# buffer in degrees is never narrower than it is in metres; and the greatest (at the poles), so that no gap is taken for a smaller one.
_M_PER_LATITUDE_DEG: Final = 110_574.0
_M_PER_LONGITUDE_DEG: Final = 111_319.0
_MOST_M_PER_DEG: Final = 111_695.0
# 120 km/h, the highest speed that Chinese law allows on any road: how far a vehicle may have strayed between two fixes.
_FASTEST_MPS: Final = 120 / 3.6
_RASTER_CELLS: Final = 1_024
_QUARTER_SEGMENTS: Final = 16
# A buffer's rounded corners are drawn as chords inside the true arc; this widens them back out.
_CHORD_FACTOR: Final = 1.0 / math.cos(math.pi / (4 * _QUARTER_SEGMENTS))
_GEOMETRIES: Final = ("Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fences:
    """Buffered fences in WGS-84 degrees, the smallest buffer among them, and SHA-256 of the file they came from."""

    buffered: tuple[shapely.Geometry, ...]
    smallest_buffer_m: float
    digest: str


def parse_fences(data: bytes | None, rule: GeofenceRule) -> Fences:
    """The fences of a GeoJSON FeatureCollection, each widened by its buffer.

    A feature's buffer is that of its `class` under the rule, or its own `buffer_m` where that is larger.

    Raises:
        PackRefused: there is no file, it is no GeoJSON FeatureCollection in WGS-84 degrees, holds no fence, or a fence has no class,
            an invalid shape or an invalid buffer. Fences are named by their position only.
    """
    if data is None:
        raise _refused("there is no fences file")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused("is not JSON") from error
    features = raw.get("features") if isinstance(raw, dict) and raw.get("type") == "FeatureCollection" else None
    if not isinstance(features, list) or not features:
        raise _refused("is no FeatureCollection with at least one fence")
    if "crs" in raw and "CRS84" not in json.dumps(raw["crs"]):
        raise _refused("names a coordinate system other than WGS-84")
    buffers_m = [_buffer_m(feature, position, rule) for position, feature in enumerate(features)]
    buffered = tuple(
        _widened(_shape(feature, position), buffer_m) for position, (feature, buffer_m) in enumerate(zip(features, buffers_m, strict=True))
    )
    return Fences(buffered=buffered, smallest_buffer_m=min(buffers_m), digest=hashlib.sha256(data).hexdigest())


def _refused(problem: str) -> PackRefused:
    return PackRefused(problem, subject="fences file", fix="get a whole fences file from the map partner, and name it as fences")


def _buffer_m(feature: Any, position: int, rule: GeofenceRule) -> float:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict) or not isinstance(properties.get("class"), str):
        raise _refused(f"feature {position} has no class")
    least_m = float(rule.default_buffer_m.get(properties["class"], rule.other_buffer_m))
    own_m = properties.get("buffer_m", least_m)
    if isinstance(own_m, bool) or not isinstance(own_m, int | float) or not 0 < own_m <= 100_000:
        raise _refused(f"feature {position} has an invalid buffer_m")
    return max(least_m, float(own_m))


def _shape(feature: Mapping[str, Any], position: int) -> shapely.Geometry:
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict) or geometry.get("type") not in _GEOMETRIES:
        raise _refused(f"feature {position} has no geometry of a known kind")
    try:
        shape = shapely.from_geojson(json.dumps(geometry))
    except (shapely.errors.GEOSException, ValueError, TypeError) as error:
        raise _refused(f"feature {position} has a broken geometry") from error
    if shape is None or shape.is_empty or not shape.is_valid:
        raise _refused(f"feature {position} has an empty or invalid geometry")
    west, south, east, north = shape.bounds
    if not (-180 <= west <= east <= 180 and -80 <= south <= north <= 80):
        raise _refused(f"feature {position} lies outside WGS-84 degrees (or beyond 80 degrees of latitude)")
    return shape


def _widened(shape: shapely.Geometry, buffer_m: float) -> shapely.Geometry:
    """The shape widened by at least `buffer_m` everywhere: scaled to metres at its latitude farthest from the equator, and back."""
    _, south, _, north = shape.bounds
    farthest_deg = max(abs(south), abs(north)) + buffer_m / _M_PER_LATITUDE_DEG
    scale = np.array([_M_PER_LONGITUDE_DEG * math.cos(math.radians(farthest_deg)), _M_PER_LATITUDE_DEG])
    in_metres = shapely.transform(shape, lambda degrees: degrees * scale)
    wide = shapely.buffer(in_metres, buffer_m * _CHORD_FACTOR, quad_segs=_QUARTER_SEGMENTS)
    return shapely.transform(wide, lambda metres: metres / scale)


def flags(clips: pa.Table, fences: Fences, rule: GeofenceRule) -> Mapping[str, Flags]:
    """Rule id -> whether it withholds each row; keys `<rule id>.<reason>` for every reason of `pack.GEOFENCE_REASONS`.

    missing_fix: latitude or longitude of the fix or of a track point is null, not finite, out of range, or 0/0. datum: not WGS-84.
    gnss_error: unknown, negative, or larger than the smallest buffer. gap: neighbouring track points lie farther apart than the smallest
    buffer, or so long apart that the vehicle may have strayed farther than that from the way between them, at 120 km/h; and, where the rule
    asks for the whole clip, so much of it lies before the track's first or behind its last fix that the vehicle may have come farther than
    that, or its duration is unknown. A clip without a track is judged by its one fix. inside: the fix or any segment of the track touches
    a buffered fence.
    """
    latitude_deg, longitude_deg = _doubles(clips.column("latitude_deg")), _doubles(clips.column("longitude_deg"))
    error_m = _doubles(clips.column("gnss_error_m"))
    is_known = _is_fix(latitude_deg, longitude_deg)
    is_wgs84 = pc.fill_null(pc.equal(clips.column("datum"), "WGS-84"), False).to_numpy()  # noqa: FBT003 - Arrow's signature
    tree = shapely.STRtree(fences.buffered)
    is_inside = np.zeros(clips.num_rows, dtype=np.bool_)
    is_inside[is_known] = _is_inside(latitude_deg[is_known], longitude_deg[is_known], tree)
    duration_s = None if rule.track_covers is None else _doubles(clips.column("duration_s"))
    broken, gapped, crossing = _track_flags(clips.column("track"), duration_s, tree, fences.smallest_buffer_m)
    found = {
        "missing_fix": ~is_known | broken,
        "datum": ~is_wgs84.astype(np.bool_),
        "gnss_error": ~((error_m >= 0) & (error_m <= fences.smallest_buffer_m)),
        "gap": gapped,
        "inside": is_inside | crossing,
    }
    return {f"{rule.id}.{reason}": found[reason] for reason in GEOFENCE_REASONS}


def withheld(clips: pa.Table, fences: Fences, rule: GeofenceRule) -> list[list[str]]:
    """Per row of `clips`, the sorted ids of the geofence reasons that withhold it; which fence it was is not told."""
    found = sorted(flags(clips, fences, rule).items())
    return [[rule_id for rule_id, hit in found if hit[row]] for row in range(clips.num_rows)]


def _doubles(column: pa.ChunkedArray) -> Degrees:
    return np.asarray(pc.fill_null(column, math.nan).to_numpy(), dtype=np.float64)


def _is_fix(latitude_deg: Degrees, longitude_deg: Degrees) -> Flags:
    # Written positively, so that NaN is no fix.
    in_range = (np.abs(latitude_deg) <= 90) & (np.abs(longitude_deg) <= 180)
    return np.asarray(in_range & ~((latitude_deg == 0) & (longitude_deg == 0)), dtype=np.bool_)


def _is_inside(latitude_deg: Degrees, longitude_deg: Degrees, tree: shapely.STRtree) -> Flags:
    """Per known point, whether it touches a buffered fence; points far from every fence are told by a raster, without a geometry each."""
    is_inside = _may_touch(latitude_deg, longitude_deg, shapely.bounds(tree.geometries))
    near = np.flatnonzero(is_inside)
    points, candidates = tree.query(shapely.points(longitude_deg[near], latitude_deg[near]))
    shapely.prepare(tree.geometries)
    touches = shapely.intersects_xy(tree.geometries[candidates], longitude_deg[near[points]], latitude_deg[near[points]])
    is_inside[near] = False
    is_inside[near[points[touches]]] = True
    return is_inside


def _may_touch(latitude_deg: Degrees, longitude_deg: Degrees, bounds_deg: Degrees) -> Flags:
    """Per point, whether it shares a cell of a raster over all fences with the bounds (west, south, east, north) of any."""
    low_deg, high_deg = bounds_deg[:, :2].min(axis=0), bounds_deg[:, 2:].max(axis=0)

    def cells(values_deg: Degrees, axis: int) -> npt.NDArray[np.int32]:
        # Rising in the value, so a point between two bounds never falls outside their cells. Cells 0 and the last are beyond all fences.
        steps = (values_deg - low_deg[axis]) * (_RASTER_CELLS / (high_deg[axis] - low_deg[axis]))
        return np.asarray(np.floor(np.clip(steps, -1, _RASTER_CELLS + 1)) + 1, dtype=np.int32)

    is_marked = np.zeros((_RASTER_CELLS + 3, _RASTER_CELLS + 3), dtype=np.bool_)
    corners = [cells(bounds_deg[:, side], side % 2) for side in range(4)]
    for west, south, east, north in zip(*corners, strict=True):
        is_marked[south : north + 1, west : east + 1] = True
    return np.asarray(is_marked[cells(latitude_deg, 1), cells(longitude_deg, 0)], dtype=np.bool_)


def _track_flags(
    column: pa.ChunkedArray, duration_s: Degrees | None, tree: shapely.STRtree, smallest_buffer_m: float
) -> tuple[Flags, Flags, Flags]:
    """Per row: whether a track point is no fix, whether two lie too far apart, whether the track crosses a fence.

    Args:
        column: tracks.
        duration_s: how long each row's track has to be, NaN where nobody knows; None if it need not reach to the clip's ends.
        tree: buffered fences.
        smallest_buffer_m: how far the vehicle may come unseen.
    """
    tracks = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    broken, gapped, crossing = (np.zeros(len(tracks), dtype=np.bool_) for _ in range(3))
    points = pc.list_flatten(tracks)
    if not len(points):
        return broken, gapped, crossing
    row = np.asarray(pc.list_parent_indices(tracks).to_numpy(), dtype=np.int64)
    latitude_deg, longitude_deg, offset_s = (
        _doubles(pa.chunked_array([pc.struct_field(points, name)])) for name in ("latitude_deg", "longitude_deg", "offset_s")
    )
    order = np.lexsort((offset_s, row))  # segments join neighbours in time, whatever the order they were listed in
    row, latitude_deg, longitude_deg, offset_s = row[order], latitude_deg[order], longitude_deg[order], offset_s[order]
    is_known = _is_fix(latitude_deg, longitude_deg) & np.isfinite(offset_s)
    broken[row[~is_known]] = True
    row, latitude_deg, longitude_deg, offset_s = row[is_known], latitude_deg[is_known], longitude_deg[is_known], offset_s[is_known]
    is_gap = _is_gap(latitude_deg, longitude_deg, offset_s, smallest_buffer_m)
    gapped[row[1:][is_gap & (row[1:] == row[:-1])]] = True
    crossing[_crossing_rows(row, latitude_deg, longitude_deg, tree)] = True
    if duration_s is not None and len(row):
        begins, ends = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]), np.flatnonzero(np.r_[row[1:] != row[:-1], True])
        open_s = np.maximum(offset_s[begins], duration_s[row[ends]] - offset_s[ends])
        gapped[row[ends]] |= ~(open_s * _FASTEST_MPS <= smallest_buffer_m)  # written so that an unknown duration is a gap
    return broken, gapped, crossing


def _is_gap(latitude_deg: Degrees, longitude_deg: Degrees, offset_s: Degrees, smallest_buffer_m: float) -> Flags:
    """Per pair of neighbours, whether the vehicle may have come farther from the segment between them than the smallest buffer."""
    nearer_deg = np.minimum(np.abs(latitude_deg[1:]), np.abs(latitude_deg[:-1]))
    north_m = np.diff(latitude_deg) * _MOST_M_PER_DEG
    east_m = np.diff(longitude_deg) * _MOST_M_PER_DEG * np.cos(np.radians(nearer_deg))
    apart_m = np.hypot(north_m, east_m)
    # Places reached on the way lie in an ellipse around both fixes: this is its half width.
    stray_m = np.sqrt(np.maximum((np.diff(offset_s) * _FASTEST_MPS) ** 2 - apart_m**2, 0.0)) / 2
    return np.asarray((apart_m > smallest_buffer_m) | (stray_m > smallest_buffer_m), dtype=np.bool_)


def _crossing_rows(
    row: npt.NDArray[np.int64], latitude_deg: Degrees, longitude_deg: Degrees, tree: shapely.STRtree
) -> npt.NDArray[np.int64]:
    """Rows whose segments or points touch a buffered fence; only rows whose bounds meet a fence's are drawn.

    Args:
        row: ascending, so that neighbours of one row are neighbours in time.
    """
    if not len(row):
        return row
    begins = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    bounds = (np.minimum, longitude_deg), (np.minimum, latitude_deg), (np.maximum, longitude_deg), (np.maximum, latitude_deg)
    boxes = shapely.box(*(pick.reduceat(values, begins) for pick, values in bounds))
    near = np.isin(row, row[begins[tree.query(boxes)[0]]])
    row, latitude_deg, longitude_deg = row[near], latitude_deg[near], longitude_deg[near]
    at_points = row[_is_inside(latitude_deg, longitude_deg, tree)]
    starts = np.flatnonzero(row[1:] == row[:-1])
    corners = np.stack([longitude_deg[starts], latitude_deg[starts], longitude_deg[starts + 1], latitude_deg[starts + 1]], axis=1)
    segments = shapely.linestrings(corners.reshape(-1, 2, 2))
    return np.concatenate([at_points, row[starts[tree.query(segments, predicate="intersects")[0]]]])


def reasons_of(rule_ids: Sequence[str], rule: GeofenceRule) -> tuple[str, ...]:
    """Those of `rule_ids` that belong to the geofence rule."""
    return tuple(one for one in rule_ids if one.startswith(f"{rule.id}."))
