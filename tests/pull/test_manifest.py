"""The manifest: one row per distinct clip, measured or unmeasured with a reason, the same bytes for the same values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation import layout, schema
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_local import DirectoryStore
from curation.errors import CurationError, ImmutableConflict, UsageError
from curation.privacy.census import COUNTS, NOT_LOOKED_FOR
from curation.records import Place, StageCount, Tags, Telemetry, TrackPoint
from curation.settings import InspectSettings
from curation.signals.openlabel import ONTOLOGY
from curation.stages import manifest, pull
from curation.tables import from_parquet

Put = Callable[..., Path]
CLIP, OTHER, TEXT = b"video 1", b"video 22", b"no clip"
FLEET = """file,vehicle_id,captured_at,latitude_deg,longitude_deg,datum,speed_mps
a.mp4,v1,2026-09-01T08:00:00+08:00,31.3,120.6,WGS-84,9.0
b.mp4,v2,2026-09-01T08:00:00+08:00,31.3,120.6,GCJ-02,0.0
c.mp4,v3,2026-09-01T08:00:00+08:00,0.0,0.0,WGS-84,
"""


def _id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def batch_id(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> str:
    """A pulled batch: two clips, one duplicate, and one file that is no video."""
    for name, data in (("a.mp4", CLIP), ("b.mp4", OTHER), ("c.mp4", TEXT), ("d.mp4", CLIP), ("e.txt", b""), ("fleet.csv", FLEET)):
        put(name, data)
    source = FolderSource("s", folder)
    (found,) = pull.discover(source, store=store, batch_size=500).batch_ids
    pull.run(found, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    return found


@pytest.fixture
def inspections(fakes: SimpleNamespace) -> dict[str, Any]:
    tags = Tags(
        timeofday="daytime", timeofday_confidence=0.9, weather="clear", weather_confidence=0.8, scene="highway", tagger_version="t1"
    )
    rejected = {"verdict": "rejected", "reasons": ("too_dark",)}
    return {_id(CLIP): fakes.inspection_of(CLIP, tags=tags), _id(OTHER): fakes.inspection_of(OTHER, **rejected)}


def _run(batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any], **changed: Any) -> StageCount:
    ports = {"store": store, "places": fakes.Places(), "ledger": fakes.Ledger(), "policy": InspectSettings(), "clock": fakes.Clock()}
    return manifest.run(batch_id, inspections=inspections, **(ports | changed))


def _rows(store: DirectoryStore, batch_id: str) -> dict[str, dict[str, Any]]:
    table = from_parquet(store.read(layout.manifest_key(batch_id)), schema.CLIPS)
    assert sorted(table["clip_id"].to_pylist()) == table["clip_id"].to_pylist()
    return {row["clip_id"]: row | {"unmeasured": dict(row["unmeasured"])} for row in table.to_pylist()}


def test_each_distinct_clip_is_one_row(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any], folder: Path
) -> None:
    """Listing, inspection and place meet in a row; the duplicate has none of its own, and the bytes that are no video have one."""
    ledger = fakes.Ledger()
    count = _run(batch_id, store, fakes, inspections, ledger=ledger)
    assert (3, {"accepted": 1, "rejected": 1, "quarantined": 1}) == (count.rows_in, count.accounted)
    rows = _rows(store, batch_id)
    clip = rows[_id(CLIP)]
    expected = {
        "batch_id": batch_id,
        "source_uri": f"{folder.resolve().as_uri()}/a.mp4",
        "object_uri": f"home:clips/{_id(CLIP)[:2]}/{_id(CLIP)}.mp4",
        "size_bytes": 7,
        "vehicle_id": "v1",
        "captured_at": datetime(2026, 9, 1, tzinfo=UTC),
        "captured_at_source": "fleet.csv",
        "drive_id": "v1/2026-09-01",
        "province": "CN-JS",
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "width_px": 640,
        "frame_count": 50,
        "sharpness": 7.0,
        "gap_count": 7,
        "motion_px": None,
        "timeofday": "daytime",
        "timeofday_confidence": 0.9,
        "ego_motion": "moving",
        "ego_motion_confidence": 1.0,
        "openlabel_ids": " ".join(
            f"{ONTOLOGY}{name}" for name in ("IlluminationDay", "IlluminationCloudiness", "RoadTypeMotorway", "MotionDrive")
        ),
        "verdict": "accepted",
        "reasons": [],
        "error": None,
        "inspected_at": fakes.now,
    }
    assert expected == {name: clip[name] for name in expected}
    assert {"motion_px": "needs two decoded frames", **dict.fromkeys(COUNTS, NOT_LOOKED_FOR)} == clip["unmeasured"]
    assert ("rejected", ["too_dark"], "stationary") == tuple(rows[_id(OTHER)][name] for name in ("verdict", "reasons", "ego_motion"))
    ((stage, subject, _, files, facts),) = ledger.events
    assert ("manifest", batch_id, {"settings_digest": InspectSettings().digest()}) == (stage, subject, facts)
    assert {key: _id(store.read(key)) for key in (layout.manifest_key(batch_id), layout.pulled_key(batch_id))} == files


def test_bytes_that_are_no_video_are_a_row_without_values(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """A quarantined file has its error, and every signal and fact of it stands unmeasured with that reason."""
    _run(batch_id, store, fakes, inspections)
    row = _rows(store, batch_id)[_id(TEXT)]
    assert ("quarantined", "no video stream was found", "none") == (row["verdict"], row["error"], row["inspector_version"])
    assert f"home:quarantine/{_id(TEXT)}/clip.mp4" == row["object_uri"]
    for name in (*schema.SIGNALS, "container", "width_px", "fps", "duration_s", "packet_digest", "timeofday", "scene"):
        assert (None, "no video stream was found") == (row[name], row["unmeasured"][name]), name


def test_a_province_is_named_or_its_lack_explained(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """Only a WGS-84 fix is placed; another datum and a fix at 0/0 leave the province unmeasured, and keep the raw numbers."""
    _run(batch_id, store, fakes, inspections)
    rows = _rows(store, batch_id)
    other, text = rows[_id(OTHER)], rows[_id(TEXT)]
    assert (None, "the fix's datum is GCJ-02; provinces are told from WGS-84 fixes only") == (
        other["province"],
        other["unmeasured"]["province"],
    )
    assert (None, "fix is 0/0", 0.0) == (text["province"], text["unmeasured"]["province"], text["latitude_deg"])


def test_null_and_unmeasured_are_one_for_every_signal(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """A signal has a value or a reason; no name in `unmeasured` has a value, and each is a column."""
    _run(batch_id, store, fakes, inspections)
    for row in _rows(store, batch_id).values():
        assert set(row["unmeasured"]) <= set(schema.CLIPS.names)
        assert [] == [name for name in row["unmeasured"] if row[name] is not None]
        assert [] == [name for name in schema.SIGNALS if (row[name] is None) != (name in row["unmeasured"])]


def test_a_signal_that_is_not_finite_is_unmeasured(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """NaN and infinity never reach the manifest as values."""
    broken = inspections[_id(CLIP)]
    inspections[_id(CLIP)] = dataclasses.replace(broken, signals={**broken.signals, "sharpness": float("nan"), "gap_count": float("inf")})
    _run(batch_id, store, fakes, inspections)
    row = _rows(store, batch_id)[_id(CLIP)]
    assert (None, None) == (row["sharpness"], row["gap_count"])
    assert ("the measured value was nan", "the measured value was inf") == (row["unmeasured"]["sharpness"], row["unmeasured"]["gap_count"])


@pytest.mark.parametrize(
    ("signals", "unmeasured"),
    [({}, {}), ({"sharpness": 1.0}, {"sharpness": "both"}), ({}, {"sharpness": ""}), ({"gap_count": 1.5, "sharpness": 1.0}, {})],
)
def test_an_inspection_that_contradicts_itself_is_a_defect(
    batch_id: str,
    store: DirectoryStore,
    fakes: SimpleNamespace,
    inspections: dict[str, Any],
    signals: dict[str, float],
    unmeasured: dict[str, str],
) -> None:
    """Neither value nor reason, both, an empty reason, or half a count: nothing is written."""
    kept = {name: 1.0 for name in schema.SIGNALS if name not in {"sharpness", "motion_px"}}
    told = {"signals": kept | signals, "unmeasured": {"motion_px": "still"} | unmeasured}
    inspections[_id(CLIP)] = fakes.inspection_of(CLIP, **told)
    with pytest.raises(CurationError, match="neither measured nor unmeasured"):
        _run(batch_id, store, fakes, inspections)
    assert store.size(layout.manifest_key(batch_id)) is None


def test_a_stored_clip_needs_its_inspection(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """A clip that nobody inspected is named, and a batch that was not pulled is wrong use."""
    del inspections[_id(CLIP)]
    with pytest.raises(CurationError, match=f"clip {_id(CLIP)}: was not inspected"):
        _run(batch_id, store, fakes, inspections)
    with pytest.raises(UsageError, match="was not pulled"):
        _run("s-0000000000000000", store, fakes, inspections)


def test_equal_inputs_give_equal_bytes_and_a_rerun_keeps_them(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any], tmp_path: Path
) -> None:
    """Another store gets the same bytes; a rerun at another time keeps those that stand; other values are a conflict."""
    _run(batch_id, store, fakes, inspections)
    key = layout.manifest_key(batch_id)
    first = store.read(key)
    twin = DirectoryStore(tmp_path / "twin", jurisdiction="CN")
    for name in (layout.listing_key(batch_id), layout.source_key(batch_id), layout.pulled_key(batch_id)):
        twin.create(name, store.read(name))
    _run(batch_id, twin, fakes, dict(reversed(inspections.items())))
    assert first == twin.read(key)
    later = SimpleNamespace(now=lambda: fakes.now + timedelta(days=1))
    assert 3 == _run(batch_id, store, fakes, inspections, clock=later).rows_in
    assert first == store.read(key)
    inspections[_id(CLIP)] = fakes.inspection_of(CLIP, fps=30.0)
    with pytest.raises(ImmutableConflict):
        _run(batch_id, store, fakes, inspections)


def test_a_batch_without_clips_has_an_empty_manifest(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Zero clips are zero rows under the schema, and counted as such."""
    put("a.txt")
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    assert 0 == _run(batch_id, store, fakes, {}).rows_in
    assert 0 == from_parquet(store.read(layout.manifest_key(batch_id)), schema.CLIPS).num_rows
    assert () == pull.discover(source, store=store, batch_size=500).batch_ids


@pytest.mark.parametrize(
    ("speed_mean_mps", "expected"),
    [
        (None, ("undefined", 0.0)),
        (0.0, ("stationary", 1.0)),
        (0.15, ("stationary", 0.75)),
        (0.3, ("undefined", 0.0)),
        (0.999, ("undefined", 0.0)),
        (1.0, ("moving", 0.5)),
        (2.0, ("moving", 1.0)),
        (40.0, ("moving", 1.0)),
        (-1.0, ("undefined", 0.0)),
        (float("nan"), ("undefined", 0.0)),
    ],
)
def test_speed_tells_whether_the_vehicle_moved(speed_mean_mps: float | None, expected: tuple[str, float]) -> None:
    """Clearly moving, clearly at rest, and undefined between the two and without a speed."""
    assert expected == manifest.ego_motion(speed_mean_mps)


def test_the_source_address_is_the_one_that_was_listed(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """source_uri comes from what discovery wrote down, not from where the source is today."""
    base = json.loads(store.read(layout.source_key(batch_id)))["base_uri"]
    _run(batch_id, store, fakes, inspections, store_uri=lambda key: f"mem:{key}")
    rows = _rows(store, batch_id).values()
    assert {f"{base}/{name}.mp4" for name in "abc"} == {row["source_uri"] for row in rows}
    assert all(row["object_uri"].startswith("mem:") for row in rows)


INSIDE = Telemetry(
    latitude_deg=39.9, longitude_deg=116.4, datum="unknown", captured_at=datetime(2026, 9, 2, tzinfo=UTC), captured_at_source="gpmf (UTC)",
    speed_mean_mps=5.0, speed_max_mps=12.0,
    track=(TrackPoint(offset_s=0.0, latitude_deg=39.9, longitude_deg=116.4),
        TrackPoint(offset_s=1.0, latitude_deg=39.9, longitude_deg=116.41),
    ),
)  # fmt: skip


def _moved(telemetry: Telemetry, *places_deg: tuple[float, float]) -> Telemetry:
    """The telemetry at the first of these places, on a way through all of them."""
    track = tuple(TrackPoint(offset_s=60.0 * at, latitude_deg=north, longitude_deg=east) for at, (north, east) in enumerate(places_deg))
    return dataclasses.replace(telemetry, latitude_deg=track[0].latitude_deg, longitude_deg=track[0].longitude_deg, track=track)


def test_what_lies_in_the_clip_fills_what_the_source_leaves_open(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """The source's own words stand; the way and the highest speed come from the file, and two datums are an unknown one."""
    inspections[_id(CLIP)] = dataclasses.replace(inspections[_id(CLIP)], telemetry=_moved(INSIDE, (31.3, 120.6), (31.3, 120.61)))
    ledger = fakes.Ledger()
    _run(batch_id, store, fakes, inspections, ledger=ledger)
    row = _rows(store, batch_id)[_id(CLIP)]
    assert (31.3, "unknown", 9.0, 12.0, "fleet.csv") == tuple(
        row[name] for name in ("latitude_deg", "datum", "speed_mean_mps", "speed_max_mps", "captured_at_source")
    )
    assert [point["longitude_deg"] for point in row["track"]] == [120.6, 120.61]
    assert "datum is unknown" in row["unmeasured"]["province"]
    assert "places_apart" not in ledger.events[0][-1]


@pytest.mark.parametrize("with_track", [True, False])
def test_places_that_contradict_each_other_are_unmeasured(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any], *, with_track: bool
) -> None:
    """The fleet says Suzhou, the clip's own file Beijing: neither is believed, the reason stands at each column, and it is counted."""
    own = INSIDE if with_track else dataclasses.replace(INSIDE, track=None)
    inspections[_id(CLIP)] = dataclasses.replace(inspections[_id(CLIP)], telemetry=own)
    ledger = fakes.Ledger()
    _run(batch_id, store, fakes, inspections, ledger=ledger)
    row = _rows(store, batch_id)[_id(CLIP)]
    empty = ("latitude_deg", "longitude_deg", "datum", "gnss_error_m", "track", "province", "sun_elevation_deg")
    assert [None] * len(empty) == [row[name] for name in empty]
    reason = "the place told beside the clip and that in its own file lie over 20 km apart: one of them is wrong"
    assert {reason} == {row["unmeasured"][name] for name in empty if name not in {"datum", "gnss_error_m"}}
    assert "1" == ledger.events[0][-1]["places_apart"]


@pytest.mark.parametrize(
    ("end_deg", "expected"),
    [
        ((31.3, 120.9), ("CN-JS", None)),
        ((31.3, 121.4), (None, "the track leads through CN-JS, CN-SH")),
        ((31.3, 122.4), (None, "the track lies abroad")),
    ],
)
def test_a_province_is_told_of_the_whole_way(
    batch_id: str,
    store: DirectoryStore,
    fakes: SimpleNamespace,
    inspections: dict[str, Any],
    end_deg: tuple[float, float],
    expected: tuple[str | None, str | None],
) -> None:
    """A way that begins in Jiangsu and ends in Shanghai is of no one province, and one that leaves the mainland of none."""

    class Places:
        def province(self, latitude_deg: float, longitude_deg: float) -> Place:
            if latitude_deg == longitude_deg == 0.0:
                return Place(province=None, reason="fix is 0/0")
            if longitude_deg > 122.0:
                return Place(province=None, reason="lies abroad")
            return Place(province="CN-JS" if longitude_deg < 121.0 else "CN-SH")

    way = dataclasses.replace(_moved(INSIDE, (31.3, 120.6), end_deg), datum="WGS-84")
    inspections[_id(CLIP)] = dataclasses.replace(inspections[_id(CLIP)], telemetry=way)
    _run(batch_id, store, SimpleNamespace(**{**vars(fakes), "Places": Places}), inspections)
    row = _rows(store, batch_id)[_id(CLIP)]
    assert expected == (row["province"], row["unmeasured"].get("province"))


def test_a_clip_without_sidecars_lives_on_its_own_telemetry(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """Fix, time and speeds of the file are the row's."""
    put("a.mp4", CLIP)
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    telemetry = dataclasses.replace(INSIDE, datum="WGS-84")
    _run(batch_id, store, fakes, {_id(CLIP): dataclasses.replace(inspections[_id(CLIP)], telemetry=telemetry)})
    row = _rows(store, batch_id)[_id(CLIP)]
    assert (39.9, "WGS-84", INSIDE.captured_at, "gpmf (UTC)", "CN-JS", "moving") == tuple(
        row[name] for name in ("latitude_deg", "datum", "captured_at", "captured_at_source", "province", "ego_motion")
    )


def test_telemetry_that_was_not_believed_is_said_in_the_row_and_in_the_ledger(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """A camera without a fix: no place, the reason in the row, the counts in the ledger."""
    put("a.mp4", CLIP)
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    ledger = fakes.Ledger()
    inspection = dataclasses.replace(inspections[_id(CLIP)], disbelieved={"gpmf: no fix": 36})
    _run(batch_id, store, fakes, {_id(CLIP): inspection}, ledger=ledger)
    row = _rows(store, batch_id)[_id(CLIP)]
    assert (None, "not believed: gpmf: no fix (36)") == (row["latitude_deg"], row["unmeasured"]["latitude_deg"])
    assert ("no fix", "no time of capture") == (row["unmeasured"]["province"], row["unmeasured"]["sun_elevation_deg"])
    assert '{"gpmf: no fix": 36}' == ledger.events[0][-1]["telemetry_disbelieved"]


def test_the_sun_is_measured_and_contradicts_a_picture(
    batch_id: str, store: DirectoryStore, fakes: SimpleNamespace, inspections: dict[str, Any]
) -> None:
    """08:00 in Suzhou is day: a picture of night keeps its tag, loses its confidence with the reason, and is counted; 0/0 has no sun."""
    night = Tags(timeofday="night", timeofday_confidence=0.9, tagger_version="t1")
    inspections[_id(CLIP)] = dataclasses.replace(inspections[_id(CLIP)], tags=night)
    ledger = fakes.Ledger()
    _run(batch_id, store, fakes, inspections, ledger=ledger)
    rows = _rows(store, batch_id)
    row = rows[_id(CLIP)]
    assert 30.0 == pytest.approx(row["sun_elevation_deg"], abs=1.0)
    assert ("night", None) == (row["timeofday"], row["timeofday_confidence"])
    assert "the picture says night, the sun stood at 30 deg" in row["unmeasured"]["timeofday_confidence"]
    assert "1" == ledger.events[0][-1]["timeofday_against_sun"]
    assert (None, "fix is 0/0") == (rows[_id(TEXT)]["sun_elevation_deg"], rows[_id(TEXT)]["unmeasured"]["sun_elevation_deg"])
