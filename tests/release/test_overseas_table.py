"""One home, one overseas table: another one, an older one, or a ledger that was cut off lets nothing leave and takes nothing back.

And whoever can write into the home store, and has no key, hides no release, makes none up, and passes none off as another.
"""

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from curation import overseas_table, schema
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.audit.ledger import StoreLedger
from curation.errors import EvidenceBroken, GateRefused, UsageError
from curation.layout import ledger_key
from curation.release_files import left_releases
from curation.stages import review, upkeep
from curation.tables import to_parquet
from tests.release.conftest import TABLE, clip, table, world_in
from tests.withdraw.test_review import put_there
from tests.withdraw.test_withdraw import ask, confirm

FIRST = table(*(clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number) for number in range(4)))
MORE = pa.concat_tables([FIRST, table(*(clip(number, vehicle=f"fleet-000{number % 2}", day=number) for number in range(5, 9)))])


LATER = datetime(2026, 11, 23, 8, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here: nobody catches it."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What is left of a folder with a world, its published release, and the next one, approved."""
    folder = tmp_path_factory.mktemp("one-table") / "world"
    world = world_in(folder)
    world.approve(first := world.cut(FIRST))
    world.publish(first, FIRST)
    world.clock.instant = LATER
    world.approve(second := world.cut(MORE, day=LATER.date()))
    return folder.rename(folder.with_name("kept")), world, (first, second)


@pytest.fixture
def folder(kept):
    """It, where it was: tables name their files by whole paths."""
    folder = kept[0].with_name("world")
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(kept[0], folder))


@pytest.fixture
def world(kept, folder):
    """The world in that folder, as a process that starts now finds it."""
    return reopened(kept[1])


@pytest.fixture
def published(kept):
    """Ids of the published release, and of the one that is approved."""
    return kept[2]


@pytest.fixture
def fresh(tmp_path):
    """A world from which nothing has left, and an approved release of it."""
    world = world_in(tmp_path)
    world.approve(release_id := world.cut(FIRST))
    return world, release_id


@pytest.fixture
def overseas(folder):
    """The folder of the overseas catalog, which a test may copy or remove as an operator does."""
    return folder / "overseas"


def reopened(world):
    """The world with the ledger and the catalog as a process that starts now finds them."""
    catalog = IcebergOverseas(world.catalog._settings, {TABLE: schema.RELEASE})
    return replace(world, ledger=StoreLedger(world.store, world.clock, world.key), catalog=catalog)


def look(world, rows):
    """A review's decision."""
    given = {"catalog": world.catalog, "table": TABLE, "store": world.store, "ledger": world.ledger, "clock": world.clock}
    return review.decide(rows, **given, **asdict(world.law))


def keep_up(world, asked):
    """Upkeep, of which `asked` notes what the catalogs are asked."""

    class Notes:
        def keep_up(self, name, **_):
            asked.append(name)

    ports = {"store": world.store, "ledger": world.ledger}
    check = partial(overseas_table.check, TABLE, catalog=world.catalog, **ports)
    tables = {"curated_table": "curated.clips", "published_table": TABLE, "check_overseas": check}
    upkeep.run(home=Notes(), overseas=Notes(), **tables, keep=upkeep.timedelta(hours=24), clock=world.clock, **ports)


def adopt(world):
    """The table as it is, adopted."""
    ports = {"catalog": world.catalog, "store": world.store, "ledger": world.ledger}
    return overseas_table.adopt(TABLE, reason="moved", requester="engineer", **ports)


def refused_everywhere(world, second, error, match):
    """Nothing is published, reviewed, kept up or withdrawn there; what is to be withdrawn is barred from leaving all the same."""
    before, asked = world.catalog.identify(TABLE), []
    with pytest.raises(error, match=match):
        world.publish(second, MORE)
    with pytest.raises(error, match=match):
        look(world, MORE)
    with pytest.raises(error, match=match):
        keep_up(world, asked)
    request = ask(world, MORE, "vehicle", "fleet-0001")
    with pytest.raises(error, match=match):
        confirm(world, request.withdrawal_id)
    assert ["curated.clips"] == asked
    assert before == world.catalog.identify(TABLE)
    assert "withdraw_confirm" == world.kinds()[-1]
    return request.withdrawal_id


def exchanged(overseas):
    """Another catalog under the settings' name, and the first one put aside."""
    return overseas.rename(overseas.with_name("put-aside"))


def test_ledger_and_table_name_each_other(world, published):
    """The ledger has the table's UUID before the first row leaves, and how far it came; the table has the ledger's head."""
    [entry] = [entry for entry in world.ledger.entries() if entry.kind == "overseas_table"]
    [receipt] = [entry for entry in world.ledger.entries() if entry.kind == "publish"]
    found = world.catalog.identify(TABLE)
    assert entry.sequence < receipt.sequence
    assert (TABLE, found.table_uuid, "0") == tuple(entry.facts[name] for name in ("table", "table_uuid", "table_sequence"))
    assert (found.table_uuid, str(found.sequence)) == (receipt.facts["table_uuid"], receipt.facts["table_sequence"])
    number, _, digest = found.anchor.partition(":")
    assert [digest] == [one.digest() for one in world.ledger.entries() if str(one.sequence) == number]


def test_another_catalog_of_the_same_name_is_refused(world, published, overseas):
    """A table with rows of its own, an empty one and none at all: each is named; set back, the withdrawal that waited is finished."""
    first = exchanged(overseas)
    withdrawal_id = refused_everywhere(world, published[1], GateRefused, "is not there; the ledger knows table")
    world.catalog.make(TABLE)
    with pytest.raises(GateRefused, match=r"has the UUID .* but the ledger knows"):
        confirm(world, withdrawal_id)
    world.catalog.append(TABLE, world.folder(published[0]).release(), properties={"curation.release-id": "r1"})
    with pytest.raises(GateRefused, match="has the UUID"):
        world.publish(published[1], MORE)
    assert 4 == world.catalog.read(TABLE).num_rows
    shutil.rmtree(overseas)
    first.rename(overseas)
    assert {"withdrawn": 2, "not_overseas": 2} == confirm(reopened(world), withdrawal_id).accounted


def test_a_table_that_was_dropped_and_made_anew_is_refused(world, published):
    """Its UUID is another, though name and place are the same."""
    world.catalog._catalog().drop_table(TABLE)
    world.catalog.make(TABLE)
    refused_everywhere(world, published[1], GateRefused, "has the UUID")


def test_settings_that_name_another_table_are_refused(world, published):
    """Rows of one release may not be in a table that later withdrawals do not look at."""
    other = IcebergOverseas(world.catalog._settings, {"published.other": schema.RELEASE})
    with pytest.raises(GateRefused, match="is not there; the ledger knows table"):
        world.publish(published[1], MORE, catalog=other, table="published.other")
    assert other.identify("published.other") is None


def test_a_table_that_is_exchanged_between_look_and_commit_gets_no_row(world, published):
    """The commit names the table it is meant for, and a table that is gone is not made."""
    real = world.catalog

    class Dropped:
        def __getattr__(self, name):
            return getattr(real, name)

        def append(self, *args, **kwargs):
            if real.identify(TABLE) is not None:
                real._catalog().drop_table(TABLE)
            return real.append(*args, **kwargs)

    with pytest.raises(GateRefused, match="is gone"):
        world.publish(published[1], MORE, catalog=Dropped())
    assert real.identify(TABLE) is None


def test_a_publication_killed_between_table_and_entry_goes_on(fresh):
    """Nobody used that table yet: the next run records it."""
    world, release_id = fresh

    class Dies:
        def __getattr__(self, name):
            return getattr(world.ledger, name)

        def record(self, *_, **__):
            raise Killed

    with pytest.raises(Killed):
        replace(world, ledger=Dies()).publish(release_id, FIRST)
    made = world.catalog.identify(TABLE)
    assert made.is_unused
    world.publish(release_id, FIRST)
    assert made.table_uuid == world.catalog.identify(TABLE).table_uuid


def test_a_table_in_use_that_the_ledger_does_not_know_is_adopted_or_nothing_leaves(fresh):
    """Two homes with one overseas catalog, or a table from before tables were recorded."""
    world, release_id = fresh
    world.catalog.make(TABLE)
    put_there(world, world.folder(release_id).release().slice(0, 1))
    with pytest.raises(GateRefused, match="is not known to the ledger"):
        world.publish(release_id, FIRST)
    assert ["release", "approve"] == world.kinds()
    with pytest.raises(UsageError, match="needs a reason"):
        overseas_table.adopt(TABLE, reason=" ", requester="x", catalog=world.catalog, store=world.store, ledger=world.ledger)
    adopt(world)
    adopt(world)
    assert ("moved", "engineer") == tuple(world.ledger.head().facts[name] for name in ("reason", "requester"))
    with pytest.raises(GateRefused, match="no release let out"):  # what stands in it is for the review to say
        look(world, FIRST)
    world.publish(release_id, FIRST)


def test_another_homes_table_is_not_adopted(world, published, tmp_path):
    """Its ledger's head is noted there, and is not in ours."""
    store = type(world.store)(tmp_path / "other-home", jurisdiction="CN")
    other = replace(world, store=store, ledger=StoreLedger(store, world.clock, world.key))
    other.approve(release_id := other.cut(FIRST, window="2026-W48"))
    with pytest.raises(GateRefused, match="is not known to the ledger"):
        other.publish(release_id, FIRST)
    with pytest.raises(EvidenceBroken, match=r"another entry|ends at entry"):
        adopt(other)


def test_a_table_takes_the_place_of_another_only_when_no_row_stands_there(world, published, overseas):
    """Else rows would be out of every withdrawal's reach."""
    request = ask(world, MORE, "release", published[0])
    assert {"withdrawn": 4, "not_overseas": 0} == confirm(world, request.withdrawal_id).accounted
    world.publish(published[1], MORE)
    world, old = reopened(world), exchanged(overseas)
    with pytest.raises(GateRefused, match="cannot take the place"):
        adopt(world)
    shutil.rmtree(overseas)
    shutil.copytree(old, overseas)
    second = ask(world, MORE, "release", published[1])
    assert {"withdrawn": 4, "not_overseas": 0} == confirm(reopened(world), second.withdrawal_id).accounted
    overseas.rename(overseas.with_name("put-aside-too"))
    world = reopened(world)
    adopt(world)
    assert 0 == look(world, MORE).row_count


def test_an_older_copy_of_the_catalog_is_refused_and_adopted_without_what_was_withdrawn(world, published, overseas):
    """The same table of before a withdrawal, with the rows that are told of as gone: adopting it takes them away again."""
    copy = Path(shutil.copytree(overseas, overseas.with_name("copy")))
    request = ask(world, MORE, "vehicle", "fleet-0000")
    assert {"withdrawn": 2, "not_overseas": 2} == confirm(world, request.withdrawal_id).accounted
    shutil.rmtree(overseas)
    copy.rename(overseas)
    world = reopened(world)
    with pytest.raises(GateRefused, match=r"knows change .*: an older copy of it was restored"):
        world.publish(published[1], MORE)
    assert 4 == world.catalog.read(TABLE).num_rows
    assert 2 == adopt(world)[1]
    assert (2, 0) == (look(world, MORE).row_count, look(world, MORE).missing_count)


def test_a_table_without_its_note_is_refused(world, published):
    """Somebody overseas who may change properties cannot make a home with a ledger that was cut off publish."""
    with world.catalog._catalog().load_table(TABLE).transaction() as transaction:
        known = transaction.table_metadata.properties
        transaction.remove_properties(*(name for name in known if name.startswith(("curation.anchor.", "curation.release."))))
    with pytest.raises(GateRefused, match="bears no note"):
        world.publish(published[1], MORE)


def cut_off(world, folder, first):
    """The ledger without its entries from `first` on, as the process that starts next finds it."""
    for number in range(first, len(world.kinds())):
        path = folder / "home" / ledger_key(number)
        path.chmod(0o644)
        path.unlink()
    return reopened(world)


def test_a_ledger_that_was_cut_off_publishes_nothing(world, published, folder):
    """Behind what is noted overseas, and grown again past it: what was withdrawn does not leave again, and nothing is told of as gone."""
    request = ask(world, MORE, "clip", MORE["clip_id"][6].as_py())
    assert {"withdrawn": 0, "not_overseas": 1} == confirm(world, request.withdrawal_id).accounted
    confirmed = world.kinds().index("withdraw_confirm")
    with pytest.raises(GateRefused, match="withdrawn since"):
        world.publish(published[1], MORE)
    world = cut_off(world, folder, confirmed)
    refused_everywhere(world, published[1], EvidenceBroken, "was cut off|was rewritten")
    for number in range(3):
        ask(world, MORE, "vehicle", "fleet-0001", reason=f"{number}")
    with pytest.raises(EvidenceBroken, match="was rewritten"):
        world.publish(published[1], MORE)
    assert 4 == world.catalog.read(TABLE).num_rows


def test_a_ledger_without_a_trace_of_its_past_publishes_nothing(world, folder):
    """All of it gone: the table is nobody's."""
    world = cut_off(world, folder, 0)
    with pytest.raises(GateRefused, match="is not known to the ledger"):
        overseas_table.check(TABLE, catalog=world.catalog, store=world.store, ledger=world.ledger)


def test_withdrawing_what_never_left_needs_no_table(fresh):
    """Where nothing was ever published the clips are barred, and no table is made."""
    world, _ = fresh
    request = ask(world, FIRST, "vehicle", "fleet-0001")
    assert {"withdrawn": 0, "not_overseas": 2} == confirm(world, request.withdrawal_id).accounted
    assert world.catalog.identify(TABLE) is None


def put(folder, key, data):
    """Put a file into the home store's place of a key, or take it away, as somebody with rights on the store does."""
    path = folder / "home" / key
    if path.exists():
        path.chmod(0o644)
        path.unlink()
    if data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_published_release_cannot_be_hidden(world, published, folder):
    """Else its clips would leave again, and a withdrawal would tell of its rows as not overseas."""
    put(folder, world.folder(published[0]).key("evidence.json"), None)
    assert [published[0]] == [one.release_id for one in left_releases(world.store, world.ledger)]
    put(folder, world.folder(published[0]).key("mapping.parquet"), None)
    with pytest.raises(EvidenceBroken, match="is gone, though the ledger recorded it"):
        world.publish(published[1], MORE)
    request = ask(world, MORE, "device", "DEV-000001")
    with pytest.raises(EvidenceBroken, match="is gone, though the ledger recorded it"):
        confirm(world, request.withdrawal_id)
    assert 4 == world.catalog.read(TABLE).num_rows


def test_a_published_release_cannot_be_passed_off_as_of_other_clips(world, published, folder):
    """Its mapping says which rows a withdrawal takes, which clips may not leave again, and which vehicles count for k."""
    mapping = world.folder(published[0]).mapping()
    others = pa.array([f"{number:064x}" for number in range(mapping.num_rows)])
    forged = mapping.set_column(mapping.column_names.index("clip_id"), "clip_id", others)
    put(folder, world.folder(published[0]).key("mapping.parquet"), to_parquet(forged.cast(schema.MAPPING), schema.MAPPING))
    with pytest.raises(EvidenceBroken, match="is not what the ledger recorded"):
        world.publish(published[1], MORE)
    request = ask(world, MORE, "device", "DEV-000001")
    with pytest.raises(EvidenceBroken, match="is not what the ledger recorded"):
        confirm(world, request.withdrawal_id)
    assert 4 == world.catalog.read(TABLE).num_rows


def test_a_release_that_was_made_up_counts_for_nothing(world, published, folder):
    """Files beside the others, with an intent: vehicles of theirs would make a small cell large enough to leave."""
    made_up = world.folder("2026-W40-000000000000")
    for name in ("evidence.json", "release.parquet", "mapping.parquet", "counted.parquet", "intent.json"):
        source = world.folder(published[0]).key(name) if name != "evidence.json" else world.folder(published[1]).key(name)
        put(folder, made_up.key(name), world.store.read(source))
    assert [published[0]] == [one.release_id for one in left_releases(world.store, world.ledger)]
    world.publish(published[1], MORE)


def test_rows_abroad_whose_intent_was_removed_are_seen(world, published, folder):
    """A publisher died after its commit, and home forgets that it began: the clips are not free again, and the rows not out of sight."""
    real = world.catalog

    class DiesAfterCommit:
        def __getattr__(self, name):
            return getattr(real, name)

        def append(self, *args, **kwargs):
            real.append(*args, **kwargs)
            raise Killed

    with pytest.raises(Killed):
        world.publish(published[1], MORE, catalog=DiesAfterCommit())
    intent = world.folder(published[1]).key("intent.json")
    kept = world.store.read(intent)
    put(folder, intent, None)
    refused_everywhere(world, published[1], EvidenceBroken, "holds release .*, of whose publication home knows nothing")
    put(folder, intent, kept)
    assert overseas_table.check(TABLE, catalog=real, store=world.store, ledger=world.ledger)
