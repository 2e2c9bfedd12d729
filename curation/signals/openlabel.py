"""The OpenLABEL class of every tag value, so that other tools read our tags: ASAM OpenLABEL 1.0.0, ontology (2021).

Source of the ids: the published ontology, https://openlabel.asam.net/V1-0-0/ontologies/. BDD100K's values are coarser than its tree in some
places and finer in others: `clear`, `partly cloudy` and `overcast` are amounts of one class; city street and residential go to what such
roads mostly are. What has no class is mapped to None rather than to a neighbour: a gas station, and `undefined`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ONTOLOGY: Final = "https://openlabel.asam.net/V1-0-0/ontologies/"

CLASSES: Final[Mapping[str, Mapping[str, str | None]]] = {
    "timeofday": {
        "daytime": "IlluminationDay",
        "night": "LowLightNight",
        "dawn/dusk": "LowLightAmbient",
        "undefined": None,
    },
    "weather": {
        "rainy": "WeatherRain",
        "snowy": "WeatherSnow",
        "foggy": "ParticulatesWater",  # BSI PAS 1883, which the ontology follows, has fog and mist under non-precipitating water droplets
        "clear": "IlluminationCloudiness",
        "partly cloudy": "IlluminationCloudiness",
        "overcast": "IlluminationCloudiness",
        "undefined": None,
    },
    "scene": {
        "tunnel": "SpecialStructureTunnel",
        "residential": "RoadTypeMinor",
        "parking lot": "RoadTypeParking",
        "city street": "RoadTypeDistributor",
        "highway": "RoadTypeMotorway",
        "gas stations": None,
        "undefined": None,
    },
    "ego_motion": {"moving": "MotionDrive", "stationary": "MotionStop", "undefined": None},
}


def openlabel_id(tag: str, value: str | None) -> str | None:
    """The URI of the value's class; None where it has none, or was not measured.

    Raises:
        KeyError: there is no such tag, or it has no such value.
    """
    name = None if value is None else CLASSES[tag][value]
    return None if name is None else ONTOLOGY + name


def openlabel_ids(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Tag -> URI for the four tags of a manifest row."""
    return {tag: openlabel_id(tag, row[tag]) for tag in CLASSES}
