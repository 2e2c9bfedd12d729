"""Every value of every tag has an OpenLABEL class, or none on purpose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curation import schema
from curation.settings import read_settings
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


def test_the_page_for_the_user_tells_every_class() -> None:
    """docs/inspection.md has the mapping, value by value."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "inspection.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \| ([\w/ ]+) \| (?:`(\w+)`|-) \|$", page, re.MULTILINE)
    assert [(tag, value, name or "") for tag, values in CLASSES.items() for value, name in values.items()] == told


def test_the_thresholds_of_the_page_are_settings(tmp_path: Path) -> None:
    """What docs/inspection.md shows as settings can be pasted, and matches the camera that it speaks of."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "inspection.md").read_text(encoding="utf-8")
    (tmp_path / "curation.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    found = read_settings({}, work=tmp_path).inspect
    limits = [found.thresholds_for(model, 1920, 1080) for model in ("DR900X-2CH", None)]
    assert [(5.0, 0.03), (8.0, 0.03)] == [(one.min_sharpness, one.max_dropped_ratio) for one in limits]


def test_an_unknown_value_is_refused() -> None:
    """A word outside the vocabulary raises instead of meaning nothing."""
    with pytest.raises(KeyError):
        openlabel_id("weather", "hail")
