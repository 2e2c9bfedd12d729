"""Counters fed to Great Expectations, and Great Expectations alone over all rows, say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import plain_gx
from curation import schema
from curation.adapters.validator_gx import GxValidator
from tests.validate.bad_rows import OTHERS

EXPECTATIONS = Path(__file__).resolve().parents[2] / "expectations"
OF_TABLE = {"table.columns", "table.row_count"}  # Great Expectations counts no rows for them


def history(manifests, batches: int) -> list[dict[str, object]]:
    """Batches of six clips of one device whose brightness hovers about 0.5."""
    return [
        manifests.good(
            1000 + 6 * batch + clip, {"batch_id": f"past-{batch:016x}", "device_id": "cam-1", "brightness": 0.5 + 0.01 * (batch % 3)}
        )
        for batch in range(batches)
        for clip in range(6)
    ]


def agree(suite: str, rows: pa.Table, related: dict[str, pa.Table]) -> set[str]:
    """Names of the failing checks, once both ways name the same ones with the same counts and clips."""
    checks = json.loads((EXPECTATIONS / f"{suite}.json").read_bytes())["expectations"]
    ours = GxValidator(EXPECTATIONS, drift="fail").validate(suite, rows, related)
    keys = {name: table.column(0).to_pylist() for name, table in related.items() if name != "history"}
    past = related["history"].to_pylist() if "history" in related else []
    plain = plain_gx.validate(checks, plain_gx.frame(rows, past), keys)
    assert len(checks) == len(plain) == ours.executed
    failing = {name: answer for name, answer in plain.items() if not answer.success}
    told = {failure.check: failure for failure in ours.failures}
    assert sorted(failing) == sorted(told)
    assert [name for name, answer in failing.items() if answer.errored] == []
    for name, answer in failing.items():
        assert name in OF_TABLE or answer.count == told[name].row_count, name
        ids = tuple(one for one in answer.clip_ids if re.fullmatch("[0-9a-f]{64}", one))
        assert not ids or ids == told[name].clip_ids, name  # of a table as a whole, Great Expectations names no row
    return set(told)


def test_clips_are_judged_alike(manifests, bad_clips) -> None:
    """Over every kind of bad row, good rows, strangers and a device that drifted, both ways name the same checks, counts and clips."""
    drifted = [manifests.good(500 + clip, {"device_id": "cam-1", "brightness": 0.9}) for clip in range(6)]
    table = pa.concat_tables([bad_clips, manifests.table(*drifted)])
    stored = pa.table({"clip_id": [*filter(None, bad_clips["clip_id"].to_pylist()[3:]), f"{9999:064x}"]})
    failing = agree("clips", table, {"stored": stored, "history": manifests.table(*history(manifests, 7))})
    assert {"clips.conserved", "brightness.drift"} <= failing
    assert "contrast.drift" not in failing


@pytest.mark.parametrize("suite", ["listing", "decisions", "release", "shards"])
def test_the_other_tables_are_judged_alike(suite) -> None:
    """Good rows pass both ways, and every kind of bad row fails the same checks."""
    good, bad, related = OTHERS[suite]
    assert GxValidator(EXPECTATIONS).validate(suite, pa.Table.from_pylist(good, schema=schema.TABLES[suite]), related).passed
    loose = pa.schema([field.with_nullable(nullable=True) for field in schema.TABLES[suite]])
    assert {check for _, check in bad} <= agree(suite, pa.Table.from_pylist([*good, *(row for row, _ in bad)], schema=loose), related)
