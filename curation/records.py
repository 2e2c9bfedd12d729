"""Frozen records that travel between floors; those of tables mirror `schema.py`, and a test holds them equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from curation.digests import canonical_json, sha256_hex
from curation.errors import NotConserved


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPoint:
    """A fix `offset_s` seconds after the clip's captured_at."""

    offset_s: float
    latitude_deg: float
    longitude_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the sidecars say of one clip; None where they say nothing believable."""

    vehicle_id: str | None = None
    vin: str | None = None
    plate: str | None = None
    device_id: str | None = None
    driver_id: str | None = None
    camera: str | None = None
    drive_id: str | None = None
    captured_at: datetime | None = None
    captured_at_source: str | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    datum: str | None = None
    gnss_error_m: float | None = None
    track: tuple[TrackPoint, ...] | None = None
    speed_mean_mps: float | None = None
    speed_max_mps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One believed position of a receiver: finite, in range, not 0/0, and where a vehicle can have got to.

    offset_s: from the clip's start, or from the first position of a file that stands beside the clip. at: UTC, None where the receiver's
    clock said nothing believable. quality: one of `telemetry.fixes.QUALITIES`.
    """

    offset_s: float
    at: datetime | None
    latitude_deg: float
    longitude_deg: float
    speed_mps: float | None
    quality: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What one telemetry file, or one telemetry stream of a clip, says of the vehicle's way. Every position is a fix or disbelieved.

    source: the format that it came in. seen_count: positions in it. disbelieved: reason -> positions not believed for it. malformed:
    what else could not be believed -> count. began_at: when the recording began, UTC, by `clock`; `zone` is the zone in which that clock
    runs, `assumed` included where the format does not say. gnss_error_m: horizontal, 1 sigma, the largest that the receiver gave.
    """

    source: str
    fixes: tuple[Fix, ...] = ()
    datum: str = "unknown"
    gnss_error_m: float | None = None
    began_at: datetime | None = None
    clock: str | None = None
    zone: str | None = None
    seen_count: int = 0
    disbelieved: Mapping[str, int] = field(default_factory=dict)
    malformed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = len(self.fixes) + sum(self.disbelieved.values())
        if told != self.seen_count:
            raise NotConserved(
                f"{self.seen_count} positions seen, {told} accounted for",
                subject=f"{self.source} track",
                fix="report this as a defect of the parser",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBytes:
    """Bytes that a clip carries from `start_s` of its timeline on; `duration_s` is None where the container names none."""

    start_s: float
    duration_s: float | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What a clip's container carries beside pictures and sound, unread.

    header: the container's metadata by name. gpmf: payloads of GoPro's metadata stream. sei: user data of the H.264 stream whose
    identifier is Tesla's. malformed: what could not be taken out, by name.
    """

    header: Mapping[str, str] = field(default_factory=dict)
    gpmf: tuple[TimedBytes, ...] = ()
    sei: tuple[TimedBytes, ...] = ()
    malformed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingEntry:
    """One row of `LISTING`: an entry of a source as it was when listed. Fields mirror the schema, telemetry nested."""

    name: str
    kind: str
    reason: str | None
    size_bytes: int
    modified_ns: int
    version: str | None = None
    held_as: str | None = None
    telemetry: Telemetry = Telemetry()


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledEntry:
    """One row of `PULLED`: what became of a listed entry."""

    name: str
    outcome: str
    reason: str | None = None
    clip_id: str | None = None
    object_key: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the demuxer says of a clip, without decoding."""

    container: str
    video_codec: str
    width_px: int
    height_px: int
    duration_s: float | None  # as the container's header has it
    missing_byte_count: int | None = None  # what the file lacks of the size that the container announces; None where it announces none
    camera_model: str | None = None  # None where the header names none


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One video packet in demux order; times in seconds of the stream's clock, None where the packet carries none."""

    pts_s: float | None
    duration_s: float | None
    size_bytes: int
    is_keyframe: bool
    is_corrupt: bool
    is_discarded: bool = False  # the container tells players not to show it (edit lists)
    dts_s: float | None = None  # when it is due at the decoder; never goes back in a sound stream
    is_disposable: bool = False  # no other picture is decoded from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """BDD100K tags of a clip, each with a confidence in [0, 1]. `undefined` is a right answer."""

    timeofday: str = "undefined"
    timeofday_confidence: float = 0.0
    weather: str = "undefined"
    weather_confidence: float = 0.0
    scene: str = "undefined"
    scene_confidence: float = 0.0
    tagger_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All that inspection found out about one clip from its bytes alone.

    `signals` maps each measured name of `schema.SIGNALS` to its value; every other name stands in `unmeasured` with a reason.
    `decoded_because` names why more than key frames was decoded at the depth `keyframes`.
    `telemetry` is what lies inside the file itself, and `disbelieved` counts what of it was not believed, by reason.
    """

    container: Container | None
    fps: float | None
    frame_count: int | None
    decoded_frame_count: int | None
    duration_s: float | None
    signals: Mapping[str, float] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    tags: Tags | None = None
    packet_digest: str | None = None
    signature: str | None = None
    verdict: str
    reasons: tuple[str, ...] = ()
    error: str | None = None
    inspector_version: str
    inspect_depth: str
    settings_digest: str
    inspected_at: datetime
    telemetry: Telemetry = Telemetry()
    disbelieved: Mapping[str, int] = field(default_factory=dict)
    decoded_because: tuple[str, ...] = ()
    face_count_max: int | None = None
    plate_count_max: int | None = None
    detector_versions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a fix lies: a mainland province, or the reason why none is named."""

    province: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A face or plate that a model found in a picture: pixels from the top left, and a score in [0, 1]."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """A line of text in a picture: the box around it, its own height where it is tilted, what it says, and how sure that is, in [0, 1]."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float
    line_height_px: float
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """A model that rests in the home store; `is_new` where it came there just now."""

    name: str
    version: str
    finds: str
    sha256: str
    licence: str
    key: str
    size_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """One snapshot of an Iceberg table. `sequence`: the table's changes up to it; 0 where nobody asked."""

    snapshot_id: int
    parent_id: int | None
    properties: Mapping[str, str]
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverseasTable:
    """Which table lies overseas, and how far it has come.

    table_uuid: Iceberg's; a table that is dropped and made anew has another. sequence: how many changes of rows it took, which never falls.
    anchor: the newest head of a home ledger (`sequence:digest`) that was noted in it, None where none was. releases: ids of those that were
    committed to it, not taken back, and not forgotten by upkeep yet.
    """

    table_uuid: str
    sequence: int
    anchor: str | None
    releases: tuple[str, ...] = ()

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever committed to it."""
        return self.sequence == 0 and self.anchor is None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFailure:
    """A check that did not pass: counts and clip ids only, never a value."""

    check: str
    column: str | None
    problem: str  # "unexpected", "errored", "skipped"
    row_count: int
    clip_ids: tuple[str, ...] = ()
    note: str = ""
    note_zh: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """What a suite said of a table, and proof that every declared check ran.

    warnings: findings that stop nothing, such as drift. without: tables that were not given, so that their checks were not declared.
    """

    suite: str
    suite_digest: str
    declared: int
    executed: int
    skipped: int
    errored: int
    rows_examined: int
    rows_present: int
    failures: tuple[CheckFailure, ...]
    warnings: tuple[CheckFailure, ...] = ()
    schema_version: str = ""
    without: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True only if checks exist, all of them ran over all rows, and none failed."""
        ran = self.declared > 0 and self.executed == self.declared and self.skipped == 0 and self.errored == 0
        return ran and self.rows_present > 0 and self.rows_examined == self.rows_present and not self.failures


REMOVED = "removed"  # kind of a ledger entry whose files a lawful erasure took away


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One signed link of the chain. `files` maps object keys to SHA-256; `counts` conserves rows."""

    sequence: int
    previous: str
    kind: str
    subject: str
    at: str
    counts: Mapping[str, int]
    files: Mapping[str, str]
    facts: Mapping[str, str]
    signature: str

    def digest(self) -> str:
        """SHA-256 over the entry's canonical bytes, signature included, hex."""
        return sha256_hex(canonical_json(self.plain()))

    def plain(self) -> dict[str, Any]:
        """Its fields by name, uncopied: copying the digests of 500 clips takes longer than signing them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """Rows in, and where each of them went, by name."""

    stage: str
    subject: str
    rows_in: int
    accounted: Mapping[str, int]

    def check(self) -> StageCount:
        """This record.

        Raises:
            NotConserved: the accounted rows do not add up to the rows in.
        """
        total = sum(self.accounted.values())
        if total != self.rows_in:
            raise NotConserved(
                f"{self.rows_in} rows in, {total} accounted for ({dict(self.accounted)})",
                subject=f"{self.stage} {self.subject}",
                fix="report this as a defect; nothing of this stage was recorded",
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageColumn:
    """A column that left: the rule that let it out, and the home columns that it was made of, none where it was drawn at random."""

    column: str
    rule: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRun:
    """A publication, a refused one or a withdrawal as lineage tools are told of it: names of tables, columns and rules, and counts.

    sequence: the ledger entry it is told from, which the run_id (a UUID) is made of. source, target: tables, the target overseas.
    """

    sequence: int
    run_id: str
    job: str
    succeeded: bool
    at: str
    source: str
    target: str
    row_count: int
    pack: str
    columns: tuple[LineageColumn, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepCount:
    """What upkeep did to a table: files made one, snapshots forgotten, files removed; and the snapshots and pins that it left.

    dropped_branches: of batches whose validation ended without a word over a week ago, by name.
    """

    table: str
    compacted_files: int
    expired_snapshots: int
    removed_files: int
    snapshots: int
    pinned: int
    dropped_branches: tuple[str, ...] = ()
