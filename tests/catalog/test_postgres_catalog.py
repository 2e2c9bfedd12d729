"""The overseas catalog in PostgreSQL: committed once by one of many, taken back to the last byte, read by a reader and written by none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from curation import schema
from curation.adapters import catalog_overseas
from curation.adapters.catalog_files import WRITING_S
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID, WITHDRAWN
from curation.errors import ConcurrentChange, GateRefused, OutsideError
from curation.settings import OverseasCatalogSettings
from tests import postgres

pytestmark = pytest.mark.skipif(postgres.MISSING is not None, reason=str(postgres.MISSING))
TABLE = "published.clips"


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    """A cluster with a publisher, who owns a database of its own, and a reader."""
    with postgres.running() as found:
        found.run("create role publisher login password 'p-secret'", "create role reader login password 'r-secret'")
        yield found


@pytest.fixture
def as_user(cluster, tmp_path):
    """Opens the catalog of this test as a user."""
    database = f"test_{time.monotonic_ns()}"
    cluster.run(f"create database {database} owner publisher")

    def opened(user: str, password: str) -> IcebergOverseas:
        keys = tmp_path / f"{user}.toml"
        keys.write_text(f'password = "{password}"\n')
        keys.chmod(0o600)
        uri = cluster.uri(user).removesuffix("postgres") + database
        return IcebergOverseas(
            OverseasCatalogSettings(name="overseas", uri=uri, warehouse=tmp_path / "warehouse", key_file=keys), {TABLE: schema.RELEASE}
        )

    return opened


@pytest.fixture
def overseas(as_user) -> IcebergOverseas:
    """The catalog as its publisher opens it."""
    return as_user("publisher", "p-secret")


def rows(name: str, count: int = 3) -> pa.Table:
    """Rows whose ids begin with `name`."""
    row = dict.fromkeys(schema.RELEASE.names, "x") | {"duration_s": 4}
    return pa.Table.from_pylist([row | {"release_row_id": f"{name}-{number}"} for number in range(count)], schema=schema.RELEASE)


def put(overseas: IcebergOverseas, name: str) -> int:
    """Publish a release; its snapshot id."""
    return overseas.append(TABLE, rows(name), properties={RELEASE_ID: name}).snapshot_id


def test_a_release_is_committed_once_read_and_taken_back(overseas, as_user, tmp_path) -> None:
    """Found and read by another connection, written once, and after the withdrawal in no file."""
    first = put(overseas, "r1")
    again = as_user("publisher", "p-secret")
    assert first == put(again, "r1") == again.find(TABLE, "r1").snapshot_id
    put(again, "r2")
    assert 6 == overseas.read(TABLE).num_rows
    assert 1 == overseas.withdraw_rows(TABLE, pa.array(["r2-1"]))
    overseas.withdraw(TABLE, first)
    gone = pa.array(["r1-0", "r1-1", "r1-2", "r2-1"])
    assert [] == overseas.holding(TABLE, gone)
    assert ["r2-0", "r2-2"] == overseas.read(TABLE)["release_row_id"].to_pylist()
    assert "true" == overseas.find(TABLE, "r1").properties[WITHDRAWN]


def test_who_is_about_to_commit_a_release_that_another_closes_loses(overseas, as_user, monkeypatch) -> None:
    """No lock keeps them apart: the rows are written, the other closes the release, and the commit finds that main has moved on."""
    put(overseas, "r0")
    real, closed = catalog_overseas.commit, []

    def commit(transaction: object, found: object) -> None:
        if not closed:
            closed.append("r1")
            other = as_user("publisher", "p-secret")
            closed.append(other.append(TABLE, rows("r1", 0), properties={RELEASE_ID: "r1", WITHDRAWN: "true"}).properties[WITHDRAWN])
        real(transaction, found)

    monkeypatch.setattr(catalog_overseas, "commit", commit)
    with pytest.raises(ConcurrentChange):
        put(overseas, "r1")
    with pytest.raises(GateRefused, match="not committed again"):
        put(overseas, "r1")
    assert (["r1", "true"], 3) == (closed, overseas.read(TABLE).num_rows)
    assert 1 == len(list(overseas._settings.warehouse.rglob("*.parquet")))


def test_of_six_publishers_one_commits(overseas, as_user) -> None:
    """Six publish the same release at once, and no lock file helps them: one snapshot, one file, and all six name it."""
    put(overseas, "r0")
    found: list[int] = []

    def publish(catalog: IcebergOverseas) -> None:
        for _ in range(20):
            try:
                found.append(put(catalog, "r1"))
            except ConcurrentChange:
                continue
            return

    racers = [threading.Thread(target=publish, args=(as_user("publisher", "p-secret"),)) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [overseas.find(TABLE, "r1").snapshot_id] * 6 == found
    assert 6 == overseas.read(TABLE).num_rows
    assert 2 == len(list(overseas._settings.warehouse.rglob("*.parquet")))


def test_work_under_way_is_left_alone_and_old_leftovers_go(overseas, tmp_path) -> None:
    """A file that no snapshot refers to may be another machine's commit under way; after an hour, or with a withdrawn row, it is not."""
    put(overseas, "r1")
    [file] = (tmp_path / "warehouse").rglob("*.parquet")
    copies = [file.with_name(f"{name}.parquet") for name in ("young", "old")]
    for copy in copies:
        copy.write_bytes(file.read_bytes())
    os.utime(copies[1], (time.time() - WRITING_S - 60,) * 2)
    put(overseas, "r2")
    assert [True, False] == [copy.exists() for copy in copies]
    overseas.withdraw_rows(TABLE, pa.array(["r1-0"]))
    assert not copies[0].exists()


def test_a_reader_reads_and_commits_nothing(overseas, as_user, cluster) -> None:
    """The reader's rights in the database let it read; its commit and its withdrawal fail and leave everything as it was."""
    put(overseas, "r1")
    database = overseas._settings.uri.rpartition("/")[2]
    with_database = postgres.psycopg2.connect(host="127.0.0.1", port=cluster.port, user="owner", password=cluster.password, dbname=database)
    with with_database, with_database.cursor() as cursor:
        cursor.execute("grant select on all tables in schema public to reader")
    with_database.close()
    reader = as_user("reader", "r-secret")
    assert 3 == reader.read(TABLE).num_rows
    with pytest.raises(OutsideError, match="the catalog's database failed"):
        put(reader, "r2")
    with pytest.raises(OutsideError, match="the catalog's database failed"):
        reader.withdraw_rows(TABLE, pa.array(["r1-0"]))
    assert 3 == overseas.read(TABLE).num_rows


def test_a_wrong_password_reaches_nothing(as_user) -> None:
    """Nobody reads without the password, which stands in the key file alone."""
    with pytest.raises(OutsideError, match="the catalog's database failed"):
        as_user("publisher", "wrong").read(TABLE)
