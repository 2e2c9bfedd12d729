"""Rows of curated.clips and clips' bytes made for these tests; no picture is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.layout import clip_key
from curation.schema import CLIPS

AT = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
WEATHER = ("rainy", "clear", "overcast")


class StoppedClock:
    """Always the same moment."""

    def now(self) -> datetime:
        """That moment."""
        return AT


@dataclass
class Home:
    """A home store with clips, the rows that speak of them, and a ledger."""

    store: DirectoryStore
    root: Path
    ledger: StoreLedger
    rows: pa.Table = field(default_factory=CLIPS.empty_table)

    def shard_files(self) -> Mapping[str, bytes]:
        """Every object below shards/, by key."""
        return {key: self.store.read(key) for key in self.store.keys("shards/")}


def clip_bytes(number: int) -> bytes:
    """Bytes of the numbered clip: of odd sizes, so that padding matters."""
    return f"clip {number} ".encode() * (37 * number + 11)


@pytest.fixture
def make_row() -> Callable[..., dict[str, Any]]:
    """A full manifest row for a clip id; keyword arguments replace columns."""

    def build(number: int, clip_id: str, size_bytes: int, **replaced: Any) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(CLIPS.names)
        row |= {
            "clip_id": clip_id,
            "batch_id": "folder-0123456789abcdef",
            "source_uri": f"file:///source/{number}.mp4",
            "object_uri": f"home:{clip_key(clip_id, '.mp4')}",
            "size_bytes": size_bytes,
            "vehicle_id": f"VEHICLE-{number % 5}",
            "vin": f"LSVNV2182E2{number % 5:06d}",
            "plate": f"京A1234{number % 5}",
            "driver_id": f"driver{number % 3}",
            "drive_id": f"DRIVE-{number % 10}",
            "captured_at": AT,
            "latitude_deg": 39.5 + number / 100,
            "longitude_deg": 116.25,
            "track": [{"offset_s": 0.0, "latitude_deg": 39.5, "longitude_deg": 116.25}],
            "province": "CN-BJ",
            "container": "mp4",
            "video_codec": "h264",
            "width_px": 1280,
            "height_px": 720,
            "fps": 30.0,
            "duration_s": 5.0,
            "sharpness": float(number),
            "timeofday": "night" if number % 2 else "daytime",
            "weather": WEATHER[number % 3],
            "ego_motion": "moving",
            "unmeasured": [("scene", "nobody looked")],
            "verdict": "accepted",
            "reasons": [],
            "inspector_version": "1",
            "inspect_depth": "full",
            "settings_digest": "0" * 64,
            "inspected_at": AT,
        }
        return row | replaced

    return build


@pytest.fixture
def make_home(tmp_path: Path, make_row: Callable[..., dict[str, Any]]) -> Callable[..., Home]:
    """A home with numbered clips; `replaced` gives columns of a numbered row another value."""
    numbers: Iterator[int] = iter(range(100))

    def build(count: int = 20, replaced: Mapping[int, Mapping[str, Any]] | None = None) -> Home:
        root = tmp_path / f"home{next(numbers)}"
        store = DirectoryStore(root, jurisdiction="CN")
        rows = []
        for number in range(count):
            data = clip_bytes(number)
            clip_id = hashlib.sha256(data).hexdigest()
            store.create(clip_key(clip_id, ".mp4"), data)
            rows.append(make_row(number, clip_id, len(data), **(replaced or {}).get(number, {})))
        ledger = StoreLedger(store, StoppedClock(), Ed25519PrivateKey.generate())
        return Home(store=store, root=root, ledger=ledger, rows=pa.Table.from_pylist(rows, schema=CLIPS))

    return build
