"""GoPro's stream: flagged positions are not believed, however plausible; real cameras' samples are read to the digit."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from curation.adapters.video_av import AvVideoReader
from curation.errors import ClipUnreadable
from curation.records import TimedBytes
from curation.telemetry.gpmf import parse_gpmf
from curation.telemetry.track import telemetry_of

GOPRO = Path(__file__).resolve().parents[3] / "shared" / "gps" / "gopro"


def _timed(*payloads: bytes) -> list[TimedBytes]:
    return [TimedBytes(start_s=float(second), duration_s=1.0, data=data) for second, data in enumerate(payloads)]


def test_gps5_is_read_whole(made: SimpleNamespace) -> None:
    """Each position of a payload at its share of the payload's second; the clip began where the receiver's time says."""
    first, second = made.gps5(made.way[:4]), made.gps5(made.way[4:8], clock="260901000001.000")
    track = parse_gpmf(_timed(first, second), subject="a.mp4")
    assert (8, {}, "WGS-84", "gpmf", "UTC", made.began) == (
        len(track.fixes), track.disbelieved, track.datum, track.clock, track.zone, track.began_at,
    )  # fmt: skip
    assert [0.0, 0.25, 0.5, 0.75, 1.0] == [fix.offset_s for fix in track.fixes[:5]]
    assert (pytest.approx(31.2304), 10.0, "3d") == (track.fixes[0].latitude_deg, track.fixes[0].speed_mps, track.fixes[0].quality)


def test_gps9_flags_and_dates_each_position(made: SimpleNamespace) -> None:
    """Newer cameras say it per position; without a fix none is believed, nor its time."""
    track = parse_gpmf(_timed(made.gps9(made.way[:3])), subject="a.mp4")
    assert (3, made.began) == (len(track.fixes), track.began_at)
    assert (pytest.approx(31.2304), pytest.approx(121.4737), 10.0) == (
        track.fixes[0].latitude_deg, track.fixes[0].longitude_deg, track.fixes[0].speed_mps,
    )  # fmt: skip
    blind = parse_gpmf(_timed(made.gps9(made.way[:3], flag=0)), subject="a.mp4")
    assert ({"no fix": 3}, None, "unknown") == (blind.disbelieved, blind.began_at, blind.datum)


@pytest.mark.parametrize("flag", [0, 1, 4, 2**31])
def test_no_fix_is_not_believed_however_plausible(made: SimpleNamespace, flag: int) -> None:
    """Only the flags 2 and 3 are a fix."""
    track = parse_gpmf(_timed(made.gps5(made.way, flag=flag)), subject="a.mp4")
    assert ((), {"no fix": 11}, None) == (track.fixes, track.disbelieved, track.began_at)


@pytest.mark.parametrize("clock", ["000101000000.000", "380119031407.000"])
def test_an_absurd_clock_costs_the_position(made: SimpleNamespace, clock: str) -> None:
    """Year 2000 and 2038 are said, under the position and once a payload."""
    track = parse_gpmf(_timed(made.gps5(made.way, clock=clock)), subject="a.mp4")
    assert ({"clock": 11}, {"clock": 1}, None) == (track.disbelieved, track.malformed, track.began_at)


def test_a_clock_that_is_no_time_costs_only_the_time(made: SimpleNamespace) -> None:
    """Places stand on the clip's own timeline."""
    track = parse_gpmf(_timed(made.gps5(made.way, clock="not a time here!")), subject="a.mp4")
    assert (11, None, None) == (len(track.fixes), track.fixes[0].at, track.began_at)


def test_streams_without_positions_are_no_track(made: SimpleNamespace) -> None:
    """A camera with its receiver off."""
    data = made.klv("DEVC", "\0", 1, made.klv("STRM", "\0", 1, made.klv("ACCL", "s", 6, b"\0" * 12)))
    assert (0, ()) == (parse_gpmf(_timed(data), subject="a.mp4").seen_count, parse_gpmf([], subject="a.mp4").fixes)


def _bomb(made: SimpleNamespace) -> bytes:
    data = b""
    for _ in range(20):
        data = made.klv("STRM", "\0", 1, data)
    return data


def test_broken_gpmf_is_refused(made: SimpleNamespace) -> None:
    """Cut off, nested too deep, scaled by 0 or of another form: an error that names the clip."""
    good = made.gps5(made.way)
    scale = struct.pack(">5i", 10_000_000, 10_000_000, 1000, 1000, 100)
    for data in (good[:-20], good[:3], _bomb(made), good.replace(scale, b"\0" * 20), good.replace(b"GPS5l\x14", b"GPS5l\x0a")):
        with pytest.raises(ClipUnreadable, match=r"a\.mp4: holds broken GPMF"):
            parse_gpmf(_timed(data), subject="a.mp4")


@pytest.mark.clips
@pytest.mark.skipif(not GOPRO.exists(), reason="the shared GoPro samples are not beside the project")
@pytest.mark.parametrize(
    ("name", "fixes", "disbelieved", "began_at", "speed_mean_mps", "speed_max_mps"),
    [
        ("hero5", 36, {}, datetime(2017, 4, 17, 17, 31, 3, tzinfo=UTC), 0.615, 1.041),
        ("hero6", 36, {}, datetime(2018, 1, 24, 19, 27, 58, 674000, tzinfo=UTC), 1.759, 2.334),
        ("hero8", 0, {"no fix": 36}, None, None, None),
    ],
)
def test_real_cameras_are_read_to_the_digit(
    name: str,
    fixes: int,
    disbelieved: dict[str, int],
    began_at: datetime | None,
    speed_mean_mps: float | None,
    speed_max_mps: float | None,
) -> None:
    """Two cameras with a full fix, and one whose plausible positions are all flagged as none."""
    with AvVideoReader().open(GOPRO / f"{name}-trimmed.mp4") as clip:
        clip.packets()
        track = parse_gpmf(clip.embedded().gpmf, subject=name)
    told = telemetry_of(track)
    assert (fixes, disbelieved, began_at) == (len(track.fixes), track.disbelieved, track.began_at)
    assert (speed_mean_mps, speed_max_mps) == (
        None if told.speed_mean_mps is None else round(told.speed_mean_mps, 3),
        told.speed_max_mps,
    )
    assert (fixes > 0) == (told.latitude_deg is not None)
