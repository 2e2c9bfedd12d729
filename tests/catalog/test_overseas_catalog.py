"""The overseas catalog: a release is there once, carries nothing of home, and can be taken back to the last byte."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import schema
from curation.adapters import catalog_overseas
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID, WITHDRAWN
from curation.errors import ConcurrentChange, CurationError, GateRefused, UsageError
from curation.settings import CatalogSettings

TABLE = "published.clips"


def catalog(folder: Path) -> IcebergOverseas:
    """An overseas catalog in `folder`, as another process would open it."""
    settings = CatalogSettings(name="overseas", uri=f"sqlite:///{folder}/overseas/catalog.db", warehouse=folder / "overseas" / "warehouse")
    return IcebergOverseas(settings, {TABLE: schema.RELEASE})


def release(name: str, count: int = 3) -> pa.Table:
    """Rows whose ids begin with `name`, with field metadata and metadata that must not travel."""
    row = dict.fromkeys(schema.RELEASE.names, "x") | {"duration_s": 4, "province": "CN-SH", "scene": f"scene-of-{name}"}
    table = pa.Table.from_pylist([row | {"release_row_id": f"{name}-{number}"} for number in range(count)], schema=schema.RELEASE)
    return table.replace_schema_metadata({"pandas": "{}", "home": "/home/store/secret"})


def bytes_below(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def data_files(folder: Path) -> list[Path]:
    """Every data file on disk."""
    return sorted((folder / "overseas" / "warehouse").rglob("*.parquet"))


@pytest.fixture
def overseas(tmp_path) -> IcebergOverseas:
    """An empty overseas catalog."""
    return catalog(tmp_path)


def put(overseas: IcebergOverseas, name: str) -> int:
    """Publish a release; its snapshot id."""
    return overseas.append(TABLE, release(name), properties={RELEASE_ID: name, "curation.pack": "p" * 64}).snapshot_id


def test_an_empty_catalog_answers(overseas) -> None:
    """Nothing published: nothing found, no rows, no files, nothing to withdraw."""
    assert (overseas.find(TABLE, "r1"), overseas.read(TABLE).num_rows, overseas.written(TABLE, 7)) == (None, 0, ())
    overseas.withdraw(TABLE, 7)


def test_a_release_is_found_and_read(overseas, tmp_path) -> None:
    """Found by its id with its properties; its rows and its one file are what was given."""
    info = overseas.append(TABLE, release("r1"), properties={RELEASE_ID: "r1", "curation.pack": "p" * 64})
    assert overseas.find(TABLE, "r1") == info
    assert (info.parent_id, info.properties["curation.pack"]) == (None, "p" * 64)
    assert overseas.read(TABLE).equals(release("r1"))
    assert [(file.name, file.read_bytes()) for file in data_files(tmp_path)] == overseas.written(TABLE, info.snapshot_id)
    assert pq.read_table(data_files(tmp_path)[0]).num_rows == 3


def test_twice_is_once(overseas, tmp_path) -> None:
    """The same release again writes nothing and gives the same snapshot."""
    first = put(overseas, "r1")
    before = data_files(tmp_path)
    assert first == put(overseas, "r1") == put(catalog(tmp_path), "r1")
    assert (before, 3) == (data_files(tmp_path), overseas.read(TABLE).num_rows)


def test_releases_stand_beside_each_other(overseas) -> None:
    """Each snapshot's files are its own; the parent is the release before."""
    first, second = put(overseas, "r1"), put(overseas, "r2")
    assert overseas.find(TABLE, "r2").parent_id == first
    assert not set(overseas.written(TABLE, first)) & set(overseas.written(TABLE, second))
    assert overseas.read(TABLE).num_rows == 6


def test_nothing_of_home_travels(overseas, tmp_path) -> None:
    """No schema or field metadata, no pandas metadata and no path given with the rows is in any file, raw or decoded."""
    put(overseas, "r1")
    everything = bytes_below(tmp_path / "overseas")
    docs = [field.metadata[b"doc"] for field in schema.RELEASE]
    words = [b"pandas", b"secret", b"sensitivity", b"curation.table", *docs]
    assert [word for word in words if word in everything] == []
    arrow = pq.read_schema(data_files(tmp_path)[0])
    assert (arrow.metadata or {}).keys() <= {b"iceberg.schema"}
    assert {key for field in arrow for key in field.metadata or {}} == {b"PARQUET:field_id"}


def test_manifests_hold_no_value(overseas, tmp_path) -> None:
    """Bounds of columns are values; they would outlive a withdrawal, so no manifest has them."""
    put(overseas, "r1")
    manifests = b"".join(file.read_bytes() for file in (tmp_path / "overseas").rglob("*.avro"))
    table = overseas._catalog().load_table(TABLE)
    entries = table.inspect.files()
    assert [bound for name in ("lower_bounds", "upper_bounds") for bound in entries.column(name).to_pylist() if bound] == []
    assert b"scene-of-r1" not in manifests


def test_a_withdrawn_release_leaves_no_bytes(overseas, tmp_path) -> None:
    """Rows, files and history of the release are gone from disk; what was published before and after it stays, and stays known."""
    put(overseas, "r1")
    gone = put(overseas, "r2")
    put(overseas, "r3")
    files = [name for name, _ in overseas.written(TABLE, gone)]
    for _ in range(2):
        overseas.withdraw(TABLE, gone)
        assert {row.rpartition("-")[0] for row in overseas.read(TABLE).column("release_row_id").to_pylist()} == {"r1", "r3"}
        assert not set(files) & {file.name for file in data_files(tmp_path)}
        assert len(data_files(tmp_path)) == 2
        decoded = [row for file in data_files(tmp_path) for row in pq.read_table(file).column("scene").to_pylist()]
        assert set(decoded) == {"scene-of-r1", "scene-of-r3"}
        assert b"scene-of-r2" not in bytes_below(tmp_path / "overseas")
    with closing(sqlite3.connect(tmp_path / "overseas" / "catalog.db")) as database:
        assert database.execute("select count(*) from iceberg_tables").fetchone() == (1,)
    assert overseas.written(TABLE, gone) == []
    assert [len(overseas.written(TABLE, overseas.find(TABLE, name).snapshot_id)) for name in ("r1", "r3")] == [1, 1]


def test_neighbours_of_a_withdrawn_release_are_not_published_again(overseas) -> None:
    """Their snapshots expired with it, for they showed its rows; yet they are still found, so publishing them again is a no-op."""
    gone = put(overseas, "r1")
    kept = put(overseas, "r2")
    overseas.withdraw(TABLE, gone)
    assert kept == put(overseas, "r2")
    assert overseas.read(TABLE).num_rows == 3


def test_a_withdrawn_release_is_not_published_again(overseas) -> None:
    """It is found as withdrawn, and appending it is refused."""
    overseas.withdraw(TABLE, put(overseas, "r1"))
    assert overseas.find(TABLE, "r1").properties[WITHDRAWN] == "true"
    with pytest.raises(GateRefused, match="was withdrawn"):
        put(overseas, "r1")
    assert overseas.read(TABLE).num_rows == 0


def close(overseas: IcebergOverseas, name: str) -> dict[str, str]:
    """Close a release; what it is known as."""
    return overseas.append(TABLE, release(name, 0), properties={RELEASE_ID: name, WITHDRAWN: "true"}).properties


def test_a_closed_release_is_not_published_and_a_published_one_not_closed(overseas, tmp_path) -> None:
    """Closing writes no row and holds, in an empty catalog too; what was committed before is left to its withdrawal."""
    assert (close(overseas, "r1")[WITHDRAWN], close(overseas, "r1")[WITHDRAWN], data_files(tmp_path)) == ("true", "true", [])
    with pytest.raises(GateRefused, match="was withdrawn"):
        put(overseas, "r1")
    put(overseas, "r2")
    assert WITHDRAWN not in close(overseas, "r2")
    assert (overseas.read(TABLE).num_rows, len(data_files(tmp_path))) == (3, 1)


@pytest.mark.parametrize("before", [[], ["r0"]], ids=["first of all", "after another"])
def test_who_is_about_to_commit_a_release_that_is_closed_loses(overseas, tmp_path, monkeypatch, before) -> None:
    """It was looked for, its rows are written, then somebody else closes it: nothing is committed, and the next try is refused."""
    for name in before:
        put(overseas, name)
    other = catalog(tmp_path)
    monkeypatch.setattr(IcebergOverseas, "_turn", lambda _: nullcontext())
    real, meddled = catalog_overseas.commit, []

    def commit(transaction: object, found: object) -> None:
        if not meddled:
            meddled.append(True)
            close(other, "r1")
        real(transaction, found)

    monkeypatch.setattr(catalog_overseas, "commit", commit)
    with pytest.raises(ConcurrentChange, match="another writer was faster"):
        put(overseas, "r1")
    with pytest.raises(GateRefused, match="was withdrawn"):
        put(overseas, "r1")
    assert (overseas.read(TABLE).num_rows, len(data_files(tmp_path))) == (3 * len(before), len(before))


def test_a_readers_tag_does_not_hold_withdrawn_rows(overseas, tmp_path) -> None:
    """A tag or branch on a snapshot that shows the rows goes with them."""
    gone = put(overseas, "r1")
    table = overseas._catalog().load_table(TABLE)
    table.manage_snapshots().create_tag(gone, "mine").create_branch(gone, "yours").commit()
    put(overseas, "r2")
    overseas.withdraw(TABLE, gone)
    assert (len(data_files(tmp_path)), list(overseas._catalog().load_table(TABLE).metadata.refs)) == (1, ["main"])


@pytest.mark.parametrize("step", ["_expire", "sweep"])
def test_a_killed_withdrawal_is_finished_by_the_next(overseas, tmp_path, monkeypatch, step) -> None:
    """Killed after any of its steps, withdrawing again leaves none of the bytes."""
    gone = put(overseas, "r1")
    put(overseas, "r2")

    def killed(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(IcebergOverseas if step == "_expire" else catalog_overseas, step, killed)
    with pytest.raises(KeyboardInterrupt):
        overseas.withdraw(TABLE, gone)
    monkeypatch.undo()
    catalog(tmp_path).withdraw(TABLE, gone)
    assert b"scene-of-r1" not in bytes_below(tmp_path / "overseas")
    assert len(data_files(tmp_path)) == 1


def test_leftovers_of_a_killed_publisher_go(overseas, tmp_path, monkeypatch) -> None:
    """Rows written but never committed are overseas and in nobody's books; the next writer removes them."""
    put(overseas, "r0")

    def killed(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog_overseas, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        put(overseas, "r1")
    monkeypatch.undo()
    assert len(data_files(tmp_path)) == 2
    put(overseas, "r1")
    assert (len(data_files(tmp_path)), overseas.read(TABLE).num_rows) == (2, 6)


def test_a_lost_race_is_told_and_leaves_nothing(overseas, tmp_path, monkeypatch) -> None:
    """A writer that took no lock commits between the look and the commit: nothing of ours stays, and looking again finds theirs."""
    put(overseas, "r0")
    other = catalog(tmp_path)
    monkeypatch.setattr(IcebergOverseas, "_turn", lambda _: nullcontext())
    monkeypatch.setattr(catalog_overseas, "sweep", lambda *_, **__: None)
    real = catalog_overseas.commit
    meddled = []

    def commit(transaction: object, found: object) -> None:
        if not meddled:
            meddled.append(True)
            put(other, "r1")
        real(transaction, found)

    monkeypatch.setattr(catalog_overseas, "commit", commit)
    with pytest.raises(ConcurrentChange, match="another writer was faster"):
        put(overseas, "r1")
    assert (len(data_files(tmp_path)), overseas.read(TABLE).num_rows) == (2, 6)
    assert put(overseas, "r1") == other.find(TABLE, "r1").snapshot_id


def _race(folder: Path, together: multiprocessing.Barrier, answers: multiprocessing.Queue) -> None:
    IcebergOverseas._turn = lambda _: nullcontext()
    catalog_overseas.sweep = lambda *_, **__: None  # without the lock another's work under way looks like a leftover
    overseas = catalog(folder)
    overseas.find(TABLE, "r1")
    together.wait(300)
    for _ in range(20):
        try:
            answers.put(put(overseas, "r1"))
        except ConcurrentChange:
            continue
        return


def test_of_six_publishers_one_commits(tmp_path) -> None:
    """Six processes publish the same release at once, without the lock that would keep them apart: one snapshot, one file, all name it."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["pytest", "curation.adapters.catalog_overseas"])  # imported once, not six times
    answers, together = server.Queue(), server.Barrier(6)
    processes = [server.Process(target=_race, args=(tmp_path, together, answers)) for _ in range(6)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(300)
    overseas = catalog(tmp_path)
    assert set(found) == {overseas.find(TABLE, "r1").snapshot_id}
    assert (overseas.read(TABLE).num_rows, len(data_files(tmp_path))) == (3, 1)
    assert len(overseas._catalog().load_table(TABLE).metadata.snapshots) == 1


def test_a_release_without_an_id_is_refused(overseas) -> None:
    """A snapshot that cannot be found again would be published twice."""
    with pytest.raises(UsageError, match=RELEASE_ID):
        overseas.append(TABLE, release("r1"), properties={})


@pytest.mark.parametrize(
    "wrong",
    [
        release("r1").append_column("clip_id", pa.array(["a", "b", "c"])),
        release("r1").drop_columns(["scene"]),
        release("r1").set_column(5, "fps_class", pa.nulls(3, pa.string())),
    ],
    ids=["more", "less", "null"],
)
def test_rows_outside_the_closed_schema_are_refused(overseas, tmp_path, wrong) -> None:
    """A column more, a column less or a missing value is refused before a byte is written."""
    with pytest.raises(CurationError, match="do not fit its schema"):
        overseas.append(TABLE, wrong, properties={RELEASE_ID: "r1"})
    assert not (tmp_path / "overseas").exists()


def test_other_engines_read_it(overseas, monkeypatch) -> None:
    """Polars reads the published table from its metadata alone."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else it warns that its own planner is not installed
    put(overseas, "r1")
    location = overseas._catalog().load_table(TABLE).metadata_location
    assert pl.scan_iceberg(location).collect().height == 3
