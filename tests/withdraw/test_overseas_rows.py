"""Rows are taken out of the overseas table by id, to the last byte, whatever rewrote them before."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import schema
from curation.adapters import catalog_iceberg, catalog_overseas
from curation.adapters.catalog_files import WRITING_S
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID
from curation.errors import ConcurrentChange
from curation.settings import CatalogSettings

TABLE = "published.clips"


def catalog(folder: Path) -> IcebergOverseas:
    """An overseas catalog in `folder`, as another process would open it."""
    settings = CatalogSettings(name="overseas", uri=f"sqlite:///{folder}/overseas/catalog.db", warehouse=folder / "overseas" / "warehouse")
    return IcebergOverseas(settings, {TABLE: schema.RELEASE})


@pytest.fixture
def overseas(tmp_path) -> IcebergOverseas:
    """Two releases of three rows."""
    found = catalog(tmp_path)
    for name in ("r1", "r2"):
        put(found, name)
    return found


def put(overseas: IcebergOverseas, name: str) -> int:
    """Publish three rows; their snapshot."""
    row = dict.fromkeys(schema.RELEASE.names, "x") | {"duration_s": 4, "province": "CN-SH"}
    rows = [row | {"release_row_id": f"{name}-{number}", "scene": f"scene-of-{name}-{number}"} for number in range(3)]
    return overseas.append(TABLE, pa.Table.from_pylist(rows, schema=schema.RELEASE), properties={RELEASE_ID: name}).snapshot_id


def ids(overseas: IcebergOverseas) -> list[str]:
    """Ids of the rows published now."""
    return overseas.read(TABLE)["release_row_id"].to_pylist()


def words_below(folder: Path) -> str:
    """Every byte of every file, and what Parquet files decode to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    decoded = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return "".join([*decoded, *(path.read_bytes().decode("latin-1") for path in files)])


def test_rows_go_by_id_and_others_stay(overseas, tmp_path) -> None:
    """One row of each release: the table, its files and its history are without them, a second time changes nothing."""
    gone = pa.array(["r1-1", "r2-2"])
    assert len(overseas.holding(TABLE, gone)) == 2
    before = [overseas.find(TABLE, name) for name in ("r1", "r2")]
    assert [overseas.withdraw_rows(TABLE, gone), overseas.withdraw_rows(TABLE, gone)] == [2, 0]
    assert ids(overseas) == ["r1-0", "r1-2", "r2-0", "r2-1"]
    assert overseas.holding(TABLE, gone) == []
    words = words_below(tmp_path / "overseas")
    assert [word for word in ("r1-1", "r2-2", "scene-of-r1-1", "scene-of-r2-2") if word in words] == []
    assert [overseas.find(TABLE, name) for name in ("r1", "r2")] == before
    assert put(overseas, "r1") == before[0].snapshot_id
    assert ids(overseas) == ["r1-0", "r1-2", "r2-0", "r2-1"]


def test_a_whole_release_goes_with_its_file(overseas, tmp_path) -> None:
    """Nothing is rewritten where nothing of a file stays; what was not published is not counted."""
    assert overseas.withdraw_rows(TABLE, pa.array(["r1-0", "r1-1", "r1-2", "never"])) == 3
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert overseas.withdraw_rows(TABLE, pa.array(["r2-0", "r2-1", "r2-2"])) == 3
    assert (ids(overseas), list(tmp_path.rglob("*.parquet"))) == ([], [])


def test_an_empty_catalog_and_no_ids_are_fine(overseas, tmp_path) -> None:
    """Nothing there, or nothing asked: nothing changes."""
    assert catalog(tmp_path / "other").withdraw_rows(TABLE, pa.array(["r1-0"])) == 0
    assert catalog(tmp_path / "other").holding(TABLE, pa.array(["r1-0"])) == []
    assert overseas.withdraw_rows(TABLE, pa.array([], pa.string())) == 0
    assert len(ids(overseas)) == 6


def test_rows_that_a_withdrawal_rewrote_are_still_found_by_id(overseas, tmp_path) -> None:
    """After one row of r1 went, its others lie in a file of another snapshot: by snapshot they are missed, by id they go."""
    snapshot_id = overseas.find(TABLE, "r1").snapshot_id
    overseas.withdraw_rows(TABLE, pa.array(["r1-0"]))
    overseas.withdraw(TABLE, snapshot_id)
    assert ids(overseas) == ["r1-1", "r1-2", "r2-0", "r2-1", "r2-2"]
    assert overseas.withdraw_rows(TABLE, pa.array(["r1-0", "r1-1", "r1-2"])) == 2
    assert "scene-of-r1" not in words_below(tmp_path / "overseas")


def test_a_readers_tag_does_not_hold_withdrawn_rows(overseas, tmp_path) -> None:
    """A tag on a snapshot that shows the row goes with it."""
    found = overseas._catalog().load_table(TABLE)
    found.manage_snapshots().create_tag(overseas.find(TABLE, "r1").snapshot_id, "mine").commit()
    overseas.withdraw_rows(TABLE, pa.array(["r1-0"]))
    assert "scene-of-r1-0" not in words_below(tmp_path / "overseas")


@pytest.mark.parametrize("step", ["_rewrite_without", "_expire_those", "sweep"])
def test_a_killed_withdrawal_is_finished_by_the_next(overseas, tmp_path, monkeypatch, step) -> None:
    """Killed before any of its steps, withdrawing again leaves none of the bytes."""

    def killed(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog_overseas if step == "sweep" else IcebergOverseas, step, killed)
    with pytest.raises(KeyboardInterrupt):
        overseas.withdraw_rows(TABLE, pa.array(["r1-0"]))
    monkeypatch.undo()
    assert overseas.holding(TABLE, pa.array(["r1-0"])) != []
    catalog(tmp_path).withdraw_rows(TABLE, pa.array(["r1-0"]))
    assert overseas.holding(TABLE, pa.array(["r1-0"])) == []
    assert "scene-of-r1-0" not in words_below(tmp_path / "overseas")
    assert ids(overseas) == ["r1-1", "r1-2", "r2-0", "r2-1", "r2-2"]


def meddling(monkeypatch, times: int) -> None:
    """Another writer's commit comes between so many times."""
    real, left = catalog_overseas.commit, [times]

    def commit(*args: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise catalog_iceberg.LostRace
        real(*args)

    monkeypatch.setattr(catalog_overseas, "commit", commit)
    monkeypatch.setattr(catalog_iceberg, "_TRIES", 3)


def test_a_lost_race_is_run_again_at_once_and_told_if_that_does_not_help(overseas, monkeypatch) -> None:
    """Rows that must go do not wait for somebody to ask again because another release was committed at the same moment."""
    meddling(monkeypatch, 2)
    assert overseas.withdraw_rows(TABLE, pa.array(["r1-0"])) == 1
    assert overseas.holding(TABLE, pa.array(["r1-0"])) == []
    meddling(monkeypatch, 1)
    overseas.withdraw(TABLE, overseas.find(TABLE, "r2").snapshot_id)
    assert ids(overseas) == ["r1-1", "r1-2"]
    meddling(monkeypatch, 3)
    with pytest.raises(ConcurrentChange, match="faster 3 times"):
        overseas.withdraw_rows(TABLE, pa.array(["r1-1"]))
    monkeypatch.undo()
    assert overseas.withdraw_rows(TABLE, pa.array(["r1-1"])) == 1


def test_a_file_that_a_killed_writer_left_half_written_is_no_reason_to_be_content(overseas, tmp_path, monkeypatch) -> None:
    """Where it may be another machine's work under way it stays for an hour, and until then nobody says that no file holds the rows."""
    [file] = [path for path in (tmp_path / "overseas").rglob("*.parquet") if "r1-0" in str(pq.read_table(path).to_pylist())]
    torn = file.with_name("torn.parquet")
    torn.write_bytes(file.read_bytes()[:-20])
    monkeypatch.setattr(catalog_overseas, "is_sqlite", lambda _: False)
    assert overseas.withdraw_rows(TABLE, pa.array(["r1-0"])) == 1
    assert overseas.holding(TABLE, pa.array(["r1-0"])) == [str(torn.relative_to(tmp_path / "overseas" / "warehouse"))]
    os.utime(torn, (time.time() - WRITING_S - 60,) * 2)
    overseas.withdraw_rows(TABLE, pa.array(["r1-0"]))
    assert overseas.holding(TABLE, pa.array(["r1-0"])) == []


def test_the_search_finds_what_is_hidden(overseas, tmp_path) -> None:
    """An id in a stray text, in a compressed manifest or in a Parquet file that no snapshot knows is found by name."""
    warehouse = tmp_path / "overseas" / "warehouse"
    (warehouse / "stray.log").write_text("row r9-7 was here")
    pq.write_table(pa.table({"release_row_id": ["r9-7"]}), warehouse / "stray.parquet", compression="zstd")
    assert overseas.holding(TABLE, pa.array(["r9-7"])) == ["stray.log", "stray.parquet"]
    name = next(path.name for path in warehouse.rglob("*.parquet") if path.name.startswith("00000"))
    assert {Path(file).suffix for file in overseas.holding(TABLE, pa.array([name]))} >= {".avro"}
