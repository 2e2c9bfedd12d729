"""`curation validate BATCH` on a whole work folder: what a refusal says to a program, and that running again changes nothing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation import layout, pipeline, schema, wiring
from curation.cli import main
from curation.records import StageCount
from curation.settings import Settings, read_settings
from curation.tables import to_parquet

BATCH = "folder-0123456789abcdef"


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A work folder."""
    return read_settings({}, work=tmp_path)


def put(settings: Settings, rows: Sequence[dict[str, Any]], manifests, *, lost: int = 0) -> str:
    """A batch that was pulled and has its manifest, all but `lost` of its listed entries with an outcome."""
    home, batch_id = wiring.ground(settings), rows[0]["batch_id"]
    listing = [{"name": f"{row['clip_id']}.mp4", "kind": "clip", "size_bytes": 10, "modified_ns": -1, "datum": "unknown"} for row in rows]
    pulled = [{"name": f"{row['clip_id']}.mp4", "outcome": "stored", "clip_id": row["clip_id"]} for row in rows[lost:]]
    tables = {layout.listing_key(batch_id): (listing, schema.LISTING), layout.pulled_key(batch_id): (pulled, schema.PULLED)}
    for key, (content, table) in tables.items():
        home.store.create(key, to_parquet(pa.Table.from_pylist(content, schema=table), table))
    home.store.create(layout.manifest_key(batch_id), to_parquet(manifests.table(*rows).cast(schema.CLIPS), schema.CLIPS))
    home.ledger.record(StageCount(stage="manifest", subject=batch_id, rows_in=len(rows), accounted={"rows": len(rows)}), files={})
    return str(batch_id)


def entered(work: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of the command."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["curation", "validate", *arguments, "--work", str(work)])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def test_a_refused_batch_is_told_to_programs(settings, tmp_path, manifests) -> None:
    """Exit 1; --json names the failing checks with their rows and clips, and no value; a refused listing is told the same way."""
    put(settings, [manifests.good(1), manifests.good(2, {"brightness": 2.0, "error": "boom"}), manifests.good(3)], manifests)
    code, out, err = entered(tmp_path, BATCH, "--json")
    told = json.loads(out)
    assert (1, "clips", False) == (code, told["suite"], told["passed"])
    assert {"brightness.range": 1, "measured.no_error": 1} == {one["check"]: one["row_count"] for one in told["failures"]}
    assert [[f"{2:064x}"]] * 2 == [one["clip_ids"] for one in told["failures"]]
    assert (told["executed"], told["skipped"], told["errored"]) == (told["declared"], 0, 0)
    assert "brightness.range (unexpected, 1 rows)" in err
    assert not {"boom", "LSVAA", "file:"} & set((out + err).replace('"', " ").split())
    other = put(settings, [manifests.good(number, {"batch_id": "folder-fedcba9876543210"}) for number in (4, 5)], manifests, lost=1)
    code, out, err = entered(tmp_path, other, "--json")
    told = json.loads(out)
    assert (1, "listing", [("listing.conserved", 1)]) == (code, told["suite"], [(o["check"], o["row_count"]) for o in told["failures"]])


def past(settings: Settings, manifests, number: int) -> None:
    """A batch of five clips of one device, its brightness about 0.5, of which the ledger says that it passed."""
    changes = {"batch_id": f"past-{number:016x}", "device_id": "cam-1", "brightness": 0.5 + 0.01 * (number % 3)}
    batch_id = put(settings, [manifests.good(100 * number + clip, changes) for clip in range(5)], manifests)
    passed = StageCount(stage="validate", subject=batch_id, rows_in=5, accounted={"added": 5})
    wiring.ground(settings).ledger.record(passed, files={}, facts={"passed": "true"})


def test_drift_is_the_same_again(settings, manifests) -> None:
    """A batch that moved away warns; validated again after others came, it is held against the same batches and nothing is written."""
    for number in range(1, 6):
        past(settings, manifests, number)
    rows = [manifests.good(clip, {"device_id": "cam-1", "brightness": 0.95}) for clip in range(5)]
    first = pipeline.validate_batch(settings, put(settings, rows, manifests))
    home = wiring.ground(settings)
    result = json.loads(home.store.read(layout.validation_key(BATCH, "result.json")))
    assert [("brightness.drift", 5)] == [(one["check"], one["row_count"]) for one in result["warnings"]]
    for number in (6, 7):
        past(settings, manifests, number)
    before = (list(home.store.keys("validation/")), len(list(home.ledger.entries())))
    assert first == pipeline.validate_batch(settings, BATCH)
    again = wiring.ground(settings)
    assert before == (list(again.store.keys("validation/")), len(list(again.ledger.entries())))
