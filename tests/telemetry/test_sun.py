"""The sun over a fix, and which times of day it allows a picture."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.schema import TIMEOFDAY
from curation.telemetry.sun import contradicts, sun_elevation_deg


@pytest.mark.parametrize(
    ("at", "latitude_deg", "longitude_deg", "expected_deg"),
    [
        # At culmination the height is 90 - latitude + declination; the declination at a solstice is 23.44 deg, at an equinox 0.
        (datetime(2026, 6, 21, 3, 56, tzinfo=UTC), 31.2304, 121.4737, 90 - 31.2304 + 23.44),
        (datetime(2026, 12, 22, 4, 13, tzinfo=UTC), 39.9042, 116.4074, 90 - 39.9042 - 23.44),
        (datetime(2026, 3, 20, 14, 46, tzinfo=UTC), 90.0, 0.0, 0.5),  # refraction lifts the sun by half a degree at the horizon
        (datetime(2026, 6, 21, 15, 56, tzinfo=UTC), 31.2304, 121.4737, -(90 - 31.2304 - 23.44)),
    ],
)
def test_the_sun_stands_where_astronomy_says(at: datetime, latitude_deg: float, longitude_deg: float, expected_deg: float) -> None:
    """Culminations of solstices and the pole's equinox, to a third of a degree."""
    assert pytest.approx(expected_deg, abs=0.34) == sun_elevation_deg(at, latitude_deg, longitude_deg)


@settings(deadline=None)
@given(
    st.datetimes(datetime(2005, 1, 1), datetime(2035, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis wants bare limits
    st.floats(-90, 90),
    st.floats(-180, 180),
)
def test_every_believable_time_and_place_has_a_sun(at: datetime, latitude_deg: float, longitude_deg: float) -> None:
    """Within the range that the suite allows, at the poles too."""
    assert -90.0 <= sun_elevation_deg(at, latitude_deg, longitude_deg) <= 90.0


@pytest.mark.parametrize(
    ("timeofday", "elevation_deg", "expected"),
    [
        ("daytime", 40.0, False),
        ("daytime", -5.0, False),
        ("daytime", -30.0, True),
        ("night", -30.0, False),
        ("night", 3.0, False),
        ("night", 40.0, True),
        ("dawn/dusk", -3.0, False),
        ("dawn/dusk", 60.0, True),
        ("dawn/dusk", -40.0, True),
        ("undefined", 40.0, False),
        (None, -40.0, False),
    ],
)
def test_a_picture_is_contradicted_only_beyond_twilight(timeofday: str | None, elevation_deg: float, *, expected: bool) -> None:
    """Near the horizon both may be so; what says nothing is contradicted by nothing."""
    assert expected is contradicts(timeofday, elevation_deg)


def test_every_time_of_day_is_possible_at_some_height() -> None:
    """A value of the vocabulary that no sun allows would never be confident."""
    for value in TIMEOFDAY:
        assert any(not contradicts(value, float(height)) for height in range(-90, 91))
