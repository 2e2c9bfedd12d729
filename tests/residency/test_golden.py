"""What was decided once is decided again by every later evaluator: digests of an earlier one's decisions, over rows at every edge."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from curation.residency import evaluate
from curation.residency.pack import Pack
from curation.schema import CLIPS

Row = dict[str, Any]

_EDGES: dict[str, list[Any]] = {
    "verdict": ["rejected", "quarantined", "accepted"],
    "vehicle_id": [None, "", "fleet-1", "fleet-2", "fleet-3", "fleet-4"],
    "province": [None, "CN-JS", "CN-ZJ", "CN-TW"],
    "weather": ["clear", "rainy", "foggy", None, "clear "],
    "video_codec": ["hevc", "", None, "xyz", "other", "h264"],
    "datum": ["GCJ-02", None, "WGS-84"],
    "gnss_error_m": [math.nan, None, -1.0, 3.0, 1e9, math.inf],
    "fps": [0.0, -1.0, math.nan, math.inf, 19.99, 20.0, 28.0, 45.0, 44.999, 5e-324, 1.7976931348623157e308, None],
    "duration_s": [0.0, -0.0, -1e-9, 0.5, 1.5, 2.5, 3599.5, 3600.0, 3600.4, 1e300, math.inf, -math.inf, math.nan, None],
    "sharpness": [0.0, -0.0, 49.999, 50.0, 100.0, 400.0, 1600.0, math.inf, math.nan, None, -1.0],
    "brightness": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.19999, 2.0, math.nan],
    "noise_sigma": [0.0, 1.0, 2.0, 4.0, 8.0, None],
    "width_px": [0, -5, 479, 480, 720, 1080, 1440, 2160, 2**31 - 1, None],
    "height_px": [0, 1, 480, 1079, 1080, 4000, None],
    "latitude_deg": [31.15, 30.0, math.nan, None, 0.0, 31.2],
    "captured_at": [
        datetime(1999, 12, 31, 16, tzinfo=UTC), datetime(1999, 12, 31, 15, 59, 59, 999999, tzinfo=UTC),
        datetime(2099, 12, 31, 15, 59, 59, 999999, tzinfo=UTC), datetime(2099, 12, 31, 16, tzinfo=UTC),
        datetime(2026, 9, 30, 16, tzinfo=UTC), datetime(2026, 9, 30, 15, 59, 59, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None,
    ],
    "inspect_depth": ["full", "keyframes", None],
}  # fmt: skip
# Made by the evaluator of commit 829f678, which knew no masks and wrote words all the way.
_DIGESTS = {"demo_pack": ("f815cff68e366f71", "2b600401eb0b21ed"), "base_pack": ("dac7d59d74990c91", "7bee80b9f30da61c")}


def edge_rows(clip_row: Callable[..., Row]) -> list[Row]:
    """Two thousand rows, each with some of its cells at an edge; some stand twice, some have ids of another kind."""
    draw, rows = random.Random(5), list[Row]()  # noqa: S311 - the same rows every time
    for number in range(2_000):
        changes = {name: draw.choice(values) for name, values in _EDGES.items() if draw.random() < 0.06}
        if rows and draw.random() < 0.02:
            changes["clip_id"] = draw.choice(rows)["clip_id"]
        elif draw.random() < 0.01:
            changes["clip_id"] = draw.choice(["a", "aa", "", "ZZ", "é"])
        rows.append(clip_row(number, **changes))
    return rows


def _digest(table: pa.Table) -> str:
    return hashlib.sha256(json.dumps(table.to_pylist(), sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(_DIGESTS))
def test_earlier_decisions_are_made_again(name: str, fences: bytes, clip_row: Callable[..., Row], request: pytest.FixtureRequest) -> None:
    """Under a small k, with cells on either side of it: the same rows leave in the same words, and the same rules keep the others."""
    pack: Pack = request.getfixturevalue(name)
    small = {"min_vehicles": 3, "min_days": 2, "quasi_identifiers": ("province", "month", "timeofday", "video_codec")}
    law = pack.model_copy(update={"combination": pack.combination.model_copy(update=small)})
    table = pa.Table.from_pylist(edge_rows(clip_row), schema=CLIPS)
    found = evaluate.decide(table, pack=law, fences=fences)
    assert 0 < found.rule_counts[pack.combination.id] < found.released_count
    assert _DIGESTS[name] == (_digest(found.decisions), _digest(found.outputs))
