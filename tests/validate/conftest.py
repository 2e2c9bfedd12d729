"""Rows of a manifest that passes every check, and what the stage needs around them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from curation import schema
from curation.privacy.census import COUNTS
from tests.validate.bad_rows import CLIPS

AT = datetime(2026, 3, 11, 4, 5, 6, 789012, tzinfo=UTC)
Row = dict[str, Any]


def good_row(number: int, changes: Mapping[str, Any] | None = None) -> Row:
    """A row that passes; clip ids are counted up."""
    clip_id = f"{number:064x}"
    row: Row = dict.fromkeys(schema.CLIPS.names)
    row |= dict.fromkeys(schema.SIGNALS, 0)
    row |= {"brightness": 0.5, "sharpness": 120.0, "contrast": 0.6, "motion_px": None}
    row |= {
        "clip_id": clip_id,
        "batch_id": "folder-0123456789abcdef",
        "source_uri": f"file:///clips/{number}.mp4",
        "object_uri": f"clips/{clip_id[:2]}/{clip_id}.mp4",
        "size_bytes": 1000 + number,
        "vin": f"LSVAA{number:012d}",
        "captured_at": AT,
        "captured_at_source": "fleet.csv",
        "latitude_deg": 31.2,
        "longitude_deg": 121.5,
        "datum": "WGS-84",
        "track": [{"offset_s": 0.5, "latitude_deg": 31.2, "longitude_deg": 121.5}],
        "province": "CN-SH",
        "container": "mov,mp4",
        "video_codec": "h264",
        "width_px": 1280,
        "height_px": 720,
        "fps": 25.0,
        "frame_count": 100,
        "decoded_frame_count": 100,
        "duration_s": 4.0,
        "timeofday": "daytime",
        "weather": "clear",
        "scene": "undefined",
        "face_count_max": 0,
        "plate_count_max": 2,
        "detector_versions": "faces-1 plates-1",
        "unmeasured": [("motion_px", "needs two decoded frames")],
        "packet_digest": f"{number + 1:064x}",
        "verdict": "accepted",
        "reasons": [],
        "inspector_version": "1",
        "inspect_depth": "full",
        "settings_digest": f"{7:064x}",
        "inspected_at": AT,
    }
    return row | dict(changes or {})


def quarantined_row(number: int, changes: Mapping[str, Any] | None = None) -> Row:
    """A clip of which nothing could be measured; passes."""
    unknown = [*schema.SIGNALS, "container", "video_codec", "width_px", "height_px", "fps", "frame_count", "decoded_frame_count"]
    unknown += ["duration_s", "timeofday", "weather", "scene", "packet_digest", "detector_versions", *COUNTS]
    excuses = [(name, "no video stream") for name in [*schema.SIGNALS, *COUNTS, "fps", "duration_s"]]
    blank = dict.fromkeys(unknown) | {"unmeasured": excuses, "verdict": "quarantined", "error": "no video stream", "track": None}
    return good_row(number, blank | dict(changes or {}))


def rejected_row(number: int, changes: Mapping[str, Any] | None = None) -> Row:
    """A clip that was measured and falls short; passes."""
    return good_row(number, {"verdict": "rejected", "reasons": ["too_dark"]} | dict(changes or {}))


def table(*rows: Row) -> pa.Table:
    """The rows under the manifest's schema, nullability unchecked."""
    loose = pa.schema([field.with_nullable(nullable=True) for field in schema.CLIPS])
    return pa.Table.from_pylist(list(rows), schema=loose)


class Manifests:
    """The builders above, for tests."""

    good = staticmethod(good_row)
    quarantined = staticmethod(quarantined_row)
    rejected = staticmethod(rejected_row)
    table = staticmethod(table)


@pytest.fixture(scope="session")
def manifests() -> type[Manifests]:
    """Builders of manifest rows."""
    return Manifests


@pytest.fixture(scope="session")
def bad_clips() -> pa.Table:
    """Every kind of bad row, numbered from 100 on; before them a good row of each verdict, and behind them one clip twice."""
    bad = [getattr(Manifests, kind)(100 + number, changes) for number, (kind, changes, _) in enumerate(CLIPS)]
    return table(good_row(1), rejected_row(2), quarantined_row(3), *bad, good_row(4), good_row(4))
