"""Time of day from made pictures: right where light and colour settle it, undefined elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from curation.adapters.tagger_picture import PictureTagger
from curation.schema import TIMEOFDAY
from curation.signals.timeofday import Light, light_of, name_light, timeofday

DAY = Light(median_luma=110.0, ground_luma=90.0, sky_luma=170.0, sky_high_luma=210.0, dark_ratio=0.05, warmth=-20.0, horizon_warmth=-10.0)
NIGHT = Light(median_luma=8.0, ground_luma=10.0, sky_luma=5.0, sky_high_luma=20.0, dark_ratio=0.9, warmth=3.0, horizon_warmth=5.0)
DUSK = Light(median_luma=50.0, ground_luma=40.0, sky_luma=90.0, sky_high_luma=130.0, dark_ratio=0.2, warmth=5.0, horizon_warmth=35.0)


@pytest.mark.parametrize(("light", "value"), [(DAY, "daytime"), (NIGHT, "night"), (DUSK, "dawn/dusk")])
def test_clear_cases_are_named(light: Light, value: str):
    """Bright and cool is daytime, dark with a dark sky is night, dim under a warm horizon is dawn or dusk."""
    named, confidence = name_light(light)
    assert named == value
    assert 0.5 <= confidence <= 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"warmth": 30.0, "horizon_warmth": 30.0},
        {"median_luma": 45.0},
        {"sky_high_luma": 60.0},
        {"median_luma": 70.0, "horizon_warmth": 15.0},
    ],
    ids=["lamp light", "dim", "covered sky", "dim and warm"],
)
def test_doubtful_light_is_undefined(change: dict[str, float]):
    """Daylight that leans to red, is dim, has no bright sky or a warm horizon is not called daytime, nor anything else."""
    assert name_light(dataclasses.replace(DAY, **change)) == ("undefined", 0.0)


def test_darkness_below_a_bright_sky_is_no_night():
    """A dark road under a bright sky, as at a tunnel's mouth, is not called night."""
    assert name_light(dataclasses.replace(NIGHT, sky_luma=120.0, sky_high_luma=200.0))[0] == "undefined"


def _picture(sky: tuple[int, int, int], ground: tuple[int, int, int]) -> np.ndarray:
    picture = np.empty((90, 160, 3), np.uint8)
    picture[:40], picture[40:] = sky, ground
    return picture


def test_light_is_read_from_the_right_places():
    """Sky and ground luma come from the upper third and the lower half, warmth is red minus blue of the upper half."""
    light = light_of(_picture((200, 200, 200), (40, 40, 40)))
    assert (light.sky_luma, light.ground_luma, light.warmth) == (200.0, 40.0, 0.0)
    assert light_of(_picture((100, 150, 200), (90, 90, 90))).horizon_warmth > 50


def test_frames_must_agree():
    """Six of ten frames name the clip, with a confidence that falls with the share; five of ten do not."""
    day, night = _picture((230, 200, 180), (100, 100, 100)), _picture((5, 5, 5), (10, 10, 10))
    unanimous, most, split = (timeofday([day] * days + [night] * (10 - days)) for days in (10, 6, 5))
    assert [unanimous[0], most[0], split] == ["daytime", "daytime", ("undefined", 0.0)]
    assert unanimous[1] > most[1] > 0


def test_no_frame_is_no_answer():
    """Without frames the time of day is undefined."""
    assert timeofday([]) == ("undefined", 0.0)


def test_black_frames_and_tiny_pictures_have_an_answer_of_the_vocabulary():
    """Pictures of one pixel, of one row and of black do not break the tagger."""
    for shape in ((1, 1, 3), (1, 640, 3), (3, 2, 3), (360, 640, 3)):
        assert PictureTagger().tag([np.zeros(shape, np.uint8)]).timeofday in TIMEOFDAY


def test_the_tagger_says_who_it_is_and_does_not_guess_the_rest():
    """Weather and scene are undefined with confidence 0, under the tagger's version."""
    tags = PictureTagger().tag([_picture((230, 200, 180), (100, 100, 100))])
    assert (tags.weather, tags.weather_confidence, tags.scene, tags.scene_confidence) == ("undefined", 0.0, "undefined", 0.0)
    assert tags.tagger_version == PictureTagger.version
