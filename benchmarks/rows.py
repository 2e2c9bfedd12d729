"""Invented rows of curated.clips and of releases, as many as a benchmark needs, made column by column; they pass suite and gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import schema
from curation.residency import gate

VEHICLES: Final = 5_000
# Every hundredth accepted clip stands in the middle of this square, all others far away, so that its fate hangs on no rounding.
FENCE_DEG: Final = (122.90, 30.90, 122.95, 30.95)  # west, south, east, north: open water
_IN_FENCE: Final = (122.925, 30.925)
_DAY_US: Final = 86_400_000_000
_MONTH_BEGIN: Final = datetime(2026, 10, 1, tzinfo=UTC)
_SAME: Final[Mapping[str, object]] = {
    "batch_id": "bench-0123456789abcdef",
    "captured_at_source": "fleet.csv",
    "container": "mov,mp4",
    "inspector_version": "1",
    "inspect_depth": "full",
    "settings_digest": f"{7:064x}",
    "inspected_at": datetime(2026, 11, 1, tzinfo=UTC),
    "tagger_version": "bench",
    "face_count_max": 0,
    "plate_count_max": 0,
    "detector_versions": "bench",
}


def clips(row_count: int, *, seed: int = 7) -> pa.Table:
    """Rows under `schema.CLIPS`: one month, 31 provinces, 5,000 vehicles; 8 % rejected, 2 % without a fix, 1 % inside the fence."""
    rng = np.random.default_rng(seed)
    share = rng.random(row_count)
    is_rejected, has_fix, is_fenced = share < 0.08, share < 0.98, (share >= 0.08) & (share < 0.09)
    ids = _hex_ids(rng, row_count)
    vehicle = rng.integers(0, VEHICLES, row_count)
    day = rng.integers(0, 28, row_count)
    captured_us = int(_MONTH_BEGIN.timestamp()) * 1_000_000 + day * _DAY_US + rng.integers(0, _DAY_US // 2, row_count)
    columns: dict[str, Any] = {
        "clip_id": ids,
        "source_uri": _joined("file:///source/", pa.array(np.arange(row_count)).cast(pa.string()), ".mp4"),
        "object_uri": _joined("home:clips/", pc.utf8_slice_codeunits(ids, 0, 2), "/", ids, ".mp4"),
        "size_bytes": rng.integers(1_000_000, 60_000_000, row_count),
        "vehicle_id": _named(vehicle, "fleet-{:05d}"),
        "vin": _named(vehicle, "LSVBENCH{:09d}"),
        "plate": _named(vehicle, "沪A{:05d}"),
        "device_id": _named(vehicle, "recorder-{:06d}"),
        "driver_id": _named(vehicle // 2, "driver-{:06d}"),
        "drive_id": _named(vehicle * 28 + day, "drive-{:07d}"),
        "captured_at": pa.array(captured_us, pa.timestamp("us", tz="UTC")),
        "latitude_deg": _where(has_fix, np.where(is_fenced, _IN_FENCE[1], rng.uniform(31.5, 40.0, row_count))),
        "longitude_deg": _where(has_fix, np.where(is_fenced, _IN_FENCE[0], rng.uniform(105.0, 121.0, row_count))),
        "datum": _where(has_fix, np.full(row_count, "WGS-84")),
        "gnss_error_m": rng.uniform(1.0, 12.0, row_count),
        "speed_mean_mps": rng.uniform(0.0, 35.0, row_count),
        "province": _drawn(rng, schema.PROVINCES, row_count),
        "packet_digest": _hex_ids(rng, row_count),
        "verdict": np.where(is_rejected, "rejected", "accepted"),
        "reasons": _reasons(is_rejected),
        "unmeasured": pa.MapArray.from_arrays(np.zeros(row_count + 1, np.int32), pa.array([], pa.string()), pa.array([], pa.string())),
        **_measured(rng, row_count),
    }
    columns |= {name: pa.repeat(pa.scalar(value), row_count) for name, value in _SAME.items()}
    return _table(columns, row_count, schema.CLIPS)


def clip_ids(row_count: int, *, seed: int) -> pa.Array:
    """Ids as SHA-256 digests look, in hex."""
    return _hex_ids(np.random.default_rng(seed), row_count)


def releases(row_count: int, *, seed: int = 7) -> pa.Table:
    """Rows under `schema.RELEASE` that pass the gate: ids drawn at random, words drawn evenly from their vocabularies."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: _drawn(rng, words, row_count) for name, words in gate.VOCABULARY.items()}
    columns["release_row_id"] = _sorted(pc.utf8_slice_codeunits(_hex_ids(rng, row_count), 0, 32))
    columns["month"] = _drawn(rng, ("2026-09", "2026-10", "2026-11"), row_count)
    columns["duration_s"] = rng.integers(3, 60, row_count)
    return _table(columns, row_count, schema.RELEASE)


def _measured(rng: np.random.Generator, row_count: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: np.zeros(row_count) for name in schema.SIGNALS}
    found |= {name: rng.uniform(0.05, 0.95, row_count) for name in ("brightness", "contrast", "saturation")}
    found |= {name: rng.uniform(0.0, 0.1, row_count) for name in ("dark_ratio", "bright_ratio")}
    found |= {"sharpness": rng.uniform(20.0, 2_000.0, row_count), "noise_sigma": rng.uniform(0.5, 9.0, row_count)}
    found |= {"motion_px": rng.uniform(0.0, 6.0, row_count), "duration_s": rng.uniform(3.0, 60.0, row_count)}
    frames = rng.integers(90, 1_800, row_count)
    is_large = rng.random(row_count) < 0.5
    found |= {"width_px": np.where(is_large, 1_920, 1_280), "height_px": np.where(is_large, 1_080, 720)}
    found |= {"fps": np.full(row_count, 29.97), "frame_count": frames, "decoded_frame_count": frames}
    found |= {"video_codec": _drawn(rng, ("h264", "hevc"), row_count)}
    found |= {"timeofday": _drawn(rng, ("daytime", "night", "dawn/dusk"), row_count)}
    found |= {"weather": _drawn(rng, ("clear", "rainy", "overcast", "undefined"), row_count)}
    found |= {"scene": _drawn(rng, ("highway", "city street", "tunnel", "undefined"), row_count)}
    for tag in ("timeofday", "weather", "scene"):
        found[f"{tag}_confidence"] = rng.uniform(0.0, 1.0, row_count)
    return found


def _drawn(rng: np.random.Generator, words: Sequence[str], row_count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(rng.integers(0, len(words), row_count), pa.array(words)).cast(pa.string())


def _sorted(values: pa.Array) -> pa.Array:
    return values.take(pc.sort_indices(values))


def _where(given: np.ndarray, values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~given)


def _named(numbers: np.ndarray, pattern: str) -> pa.Array:
    known, at = np.unique(numbers, return_inverse=True)
    return pa.DictionaryArray.from_arrays(at, pa.array([pattern.format(one) for one in known])).cast(pa.string())


def _joined(*parts: str | pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*(pa.scalar(part) if isinstance(part, str) else part for part in parts), "")


def _reasons(is_rejected: np.ndarray) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(is_rejected)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(["too_dark"] * int(is_rejected.sum()), pa.string()))


def _hex_ids(rng: np.random.Generator, row_count: int) -> pa.Array:
    digits = rng.bytes(32 * row_count).hex().encode()
    offsets = np.arange(row_count + 1, dtype=np.int32) * 64
    return pa.StringArray.from_buffers(row_count, pa.py_buffer(offsets), pa.py_buffer(digits))


def _table(columns: Mapping[str, Any], row_count: int, wanted: pa.Schema) -> pa.Table:
    arrays = []
    for field in wanted:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(row_count, field.type))
        else:
            made = values if isinstance(values, pa.Array) else pa.array(values)
            arrays.append(made.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=wanted)
