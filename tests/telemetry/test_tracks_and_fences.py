"""From a track file to the fences: a way that touches one withholds the clip, wherever its first fix lies."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from curation.records import Telemetry
from curation.residency import pack
from curation.residency.geofence import Fences, flags, parse_fences
from curation.schema import CLIPS
from curation.telemetry import beside

RULE = pack.parse(resources.files("curation.residency").joinpath("packs/cn-demo.yaml").read_bytes()).geofence
FENCE_DEG = (31.2304, 121.5000)


@pytest.fixture(scope="module")
def fences() -> Fences:
    """One point, 500 m around it."""
    feature = {"type": "Feature", "properties": {"class": "school"}, "geometry": {"type": "Point", "coordinates": FENCE_DEG[::-1]}}
    return parse_fences(json.dumps({"type": "FeatureCollection", "features": [feature]}).encode(), RULE)


def _reasons(telemetry: Telemetry, fences: Fences) -> set[str]:
    row = {name: value for name, value in dataclasses.asdict(telemetry).items() if name in CLIPS.names}
    row["duration_s"] = max((fix["offset_s"] for fix in row["track"] or ()), default=1.0)
    schema = pa.schema([CLIPS.field(name) for name in row])
    found = flags(pa.Table.from_pylist([row], schema=schema), fences, RULE)
    return {rule_id.partition(".")[2] for rule_id, hit in found.items() if np.asarray(hit)[0]}


def _way(first_deg: float, last_deg: float, steps: int) -> list[tuple[float, float]]:
    return [(FENCE_DEG[0], first_deg + (last_deg - first_deg) * step / (steps - 1)) for step in range(steps)]


@pytest.mark.parametrize(
    ("first_deg", "last_deg", "steps", "expected"),
    [
        (121.4700, 121.4740, 61, set()),  # 400 m, far from the fence
        (121.4700, 121.4990, 131, {"inside"}),  # begins 3 km off, ends at the fence
        (121.4700, 121.5300, 271, {"inside"}),  # begins and ends outside, passes through
        (121.4700, 121.5300, 6, {"inside", "gap"}),  # six fixes, none of them inside: the way between them is
        (121.4700, 121.4800, 2, {"gap"}),  # a hole of 950 m, in which anything may lie
    ],
)
def test_a_way_near_a_fence_withholds_its_clip(
    made: SimpleNamespace, fences: Fences, first_deg: float, last_deg: float, steps: int, expected: set[str]
) -> None:
    """The fix alone lies 3 km from the fence and would pass; the way tells."""
    data = made.gpx(_way(first_deg, last_deg, steps))
    if steps < 10:  # farther apart than a car gets in a second: let a quarter of an hour pass between them
        for second in range(steps):
            data = data.replace(f"00:00:{second:02d}Z".encode(), f"0{second // 4}:{second % 4 * 15:02d}:00Z".encode())
    told = dataclasses.replace(beside.read("a.gpx", data, subject="a.gpx").telemetry, gnss_error_m=5.0)
    assert expected == _reasons(told, fences)
    assert set() == _reasons(dataclasses.replace(told, track=None), fences)


def test_a_track_of_unknown_error_or_datum_withholds(made: SimpleNamespace, fences: Fences) -> None:
    """GPX names no error in metres, and Tesla no datum: nothing leaves until somebody vouches for them."""
    told = beside.read("a.gpx", made.gpx(_way(121.47, 121.474, 61)), subject="a.gpx").telemetry
    assert {"gnss_error"} == _reasons(told, fences)
    assert {"datum"} == _reasons(dataclasses.replace(told, gnss_error_m=5.0, datum="unknown"), fences)
