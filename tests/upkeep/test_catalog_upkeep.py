"""Upkeep keeps tables small: rows stay, what is pinned stays, nothing that any snapshot needs goes, and a kill changes nothing."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from curation import schema
from curation.adapters import catalog_iceberg, catalog_upkeep
from curation.adapters.catalog_home import IcebergHome
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID
from curation.adapters.catalog_upkeep import HomeUpkeep, OverseasUpkeep
from curation.errors import ConcurrentChange, NotConserved
from curation.settings import CatalogSettings
from tests.release.conftest import clip, table

HOME, OVERSEAS = "curated.clips", "published.clips"


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


def settings(folder: Path, name: str) -> CatalogSettings:
    """A catalog in a folder of its own."""
    return CatalogSettings(name=name, uri=f"sqlite:///{folder}/{name}/catalog.db", warehouse=folder / name / "warehouse")


def home(folder: Path, kind=IcebergHome):
    """The home catalog, as another process would open it."""
    return kind(settings(folder, "home"), {HOME: schema.CLIPS})


def overseas(folder: Path, kind=IcebergOverseas):
    """The overseas catalog, as another process would open it."""
    return kind(settings(folder, "overseas"), {OVERSEAS: schema.RELEASE})


def curate(folder: Path, *numbers: int, catalog: IcebergHome | None = None) -> int:
    """Make a batch of clips main; its snapshot."""
    catalog = catalog or home(folder)
    rows = table(*(clip(number, vehicle="fleet-0001") for number in numbers))
    catalog.write_branch(HOME, "batch", rows, replace=[], properties={})
    assert catalog.advance(HOME, "batch")
    return catalog.head(HOME)


def publish(folder: Path, name: str) -> int:
    """Publish three rows; their snapshot."""
    row = dict.fromkeys(schema.RELEASE.names, "x") | {"duration_s": 4, "province": "CN-SH"}
    rows = pa.Table.from_pylist([row | {"release_row_id": f"{name}-{number}"} for number in range(3)], schema=schema.RELEASE)
    return overseas(folder).append(OVERSEAS, rows, properties={RELEASE_ID: name}).snapshot_id


def files(folder: Path) -> list[Path]:
    """Data files, manifests and manifest lists."""
    return sorted(path for path in folder.rglob("*") if path.suffix in {".parquet", ".avro"})


def referred(catalog, name: str) -> Iterator[Path]:
    """What the table's snapshots refer to."""
    found = catalog._load(name)
    for snapshot in found.metadata.snapshots:
        yield from (Path(path.removeprefix("file://")) for path in catalog_upkeep.files_of(found, snapshot))


def test_small_files_become_one_and_rows_stay(tmp_path) -> None:
    """Five batches: afterwards one data file, one snapshot, and no file that nothing refers to; a second run does nothing."""
    for number in range(5):
        curate(tmp_path, 2 * number, 2 * number + 1)
    before = home(tmp_path).read(HOME)
    did = home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=0)
    assert (5, 1, 0) == (did.compacted_files, did.snapshots, did.pinned)
    assert before.equals(home(tmp_path).read(HOME))
    assert 1 == len([path for path in files(tmp_path / "home") if path.suffix == ".parquet"])
    for path in files(tmp_path):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    again = [home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=0) for _ in range(2)]
    assert [(0, 0), (0, 0)] == [(one.compacted_files, one.expired_snapshots) for one in again]
    assert (set(files(tmp_path / "home")), 0) == (set(referred(home(tmp_path), HOME)), again[1].removed_files)
    curate(tmp_path, 10)
    assert 11 == home(tmp_path).read(HOME).num_rows


def test_what_is_pinned_can_be_read_until_it_is_not(tmp_path) -> None:
    """A pinned snapshot and all of its files stay; without its pin it goes, and a tag of somebody else stays."""
    first = curate(tmp_path, 0, 1)
    second = curate(tmp_path, 2)
    curate(tmp_path, 3)
    home(tmp_path)._load(HOME).manage_snapshots().create_tag(second, "mine").commit()
    keeper = home(tmp_path, HomeUpkeep)
    assert 1 == keeper.keep_up(HOME, pins={"shards.night": first, "shards.gone": 12345}, keep_s=0).pinned
    assert [2, 3, 4] == [home(tmp_path).read(HOME, snapshot_id=at).num_rows for at in (first, second, home(tmp_path).head(HOME))]
    assert 0 == keeper.keep_up(HOME, pins={}, keep_s=0).pinned
    known = {snapshot.snapshot_id for snapshot in home(tmp_path)._load(HOME).metadata.snapshots}
    assert known == {second, home(tmp_path).head(HOME)}
    assert 3 == home(tmp_path).read(HOME, snapshot_id=second).num_rows


def test_what_was_superseded_lately_stays(tmp_path) -> None:
    """Within the term nothing is compacted, forgotten or removed: a cut may be reading it."""
    first = curate(tmp_path, 0)
    curate(tmp_path, 1)
    stray = tmp_path / "home" / "warehouse" / "curated" / "clips" / "data" / "stray.parquet"
    stray.write_bytes(b"of a writer at work")
    did = home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=3600)
    assert (0, 0, 0) == (did.compacted_files, did.expired_snapshots, did.removed_files)
    assert 1 == home(tmp_path).read(HOME, snapshot_id=first).num_rows
    os.utime(stray, (time.time() - 7200, time.time() - 7200))
    assert 1 == home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=3600).removed_files
    assert not stray.exists()


def test_a_batch_under_audit_loses_its_race_and_no_file(tmp_path) -> None:
    """A branch that grew before upkeep keeps its rows; it is no heir of main any more, and is written again."""
    curate(tmp_path, 0)
    curate(tmp_path, 1)
    catalog = home(tmp_path)
    catalog.write_branch(HOME, "batch", table(clip(2, vehicle="fleet-0001")), replace=[], properties={})
    home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=0)
    assert 3 == catalog.read(HOME, branch="batch").num_rows
    assert not catalog.advance(HOME, "batch")
    curate(tmp_path, 2, catalog=catalog)
    assert 3 == home(tmp_path).read(HOME).num_rows


def test_a_branch_whose_validation_died_is_forgotten_after_a_week(tmp_path, monkeypatch) -> None:
    """It is named, and its rows and files go; a younger one, and one of somebody else, stay; validating the batch again writes it anew."""
    curate(tmp_path, 0)
    catalog, rows = home(tmp_path), table(clip(1, vehicle="fleet-0001"))
    for name, properties in (("batch-1", {"curation.batch-id": "1"}), ("of-others", {})):
        catalog.write_branch(HOME, name, rows, replace=[], properties=properties)
    keeper = home(tmp_path, HomeUpkeep)
    assert () == keeper.keep_up(HOME, pins={}, keep_s=0).dropped_branches
    now_s = time.time() + catalog_upkeep.ABANDONED_S + 60
    monkeypatch.setattr(catalog_upkeep.time, "time", lambda: now_s)
    assert ("batch-1",) == keeper.keep_up(HOME, pins={}, keep_s=0).dropped_branches
    assert () == keeper.keep_up(HOME, pins={}, keep_s=0).dropped_branches
    assert {"main", "of-others"} == set(home(tmp_path)._load(HOME).metadata.refs)
    assert set(files(tmp_path)) == set(referred(keeper, HOME))
    curate(tmp_path, 1, catalog=catalog)
    assert 2 == home(tmp_path).read(HOME).num_rows


def test_published_rows_stay_and_are_withdrawn_to_the_last_byte_afterwards(tmp_path) -> None:
    """Overseas: one file of three releases; a row of it goes by id; a settled release is forgotten by name, another is still found."""
    for name in ("r1", "r2", "r3"):
        publish(tmp_path, name)
    before = overseas(tmp_path).read(OVERSEAS)
    did = overseas(tmp_path, OverseasUpkeep).keep_up(OVERSEAS, pins={}, keep_s=0, settled={"r1", "r9"})
    assert (3, 1) == (did.compacted_files, did.snapshots)
    assert before.equals(overseas(tmp_path).read(OVERSEAS))
    assert [True, False, False] == [overseas(tmp_path).find(OVERSEAS, name) is None for name in ("r1", "r2", "r3")]
    assert 1 == overseas(tmp_path).withdraw_rows(OVERSEAS, pa.array(["r2-1"]))
    assert [] == overseas(tmp_path).holding(OVERSEAS, pa.array(["r2-1"]))
    assert 8 == overseas(tmp_path).read(OVERSEAS).num_rows


def test_a_table_that_is_not_there_is_nothing_to_do(tmp_path) -> None:
    """Nothing is made for it either."""
    assert 0 == overseas(tmp_path, OverseasUpkeep).keep_up(OVERSEAS, pins={}, keep_s=0).snapshots
    assert [] == files(tmp_path)


@pytest.mark.parametrize("step", ["_compact", "_expire_superseded", "_remove_orphans", "commit"])
@pytest.mark.parametrize("after", [False, True])
def test_a_killed_upkeep_is_finished_by_the_next(tmp_path, monkeypatch, step, after) -> None:
    """Killed before or after any of its steps, and before its first commit: the rows never change, and the next run ends the same."""
    for name in ("r1", "r2", "r3"):
        publish(tmp_path, name)
    before = overseas(tmp_path).read(OVERSEAS)
    where = catalog_upkeep if step == "commit" else OverseasUpkeep
    own = getattr(where, step)

    def killed(*given):
        if after:
            own(*given)
        raise Killed

    monkeypatch.setattr(where, step, killed)
    with pytest.raises(Killed):
        overseas(tmp_path, OverseasUpkeep).keep_up(OVERSEAS, pins={}, keep_s=0)
    monkeypatch.undo()
    assert before.equals(overseas(tmp_path).read(OVERSEAS))
    did = overseas(tmp_path, OverseasUpkeep).keep_up(OVERSEAS, pins={}, keep_s=0)
    assert 1 == did.snapshots
    assert before.equals(overseas(tmp_path).read(OVERSEAS))
    assert set(files(tmp_path / "overseas")) == set(referred(overseas(tmp_path), OVERSEAS))
    assert 1 == len([path for path in files(tmp_path) if path.suffix == ".parquet"])


def test_rows_that_get_lost_on_the_way_stop_it(tmp_path, monkeypatch) -> None:
    """A file that is read short is noticed before anything is committed."""
    publish(tmp_path, "r1")
    publish(tmp_path, "r2")
    before = overseas(tmp_path).read(OVERSEAS)
    own = OverseasUpkeep._rows_of
    monkeypatch.setattr(OverseasUpkeep, "_rows_of", lambda *given: (batch.slice(1) for batch in own(*given)))
    with pytest.raises(NotConserved, match="6 rows in its small files, 4 in the new one"):
        overseas(tmp_path, OverseasUpkeep).keep_up(OVERSEAS, pins={}, keep_s=0)
    assert before.equals(overseas(tmp_path).read(OVERSEAS))


def test_a_writer_that_is_faster_is_not_overwritten(tmp_path, monkeypatch) -> None:
    """A batch becomes main while small files are rewritten: its rows stay, and upkeep begins again on the new main."""
    curate(tmp_path, 0)
    curate(tmp_path, 1)
    own, late = catalog_upkeep.commit, iter([2])

    def commit(transaction, found):
        for number in late:
            curate(tmp_path, number)
        own(transaction, found)

    monkeypatch.setattr(catalog_upkeep, "commit", commit)
    did = home(tmp_path, HomeUpkeep).keep_up(HOME, pins={}, keep_s=0)
    assert (3, 3) == (did.compacted_files, home(tmp_path).read(HOME).num_rows)

    def lost(transaction, found):
        raise catalog_iceberg.LostRace

    monkeypatch.setattr(catalog_upkeep, "commit", lost)
    monkeypatch.setattr(catalog_iceberg, "_TRIES", 2)
    with pytest.raises(ConcurrentChange, match="faster 2 times"):
        home(tmp_path, HomeUpkeep).keep_up(HOME, pins={"x": home(tmp_path).head(HOME)}, keep_s=0)
