"""Sidecars: what is believed, what is dropped by name, and what nobody takes for a value."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import ClipUnreadable, UsageError
from curation.records import Telemetry
from curation.telemetry.merge import merge, with_drive
from curation.telemetry.reading import FIELDS, read_fields
from curation.telemetry.sidecar import parse_fleet, parse_sidecar
from curation.telemetry.teslacam import parse_event

GOOD_ROW = {
    "vehicle_id": "fleet-0001",
    "vin": "LRWMUZFYEAML0ZLL0",
    "plate": "浙AK1DEGZ",
    "device_id": "DC-1",
    "driver_id": "drv-1",
    "captured_at": "2026-09-01T08:00:00.000+08:00",
    "latitude_deg": "31.245932",
    "longitude_deg": "121.473167",
    "datum": "WGS-84",
    "gnss_error_m": "5.7",
    "speed_mps": "9.0",
    "camera": "front",
}
GOOD = Telemetry(
    vehicle_id="fleet-0001",
    vin="LRWMUZFYEAML0ZLL0",
    plate="浙AK1DEGZ",
    device_id="DC-1",
    driver_id="drv-1",
    captured_at=datetime(2026, 9, 1, tzinfo=UTC),
    captured_at_source="fleet.csv",
    latitude_deg=31.245932,
    longitude_deg=121.473167,
    datum="WGS-84",
    gnss_error_m=5.7,
    speed_mean_mps=9.0,
    camera="front",
)


def _csv(*rows: dict[str, str]) -> bytes:
    header = list(rows[0])
    return "\n".join([",".join(header), *(",".join(row[name] for name in header) for row in rows)]).encode()


def test_a_good_row_is_taken_over_whole() -> None:
    """Every column of a good fleet row arrives, its time in UTC with the name of its clock."""
    fleet = parse_fleet(b"\xef\xbb\xbf" + _csv({"file": "a.mp4"} | GOOD_ROW))
    assert GOOD == fleet.readings["a.mp4"].telemetry
    assert ({}, {}) == (fleet.dropped, fleet.malformed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latitude_deg", "91"),
        ("latitude_deg", "nan"),
        ("latitude_deg", "inf"),
        ("latitude_deg", "1_0"),
        ("latitude_deg", "\uff13\uff11"),
        ("latitude_deg", "31.2 N"),
        ("longitude_deg", "-180.0001"),
        ("longitude_deg", "1e400"),
        ("gnss_error_m", "-1"),
        ("speed_mps", "-0.1"),
        ("speed_mps", "1e9"),
        ("speed_mps", "0x10"),
        ("datum", "Tokyo"),
        ("captured_at", "2026-09-01T08:00:00"),
        ("captured_at", "01/09/2026"),
        ("captured_at", "2026-13-01T00:00:00Z"),
        ("captured_at", "0001-01-01T00:00:00+14:00"),
        ("captured_at", "9999-12-31T23:59:59Z"),  # a fleet's day in a zone east of UTC would be in the year 10000
        ("captured_at", "2100-01-01T00:00:00Z"),
        ("captured_at", "1788220800"),
        ("vehicle_id", "x" * 201),
        ("camera", "front\x1b[2J"),
        ("camera", "\udcff"),
    ],
)
def test_a_hostile_value_is_no_value(key: str, value: str) -> None:
    """What cannot be believed becomes None, is counted under its key, and spoils nothing else."""
    reading = read_fields(GOOD_ROW | {key: value}, clock="fleet.csv")
    column = "speed_mean_mps" if key == "speed_mps" else key
    assert reading.malformed[key] == 1
    assert getattr(reading.telemetry, column) in {None, "unknown"}
    assert reading.telemetry.vin == GOOD.vin


def test_half_a_fix_is_no_fix() -> None:
    """A latitude without a longitude is dropped with its datum and error, and counted."""
    reading = read_fields(GOOD_ROW | {"longitude_deg": ""}, clock="fleet.csv")
    told = reading.telemetry
    assert (None, None, None, None) == (told.latitude_deg, told.longitude_deg, told.datum, told.gnss_error_m)
    assert {"latitude_deg without longitude_deg": 1} == reading.malformed


def test_a_fix_without_a_datum_has_an_unknown_one() -> None:
    """No datum is guessed for a fix that names none."""
    assert read_fields(GOOD_ROW | {"datum": ""}, clock="fleet.csv").telemetry.datum == "unknown"


def test_a_fix_at_zero_is_kept_as_given() -> None:
    """0/0 is evidence of what the recorder said; who places it says that it is no place."""
    told = read_fields({"latitude_deg": "0.0", "longitude_deg": "0"}, clock="sidecar").telemetry
    assert (0.0, 0.0) == (told.latitude_deg, told.longitude_deg)


@pytest.mark.parametrize(("given_as", "datum"), [("wgs84", "WGS-84"), ("GCJ02", "GCJ-02"), ("gcj-02", "GCJ-02"), ("Unknown", "unknown")])
def test_a_datum_is_known_however_it_is_spelled(given_as: str, datum: str) -> None:
    """Case and hyphens of a datum do not matter."""
    assert datum == read_fields(GOOD_ROW | {"datum": given_as}, clock="sidecar").telemetry.datum


def test_unknown_keys_are_dropped_counted_and_named() -> None:
    """An unknown column is counted once a row, and its value is nowhere in the reading."""
    fleet = parse_fleet(_csv({"file": "a", "phone": "13800000000"}, {"file": "b", "phone": "13900000000"}))
    assert {"phone": 2} == fleet.dropped
    assert "13800000000" not in repr(fleet)
    reading = parse_sidecar(b'{"plate": "x", "owner": {"name": "li"}, "\\u0007": 1, "": 2}', subject="a.json")
    assert {"owner": 1, "'\\x07'": 1, "''": 1} == reading.dropped
    assert reading.telemetry == Telemetry(plate="x")


def test_json_values_of_another_type_are_not_believed() -> None:
    """Booleans, lists and objects are no numbers and no text; whole numbers are ids as they stand."""
    raw = {"vehicle_id": 17, "vin": True, "plate": ["x"], "latitude_deg": True, "longitude_deg": {}, "speed_mps": 3, "captured_at": 5}
    reading = parse_sidecar(json.dumps(raw).encode(), subject="a.json")
    assert reading.telemetry == Telemetry(vehicle_id="17", speed_mean_mps=3.0)
    assert {"vin", "plate", "latitude_deg", "longitude_deg", "captured_at"} == reading.malformed.keys()


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b"\xff{}", b"[" * 100_000, b'{"a": 1} x'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """A broken sidecar is an error that names it."""
    with pytest.raises(ClipUnreadable, match=r"a\.json"):
        parse_sidecar(data, subject="a.json")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no column file"),
        (b"clip,plate\na,b\n", "no column file"),
        (b"file,plate\n\xff,b\n", "not UTF-8"),
        (b'file,plate\n"a,b\n', "no CSV"),
        (b"file,plate,plate\na,b,c\n", "twice"),
    ],
)
def test_a_broken_fleet_names_the_fix(data: bytes, problem: str) -> None:
    """A fleet file that cannot be read as a whole stops the listing with the way to mend it."""
    with pytest.raises(UsageError, match=rf"{problem}.*Fix: save it as UTF-8 CSV"):
        parse_fleet(data)


def test_rows_that_disagree_or_do_not_fit_are_disbelieved() -> None:
    """Two different rows of one file count for neither; equal ones are one; a short row and an empty name are counted."""
    fleet = parse_fleet(b"file,plate\na,1\na,2\nb,1\nb,1\nc\n,4\n\n")
    assert ["b"] == list(fleet.readings)
    assert {"file": 1, "file named by rows that disagree": 1, "row with another number of columns than the header": 1} == fleet.malformed


@given(st.dictionaries(st.sampled_from([*FIELDS, "file", "other"]), st.text() | st.floats() | st.integers() | st.none() | st.booleans()))
def test_any_values_give_a_reading_that_arrow_and_the_suite_can_hold(raw: dict[str, object]) -> None:
    """Whatever stands in a sidecar: no error, no NaN, no half fix, no time without a zone, no text that is not UTF-8."""
    told = read_fields(raw, clock="sidecar").telemetry
    assert (told.latitude_deg is None) == (told.longitude_deg is None) == (told.datum is None)
    assert told.latitude_deg is None or -90 <= told.latitude_deg <= 90
    assert told.speed_mean_mps is None or 0 <= told.speed_mean_mps <= 150
    assert told.captured_at is None or told.captured_at.tzinfo is UTC
    for text in (told.vehicle_id, told.vin, told.plate, told.device_id, told.driver_id, told.camera):
        assert text is None or text.encode()


def test_the_more_trusted_reading_wins_field_by_field() -> None:
    """Single values come from the first that has them; a fix keeps its own datum and error, a time its own clock."""
    first = Telemetry(plate="A", datum=None)
    second = Telemetry(plate="B", vin="V", latitude_deg=31.0, longitude_deg=121.0, datum="unknown")
    third = Telemetry(
        latitude_deg=1.0, longitude_deg=2.0, datum="WGS-84", gnss_error_m=3.0, captured_at=datetime(2026, 1, 1, tzinfo=UTC),
        captured_at_source="event.json",
    )  # fmt: skip
    expected = Telemetry(
        plate="A", vin="V", latitude_deg=31.0, longitude_deg=121.0, datum="unknown", captured_at=third.captured_at,
        captured_at_source="event.json",
    )  # fmt: skip
    assert expected == merge(first, second, third)


def test_a_drive_is_an_event_or_a_vehicles_day_at_home() -> None:
    """The event folder names the drive; else vehicle and day, by the calendar of the zone; else there is none."""
    late = Telemetry(vehicle_id="v", captured_at=datetime(2026, 9, 1, 20, 0, tzinfo=UTC))
    assert with_drive(late, event_folder="S/e", zone="Asia/Shanghai").drive_id == "S/e"
    assert with_drive(late, event_folder=None, zone="Asia/Shanghai").drive_id == "v/2026-09-02"
    assert with_drive(Telemetry(vehicle_id="v"), event_folder=None, zone="Asia/Shanghai").drive_id is None


def test_a_teslacam_event_gives_place_and_moment() -> None:
    """The estimate has no documented datum, the time no zone; city, reason and the event's camera are read but not the clip's."""
    raw = {
        "timestamp": "2026-09-01T08:09:10",
        "city": "苏州",
        "est_lat": "31.3",
        "est_lon": "120.6",
        "reason": "sentry",
        "camera": "0",
        "x": 1,
    }
    event, reading = parse_event(json.dumps(raw).encode(), subject="event.json")
    assert ("苏州", "sentry", "0") == (event.city, event.reason, event.camera)
    assert {"x": 1} == reading.dropped
    assert reading.malformed == {}
    assert reading.telemetry == Telemetry(
        captured_at=datetime(2026, 9, 1, 0, 9, 10, tzinfo=UTC), captured_at_source="event.json (Asia/Shanghai assumed)",
        latitude_deg=31.3, longitude_deg=120.6, datum="unknown",
    )  # fmt: skip


def test_a_hostile_event_gives_nothing() -> None:
    """Bad values of event.json are counted by key and believed in none."""
    raw = {"timestamp": "0001-01-01T00:00:00", "est_lat": "nan", "est_lon": [1], "city": {}, "reason": "", "camera": None}
    _, reading = parse_event(json.dumps(raw).encode(), subject="event.json")
    assert reading.telemetry == Telemetry()
    assert {"timestamp": 1, "est_lat": 1, "est_lon": 1, "city": 1} == reading.malformed
    aware = parse_event(b'{"timestamp": "2026-09-01T08:00:00Z"}', subject="event.json")[1].telemetry
    assert (datetime(2026, 9, 1, 8, tzinfo=UTC), "event.json") == (aware.captured_at, aware.captured_at_source)
