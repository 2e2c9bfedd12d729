"""Write a batch's manifest: listing, inspection and place of every distinct clip joined into one row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa

from curation import layout
from curation.errors import CurationError, UsageError
from curation.ports import Clock, Ledger, ObjectStore, Places
from curation.privacy.census import COUNTS, NOT_LOOKED_FOR
from curation.records import Inspection, StageCount, Telemetry, TrackPoint
from curation.schema import CLIPS, LISTING, PULLED, SIGNALS, VERDICTS
from curation.settings import DEFAULT_ZONE, InspectSettings
from curation.signals.openlabel import openlabel_ids
from curation.tables import from_parquet, to_parquet
from curation.telemetry.fixes import distance_m
from curation.telemetry.merge import merge, with_drive, without_place
from curation.telemetry.sun import contradicts, sun_elevation_deg
from curation.telemetry.track import is_far_from_track, lie_apart, waypoints

STAGE: Final = "manifest"
NOT_INSPECTED: Final = "none"  # inspector_version of bytes that pull found to be no video
MOVING_FROM_MPS: Final = 1.0  # a slow walk: a receiver at rest shows less
STATIONARY_BELOW_MPS: Final = 0.3  # what a receiver at rest shows; between the two nothing is sure
_TELEMETRY: Final = tuple(field.name for field in dataclasses.fields(Telemetry))
FAR_AWAY_M: Final = 50.0  # a receiver at rest among high buildings wanders by less
NEAR_BY_M: Final = 8.0  # what GPS promises at 95 % (SPS Performance Standard 2020)
_ERRORS: Final = 3.0  # of the receiver's own error, that are no way
CONFIDENCE: Final = "timeofday_confidence"
EGO_CONFIDENCE: Final = "ego_motion_confidence"
_COUNTS: Final = frozenset(name for name in SIGNALS if pa.types.is_integer(CLIPS.field(name).type))
_TAGS: Final = ("timeofday", "weather", "scene")
_HEADER: Final = ("container", "video_codec", "width_px", "height_px", "camera_model")
_MEASURED: Final = ("fps", "frame_count", "decoded_frame_count", "duration_s", "packet_digest", "signature")

_Row = dict[str, Any]


def run(
    batch_id: str,
    *,
    store: ObjectStore,
    inspections: Mapping[str, Inspection],
    places: Places,
    ledger: Ledger,
    policy: InspectSettings,
    clock: Clock,
    store_uri: Callable[[str], str] = layout.object_uri,
    stated: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    key: str | None = None,
) -> StageCount:
    """How many distinct clips of the batch were accepted, rejected and quarantined; the manifest holds one row for each, by clip_id.

    Args:
        inspections: by clip_id, one for every stored clip; quarantined bytes need none.
        policy: what inspection went by; names the row of bytes that were never inspected.
        clock: dates such a row.
        store_uri: makes the address of an object from its key.
        stated: the finished rows, saying which is a duplicate, of which clip, and what shows the same.
        key: where the rows go, if not to the batch's own manifest: rows that were inspected again stand beside those of the first time.

    Raises:
        UsageError: the batch was not pulled.
        CurationError: a stored clip has no inspection, or one that neither measures a signal nor says why not.
        ImmutableConflict: the batch's manifest was written before, from other values.
    """
    pulled_key, listing_key = layout.pulled_key(batch_id), layout.listing_key(batch_id)
    manifest_key = key or layout.manifest_key(batch_id)
    if store.size(pulled_key) is None:
        raise UsageError("was not pulled", subject=f"batch {batch_id}", fix="pull it first (`curation pull SOURCE`)")
    pulled = store.read(pulled_key)
    listed = {row["name"]: row for row in from_parquet(store.read(listing_key), LISTING).to_pylist() if row["kind"] == "clip"}
    base_uri = _base_uri(store, batch_id)
    rows: list[_Row] = []
    disbelieved: Counter[str] = Counter()
    for entry in from_parquet(pulled, PULLED).to_pylist():
        if entry["outcome"] not in {"stored", "quarantined"} or entry["clip_id"] is None:
            continue  # bytes that could not be read have no id to stand under; pulled.parquet accounts for them
        inspection = _inspection_of(entry, inspections, policy=policy, clock=clock)
        uris = {"source_uri": layout.entry_uri(base_uri, entry["name"]), "object_uri": store_uri(entry["object_key"])}
        row = _held_row(entry, listed[entry["name"]]) | uris | {"batch_id": batch_id}
        rows.append(_on_its_way(_under_the_sun(_placed(inspected_row(row, inspection), places))))
        disbelieved.update(inspection.disbelieved)
    rows.sort(key=lambda row: str(row["clip_id"]))
    data = _write_once(manifest_key, stated(pa.Table.from_pylist(rows, schema=CLIPS)), store)
    verdicts = Counter(row["verdict"] for row in rows)
    count = StageCount(stage=STAGE, subject=batch_id, rows_in=len(rows), accounted={name: verdicts[name] for name in VERDICTS})
    manifest_digest = hashlib.sha256(data).hexdigest()
    ledger.record(
        count,
        files={manifest_key: manifest_digest, pulled_key: hashlib.sha256(pulled).hexdigest()},
        facts={"settings_digest": policy.digest(), **_doubts(rows, disbelieved)},
    )
    if key is None:
        store.create(layout.finished_key(batch_id), json.dumps({manifest_key: manifest_digest}).encode())
    return count


def _held_row(entry: _Row, listed: _Row) -> _Row:
    """What pull knows of a clip, and its telemetry as it was listed."""
    return {name: listed[name] for name in _TELEMETRY} | {
        "clip_id": entry["clip_id"],
        "size_bytes": entry["size_bytes"],
        "duplicate_of": None,
        "near_group": None,
    }


def ego_motion(speed_mean_mps: float | None) -> tuple[str, float]:
    """Whether the vehicle moved, and the confidence in [0, 1].

    Confidence is 0.5 at the threshold and rises linearly to 1, which `moving` reaches at twice its threshold and `stationary` at rest.
    Between the thresholds, and without a speed, the answer is `undefined` with confidence 0.
    """
    if speed_mean_mps is not None and speed_mean_mps >= MOVING_FROM_MPS:
        return "moving", min(1.0, 0.5 * speed_mean_mps / MOVING_FROM_MPS)
    if speed_mean_mps is not None and 0.0 <= speed_mean_mps < STATIONARY_BELOW_MPS:
        return "stationary", 1.0 - 0.5 * speed_mean_mps / STATIONARY_BELOW_MPS
    return "undefined", 0.0


def _on_its_way(row: _Row) -> _Row:
    """Where the way of the track contradicts the speed, how sure ego_motion is stands unmeasured, and the tag stays."""
    track = [TrackPoint(**point) for point in row["track"] or ()]
    if len(track) < 2 or row["speed_mean_mps"] is None:
        return row
    away_m = max(distance_m(track[0], point) for point in track[1:])
    driven_m = row["speed_mean_mps"] * (track[-1].offset_s - track[0].offset_s)
    left = row["ego_motion"] == "stationary" and away_m > max(FAR_AWAY_M, _ERRORS * (row["gnss_error_m"] or 0.0))
    stayed = row["ego_motion"] == "moving" and driven_m > FAR_AWAY_M and away_m < NEAR_BY_M
    if not left and not stayed:
        return row
    reason = f"the speed says {row['ego_motion']}, the track leads {away_m:.0f} m away: speed or track is wrong"
    return row | {EGO_CONFIDENCE: None, "unmeasured": {**row["unmeasured"], EGO_CONFIDENCE: reason}}


def _base_uri(store: ObjectStore, batch_id: str) -> str:
    return str(json.loads(store.read(layout.source_key(batch_id)))["base_uri"])


def _inspection_of(entry: Mapping[str, Any], inspections: Mapping[str, Inspection], *, policy: InspectSettings, clock: Clock) -> Inspection:
    found = inspections.get(entry["clip_id"])
    if found is not None:
        return found
    if entry["outcome"] != "quarantined":
        raise CurationError("was not inspected", subject=f"clip {entry['clip_id']}", fix="inspect the batch again; nothing was written")
    return Inspection(
        container=None,
        fps=None,
        frame_count=None,
        decoded_frame_count=None,
        duration_s=None,
        unmeasured=dict.fromkeys(SIGNALS, entry["reason"]),
        verdict="quarantined",
        error=entry["reason"],
        inspector_version=NOT_INSPECTED,
        inspect_depth=policy.depth,
        settings_digest=policy.digest(),
        inspected_at=clock.now(),
    )


def inspected_row(row: _Row, inspection: Inspection) -> _Row:
    """The row with everything that the clip's bytes told."""
    signals, unmeasured = _signals(row["clip_id"], inspection)
    doubt = _doubt_of_place(_telemetry_of(row), inspection.telemetry)
    row |= _telemetry(row, inspection, is_placed=doubt is None)
    container, tags = inspection.container, inspection.tags
    row |= {name: getattr(container, name) if container else None for name in _HEADER}
    row |= {name: getattr(inspection, name) for name in (*_MEASURED, *COUNTS, "detector_versions")}
    for name in _TAGS:
        row[name] = getattr(tags, name) if tags else None
        row[f"{name}_confidence"] = getattr(tags, f"{name}_confidence") if tags else None
    row["ego_motion"], row["ego_motion_confidence"] = ego_motion(row["speed_mean_mps"])
    row["openlabel_ids"] = " ".join(uri for uri in openlabel_ids(row).values() if uri) or None
    row |= {
        "tagger_version": tags.tagger_version if tags else None,
        "verdict": inspection.verdict,
        "reasons": list(inspection.reasons),
        "error": inspection.error,
        "inspector_version": inspection.inspector_version,
        "inspect_depth": inspection.inspect_depth,
        "decoded_because": ", ".join(inspection.decoded_because) or None,
        "settings_digest": inspection.settings_digest,
        "inspected_at": inspection.inspected_at,
        **signals,
    }
    for name in (*_HEADER, *_MEASURED, *COUNTS, *_TAGS):
        if row[name] is None:
            why = inspection.unmeasured.get(name) or inspection.unmeasured.get("container" if name in _HEADER else name)
            unmeasured[name] = why or inspection.error or (NOT_LOOKED_FOR if name in COUNTS else "the inspection names no value")
    if doubt is not None:
        unmeasured |= dict.fromkeys(("latitude_deg", "longitude_deg", "track"), doubt)
    elif row["latitude_deg"] is None and inspection.disbelieved:
        told = ", ".join(f"{reason} ({count})" for reason, count in sorted(inspection.disbelieved.items()))
        unmeasured["latitude_deg"] = unmeasured["longitude_deg"] = f"not believed: {told}"
    return row | {"unmeasured": unmeasured}


def _doubt_of_place(told: Telemetry, own: Telemetry) -> str | None:
    """Why no place is believed, where its witnesses contradict each other: what the source said, and what lies in the clip's own file."""
    if is_far_from_track(told):
        return "the fix and the track beside the clip lie over 20 km apart: one of them is wrong"
    if lie_apart(told, own):
        return "the place told beside the clip and that in its own file lie over 20 km apart: one of them is wrong"
    return None


def _telemetry(row: _Row, inspection: Inspection, *, is_placed: bool) -> _Row:
    """The telemetry columns: what the source said, and where it said nothing, what lies in the clip's own file."""
    merged = merge(_telemetry_of(row), inspection.telemetry)
    merged = merged if is_placed else without_place(merged)
    return dataclasses.asdict(with_drive(merged, event_folder=merged.drive_id, zone=DEFAULT_ZONE))


def _telemetry_of(row: _Row) -> Telemetry:
    track = None if row["track"] is None else tuple(TrackPoint(**point) for point in row["track"])
    return Telemetry(**{**{name: row[name] for name in _TELEMETRY}, "track": track})


def _doubts(rows: list[_Row], disbelieved: Counter[str]) -> dict[str, str]:
    """Counts for the ledger, where there are any: telemetry inside clips that was not believed, and witnesses that disagree."""
    counts = {
        "timeofday_against_sun": sum(CONFIDENCE in row["unmeasured"] for row in rows),
        "speed_against_track": sum(EGO_CONFIDENCE in row["unmeasured"] for row in rows),
        "places_apart": sum("track" in row["unmeasured"] for row in rows),
    }
    found = {"telemetry_disbelieved": json.dumps(disbelieved, sort_keys=True)} if disbelieved else {}
    return found | {name: str(count) for name, count in counts.items() if count}


def _signals(clip_id: str, inspection: Inspection) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """Each signal's value, and the reasons of those that have none.

    Raises:
        CurationError: a signal has both a value and a reason, or neither, or a count is no whole number.
    """
    values: dict[str, float | int | None] = {}
    unmeasured: dict[str, str] = {}
    for name in SIGNALS:
        value, reason = inspection.signals.get(name), inspection.unmeasured.get(name)
        wrong = (value is None) == (reason is None) or reason == ""
        if wrong or (value is not None and name in _COUNTS and math.isfinite(value) and value != int(value)):
            raise CurationError(
                f"signal {name} is neither measured nor unmeasured with a reason (value {value}, reason {reason})",
                subject=f"clip {clip_id}",
                fix="report this as a defect of the inspection; nothing was written",
            )
        if value is not None and not math.isfinite(value):
            value, reason = None, f"the measured value was {value}"
        values[name] = int(value) if value is not None and name in _COUNTS else value
        if reason is not None:
            unmeasured[name] = reason
    return values, unmeasured


def _placed(row: _Row, places: Places) -> _Row:
    """The one province in which fix and track lie; where there is none, its reason stands among the unmeasured."""
    latitude_deg, longitude_deg, datum = row["latitude_deg"], row["longitude_deg"], row["datum"]
    if latitude_deg is None or longitude_deg is None:
        return _without_province(row, row["unmeasured"].get("track", "no fix"))
    if (latitude_deg, longitude_deg) != (0.0, 0.0) and datum != "WGS-84":
        return _without_province(row, f"the fix's datum is {datum or 'unknown'}; provinces are told from WGS-84 fixes only")
    found: list[str] = []
    for number, point in enumerate(waypoints(_telemetry_of(row))):
        place = places.province(point.latitude_deg, point.longitude_deg)
        if place.province is None:
            return _without_province(row, f"{'the track ' if number else ''}{place.reason or 'has no province'}")
        found.append(place.province)
    if len(set(found)) > 1:
        return _without_province(row, f"the track leads through {', '.join(dict.fromkeys(found))}")
    return row | {"province": found[0]}


def _under_the_sun(row: _Row) -> _Row:
    """The sun's height; where it contradicts the picture's time of day, how sure that is stands unmeasured, and the tag stays."""
    at, latitude_deg, longitude_deg = row["captured_at"], row["latitude_deg"], row["longitude_deg"]
    row |= {"sun_elevation_deg": None}
    if at is None or latitude_deg is None or longitude_deg is None or (latitude_deg, longitude_deg) == (0.0, 0.0):
        no_fix = row["unmeasured"].get("track", "no fix")
        reason = "no time of capture" if at is None else no_fix if latitude_deg is None else "fix is 0/0"
        return row | {"unmeasured": {**row["unmeasured"], "sun_elevation_deg": reason}}
    row["sun_elevation_deg"] = sun_elevation_deg(at, latitude_deg, longitude_deg)
    if not contradicts(row["timeofday"], row["sun_elevation_deg"]):
        return row
    reason = f"the picture says {row['timeofday']}, the sun stood at {row['sun_elevation_deg']:.0f} deg: picture, clock or fix is wrong"
    return row | {CONFIDENCE: None, "unmeasured": {**row["unmeasured"], CONFIDENCE: reason}}


def _without_province(row: _Row, reason: str) -> _Row:
    return row | {"province": None, "unmeasured": {**row["unmeasured"], "province": reason}}


def _write_once(key: str, table: pa.Table, store: ObjectStore) -> bytes:
    """The manifest's bytes; one that a killed run wrote stands, if nothing but the date of the inspections differs."""
    if store.size(key) is not None:
        standing = store.read(key)
        if from_parquet(standing, CLIPS).drop_columns(["inspected_at"]).equals(table.drop_columns(["inspected_at"])):
            return standing
    data = to_parquet(table, CLIPS)
    store.create(key, data)
    return data
