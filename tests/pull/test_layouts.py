"""Names of recorders: camera, start, device and drive; and names that only look like one."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.telemetry.layouts import RECORDERS, drives, read_name

SHANGHAI = ZoneInfo("Asia/Shanghai")
AT = datetime(2026, 9, 1, 0, 0, 0, tzinfo=UTC)  # 08:00 in Shanghai
DONGLE = "a2a0ccea32023010"


@pytest.mark.parametrize(
    ("name", "recorder", "camera"),
    [
        ("TeslaCam/RecentClips/2026-09-01_08-00-00-left_repeater.mp4", "TeslaCam", "left_repeater"),
        ("2026-09-01_08-00-00-FRONT.MP4", "TeslaCam", "front"),
        ("BlackVue/Record/20260901_080000_NF.mp4", "BlackVue", "front"),
        ("20260901_080000_ER.mp4", "BlackVue", "back"),
        ("20260901_080000_PI.mp4", "BlackVue", "interior"),
        ("20260901_080000_MFS.mp4", "BlackVue", "front"),
        ("20260901_080000_N.mp4", "BlackVue", "front"),
        ("DCIM/Movie/2026_0901_080000_000001F.MP4", "Viofo", "front"),
        ("DCIM/Movie/Parking/2026_0901_080000_0002PR.MP4", "Viofo", "back"),
        ("DCIM/Movie/20260901080000_023982.MP4", "Viofo", "front"),
        ("Normal/Front/NO20260901-080000-000001F.MP4", "70mai", "front"),
        ("Event/Back/EV20260901-080000-000001B.MP4", "70mai", "back"),
        ("PA20260901-080000-000001.MP4", "70mai", "front"),
        (f"{DONGLE}|2026-09-01--08-00-00--0/fcamera.hevc", "openpilot", "front"),
        (f"{DONGLE}/2026-09-01--08-00-00/0/ecamera.hevc", "openpilot", "front_wide"),
        (f"{DONGLE}_2026-09-01--08-00-00--0--dcamera.hevc", "openpilot", "interior"),
        ("realdata/2026-09-01--08-00-00--0/qcamera.ts", "openpilot", "front_preview"),
    ],
)
def test_each_recorder_is_known_by_its_names(name: str, recorder: str, camera: str) -> None:
    """Camera and start come from the name; the clock's zone is assumed, and said."""
    told = read_name(name)
    assert told is not None
    assert (recorder, camera, AT) == (told.recorder.name, told.telemetry.camera, told.telemetry.captured_at)
    assert "(Asia/Shanghai assumed)" in str(told.telemetry.captured_at_source)


@pytest.mark.parametrize(
    "name",
    [
        "clip.mp4",
        "2026-09-01_08-00-00-roof.mp4",
        "2026-09-01_08-00-00-front.mp4.json",
        "x2026-09-01_08-00-00-front.mp4",
        "20260901_080000_F.mp4",
        "20260901_080000_ZF.mp4",
        "20260901_080000.mp4",
        "20260901080000.mp4",
        "NOO20260901-080000-000001F.MP4",
        "٢٠٢٦-09-01_08-00-00-front.mp4",
        f"{DONGLE}|2026-09-01--08-00-00--0/rlog.zst",
        "2026-09-01--08-00-00--0/clip.mp4",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    """A name that is only like a recorder's gives no telemetry at all."""
    assert read_name(name) is None


@pytest.mark.parametrize(
    "name",
    ["20261301_080000_NF.mp4", "20260901_250000_NF.mp4", "19700101_000003_NF.mp4", "20000101_000003_NF.mp4", "99990101_000003_NF.mp4"],
)
def test_a_clock_that_was_never_set_gives_no_time(name: str) -> None:
    """A date that no calendar has, or from before such recorders were made, leaves the camera alone."""
    told = read_name(name)
    assert told is not None
    assert ("front", None, None) == (told.telemetry.camera, told.telemetry.captured_at, told.telemetry.captured_at_source)


def test_the_zone_can_be_said() -> None:
    """Another zone moves the start and is named."""
    told = read_name("20260901_080000_NF.mp4", zone="UTC")
    assert told is not None
    assert (datetime(2026, 9, 1, 8, tzinfo=UTC), "file name (UTC assumed)") == (
        told.telemetry.captured_at,
        told.telemetry.captured_at_source,
    )


def test_an_openpilot_segment_tells_device_route_and_minute() -> None:
    """The dongle's id goes to device_id, the drive is the route, and segment 3 begins three minutes in; new routes carry no time."""
    told = read_name(f"backup/{DONGLE}|2026-09-01--08-00-00--3/fcamera.hevc")
    assert told is not None
    assert (DONGLE, datetime(2026, 9, 1, 0, 3, tzinfo=UTC)) == (told.telemetry.device_id, told.telemetry.captured_at)
    assert f"backup/{DONGLE}/2026-09-01--08-00-00" == told.drive
    assert "route name and segment number (Asia/Shanghai assumed)" == told.telemetry.captured_at_source
    counted = read_name("00000012--a1b2c3d4e5--0/dcamera.hevc")
    assert counted is not None
    assert (None, None, "00000012--a1b2c3d4e5") == (counted.telemetry.device_id, counted.telemetry.captured_at, counted.drive)


def _drives(*names: str, vehicles: dict[str, str | None] | None = None) -> dict[str, str]:
    named = {name: read_name(name) for name in names}
    return drives({name: told for name, told in named.items() if told is not None}, vehicles or {}, source_name="src")


def test_an_uninterrupted_run_is_one_drive() -> None:
    """Cameras and minutes that follow each other are one drive, whatever folder the recorder put them in; a pause begins the next."""
    found = _drives(
        "carA/Record/20260901_080000_NF.mp4",
        "carA/Record/20260901_080000_NR.mp4",
        "carA/Record/20260901_080300_EF.mp4",
        "carA/Record/20260901_083000_NF.mp4",
        "carB/Record/20260901_080100_NF.mp4",
    )
    assert [*["carA/20260901T000000Z"] * 3, "carA/20260901T003000Z", "carB/20260901T000100Z"] == list(found.values())
    assert {"src/20260901T000000Z"} == set(
        _drives("Normal/Front/NO20260901-080000-000001F.MP4", "Event/Back/EV20260901-080100-000002B.MP4").values()
    )


def test_a_vehicle_that_a_sidecar_names_keeps_its_own_runs() -> None:
    """Two vehicles whose clips lie in one folder are told apart by what the fleet says."""
    first, second = "20260901_080000_NF.mp4", "20260901_080100_NF.mp4"
    assert {first: "v1/20260901T000000Z", second: "v2/20260901T000100Z"} == _drives(first, second, vehicles={first: "v1", second: "v2"})


def test_an_event_folder_of_teslacam_is_a_drive_and_recent_clips_are_runs() -> None:
    """Clips of SavedClips and SentryClips belong to their event even without event.json; those of RecentClips to their run."""
    saved = "TeslaCam/SavedClips/2026-09-01_08-10-00/2026-09-01_08-00-00-front.mp4"
    recent = "TeslaCam/RecentClips/2026-09-01_08-00-00-front.mp4"
    assert {saved: "TeslaCam/SavedClips/2026-09-01_08-10-00", recent: "src/20260901T000000Z"} == _drives(saved, recent)


@given(st.sampled_from(RECORDERS), st.datetimes(min_value=datetime(2010, 1, 1), max_value=datetime(2099, 12, 31)))  # noqa: DTZ001
def test_a_run_keeps_its_name_as_it_grows(recorder: object, start: datetime) -> None:
    """Whatever clip comes next, the drive of those before it stays as it was."""
    names = [f"{start:%Y%m%d}_{start:%H%M}{second:02d}_NF.mp4" for second in (0, 20, 40)]
    assert _drives(*names[:2]).items() <= _drives(*names).items()


@given(st.text(max_size=60))
def test_no_name_breaks_the_table(name: str) -> None:
    """Any text gives a reading or none, never an error."""
    read_name(name + ".mp4")
