"""Whether the vehicle moved: from its speed, held against its way; never from how the picture flows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from curation.adapters.tagger_picture import PictureTagger
from curation.stages import manifest

TSV = Path(__file__).resolve().parents[2].parent / "shared" / "clips" / "clips.tsv"


def _row(speed_mean_mps: float | None, *east_m: float, gnss_error_m: float = 3.0) -> dict[str, Any]:
    track = [{"offset_s": 10.0 * at, "latitude_deg": 0.001, "longitude_deg": metres / 111_320} for at, metres in enumerate(east_m)]
    value, confidence = manifest.ego_motion(speed_mean_mps)
    told = {"ego_motion": value, "ego_motion_confidence": confidence, "speed_mean_mps": speed_mean_mps, "gnss_error_m": gnss_error_m}
    return told | {"track": track or None, "unmeasured": {}}


@pytest.mark.parametrize(
    "row",
    [
        _row(0.0, 0, 20),
        _row(0.0, 0, 80, gnss_error_m=30.0),
        _row(10.0, 0, 100),
        _row(10.0),
        _row(None, 0, 500),
        _row(1.0, 0, 5),
        _row(10.0, 0, 90, 0),
    ],
)
def test_witnesses_that_agree_leave_the_tag_alone(row: dict[str, Any]) -> None:
    """A wandering receiver, a drive, a loop, and whatever has one witness only."""
    assert row == manifest._on_its_way(dict(row))


@pytest.mark.parametrize(
    ("row", "away"), [(_row(0.0, 0, 400), "stationary, the track leads 400 m"), (_row(10.0, 0, 1, 2), "moving, the track leads 2 m")]
)
def test_a_track_that_contradicts_the_speed_is_reported(row: dict[str, Any], away: str) -> None:
    """The tag stays, how sure it is stands unmeasured with both accounts."""
    found = manifest._on_its_way(dict(row))
    assert row["ego_motion"] == found["ego_motion"]
    assert found["ego_motion_confidence"] is None
    assert away in found["unmeasured"]["ego_motion_confidence"]


@pytest.mark.clips
@pytest.mark.skipif(not TSV.is_file(), reason="the shared real clips are not beside the project")
def test_real_clips_without_a_speed_are_undefined() -> None:
    """S02 and S03 drive though their flow is near 0, S13 shakes though it stands: without a speed none of them is named wrongly."""
    with TSV.open(encoding="utf-8") as file:
        labels = {row["id"]: row["ego_motion"] for row in csv.DictReader(file, delimiter="\t")}
    named, confidence = manifest.ego_motion(None)
    assert ("undefined", 0.0) == (named, confidence)
    assert not hasattr(PictureTagger().tag([]), "ego_motion")
    for clip, speed_mps in (("S02", 20.0), ("S03", 20.0), ("S13", 0.0)):
        assert labels[clip] == manifest.ego_motion(speed_mps)[0], clip
