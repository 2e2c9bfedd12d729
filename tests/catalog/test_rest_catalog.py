"""The overseas catalog behind REST, its files in a bucket: published once, taken back to the last byte, each user within its rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyiceberg.exceptions import NoSuchTableError

from curation import schema
from curation.adapters.catalog_files import stored_below
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import RELEASE_ID, WITHDRAWN
from curation.errors import ConcurrentChange, CurationError, GateRefused
from tests import rest_catalog

TABLE = rest_catalog.TABLE


@pytest.fixture(scope="module")
def overseas(tmp_path_factory) -> Iterator[rest_catalog.Overseas]:
    """A server with an empty table."""
    with rest_catalog.running(tmp_path_factory.mktemp("rest")) as found:
        yield found


def rows(name: str, count: int = 3) -> pa.Table:
    """Rows whose ids begin with `name`."""
    row = dict.fromkeys(schema.RELEASE.names, "x") | {"duration_s": 4}
    return pa.Table.from_pylist([row | {"release_row_id": f"{name}-{number}"} for number in range(count)], schema=schema.RELEASE)


def put(catalog: IcebergOverseas, name: str) -> int:
    """Publish a release; its snapshot id."""
    return catalog.append(TABLE, rows(name), properties={RELEASE_ID: name}).snapshot_id


def test_a_release_is_committed_once_read_and_taken_back(overseas) -> None:
    """The publisher commits, the reader reads, and after the withdrawal no object of the bucket holds the rows."""
    publisher = overseas.catalog("publisher")
    first = put(publisher, "r1")
    assert first == put(overseas.catalog("publisher"), "r1") == overseas.catalog("reader").find(TABLE, "r1").snapshot_id
    put(publisher, "r2")
    assert 6 == overseas.catalog("reader").read(TABLE).num_rows
    [(name, data)] = publisher.written(TABLE, first)
    objects = [file.location for file in stored_below(publisher._load(TABLE).io, f"s3://{rest_catalog.BUCKET}")]
    assert name in {location.rpartition("/")[2] for location in objects}
    assert data.startswith(b"PAR1")
    assert [] != publisher.holding(TABLE, pa.array(["r1-0"]))
    assert 1 == publisher.withdraw_rows(TABLE, pa.array(["r2-1"]))
    publisher.withdraw(TABLE, first)
    assert [] == publisher.holding(TABLE, pa.array(["r1-0", "r1-1", "r1-2", "r2-1"]))
    assert ["r2-0", "r2-2"] == publisher.read(TABLE)["release_row_id"].to_pylist()
    assert "true" == publisher.find(TABLE, "r1").properties[WITHDRAWN]
    closed = publisher.append(TABLE, rows("r3", 0), properties={RELEASE_ID: "r3", WITHDRAWN: "true"})
    assert "true" == closed.properties[WITHDRAWN]
    with pytest.raises(GateRefused, match="not committed again"):
        put(publisher, "r3")


def test_of_six_publishers_one_commits(overseas) -> None:
    """Six publish the same release at once: all name one snapshot, and the rows are there once."""
    found: list[int] = []

    def publish(catalog: IcebergOverseas) -> None:
        for _ in range(20):
            try:
                found.append(put(catalog, "race"))
            except ConcurrentChange:
                continue
            return

    racers = [threading.Thread(target=publish, args=(overseas.catalog("publisher"),)) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert (6, 1) == (len(found), len(set(found)))
    ids = overseas.catalog("reader").read(TABLE)["release_row_id"].to_pylist()
    assert 3 == len([one for one in ids if one.startswith("race")])


def test_a_reader_changes_nothing(overseas) -> None:
    """Its commit, its withdrawal and its dropping of the table are refused by the server, for good."""
    put(overseas.catalog("publisher"), "kept")
    reader = overseas.catalog("reader")
    before = reader.read(TABLE)
    with pytest.raises(CurationError, match="refuses") as refused:
        put(reader, "r9")
    assert not refused.value.retryable
    with pytest.raises(CurationError, match="refuses"):
        reader.withdraw_rows(TABLE, pa.array(["kept-0"]))
    with pytest.raises(NoSuchTableError):
        reader._catalog().drop_table(TABLE)
    assert before.equals(reader.read(TABLE))


def test_a_publisher_drops_no_table(overseas) -> None:
    """It appends and takes back rows; the table itself is not its own."""
    with pytest.raises(NoSuchTableError):
        overseas.catalog("publisher")._catalog().drop_table(TABLE)
    assert overseas.catalog("publisher")._load(TABLE) is not None


def test_a_wrong_secret_reaches_nothing(overseas) -> None:
    """The catalog's server knows its users by their secrets."""
    catalog = IcebergOverseas(overseas.settings("reader", secret="0" * 48), {TABLE: schema.RELEASE})
    with pytest.raises(CurationError, match="refuses"):
        catalog.read(TABLE)
