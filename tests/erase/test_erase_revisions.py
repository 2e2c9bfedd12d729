"""Rows that stand in revisions, and survivors named in other batches' manifests, are taken out with the clip."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation import layout, schema
from curation.adapters.store_local import DirectoryStore
from curation.stages import erase
from curation.tables import from_parquet, to_parquet

GONE, KEPT, OTHER = "a" * 64, "b" * 64, "c" * 64


def _table(*rows: dict[str, Any]) -> bytes:
    needed = {field.name: "x" for field in schema.CLIPS if not field.nullable and pa.types.is_string(field.type)}
    usual = dict.fromkeys(schema.CLIPS.names) | needed | {"size_bytes": 1, "unmeasured": [], "reasons": []}
    usual["inspected_at"] = datetime(2026, 1, 1, tzinfo=UTC)
    return to_parquet(pa.Table.from_pylist([usual | row for row in rows], schema=schema.CLIPS), schema.CLIPS)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A batch that names the clip as survivor, its revision with a row of the clip, and a batch that knows nothing of it."""
    store = DirectoryStore(tmp_path / "store", jurisdiction="CN")
    store.create(layout.manifest_key("b1"), _table({"clip_id": KEPT, "duplicate_of": GONE}, {"clip_id": OTHER, "duplicate_of": KEPT}))
    store.create(layout.revision_key("b1", "1" * 64), _table({"clip_id": GONE}, {"clip_id": KEPT}))
    store.create(layout.manifest_key("b2"), _table({"clip_id": OTHER}))
    return store


def test_revisions_and_survivors_are_scrubbed(store: DirectoryStore) -> None:
    """Both files that speak of the clip are found and rewritten without it; other rows and survivors stay, a second time too."""
    asked = erase.Request(erasure_id="e", clip_ids=(GONE,), reason="r", requester="q", objects=(), listed={})
    found = erase._tables_of(asked, store)
    assert {layout.manifest_key("b1"), layout.revision_key("b1", "1" * 64)} == found
    for _ in range(2):
        for key in found:
            erase._scrub(key, asked, store, store)
    rows = {key: from_parquet(store.read(key), schema.CLIPS).to_pylist() for key in store.keys("manifests/")}
    assert [(KEPT, None), (OTHER, KEPT)] == [(row["clip_id"], row["duplicate_of"]) for row in rows[layout.manifest_key("b1")]]
    assert [KEPT] == [row["clip_id"] for row in rows[layout.revision_key("b1", "1" * 64)]]
    assert set() == erase._tables_of(asked, store)
