"""The sun over a fix at a time, and whether a picture's time of day can be so. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from astral import Observer
from astral.sun import elevation

# Between civil (-6 deg) and nautical (-12 deg) twilight a sky may look like either; the same margin is left above the horizon.
_DAYTIME_FROM_DEG: Final = -6.0
_NIGHT_TO_DEG: Final = 6.0
_DUSK_DEG: Final = (-12.0, 20.0)  # mountains and houses make a low sun set early
_POSSIBLE_DEG: Final = {"daytime": (_DAYTIME_FROM_DEG, 90.0), "night": (-90.0, _NIGHT_TO_DEG), "dawn/dusk": _DUSK_DEG}


def sun_elevation_deg(at: datetime, latitude_deg: float, longitude_deg: float) -> float:
    """Height of the sun's centre above the horizon, in [-90, 90], refraction included. Any datum will do: 1 km is 0.01 deg.

    Args:
        at: with a zone.
        latitude_deg: in [-90, 90].
        longitude_deg: in [-180, 180].
    """
    return max(-90.0, min(90.0, elevation(Observer(latitude=latitude_deg, longitude=longitude_deg), at)))


def contradicts(timeofday: str | None, elevation_deg: float) -> bool:
    """Whether a picture of this BDD100K time of day cannot have been taken under a sun that stands so; `undefined` contradicts nothing."""
    low_deg, high_deg = _POSSIBLE_DEG.get(timeofday or "", (-90.0, 90.0))
    return not low_deg <= elevation_deg <= high_deg
