"""Every value of every tag has an OpenLABEL class, or none on purpose."""

from __future__ import annotations

import pytest

from curation import schema
from curation.signals.openlabel import CLASSES, ONTOLOGY, openlabel_id, openlabel_ids

VOCABULARIES = {"timeofday": schema.TIMEOFDAY, "weather": schema.WEATHER, "scene": schema.SCENE, "ego_motion": schema.EGO_MOTION}


def test_every_value_is_accounted_for() -> None:
    """The mapping has exactly the values of the schema, and only `undefined` and gas stations have no class."""
    assert {tag: set(values) for tag, values in VOCABULARIES.items()} == {tag: set(values) for tag, values in CLASSES.items()}
    assert {"undefined", "gas stations"} == {value for values in CLASSES.values() for value, name in values.items() if name is None}


def test_a_row_has_an_id_for_each_tag() -> None:
    """Tags become URIs; what is undefined or unmeasured has none."""
    found = openlabel_ids({"timeofday": "night", "weather": None, "scene": "undefined", "ego_motion": "stationary"})
    assert {"timeofday": f"{ONTOLOGY}LowLightNight", "weather": None, "scene": None, "ego_motion": f"{ONTOLOGY}MotionStop"} == found


def test_an_unknown_value_is_refused() -> None:
    """A word outside the vocabulary raises instead of meaning nothing."""
    with pytest.raises(KeyError):
        openlabel_id("weather", "hail")
