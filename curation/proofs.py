"""Which suite is run over which table, and what the table is held against; `pipeline` calls this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import layout, schema, wiring
from curation.audit import validation_report
from curation.records import ValidationResult
from curation.settings import Settings
from curation.stages import manifest, validate
from curation.tables import from_parquet


def _prove(
    settings: Settings, home: wiring.Ground, suite: str, rows: pa.Table, *, subject: str, related: Mapping[str, pa.Table]
) -> ValidationResult:
    return validate.prove(
        suite,
        rows,
        subject=subject,
        related=related,
        validator=wiring.validator(settings),
        store=home.store,
        ledger=home.ledger,
        report=validation_report.render,
    )


def of_listing(settings: Settings, home: wiring.Ground, batch_id: str) -> None:
    """What was listed is well-formed, and every entry of it was pulled or refused by name: before any row of the batch is believed."""
    listing = from_parquet(home.store.read(layout.listing_key(batch_id)), schema.LISTING)
    pulled = from_parquet(home.store.read(layout.pulled_key(batch_id)), schema.PULLED)
    if listing.num_rows:
        _prove(settings, home, "listing", listing, subject=batch_id, related={"pulled": pulled.select(["name"])})


def of_release(settings: Settings, home: wiring.Home, rows: pa.Table, release_id: str, tables: Mapping[str, pa.Table]) -> None:
    """The decisions are about every row of the snapshot and agree with the mapping; the released rows keep what the contract says.

    Args:
        rows: the snapshot that was decided on.
        tables: release, decisions and mapping, as they are about to be written.

    Raises:
        ValidationFailed: a suite did not pass; nothing of it is a release.
    """
    mapping = tables["mapping"]
    related = {"clips": rows.select(["clip_id"]), "mapped_clips": mapping.select(["clip_id"])}
    _prove(settings, home, "decisions", tables["decisions"], subject=release_id, related=related)
    if tables["release"].num_rows or mapping.num_rows:  # a release of nothing is rightly empty
        ids = {"mapping": mapping.select(["release_row_id"])}
        _prove(settings, home, "release", tables["release"], subject=release_id, related=ids)


def of_shards(settings: Settings, home: wiring.Home, rows: pa.Table, shard_set_id: str, tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    """What the suite said, for the card: each sample is an accepted clip of the snapshot in a shard of its split, and none lacks.

    Args:
        rows: the snapshot that was selected from.
        tables: samples (schema SHARDS) and the selected rows.

    Raises:
        ValidationFailed: the suite did not pass; nothing of it is a shard set.
    """
    accepted = rows.filter(pc.equal(rows["verdict"], "accepted")).select(["clip_id"])
    related = {"accepted": accepted, "selected": tables["selected"].select(["clip_id"])}
    result = _prove(settings, home, "shards", tables["samples"], subject=shard_set_id, related=related)
    return {"suite": result.suite, "suite_digest": result.suite_digest, "checks": result.executed, "rows": result.rows_examined}


def held_against(settings: Settings, home: wiring.Home, batch_id: str, key: str) -> dict[str, pa.Table]:
    """The tables that a manifest is held against.

    - `stored`: the clips whose bytes its batch's pull keeps, quarantined ones too; not for a manifest of a few restated rows
    - `history`: the signals of the last batches that passed before this batch's first manifest was written, whatever came since: a batch
      that is validated again is held against the same ones
    """
    related = {"history": _history(settings, home, batch_id)}
    if key in {layout.manifest_key(batch_id), layout.revision_key(batch_id, settings.inspect.digest())}:
        pulled = from_parquet(home.store.read(layout.pulled_key(batch_id)), schema.PULLED)
        is_held = pc.is_in(pulled["outcome"], value_set=pa.array(["stored", "quarantined"]))  # bytes that were read, good or bad
        related["stored"] = pulled.filter(pc.and_(is_held, pulled["clip_id"].is_valid())).select(["clip_id"])
    return related


def _history(settings: Settings, home: wiring.Home, batch_id: str) -> pa.Table:
    columns = ["batch_id", "device_id", *schema.SIGNALS]
    passed: dict[str, None] = {}
    for entry in home.ledger.entries():
        if (entry.kind, entry.subject) == (manifest.STAGE, batch_id):
            break
        if entry.kind == validate.STAGE and entry.facts.get("passed") == "true":
            passed.pop(entry.subject, None)
            passed[entry.subject] = None
    keys = [layout.manifest_key(one) for one in list(passed)[-settings.validation.history_batches :]]
    kept = [key for key in keys if home.store.size(key) is not None]
    tables = [from_parquet(home.store.read(key), schema.CLIPS).select(columns) for key in kept]
    return pa.concat_tables([schema.CLIPS.empty_table().select(columns), *tables])
