"""A work folder whose releases were all published: curated clips, evidence, ledger and overseas table, made without the stages."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import rows
from curation import overseas_table, schema, wiring
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import LEDGER_HEAD, RELEASE_ID
from curation.digests import canonical_json, sha256_hex
from curation.layout import pack_key
from curation.ports import ObjectStore
from curation.records import StageCount
from curation.release_files import APPROVAL_FILE, DECISIONS_FILE, EVIDENCE_FILE, INTENT_FILE, MAPPING_FILE, RELEASE_FILE, ReleaseFolder
from curation.residency import pack as packs
from curation.settings import Settings, read_settings
from curation.tables import to_parquet

_PACK: Final = resources.files("curation.residency").joinpath("packs", "cn-demo.yaml").read_bytes()


def make(folder: Path, *, release_count: int, rows_each: int) -> Settings:
    """The settings of a work folder in `folder` with `release_count` published releases of `rows_each` rows; all clips were accepted."""
    settings = read_settings({}, work=folder)
    home = wiring.home(settings)
    overseas = IcebergOverseas(settings.overseas_catalog, {settings.publish.table: schema.RELEASE})
    overseas_table.begin(settings.publish.table, catalog=overseas, store=home.store, ledger=home.ledger)
    like = rows.clips(rows_each)
    for number in range(release_count):
        clips = _renamed(like, seed=100 + number)
        home.catalog.write_branch(settings.curated_table, "benchmark", clips, replace=[], properties={})
        home.catalog.advance(settings.curated_table, "benchmark")
        _publish(f"2026-W{number:02d}-{number:012x}", clips, seed=number, home=home, overseas=overseas, table=settings.publish.table)
    return settings


def store_of(settings: Settings) -> ObjectStore:
    """Its home store."""
    return wiring.store(settings)


def clips_of(settings: Settings, clip_ids: list[str]) -> list[dict[str, Any]]:
    """Ids of some curated clips."""
    columns = ("vehicle_id", "device_id", "drive_id")
    found: list[dict[str, Any]] = wiring.home(settings).catalog.read(settings.curated_table, clip_ids=clip_ids, columns=columns).to_pylist()
    return found


def _renamed(like: pa.Table, *, seed: int) -> pa.Table:
    at = like.schema.get_field_index("clip_id")
    return like.set_column(at, like.schema.field(at), rows.clip_ids(like.num_rows, seed=seed))


def _publish(release_id: str, clips: pa.Table, *, seed: int, home: wiring.Home, overseas: IcebergOverseas, table: str) -> None:
    count, folder, pack = clips.num_rows, ReleaseFolder(home.store, release_id), packs.parse(_PACK)
    home.store.create(pack_key(sha256_hex(_PACK)), _PACK)
    release = rows.releases(count, seed=seed)
    drawn = release["release_row_id"].take(pa.array(np.random.default_rng(seed).permutation(count)))
    day = pc.strftime(clips["captured_at"], "%Y-%m-%d")
    mapped = {"release_row_id": drawn, "clip_id": clips["clip_id"], "vehicle_id": clips["vehicle_id"], "captured_day": day}
    mapping = pa.table([mapped[name] for name in schema.MAPPING.names], schema=schema.MAPPING)
    mapping = mapping.sort_by([("vehicle_id", "ascending"), ("clip_id", "ascending")])
    no_rules = pa.ListArray.from_arrays(np.zeros(count + 1, np.int32), pa.nulls(0, pa.string()))
    decisions = pa.table([clips["clip_id"].sort(), pa.repeat(pa.scalar(value=True), count), no_rules], schema=schema.DECISIONS)
    evidence = {
        "release_id": release_id,
        "window": release_id[:8],
        "home_snapshot_id": "1",
        "recipient": "overseas",
        "purpose": "benchmark",
        "requesters": ["engineer"],
        "pack": {"id": pack.id, "version": pack.version, "digest": packs.digest(pack), "demo": True},
        "columns": [{"column": name, "rule": f"output.{name}"} for name in schema.RELEASE.names if name != "release_row_id"],
        "counts": {"rows_in": count, "released": count, "withheld": 0},
        "files": {pack_key(sha256_hex(_PACK)): sha256_hex(_PACK)},
    }
    approval = {"approver": "officer", "ticket": "T-1", "requesters": ["engineer"]}
    files = {
        MAPPING_FILE: to_parquet(mapping, schema.MAPPING),
        RELEASE_FILE: to_parquet(release, schema.RELEASE),
        DECISIONS_FILE: to_parquet(decisions, schema.DECISIONS),
        EVIDENCE_FILE: canonical_json(evidence),
        APPROVAL_FILE: canonical_json(approval),
        INTENT_FILE: b"{}",
    }
    digests = {folder.key(name): sha256_hex(data) for name, data in files.items()}
    for name, data in files.items():
        home.store.create(folder.key(name), data)
    last = home.ledger.head()
    noted = {} if last is None else {LEDGER_HEAD: f"{last.sequence}:{last.digest()}"}
    snapshot = overseas.append(table, release, properties={RELEASE_ID: release_id, **noted})
    for kind, outcome, facts in (
        ("release", "released", {"as_of": "2026-11-01"}),
        ("approve", "approved", {}),
        ("publish", "published", {"snapshot_id": str(snapshot.snapshot_id)}),
    ):
        home.ledger.record(
            StageCount(stage=kind, subject=release_id, rows_in=count, accounted={outcome: count}), files=digests, facts=facts
        )
