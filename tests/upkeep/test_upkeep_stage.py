"""What is pinned follows from the ledger: shard sets that stand, releases that may still leave; the command does both catalogs."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.layout import shard_key
from curation.records import StageCount, UpkeepCount
from curation.stages import upkeep


class Catalog:
    """Notes what it is asked."""

    def __init__(self):
        self.asked = []

    def keep_up(self, table, **given):
        self.asked.append((table, given))
        return UpkeepCount(table=table, compacted_files=0, expired_snapshots=0, removed_files=0, snapshots=0, pinned=0)


@pytest.fixture
def keep(world):
    """Runs the stage; what the home and the overseas catalog were asked."""

    def run():
        home, overseas = Catalog(), Catalog()
        tables = {"curated_table": "curated.clips", "published_table": "published.clips"}
        given = {"store": world.store, "ledger": world.ledger, "clock": world.clock, "keep": timedelta(hours=24)}
        upkeep.run(home=home, overseas=overseas, check_overseas=lambda: None, **tables, **given)
        return home.asked, overseas.asked

    return run


def shard_set(world, name, snapshot):
    """A recorded shard set that stands."""
    world.store.create(shard_key(name, "index.json"), b"{}")
    count = StageCount(stage="shards", subject=name, rows_in=0, accounted={})
    world.ledger.record(count, files={}, facts={"snapshot": str(snapshot)})


def test_open_releases_and_standing_shard_sets_are_pinned(world, rows, keep):
    """A cut release is, until it is published or superseded; a shard set is, until its index is gone."""
    shard_set(world, "night-0123456789abcdef", 7)
    shard_set(world, "rain-0123456789abcdef", 8)
    first = world.cut(rows, snapshot_id=9)
    [(table, asked)], _ = keep()
    pins = {"shards.night-0123456789abcdef": 7, "shards.rain-0123456789abcdef": 8, f"release.{first}": 9}
    assert ("curated.clips", pins, 86400.0) == (table, asked["pins"], asked["keep_s"])
    world.store.remove(shard_key("rain-0123456789abcdef", "index.json"))
    second = world.cut(rows.slice(0, 2), snapshot_id=10)
    assert {"shards.night-0123456789abcdef": 7, f"release.{second}": 10} == keep()[0][0][1]["pins"]
    world.approve(second)
    world.publish(second, rows.slice(0, 2))
    assert {"shards.night-0123456789abcdef": 7} == keep()[0][0][1]["pins"]


def test_a_release_is_settled_a_term_after_its_receipt(world, rows, keep):
    """Within the term a publisher may still look for its snapshot by name; what was cut and never left is never settled."""
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    assert frozenset() == keep()[1][0][1]["settled"]
    world.clock.instant = datetime(2026, 11, 23, 8, tzinfo=UTC)
    world.cut(rows, day=date(2026, 11, 23))
    [(table, asked)] = keep()[1]
    assert ("published.clips", {}, frozenset({release_id})) == (table, asked["pins"], asked["settled"])


def test_the_command_tells_what_it_did_to_each_catalog(tmp_path, publisher_here):
    """A work folder without tables: nothing to do, twice over."""
    told = CliRunner().invoke(app, ["upkeep", "--json", "--work", str(tmp_path)], catch_exceptions=False)
    assert ["curated.clips", "published.clips"] == [json.loads(line)["table"] for line in told.output.splitlines()]
    told = CliRunner().invoke(app, ["upkeep", "--work", str(tmp_path)], catch_exceptions=False)
    assert "curated.clips: 0 files compacted, 0 snapshots forgotten, 0 files removed; 0 snapshots stay, 0 pins" in told.output
