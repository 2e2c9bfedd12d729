"""Arrow schemas of every table: columns with unit, meaning and sensitivity. The one source of truth.

Each field's metadata carries `doc`, `unit` and `sensitivity`. A column without a sensitivity stops loading.
"""

from __future__ import annotations

from typing import Final, Literal, cast, get_args

import pyarrow as pa

from curation import choices
from curation.errors import SettingsError

SCHEMA_VERSION: Final = "1"

Sensitivity = Literal["public", "place", "person", "vehicle", "device", "picture", "internal"]
SENSITIVITIES: Final[tuple[str, ...]] = get_args(Sensitivity)

# Closed vocabularies.
VERDICTS: Final = ("accepted", "rejected", "quarantined")
TIMEOFDAY: Final = choices.TIMEOFDAY
WEATHER: Final = choices.WEATHER
SCENE: Final = choices.SCENE
EGO_MOTION: Final = ("moving", "stationary", "undefined")
ENTRY_KINDS: Final = ("clip", "sidecar", "refused")
PULL_OUTCOMES: Final = ("stored", "duplicate", "quarantined", "growing", "sidecar", "refused")
DATUMS: Final = ("WGS-84", "GCJ-02", "unknown")

# The 31 mainland province-level divisions, ISO 3166-2:CN. Hong Kong, Macao and Taiwan are outcomes of their own and never released.
PROVINCES: Final = (
    "CN-AH", "CN-BJ", "CN-CQ", "CN-FJ", "CN-GD", "CN-GS", "CN-GX", "CN-GZ", "CN-HA", "CN-HB", "CN-HE", "CN-HI", "CN-HL", "CN-HN",
    "CN-JL", "CN-JS", "CN-JX", "CN-LN", "CN-NM", "CN-NX", "CN-QH", "CN-SC", "CN-SD", "CN-SH", "CN-SN", "CN-SX", "CN-TJ", "CN-XJ",
    "CN-XZ", "CN-YN", "CN-ZJ",
)  # fmt: skip

_TIME = pa.timestamp("us", tz="UTC")
_TRACK = pa.list_(
    pa.struct(
        [
            pa.field("offset_s", pa.float64()),
            pa.field("latitude_deg", pa.float64()),
            pa.field("longitude_deg", pa.float64()),
        ]
    )
)


def column(
    name: str, kind: pa.DataType, sensitivity: Sensitivity, doc: str, *, unit: str = "", nullable: bool = True, since: int = 1
) -> pa.Field:
    """An Arrow field that carries its meaning, unit and sensitivity, and the version of the schema that brought it if not the first."""
    later = {"since": str(since)} if since > 1 else {}
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc, "unit": unit, "sensitivity": sensitivity, **later})


def _table(name: str, columns: list[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"curation.table": name, "curation.schema_version": SCHEMA_VERSION})


_TELEMETRY = [
    column("vehicle_id", pa.string(), "vehicle", "the fleet's own id of the vehicle"),
    column("vin", pa.string(), "vehicle", "vehicle identification number"),
    column("plate", pa.string(), "vehicle", "registration plate"),
    column("device_id", pa.string(), "device", "id of the recorder"),
    column("driver_id", pa.string(), "person", "the fleet's own id of the driver"),
    column("camera", pa.string(), "internal", "which camera of the vehicle recorded the clip"),
    column("drive_id", pa.string(), "vehicle", "clips of one vehicle that belong together in time"),
    column("captured_at", _TIME, "person", "when the recording began, UTC", unit="UTC"),
    column("captured_at_source", pa.string(), "internal", "which clock captured_at was read from"),
    column("latitude_deg", pa.float64(), "place", "latitude of the fix", unit="deg"),
    column("longitude_deg", pa.float64(), "place", "longitude of the fix", unit="deg"),
    column("datum", pa.string(), "place", "geodetic datum of the fix: WGS-84, GCJ-02 or unknown"),
    column("gnss_error_m", pa.float64(), "place", "horizontal error of the fix as the receiver gave it", unit="m"),
    column("track", _TRACK, "place", "fixes during the clip, offset from captured_at; null where only one fix is known"),
    column("speed_mean_mps", pa.float64(), "person", "mean speed during the clip", unit="m/s"),
    column("speed_max_mps", pa.float64(), "person", "highest speed during the clip that the receiver or the vehicle gave", unit="m/s"),
]

LISTING: Final = _table(
    "listing",
    [
        column("name", pa.string(), "internal", "path of the entry below the source, with /", nullable=False),
        column("kind", pa.string(), "internal", "clip, sidecar or refused", nullable=False),
        column("reason", pa.string(), "internal", "why a refused entry is refused"),
        column("size_bytes", pa.int64(), "internal", "size when listed", unit="bytes", nullable=False),
        column(
            "modified_ns", pa.int64(), "internal", "modification time when listed, 0 where the source tells none", unit="ns", nullable=False
        ),
        column("version", pa.string(), "internal", "what the source itself calls these bytes (ETag, CRC); null where it tells nothing"),
        column("held_as", pa.string(), "internal", "object of the home store that held these bytes when listed; null where they are new"),
        *_TELEMETRY,
    ],
)

PULLED: Final = _table(
    "pulled",
    [
        column("name", pa.string(), "internal", "entry of the listing", nullable=False),
        column("outcome", pa.string(), "internal", "stored, duplicate, quarantined, growing, sidecar or refused", nullable=False),
        column("reason", pa.string(), "internal", "why the entry was quarantined or refused, or which entry it duplicates"),
        column("clip_id", pa.string(), "internal", "SHA-256 of the bytes, hex; null where they could not be read"),
        column("object_key", pa.string(), "internal", "where the bytes rest in the home store"),
        column("size_bytes", pa.int64(), "internal", "bytes read", unit="bytes"),
    ],
)

# Signals that inspection measures; each is a number, or stands in `unmeasured` with its reason, never both.
_SIGNALS = [
    column("sharpness", pa.float64(), "public", "variance of the Laplacian of luma at 640 px width, median over frames"),
    column("brightness", pa.float64(), "public", "mean luma / 255, median over frames", unit="ratio"),
    column("contrast", pa.float64(), "public", "(95th - 5th percentile of luma) / 255, median over frames", unit="ratio"),
    column("dark_ratio", pa.float64(), "public", "share of pixels with luma below 32, median over frames", unit="ratio"),
    column("bright_ratio", pa.float64(), "public", "share of pixels with luma above 235, median over frames", unit="ratio"),
    column("peak_brightness", pa.float64(), "internal", "99.9th percentile of luma / 255, median over frames", unit="ratio"),
    column(
        "noise_sigma",
        pa.float64(),
        "public",
        "noise standard deviation of luma (Immerkaer), median over frames",
        unit="luma",
    ),
    column("noise_floor_sigma", pa.float64(), "internal", "noise_sigma of the flattest tenth of 16 x 9 tiles", unit="luma"),
    column("saturation", pa.float64(), "public", "mean HSV saturation / 255, median over frames", unit="ratio"),
    column("frozen_ratio", pa.float64(), "internal", "share of consecutive decoded frames that do not differ", unit="ratio"),
    column("black_ratio", pa.float64(), "internal", "share of frames that are black", unit="ratio"),
    column("soiled_ratio", pa.float64(), "internal", "share of 16 x 9 tiles that stay flat while the scene moves", unit="ratio"),
    column("test_pattern_ratio", pa.float64(), "internal", "share of sampled frames that are a test picture", unit="ratio"),
    column("blockiness", pa.float64(), "internal", "how much pixel steps gather on lines of blocks, median over frames", unit="ratio"),
    column("bits_per_pixel", pa.float64(), "internal", "bits of the video packets over the pixels they code", unit="bit"),
    column("shake_px", pa.float64(), "picture", "optical flow that no affine movement explains, RMS at 320 px width", unit="px"),
    column("scene_cut_count", pa.int64(), "internal", "frames that show another scene than the one before"),
    column("motion_px", pa.float64(), "picture", "mean optical flow between neighbouring frames at 320 px width", unit="px"),
    column("gap_count", pa.int64(), "internal", "steps in the packet timeline of over 1.5 nominal frame times"),
    column("dropped_frame_count", pa.int64(), "internal", "frames missing in those gaps"),
    column("duplicate_pts_count", pa.int64(), "internal", "packets whose presentation time stands twice"),
    column("backward_frame_count", pa.int64(), "internal", "packets due at the decoder before the one that precedes them"),
    column("start_offset_s", pa.float64(), "internal", "presentation time of the first frame on the container's clock", unit="s"),
    column("frame_step_ratio", pa.float64(), "internal", "90th over 10th percentile of the steps between frames", unit="ratio"),
    column("missing_byte_count", pa.int64(), "internal", "bytes the file lacks of what its container announces", unit="bytes"),
    column("decode_error_count", pa.int64(), "internal", "packets that failed to decode, or were flagged corrupt"),
    column(
        "duration_mismatch_s",
        pa.float64(),
        "internal",
        "container duration - span of the video packets, absolute",
        unit="s",
    ),
]
SIGNALS: Final[tuple[str, ...]] = tuple(field.name for field in _SIGNALS)

CLIPS: Final = _table(
    "clips",
    [
        column("clip_id", pa.string(), "internal", "SHA-256 of the clip's bytes, hex; known at home only", nullable=False),
        column("batch_id", pa.string(), "internal", "the batch that brought the clip", nullable=False),
        column("source_uri", pa.string(), "internal", "where the clip came from", nullable=False),
        column("object_uri", pa.string(), "internal", "where the bytes rest in the home store", nullable=False),
        column("size_bytes", pa.int64(), "internal", "size of the clip", unit="bytes", nullable=False),
        *_TELEMETRY,
        column("province", pa.string(), "place", "ISO 3166-2:CN code of the mainland province; null where unmeasured"),
        column("sun_elevation_deg", pa.float64(), "place", "height of the sun at captured_at and the fix, refraction included", unit="deg"),
        column("container", pa.string(), "public", "container format as the demuxer names it"),
        column("video_codec", pa.string(), "public", "codec of the video stream"),
        column("width_px", pa.int32(), "public", "coded picture width", unit="px"),
        column("height_px", pa.int32(), "public", "coded picture height", unit="px"),
        column("camera_model", pa.string(), "device", "model of the camera as the container's header names it"),
        column("fps", pa.float64(), "public", "mean frame rate over the packets", unit="1/s"),
        column("frame_count", pa.int64(), "internal", "video packets in the container"),
        column("decoded_frame_count", pa.int64(), "internal", "frames that were decoded"),
        column("duration_s", pa.float64(), "public", "span of the video packets", unit="s"),
        *_SIGNALS,
        column("timeofday", pa.string(), "public", "BDD100K time of day"),
        column("timeofday_confidence", pa.float64(), "internal", "confidence of timeofday", unit="ratio"),
        column("weather", pa.string(), "public", "BDD100K weather"),
        column("weather_confidence", pa.float64(), "internal", "confidence of weather", unit="ratio"),
        column("scene", pa.string(), "public", "BDD100K scene"),
        column("scene_confidence", pa.float64(), "internal", "confidence of scene", unit="ratio"),
        column("ego_motion", pa.string(), "vehicle", "whether the vehicle moved: moving, stationary, undefined"),
        column("ego_motion_confidence", pa.float64(), "internal", "confidence of ego_motion", unit="ratio"),
        column("openlabel_ids", pa.string(), "internal", "class of ASAM OpenLABEL 1.0.0 of each tag that has one: URIs, spaces between"),
        column("tagger_version", pa.string(), "internal", "what made the tags"),
        column("face_count_max", pa.int64(), "picture", "most faces seen in one of up to 12 frames; null where unmeasured"),
        column("plate_count_max", pa.int64(), "picture", "most registration plates seen in one of up to 12 frames; null where unmeasured"),
        column("detector_versions", pa.string(), "internal", "what looked for faces and plates: models and how they were run"),
        column("packet_digest", pa.string(), "picture", "SHA-256 over the video packets, hex: equal for a re-wrapped stream"),
        column("signature", pa.string(), "picture", "up to 16 moments as at_ms:bits, what the clip looks like under re-encoding"),
        column("duplicate_of", pa.string(), "internal", "clip_id of the better clip of the same recording; null where there is none"),
        column("near_group", pa.string(), "internal", "one name for all that show the same, through others too; null where none does"),
        column("unmeasured", pa.map_(pa.string(), pa.string()), "internal", "column that could not be measured -> reason", nullable=False),
        column("verdict", pa.string(), "internal", "accepted, rejected or quarantined", nullable=False),
        column("reasons", pa.list_(pa.string()), "internal", "why a clip was rejected", nullable=False),
        column("error", pa.string(), "internal", "why a clip was quarantined"),
        column("inspector_version", pa.string(), "internal", "version of the inspector", nullable=False),
        column("inspect_depth", pa.string(), "internal", "how much was decoded: packets, keyframes, full", nullable=False),
        column("decoded_because", pa.string(), "internal", "why depth keyframes decoded more than key frames; null if it did not"),
        column("settings_digest", pa.string(), "internal", "digest of the inspection settings", nullable=False),
        column("inspected_at", _TIME, "internal", "when the clip was inspected", unit="UTC", nullable=False),
    ],
)  # fmt: skip

DECISIONS: Final = _table(
    "decisions",
    [
        column("clip_id", pa.string(), "internal", "the manifest row decided on", nullable=False),
        column("released", pa.bool_(), "internal", "whether the row's outputs leave", nullable=False),
        column("withheld_by", pa.list_(pa.string()), "internal", "ids of all rules that withheld the row", nullable=False),
    ],
)

# What left, and whose row it was: stays at home, and feeds k over this release plus what is still published.
MAPPING: Final = _table(
    "mapping",
    [
        column("release_row_id", pa.string(), "internal", "random id of the row, drawn once", nullable=False),
        column("clip_id", pa.string(), "internal", "the clip the row speaks of", nullable=False),
        column("vehicle_id", pa.string(), "vehicle", "the vehicle, for counting", nullable=False),
        column(
            "captured_day",
            pa.string(),
            "person",
            "day of capture in Asia/Shanghai, YYYY-MM-DD, for counting",
            nullable=False,
        ),
    ],
)

# What counters count of a release's rows, as it was when they were cut: a clip that is corrected or erased later stays counted.
COUNTED: Final = _table(
    "counted",
    [
        column("clip_id", pa.string(), "internal", "the clip the row speaks of", nullable=False),
        column("vehicle_id", pa.string(), "vehicle", "the vehicle", nullable=False),
        column(
            "person", pa.string(), "person", "SHA-256 of the driver's id, hex; where no driver is known, of the vehicle's", nullable=False
        ),
        column("is_sensitive", pa.bool_(), "internal", "whether an output of the row was made of a picture or a track", nullable=False),
        column("place", pa.string(), "place", "prefecture; where it is not known, the province stands for all of its own", nullable=False),
        column("captured_day", pa.string(), "person", "day of capture in Asia/Shanghai, YYYY-MM-DD", nullable=False),
        column("raw_ms", pa.int64(), "internal", "length of the video, rounded up", unit="ms", nullable=False),
        column("image_count", pa.int64(), "internal", "pictures one second or more apart; 0 for video", nullable=False),
    ],
)

RELEASE: Final = _table(
    "release",
    [
        column("release_row_id", pa.string(), "public", "random id of the row; nothing at hand abroad links it to a clip", nullable=False),
        column("province", pa.string(), "public", "ISO 3166-2:CN code", nullable=False),
        column("month", pa.string(), "public", "month of capture, YYYY-MM, Asia/Shanghai", nullable=False),
        column("resolution_class", pa.string(), "public", "by the picture's shorter side", nullable=False),
        column("video_codec", pa.string(), "public", "codec of the video stream", nullable=False),
        column("fps_class", pa.string(), "public", "band of the mean frame rate", nullable=False),
        column("duration_s", pa.int64(), "public", "length in whole seconds", unit="s", nullable=False),
        column("sharpness", pa.string(), "public", "one of five bands", nullable=False),
        column("brightness", pa.string(), "public", "one of five bands", nullable=False),
        column("contrast", pa.string(), "public", "one of five bands", nullable=False),
        column("noise", pa.string(), "public", "one of five bands", nullable=False),
        column("timeofday", pa.string(), "public", "BDD100K time of day", nullable=False),
        column("weather", pa.string(), "public", "BDD100K weather", nullable=False),
        column("scene", pa.string(), "public", "BDD100K scene", nullable=False),
    ],
)  # fmt: skip

# One row a sample of a shard set: what is audited before the set's index makes it one.
SHARDS: Final = _table(
    "shards",
    [
        column("shard", pa.string(), "internal", "name of the tar that holds the sample", nullable=False),
        column("split", pa.string(), "internal", "split that the sample is for", nullable=False),
        column("clip_id", pa.string(), "internal", "the clip that is the sample", nullable=False),
        column("suffix", pa.string(), "internal", "suffix of the clip's member in the tar, with its dot", nullable=False),
        column("size_bytes", pa.int64(), "internal", "size of the clip", unit="bytes", nullable=False),
    ],
)

TABLES: Final = {
    "listing": LISTING,
    "pulled": PULLED,
    "clips": CLIPS,
    "decisions": DECISIONS,
    "mapping": MAPPING,
    "counted": COUNTED,
    "release": RELEASE,
    "shards": SHARDS,
}


def sensitivity_of(field: pa.Field) -> Sensitivity:
    """Sensitivity of a column.

    Raises:
        SettingsError: the column carries none, or one that is not in `SENSITIVITIES`.
    """
    raw = (field.metadata or {}).get(b"sensitivity", b"").decode()
    if raw not in SENSITIVITIES:
        raise SettingsError(
            f"column has sensitivity {raw!r}",
            subject=f"schema column {field.name}",
            fix=f"give it one of {', '.join(SENSITIVITIES)} in curation/schema.py",
        )
    return cast("Sensitivity", raw)


for _schema in TABLES.values():
    for _field in _schema:
        sensitivity_of(_field)
