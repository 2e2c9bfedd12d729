"""The home catalog: rows come back as they were, and main moves only from what a branch grew from."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import ArrowScan

from curation import schema
from curation.adapters import catalog_home, catalog_iceberg
from curation.adapters.catalog_home import IcebergHome
from curation.errors import ConcurrentChange, CurationError, OutsideError, SettingsError, UsageError
from curation.settings import CatalogSettings

TABLE = "curated.clips"
KINDS = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False, metadata={"doc": "id"}),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("share", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("track", pa.list_(pa.struct([pa.field("offset_s", pa.float64()), pa.field("note", pa.string())]))),
        pa.field("excuses", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
    ],
    metadata={"curation.table": "kinds"},
)
AT = datetime(2026, 3, 11, 4, 5, 6, 789012, tzinfo=UTC)


def catalog(folder: Path) -> IcebergHome:
    """A home catalog in `folder`, as another process would open it."""
    settings = CatalogSettings(name="home", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder / "warehouse")
    return IcebergHome(settings, {TABLE: KINDS})


def rows(*names: str, share: float | None = 0.5) -> pa.Table:
    """One row for each name."""
    full = {
        "at": AT,
        "share": share,
        "width": 3,
        "track": [{"offset_s": 0.25, "note": None}],
        "excuses": [("b", "why"), ("a", "")],
        "reasons": ["x"],
    }
    return pa.Table.from_pylist([{"clip_id": name} | full for name in names], schema=KINDS)


def data_files(folder: Path) -> list[Path]:
    """Every data file on disk."""
    return sorted((folder / "warehouse").rglob("*.parquet"))


@pytest.fixture
def home(tmp_path) -> IcebergHome:
    """An empty home catalog."""
    return catalog(tmp_path)


def put(home: IcebergHome, branch: str, table: pa.Table, *replace: str) -> bool:
    """Write a branch and make it main."""
    home.write_branch(TABLE, branch, table, replace=replace, properties={"curation.batch-id": branch})
    return home.advance(TABLE, branch)


def test_an_empty_catalog_answers(home) -> None:
    """Before anything is written there is no head, no snapshot and no row, under the right schema."""
    assert (home.head(TABLE), home.snapshots(TABLE)) == (None, ())
    assert home.read(TABLE).equals(KINDS.empty_table(), check_metadata=True)
    home.drop_branch(TABLE, "none")
    assert home.advance(TABLE, "none") is False


def test_every_kind_of_value_comes_back(home) -> None:
    """Maps, lists, structs, times with zone, nulls, NaN and empty nests come back exactly, metadata included, in clip order."""
    sparse = {"clip_id": "b", "at": None, "share": None, "width": None, "track": None, "excuses": [], "reasons": []}
    empty = sparse | {"clip_id": "e", "track": []}
    table = pa.concat_tables([rows("c"), pa.Table.from_pylist([sparse, empty], schema=KINDS), rows("a", share=-0.0)])
    put(home, "one", table)
    assert home.read(TABLE).equals(table.sort_by("clip_id"), check_metadata=True)
    put(home, "two", rows("d", share=math.nan))
    assert math.isnan(home.read(TABLE, clip_ids=["d"]).column("share")[0].as_py())


def test_only_files_that_hold_a_clip_are_read_for_it(home, tmp_path, monkeypatch) -> None:
    """Of three files one is read for one clip's rows, and none for a clip that is nowhere; a file that is missing is told."""
    for name in ("a", "b", "c"):
        put(home, name, rows(name))
    read: list[int] = []
    real = ArrowScan.to_table
    monkeypatch.setattr(ArrowScan, "to_table", lambda self, tasks: (read.append(len(tasks)), real(self, tasks))[1])
    assert ["b"] == home.read(TABLE, clip_ids=["b", "z"])["clip_id"].to_pylist()
    assert KINDS.empty_table().equals(home.read(TABLE, clip_ids=["z"]), check_metadata=True)
    assert [1, 0] == read
    data_files(tmp_path)[0].unlink()
    with pytest.raises(OutsideError, match="warehouse failed"):
        home.read(TABLE, clip_ids=["z"])


def test_some_columns_come_back_alone(home) -> None:
    """Only the columns asked for are read, the first always among them, in the order asked for; an empty table has them too."""
    assert ["clip_id", "width"] == home.read(TABLE, columns=["width"]).column_names
    home.write_branch(TABLE, "b", rows("a", "b"), replace=[], properties={})
    home.advance(TABLE, "b")
    found = home.read(TABLE, columns=["width", "clip_id", "track"])
    assert rows("a", "b").select(["clip_id", "width", "track"]).equals(found)


def test_rows_are_streamed_a_few_files_at_a_time(home, monkeypatch) -> None:
    """Batches bring the same rows as a read, of main or of a snapshot, and a file is opened only when the rows before it were taken."""
    assert [] == list(home.stream(TABLE, columns=["width"]))
    put(home, "one", rows("a", "b"))
    first = home.head(TABLE)
    put(home, "two", rows("c"))
    read, real = [], ArrowScan.to_record_batches
    monkeypatch.setattr(catalog_iceberg, "_ROWS_AHEAD", 1)
    monkeypatch.setattr(ArrowScan, "to_record_batches", lambda self, tasks: (read.append(len(tasks)), real(self, tasks))[1])
    streamed = home.stream(TABLE, columns=["track", "width"])
    begun = next(streamed)
    assert [1] == read
    found = pa.Table.from_batches([begun, *streamed])
    assert [1, 1] == read
    assert home.read(TABLE, columns=["track", "width"]).equals(found.sort_by("clip_id"))
    assert ["a", "b"] == sorted(one for batch in home.stream(TABLE, columns=[], snapshot_id=first) for one in batch[0].to_pylist())
    (words,) = {batch.schema.field("clip_id").type for batch in home.stream(TABLE, columns=[], encoded=["clip_id"])}
    assert pa.dictionary(pa.int32(), pa.string()) == words
    with pytest.raises(UsageError, match="no snapshot"):
        list(home.stream(TABLE, columns=[], snapshot_id=1))


def test_a_missing_list_stays_missing_when_its_file_is_rewritten(home) -> None:
    """PyIceberg turns missing lists of structs into empty ones; neither writing, nor rewriting a neighbour, nor reading does so here."""
    both = [{"clip_id": name, "track": track, "excuses": [], "reasons": []} for name, track in (("a", None), ("b", []), ("c", None))]
    put(home, "one", pa.Table.from_pylist(both, schema=KINDS))
    put(home, "two", rows("c"), "c")
    assert home.read(TABLE).column("track").to_pylist() == [None, [], [{"offset_s": 0.25, "note": None}]]


def test_the_mark_of_a_missing_list_is_refused_as_a_value(home) -> None:
    """A list of one missing struct could not be told from a missing list, so it is not written."""
    wrong = pa.Table.from_pylist([{"clip_id": "a", "track": [None], "excuses": [], "reasons": []}], schema=KINDS)
    with pytest.raises(CurationError, match="one missing struct"):
        home.write_branch(TABLE, "one", wrong, replace=[], properties={})


def test_the_manifest_schema_comes_back(tmp_path) -> None:
    """The real manifest schema, with its nested columns and field metadata, is kept exactly."""
    settings = CatalogSettings(name="home", uri=f"sqlite:///{tmp_path}/c.db", warehouse=tmp_path / "a warehouse")
    home = IcebergHome(settings, {TABLE: schema.CLIPS})
    row = dict.fromkeys(schema.CLIPS.names, None) | {field.name: "x" for field in schema.CLIPS if pa.types.is_string(field.type)}
    row |= {"size_bytes": 1, "unmeasured": [("fps", "why")], "reasons": ["dark"], "inspected_at": AT, "captured_at": AT, "width_px": 1280}
    row |= {"track": [{"offset_s": 0.5, "latitude_deg": 31.0, "longitude_deg": 121.0}]}
    table = pa.Table.from_pylist([row], schema=schema.CLIPS)
    put(home, "one", table)
    assert home.read(TABLE).equals(table, check_metadata=True)


def test_a_branch_is_not_main(home) -> None:
    """Rows on a branch, the very first included, are read there and nowhere else until it advances."""
    snapshot_id = home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    assert (home.head(TABLE), home.read(TABLE).num_rows, home.snapshots(TABLE)) == (None, 0, ())
    assert home.read(TABLE, branch="one").equals(rows("a"))
    assert home.read(TABLE, snapshot_id=snapshot_id).equals(rows("a"))
    assert home.advance(TABLE, "one") is True
    assert home.head(TABLE) == snapshot_id
    with pytest.raises(ConcurrentChange, match="no branch one"):
        home.read(TABLE, branch="one")


def test_rows_are_replaced(home) -> None:
    """A row named in `replace` gives way to the new one; its neighbours in the same file stay; the old snapshot still shows it."""
    put(home, "one", rows("a", "b"))
    before = home.head(TABLE)
    assert put(home, "two", rows("a", share=0.75), "a")
    assert home.read(TABLE).column("share").to_pylist() == [0.75, 0.5]
    assert home.read(TABLE, snapshot_id=before).column("share").to_pylist() == [0.5, 0.5]
    assert put(home, "three", rows("a", share=0.9), "a", "gone")
    assert home.read(TABLE).column("share").to_pylist() == [0.9, 0.5]


def test_replacing_what_is_not_there_is_quiet(home) -> None:
    """A row to replace that is gone already is no warning and no error."""
    put(home, "one", rows("a"))
    assert put(home, "two", rows("b"), "z")
    assert home.read(TABLE).column("clip_id").to_pylist() == ["a", "b"]


def test_snapshots_tell_the_line_of_main(home) -> None:
    """Oldest first, each with its parent and properties; several of one batch where rows were replaced; none of a dropped branch."""
    put(home, "one", rows("a", "b"))
    home.write_branch(TABLE, "lost", rows("x"), replace=[], properties={})
    put(home, "two", rows("a", share=0.75), "a")
    line = home.snapshots(TABLE)
    assert [snapshot.properties["curation.batch-id"] for snapshot in line] == ["one", "two", "two"]
    assert [snapshot.parent_id for snapshot in line] == [None, *(snapshot.snapshot_id for snapshot in line[:-1])]
    assert line[-1].snapshot_id == home.head(TABLE)


def test_a_stale_branch_does_not_become_main(home) -> None:
    """The trap: two branches from one base. The second is refused, whole, and loses nothing of the first; rebuilt, it advances."""
    home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    home.write_branch(TABLE, "two", rows("b"), replace=[], properties={})
    assert home.advance(TABLE, "one") is True
    assert home.advance(TABLE, "two") is False
    assert home.read(TABLE).column("clip_id").to_pylist() == ["a"]
    assert put(home, "two", rows("b")) is True
    assert home.read(TABLE).column("clip_id").to_pylist() == ["a", "b"]


def test_main_that_moves_during_the_commit_is_not_lost(home, tmp_path, monkeypatch) -> None:
    """Main moves between the look and the commit: the compare-and-set fails, and then the branch is stale."""
    home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    other = catalog(tmp_path)
    real = catalog_home.commit
    meddled = []

    def commit(transaction: object, found: object) -> None:
        if not meddled:
            meddled.append(True)
            put(other, "two", rows("b"))
        real(transaction, found)

    monkeypatch.setattr(catalog_home, "commit", commit)
    assert home.advance(TABLE, "one") is False
    assert home.read(TABLE).column("clip_id").to_pylist() == ["b"]


def test_a_commit_beside_it_does_not_fail_a_branch(home, tmp_path, monkeypatch) -> None:
    """Another branch written meanwhile takes the sequence number: the branch is built again, and leaves no file of the first try."""
    put(home, "zero", rows("z"))
    other = catalog(tmp_path)
    real = catalog_home.commit
    meddled = []

    def commit(transaction: object, found: object) -> None:
        if not meddled:
            meddled.append(True)
            other.write_branch(TABLE, "two", rows("b"), replace=[], properties={})
        real(transaction, found)

    monkeypatch.setattr(catalog_home, "commit", commit)
    home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    assert home.read(TABLE, branch="one").column("clip_id").to_pylist() == ["a", "z"]
    assert home.read(TABLE, branch="two").column("clip_id").to_pylist() == ["b", "z"]
    assert len(data_files(tmp_path)) == 3


def test_losing_every_commit_ends(home, monkeypatch) -> None:
    """Bounded: after many lost commits the caller is told that a retry may help."""

    def lost(transaction: object, found: object) -> None:
        raise catalog_iceberg.LostRace

    monkeypatch.setattr(catalog_home, "commit", lost)
    monkeypatch.setattr(catalog_iceberg, "_TRIES", 3)
    with pytest.raises(ConcurrentChange, match="faster 3 times"):
        home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})


def test_a_leftover_branch_is_rebuilt(home, tmp_path) -> None:
    """What a killed run left under the name is dropped with its files; the branch grows from today's main."""
    home.write_branch(TABLE, "one", rows("old"), replace=[], properties={})
    put(home, "two", rows("b"))
    again = catalog(tmp_path)
    again.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    assert again.advance(TABLE, "one") is True
    assert again.read(TABLE).column("clip_id").to_pylist() == ["a", "b"]
    assert len(data_files(tmp_path)) == 2


def test_only_the_branch_written_here_advances(home, tmp_path) -> None:
    """Another process that rebuilt the branch of that name wrote rows that were not audited here."""
    home.write_branch(TABLE, "one", rows("a"), replace=[], properties={})
    catalog(tmp_path).write_branch(TABLE, "one", rows("b"), replace=[], properties={})
    assert home.advance(TABLE, "one") is False
    assert home.head(TABLE) is None


def test_a_dropped_branch_leaves_no_bytes(home, tmp_path) -> None:
    """Its data files go, those of main stay, and dropping it twice is quiet."""
    put(home, "one", rows("a", "b"))
    kept = data_files(tmp_path)
    home.write_branch(TABLE, "two", rows("a", share=0.75), replace=["a"], properties={})
    assert len(data_files(tmp_path)) == 3
    for _ in range(2):
        home.drop_branch(TABLE, "two")
    assert kept == data_files(tmp_path)
    assert home.read(TABLE).num_rows == 2


def test_only_the_asked_clips_are_read(home) -> None:
    """`clip_ids` narrows a read; none asked, none given."""
    put(home, "one", rows("a", "b", "c"))
    assert home.read(TABLE, clip_ids=["c", "a", "z"]).column("clip_id").to_pylist() == ["a", "c"]
    assert home.read(TABLE, clip_ids=[]).num_rows == 0


def test_unknown_things_are_named(home) -> None:
    """A table without schema and a snapshot that does not exist are wrong use."""
    with pytest.raises(UsageError, match="no schema is known"):
        home.read("curated.moons")
    with pytest.raises(UsageError, match="no snapshot 7"):
        home.read(TABLE, snapshot_id=7)


@pytest.mark.parametrize(
    "wrong",
    [rows("a").drop_columns(["width"]), rows("a").append_column("moon", pa.array([1])), pa.table({"clip_id": ["a"]})],
    ids=["less", "more", "other"],
)
def test_rows_of_another_shape_are_refused(home, wrong) -> None:
    """Columns missing or unknown never reach the table."""
    with pytest.raises(CurationError, match="do not fit its schema"):
        home.write_branch(TABLE, "one", wrong, replace=[], properties={})


def test_a_null_in_a_required_column_is_refused(home) -> None:
    """A required column without a value never reaches the table."""
    loose = pa.schema([field.with_nullable(nullable=True) for field in KINDS])
    wrong = pa.Table.from_pylist([{"clip_id": "a", "reasons": None, "excuses": []}], schema=loose)
    with pytest.raises(CurationError, match="do not fit its schema"):
        home.write_branch(TABLE, "one", wrong, replace=[], properties={})


def test_a_table_that_retries_by_itself_is_refused(home) -> None:
    """PyIceberg's own retry commits twice; a table that somebody set back to it is not written."""
    put(home, "one", rows("a"))
    with home._catalog().load_table(TABLE).transaction() as transaction:
        transaction.set_properties({"commit.retry.num-retries": "4"})
    with pytest.raises(CurationError, match="commits twice"):
        home.write_branch(TABLE, "two", rows("b"), replace=[], properties={})


def test_a_broken_database_may_be_retried(tmp_path) -> None:
    """A database that is none is outside trouble, said without its statement."""
    (tmp_path / "catalog.db").write_text("no database " * 100)
    with pytest.raises(OutsideError, match=r"database failed: DatabaseError \(file is not a database\)"):
        catalog(tmp_path).head(TABLE)


def test_a_moved_folder_says_what_to_do(home, tmp_path) -> None:
    """Tables name their files by full paths: after a move none is found, and the answer tells of the move."""
    put(home, "one", rows("a"))
    (tmp_path / "warehouse").rename(tmp_path / "moved")
    with pytest.raises(OutsideError, match="that was moved back to where it was made"):
        catalog(tmp_path).head(TABLE)


def test_a_warehouse_that_cannot_be_named_is_refused(tmp_path) -> None:
    """PyIceberg would cut the folder's name at # or ?, and write elsewhere."""
    settings = CatalogSettings(name="home", uri=f"sqlite:///{tmp_path}/c.db", warehouse=tmp_path / "a#b")
    with pytest.raises(SettingsError, match="holds # or"):
        IcebergHome(settings, {TABLE: KINDS}).head(TABLE)


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "warehouse").rglob("*")) if path.is_file())


def test_erased_rows_are_in_no_snapshot_branch_or_file(home, tmp_path) -> None:
    """Rows of two clips go from main, from its history, from a tag and from a batch under audit; the others stay as they were."""
    put(home, "b1", rows("keep-1", "erase-me-1"))
    put(home, "b2", rows("keep-2", "erase-me-2"))
    table = home._catalog().load_table(TABLE)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "pinned").commit()
    home.write_branch(TABLE, "under-audit", rows("keep-3", "erase-me-1"), replace=["erase-me-1"], properties={})
    home.write_branch(TABLE, "other-audit", rows("keep-4"), replace=[], properties={})
    earlier = [snapshot.snapshot_id for snapshot in home.snapshots(TABLE)]

    assert 2 == home.erase(TABLE, ["erase-me-1", "erase-me-2", "never-there"])

    assert ["keep-1", "keep-2"] == home.read(TABLE)["clip_id"].to_pylist()
    assert [True] * 2 == [row["track"] is not None for row in home.read(TABLE).to_pylist()]
    for snapshot_id in earlier:
        with pytest.raises(UsageError, match="has no snapshot"):
            home.read(TABLE, snapshot_id=snapshot_id)
    with pytest.raises(ConcurrentChange, match="no branch"):
        home.read(TABLE, branch="under-audit")
    shown = [row for file in data_files(tmp_path) for row in pa.parquet.read_table(file)["clip_id"].to_pylist()]
    assert [] == [name for name in shown if name.startswith("erase-me")]
    assert b"erase-me" not in _bytes_of(tmp_path)


def test_erasing_twice_changes_nothing(home, tmp_path) -> None:
    """The second erasure finds no row and commits nothing."""
    put(home, "b1", rows("keep-1", "erase-me-1"))
    home.erase(TABLE, ["erase-me-1"])
    before = (home.head(TABLE), data_files(tmp_path))
    assert 0 == home.erase(TABLE, ["erase-me-1"])
    assert before == (home.head(TABLE), data_files(tmp_path))
    assert 0 == catalog(tmp_path / "empty").erase(TABLE, ["erase-me-1"])


def test_a_batch_written_during_an_erasure_is_not_lost(home, tmp_path) -> None:
    """Files of a writer that has not committed yet are not swept away with the erased ones."""
    put(home, "b1", rows("keep-1", "erase-me-1"))
    young = tmp_path / "warehouse" / "curated" / "clips" / "data" / "under-way.parquet"
    young.write_bytes(b"somebody writes this")
    home.erase(TABLE, ["erase-me-1"])
    assert young.exists()
    assert put(home, "b2", rows("keep-2"))


def test_no_value_stands_in_the_files_that_describe_data(home, tmp_path) -> None:
    """Manifests hold counts, not bounds: they outlive rows, and a bound is a value."""
    put(home, "b1", rows("unlikely-name"))
    metadata = b"".join(path.read_bytes() for path in (tmp_path / "warehouse").rglob("metadata/*") if path.is_file())
    assert b"unlikely-name" not in metadata


def _widened(folder: Path, field: pa.Field) -> IcebergHome:
    settings = CatalogSettings(name="home", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder / "warehouse")
    return IcebergHome(settings, {TABLE: KINDS.append(field)})


def test_columns_that_came_later_are_added_and_null_in_older_rows(home, tmp_path) -> None:
    """Before anything is written anew they read as null; then the table has them, whichever snapshot is read, rewritten rows too."""
    put(home, "one", rows("a", "b"))
    before = home.head(TABLE)
    later = _widened(tmp_path, note := pa.field("note", pa.string()))
    old = [row | {"note": None} for row in rows("a", "b").to_pylist()]
    assert old == later.read(TABLE).to_pylist()
    new = [row | {"note": "x"} for row in rows("a", "c").to_pylist()]
    assert put(later, "two", pa.Table.from_pylist(new, schema=KINDS.append(note)), "a")
    assert [new[0], old[1], new[1]] == later.read(TABLE).to_pylist()
    assert old == later.read(TABLE, snapshot_id=before).to_pylist()
    assert [None, "x"] == later.read(TABLE, clip_ids=["b", "c"], columns=["note"]).column("note").to_pylist()
    assert ["a", "c"] == later.clip_ids(TABLE, "note", "x").to_pylist()
    assert [] == later.clip_ids(TABLE, "note", "y").to_pylist()
    assert rows("a", "b", "c").equals(home.read(TABLE))


@pytest.mark.parametrize("kind", [pa.string(), KINDS.field("track").type], ids=["needed", "list of structs"])
def test_a_later_column_that_cannot_be_null_in_older_rows_is_refused(home, tmp_path, kind: pa.DataType) -> None:
    """Rows that stand have no value for it."""
    put(home, "one", rows("a"))
    later = _widened(tmp_path, pa.field("note", kind, nullable=pa.types.is_list(kind)))
    with pytest.raises(CurationError, match=r"without note, and cannot show it as null in them\. Fix: make the new column nullable"):
        put(later, "two", later._schema(TABLE).empty_table())
