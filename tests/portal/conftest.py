"""A home with a recorded batch, a published release, a withdrawal under way and a shard set, as hostile as words can make it; read-only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation import approval, layout, schema, wiring
from curation.audit import leaks
from curation.demo import law
from curation.digests import canonical_json, sha256_hex
from curation.model_settings import PROOF_MODELS
from curation.pipeline import open_settings
from curation.records import CheckFailure, StageCount, ValidationResult
from curation.release_files import EVIDENCE_FILE, RELEASE_FILE, ReleaseFolder
from curation.settings import Settings
from curation.shards.masking import facts_of
from curation.stages import publish, release, withdraw
from curation.stages.validate import as_json
from curation.tables import to_parquet
from curation.withdrawal_files import ASKED
from tests.release.conftest import clip, table

NOW = "2026-11-21T16:00:00+08:00"
BATCH = "fleet-0123456789abcdef"
REFUSED_BATCH = "fleet-fedcba9876543210"
SCRIPT = "<script>alert(1)</script>"
INJECTION = "' OR 1=1 --"
IMAGE = '"><img src=x onerror=alert(1)>'


@dataclass(frozen=True)
class Recorded:
    """The home: its settings, and ids to ask for."""

    settings: Settings
    clip_ids: tuple[str, ...]
    row_id: str
    release_id: str
    withdrawn_id: str
    shard_set_id: str
    masked_set_id: str
    needles: tuple[str, ...]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """The home, with the clock set to its day for the whole session."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", NOW)
        yield make_home(tmp_path_factory.mktemp("portal") / "work")


def make_home(work: Path) -> Recorded:
    """A home in `work`, every stage of it recorded by the stages' own words."""
    settings = _settings(work)
    on = wiring.ground(settings)
    rows = table(
        *(clip(number, vehicle=f"fleet-{number:04d}", day=1 + number) for number in range(1, 5)),
        clip(5, vehicle="fleet-0005", province="CN-ZJ"),
        clip(6, vehicle="fleet-0001", verdict="rejected", reasons=["blurred", "frozen"]),
    )
    _batch(on, rows)
    _refused_batch(on)
    first = _release(settings, on, rows, window=date(2026, 11, 13))
    clip_ids = tuple(rows["clip_id"].to_pylist())
    row_id = ReleaseFolder(on.store, first).mapping()["release_row_id"][0].as_py()
    withdrawn = _withdrawn(settings, on, ReleaseFolder(on.store, first).mapping()["clip_id"][0].as_py())
    shard_set_id, masked_set_id = _shards(on), _masked_shards(on)
    needles = tuple(value.decode() for value, column in leaks.home_values(rows).items() if column not in {"clip_id", "datum"})
    return Recorded(settings, clip_ids, row_id, first, withdrawn, shard_set_id, masked_set_id, needles)


def _settings(work: Path) -> Settings:
    signed = law.make(work / "home" / "law", fences=None, now=datetime(2026, 11, 1, tzinfo=UTC))
    said = [
        f"[residency]\npack = {json.dumps(str(signed.pack))}\nfences = {json.dumps(str(signed.fences))}\nallow_demo_pack = true",
        f"recipient = {json.dumps(SCRIPT)}\npurpose = {json.dumps(INJECTION)}\n[residency.trusted_keys]",
        *(f"{role} = {json.dumps(list(keys))}" for role, keys in signed.trusted_keys.items()),
    ]
    (work / "curation.toml").write_text("\n".join(said), encoding="utf-8")
    return open_settings(work)


def _put(on: wiring.Ground, key: str, data: bytes) -> dict[str, str]:
    on.store.create(key, data)
    return {key: sha256_hex(data)}


def _batch(on: wiring.Ground, rows: pa.Table) -> None:
    for clip_id in rows["clip_id"].to_pylist():
        on.store.create(layout.clip_key(clip_id, ".mp4"), b"")
    objects = {layout.clip_key(clip_id, ".mp4"): clip_id for clip_id in rows["clip_id"].to_pylist()}
    pulled = StageCount(stage="pull", subject=BATCH, rows_in=8, accounted={"stored": 6, "sidecar": 1, "refused": 1})
    on.ledger.record(pulled, files=objects, facts={"source": SCRIPT})
    written = _put(on, layout.manifest_key(BATCH), to_parquet(rows, schema.CLIPS))
    on.ledger.record(StageCount(stage="manifest", subject=BATCH, rows_in=6, accounted={"accepted": 5, "rejected": 1}), files=written)
    drift = CheckFailure(
        check=SCRIPT, column="sharpness", problem="unexpected", row_count=1, clip_ids=(rows["clip_id"][0].as_py(),), note=IMAGE
    )
    result = ValidationResult(
        suite="clips", suite_digest="a" * 64, declared=9, executed=9, skipped=0, errored=0, rows_examined=6, rows_present=6,
        failures=(), warnings=(drift,),
    )  # fmt: skip
    kept = _put(on, layout.validation_key(BATCH, "result.json"), json.dumps(as_json(result)).encode())
    on.ledger.record(StageCount(stage="validate", subject=BATCH, rows_in=6, accounted={"added": 6}), files=kept | written)


def _refused_batch(on: wiring.Ground) -> None:
    on.ledger.record(
        StageCount(stage="pull", subject=REFUSED_BATCH, rows_in=2, accounted={"stored": 2}), files={}, facts={"source": "fleet"}
    )
    on.ledger.record(StageCount(stage="manifest", subject=REFUSED_BATCH, rows_in=2, accounted={"accepted": 2}), files={})
    finding = CheckFailure(check="clip_id.unique", column="clip_id", problem="unexpected", row_count=2)
    result = ValidationResult(
        suite="clips", suite_digest="a" * 64, declared=9, executed=9, skipped=0, errored=0, rows_examined=2, rows_present=2,
        failures=(finding,),
    )  # fmt: skip
    kept = _put(on, layout.validation_key(REFUSED_BATCH, "result.json"), json.dumps(as_json(result)).encode())
    on.ledger.record(StageCount(stage="validate", subject=REFUSED_BATCH, rows_in=2, accounted={"refused": 2}), files=kept)


def _release(settings: Settings, on: wiring.Ground, rows: pa.Table, *, window: date) -> str:
    """A release of two days, so that counters have a pace: one published, one that waits."""
    law_ = wiring.law(settings)
    ids = []
    for day, cut in ((window, rows.slice(0, 3)), (date(2026, 11, 21), rows)):
        request = release.Request(
            window=release.window_of(day),
            as_of=day,
            snapshot_id=1,
            recipient=settings.residency.recipient,
            purpose=settings.residency.purpose,
            requesters=("engineer",),
            code_version="0",
        )
        ids.append(release.run(cut, law=law_, request=request, store=on.store, ledger=on.ledger, clock=on.clock))
        if len(ids) == 1:
            _publish(settings, on, ids[0], rows)
    return ids[0]


def _publish(settings: Settings, on: wiring.Ground, release_id: str, rows: pa.Table) -> None:
    folder = ReleaseFolder(on.store, release_id)
    approval.approve(
        folder,
        approver="officer",
        ticket=IMAGE,
        requesters=("engineer",),
        digests={"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)},
        valid_for=timedelta(days=7),
        store=on.store,
        ledger=on.ledger,
        clock=on.clock,
    )
    publish.run(
        folder,
        home_rows=rows,
        check_law=lambda: None,
        destination=publish.Destination(recipient=settings.residency.recipient, purpose=settings.residency.purpose),
        catalog=_overseas(settings),
        table=settings.publish.table,
        store=on.store,
        ledger=on.ledger,
        clock=on.clock,
    )


def _overseas(settings: Settings) -> Any:
    from curation.adapters.catalog_overseas import IcebergOverseas

    return IcebergOverseas(settings.overseas_catalog, {settings.publish.table: schema.RELEASE})


def _withdrawn(settings: Settings, on: wiring.Ground, clip_id: str) -> str:
    """One clip's row is back; another's waits for a second person."""
    ids = []
    for name in (clip_id, hashlib.sha256(b"another").hexdigest()):
        asked = pa.table({"clip_id": [name], "release_row_id": pa.nulls(1, pa.string()), "withheld_by": [[]]}, schema=ASKED)
        said = withdraw.ask(
            asked, cause="request", reason=SCRIPT, requester="engineer", alone=False, facts={"by": "clip"}, store=on.store, ledger=on.ledger
        )
        ids.append(said.withdrawal_id)
    withdraw.confirm(
        ids[0],
        approver="officer",
        store=on.store,
        eraser=wiring.eraser(settings),
        catalog=_overseas(settings),
        table=settings.publish.table,
        ledger=on.ledger,
        clock=on.clock,
    )
    return ids[0]


def _shards(on: wiring.Ground) -> str:
    name = "night-0123456789abcdef"
    index = {
        "splits": {"train": {}, "val": {}},
        "shards": [{"split": "train", "bytes": 1_500_000}],
        "request": {"filter": INJECTION, "columns": ["brightness"], "name": SCRIPT},
    }
    files = _put(on, layout.shard_key(name, "index.json"), canonical_json(index))
    count = StageCount(stage="shards", subject=name, rows_in=5, accounted={"train": 3, "val": 1, "filtered_out": 1})
    on.ledger.record(count, files=files, facts={"request": "a" * 64, "snapshot": "1", "version": "0.1.0", **facts_of(None)})
    return name


def _masked_shards(on: wiring.Ground) -> str:
    """A masked set by models with hostile names, on the word of a demo's evaluation, that a second look took a clip out of."""
    name = "street-0123456789abcdef"
    masking = {
        "models": {kind: {"version": f"{IMAGE}-1", "sha256": "b" * 64} for kind in ("face", "plate")},
        "proof": {part: {"version": f"{part}-1", "sha256": "c" * 64} for part in PROOF_MODELS},
        "masking": "d" * 64,
        "evaluation": {"id": SCRIPT, "sha256": "e" * 64, "result": "passed", "demo": True, "expires_at": "2027-11-21T10:00:00+00:00"},
        "masks": 4321,
        "frames": 1200,
        "proved_frames": 81,
    }
    index = {"splits": {"train": {}}, "shards": [{"split": "train", "bytes": 700_000}], "request": {"filter": None, "columns": ["weather"]}}
    files = _put(on, layout.shard_key(name, "index.json"), canonical_json(index))
    count = StageCount(stage="shards", subject=name, rows_in=6, accounted={"train": 3, "filtered_out": 0, "unmaskable": 2, "not_clean": 1})
    on.ledger.record(count, files=files, facts={"request": "b" * 64, "snapshot": "1", "version": "0.1.0", **facts_of(masking)})
    return name
