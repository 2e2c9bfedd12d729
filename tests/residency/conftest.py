"""Candidates, packs, fences and signatures for the residency tests; keys are made at run time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib import resources
from typing import Any

import pyarrow as pa
import pytest

from curation.residency import pack as packs
from curation.residency import signing
from curation.schema import CLIPS, RELEASE

Row = dict[str, Any]

FENCES = json.dumps(
    {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"class": "military", "name": "invented secret yard"},
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[121.78, 31.13], [121.82, 31.13], [121.82, 31.17], [121.78, 31.17], [121.78, 31.13]]],
                },
            },
            {"type": "Feature", "properties": {"class": "dam"}, "geometry": {"type": "Point", "coordinates": [120.0, 30.0]}},
        ],
    }
).encode()


def make_row(number: int, **changes: Any) -> Row:
    """A clip that passes every rule of cn-demo but k; vehicle and day follow from the number."""
    row: Row = dict.fromkeys(CLIPS.names)
    row.update(
        clip_id=hashlib.sha256(f"clip {number}".encode()).hexdigest(),
        batch_id="folder-0123456789abcdef",
        source_uri=f"file:///dashcam/clip_{number}.mp4",
        object_uri=f"clips/aa/{number}.mp4",
        size_bytes=123_456_789 + number,
        vehicle_id=f"fleet-{number:04d}",
        vin=f"LRWMUZFYEAML{number:05d}",
        plate=f"浙AK1D{number:04d}",
        device_id=f"DC-64c7a{number:04d}",
        driver_id=f"drv-3607{number:04d}",
        captured_at=datetime(2026, 9, 1 + number % 28, 8, 7, 13, 37_000, tzinfo=UTC),
        latitude_deg=31.245932,
        longitude_deg=121.473167,
        datum="WGS-84",
        gnss_error_m=5.7,
        speed_mean_mps=13.8912,
        province="CN-SH",
        container="mov,mp4",
        video_codec="h264",
        width_px=1280,
        height_px=720,
        fps=29.97,
        duration_s=12.345,
        sharpness=210.5,
        brightness=0.45,
        contrast=0.61,
        noise_sigma=1.5,
        timeofday="daytime",
        weather="clear",
        scene="highway",
        ego_motion="moving",
        packet_digest=hashlib.sha256(f"packets {number}".encode()).hexdigest(),
        unmeasured=[],
        verdict="accepted",
        reasons=[],
        inspector_version="inspector-1",
        inspect_depth="full",
        settings_digest=hashlib.sha256(b"settings").hexdigest(),
        inspected_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    row.update(changes)
    return row


@pytest.fixture
def clip_row() -> Callable[..., Row]:
    """Maker of one candidate row."""
    return make_row


@pytest.fixture
def clips() -> Callable[..., pa.Table]:
    """Maker of a candidates table from rows."""

    def make(*rows: Row) -> pa.Table:
        return pa.Table.from_pylist(list(rows), schema=CLIPS)

    return make


@pytest.fixture
def fences() -> bytes:
    """Two invented fences: a military yard and a dam."""
    return FENCES


@pytest.fixture
def pack_bytes() -> Callable[[str], bytes]:
    """Bytes of a shipped pack by name."""
    return lambda name: resources.files("curation.residency").joinpath("packs", f"{name}.yaml").read_bytes()


@pytest.fixture
def demo_pack(pack_bytes: Callable[[str], bytes]) -> packs.Pack:
    """The demo pack: k = 2, one day, province and month."""
    return packs.parse(pack_bytes("cn-demo"))


@pytest.fixture
def base_pack(pack_bytes: Callable[[str], bytes]) -> packs.Pack:
    """The baseline pack, as shipped."""
    return packs.parse(pack_bytes("cn-baseline"))


SIGNED_AT = datetime(2026, 11, 21, tzinfo=UTC)
TODAY = date(2026, 11, 21)


@pytest.fixture
def signed() -> Callable[[packs.Pack], tuple[list[signing.Signature], dict[str, list[str]]]]:
    """Maker of three signatures under a pack and the keys to trust."""

    def make(pack: packs.Pack) -> tuple[list[signing.Signature], dict[str, list[str]]]:
        signatures, trusted = [], {}
        for role in signing.ROLES:
            private_pem, public_hex = signing.keygen()
            signatures.append(signing.sign(pack, role, private_pem, signed_at=SIGNED_AT))
            trusted[role] = [public_hex]
        return signatures, trusted

    return make


@pytest.fixture
def release_rows() -> list[Row]:
    """Two rows of a release as they should be."""
    row = {
        "province": "CN-SH",
        "month": "2026-09",
        "resolution_class": "720p",
        "video_codec": "h264",
        "fps_class": "28 to below 45",
        "duration_s": 12,
        "sharpness": "3 middle",
        "brightness": "3 middle",
        "contrast": "4 high",
        "noise": "2 low",
        "timeofday": "daytime",
        "weather": "clear",
        "scene": "highway",
    }
    return [
        {"release_row_id": "9f86d081884c7d659a2feaa0c55ad015", **row},
        {"release_row_id": "a3bf4f1b2b0b822cd15d6c15b0f00a08", **row},
    ]


@pytest.fixture
def release(release_rows: list[Row]) -> pa.Table:
    """A release that the gate lets pass."""
    return pa.Table.from_pylist(release_rows, schema=RELEASE)
