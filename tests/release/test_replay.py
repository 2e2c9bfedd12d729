"""What was decided can be decided again, years later, from what lies at home: the same inputs give the same bytes."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import PackRefused, SettingsError
from curation.release_files import DECISIONS_FILE, left_releases, published_cells
from curation.residency import evaluate
from curation.residency import pack as packs
from curation.schema import CLIPS, DECISIONS, column
from curation.tables import to_parquet

IN_A_PROCESS_OF_ITS_OWN = """
import sys
from pathlib import Path
from curation.residency import evaluate, pack
from curation.schema import CLIPS, DECISIONS
from curation.tables import from_parquet, to_parquet
folder = Path(sys.argv[1])
rows, law, fences = (folder.joinpath(name).read_bytes() for name in ("rows.parquet", "pack.yaml", "fences.geojson"))
evaluation = evaluate.decide(from_parquet(rows, CLIPS), pack=pack.parse(law), fences=fences)
folder.joinpath("decisions.parquet").write_bytes(to_parquet(evaluation.decisions, DECISIONS))
"""


def replayed(world, release_id, rows):
    """Decisions made anew from the pack, the fences and the published cells that the release's evidence names."""
    files = world.folder(release_id).evidence()["files"]
    [pack_key] = [key for key in files if key.startswith("packs/") and key.endswith(".yaml")]
    [fences_key] = [key for key in files if key.startswith("fences/")]
    pack = packs.parse(world.store.read(pack_key))
    before = [folder for folder in left_releases(world.store, world.ledger) if folder.release_id < release_id]
    cells = published_cells(before, pack.quasi_identifiers())
    evaluation = evaluate.decide(rows, pack=pack, fences=world.store.read(fences_key), published=cells)
    return to_parquet(evaluation.decisions, DECISIONS)


def test_a_release_is_replayed_to_the_byte(world, rows, make):
    """Under other fences and other rows since, and in another order, each release's own inputs give its decisions again."""
    first = world.cut(rows)
    world.approve(first)
    world.publish(first, rows)
    world.clock.instant += timedelta(days=7)
    new = make.table(make.clip(5, vehicle="fleet-0009", day=9))
    newer = replace(world.law, fences_bytes=world.law.fences_bytes.replace(b"1000", b"2000"))
    second = world.cut(pa.concat_tables([rows, new]), law=newer, day=world.clock.instant.date())
    assert world.store.read(world.folder(first).key(DECISIONS_FILE)) == replayed(world, first, rows.take([2, 0, 3, 1]))
    stored = world.folder(second).decisions()
    is_decided = pa.array([rules != ["row.already_published"] for rules in stored["withheld_by"].to_pylist()])
    asked = set(stored.filter(is_decided)["clip_id"].to_pylist())
    candidates = make.table(*(row for row in [*new.to_pylist(), *rows.to_pylist()] if row["clip_id"] in asked))
    assert to_parquet(stored.filter(is_decided), DECISIONS) == replayed(world, second, candidates)


def test_another_process_decides_the_same_bytes(world, rows, tmp_path):
    """With another seed for hashes and one thread, a fresh interpreter writes the decisions that the release holds."""
    release_id = world.cut(rows)
    (tmp_path / "rows.parquet").write_bytes(to_parquet(rows.take([3, 2, 1, 0]), CLIPS))
    (tmp_path / "pack.yaml").write_bytes(world.law.pack_bytes)
    (tmp_path / "fences.geojson").write_bytes(world.law.fences_bytes)
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, str(tmp_path)], check=True, env=environment, timeout=120)
    assert world.store.read(world.folder(release_id).key(DECISIONS_FILE)) == (tmp_path / "decisions.parquet").read_bytes()


def test_an_old_pack_is_replayed_against_its_own_schema_version(world, rows):
    """A manifest with a column that is gone since and without one that came, under a pack of its version, is decided as it was."""
    release_id = world.cut(rows)
    older = rows.drop_columns(["sun_elevation_deg"]).append_column(
        column("lidar_hint", pa.string(), "place", "gone"), pa.nulls(len(rows), pa.string())
    )
    older = older.replace_schema_metadata({**rows.schema.metadata, b"curation.schema_version": b"0"})
    read = pq.read_table(pa.BufferReader(to_bytes(older)))
    pack = packs.parse(world.law.pack_bytes).model_copy(update={"schema_version": "0"})
    found = evaluate.replay(read, pack=pack, fences=world.law.fences_bytes)
    assert world.store.read(world.folder(release_id).key(DECISIONS_FILE)) == to_parquet(found, DECISIONS)
    with pytest.raises(PackRefused, match="schema version '0'"):
        evaluate.decide(read, pack=pack, fences=world.law.fences_bytes)
    with pytest.raises(PackRefused, match="was written for '0'"):
        evaluate.replay(rows, pack=pack, fences=world.law.fences_bytes)
    bare = read.set_column(0, pa.field("clip_id", pa.string()), read["clip_id"])
    with pytest.raises(SettingsError, match="sensitivity"):
        evaluate.replay(bare, pack=pack, fences=world.law.fences_bytes)


def to_bytes(table):
    """The table as a manifest of its time lies at home."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()
