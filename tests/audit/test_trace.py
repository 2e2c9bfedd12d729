"""A trace names every field that left, under which rule and pack, on whose word; or the rules that kept it at home."""

import hashlib
import time

import pyarrow as pa
import pytest

from curation.audit.trace import trace
from curation.errors import EvidenceBroken, OutsideError, UsageError
from curation.records import StageCount
from curation.schema import DECISIONS, MAPPING, RELEASE
from curation.tables import to_parquet

TABLE = "published.clips"


@pytest.fixture
def published(world, rows):
    """A published release."""
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    return release_id


def asked(world, subject, **given):
    """The trace of a subject."""
    return trace(subject, store=world.store, entries=list(world.ledger.entries()), **given)


def test_what_left_of_a_clip_is_named_with_rule_pack_and_approver(world, rows, published):
    """Every column but the random id, each with its value and rule; when, in which snapshot, under which pack, on whose word."""
    clip_id = rows["clip_id"][0].as_py()
    found = asked(world, clip_id)
    [row] = found.rows
    assert (found.kind, found.clip_ids, found.withheld) == ("clip", (clip_id,), ())
    assert [one.column for one in row.fields] == [name for name in RELEASE.names if name != "release_row_id"]
    overseas = {line["release_row_id"]: line for line in world.catalog.read(TABLE).to_pylist()}
    assert {one.column: one.value for one in row.fields} | {"release_row_id": row.release_row_id} == overseas[row.release_row_id]
    assert {one.rule for one in row.fields} == {f"output.{one.column}" for one in row.fields}
    snapshot = world.catalog.find(TABLE, published)
    assert (row.state, row.release_id, row.snapshot_id) == ("published", published, str(snapshot.snapshot_id))
    assert (row.approver, row.ticket, row.requesters, row.came_back) == ("officer", "T-1", ("engineer",), None)
    assert row.pack_digest == world.folder(published).evidence()["pack"]["digest"]
    assert row.at == next(entry.at for entry in world.ledger.entries() if entry.kind == "publish")


def test_a_row_and_a_vehicle_lead_to_the_same(world, rows, published):
    """The id found overseas, and the vehicle, name the same row as the clip; a vehicle also tells its clips that stayed, where asked."""
    [by_clip] = asked(world, rows["clip_id"][0].as_py()).rows
    by_row = asked(world, by_clip.release_row_id)
    own = [row["clip_id"] for row in rows.to_pylist() if row["vehicle_id"] == "fleet-0001"]
    by_vehicle = asked(world, "fleet-0001", clip_ids=own)
    assert (by_row.kind, by_row.rows, by_row.withheld) == ("row", (by_clip,), ())
    assert (by_vehicle.kind, by_vehicle.rows, by_vehicle.clip_ids) == ("vehicle", (by_clip,), tuple(sorted(own)))
    assert [one.rules for one in by_vehicle.withheld] == [("row.accepted",)]
    of_what_left = asked(world, "fleet-0001")
    assert (of_what_left.kind, of_what_left.rows, of_what_left.withheld) == ("vehicle", (by_clip,), None)


def test_a_vehicle_of_which_nothing_left_is_told_where_asked(world, rows, published):
    """Releases know the vehicles of released rows alone: the command says how to look for the others, and then they are told."""
    with pytest.raises(UsageError, match="--withheld"):
        asked(world, "fleet-0003")
    found = asked(world, "fleet-0003", clip_ids=[rows["clip_id"][2].as_py()])
    assert (found.rows, [one.rules for one in found.withheld]) == ((), [("combination.k",)])


def test_a_clip_is_found_though_its_decisions_are_lost(world, rows, published, tmp_path):
    """Where a release's decisions are gone its mapping is read whole, so that no row is denied for a missing file."""
    (tmp_path / "home" / world.folder(published).key("decisions.parquet")).unlink()
    assert [row.state for row in asked(world, rows["clip_id"][0].as_py()).rows] == ["published"]


def test_a_mapping_lies_by_vehicle(world, make):
    """Bounds of row groups find a vehicle only where its rows lie together, whatever the order of clips."""
    several = make.table(*(make.clip(number, vehicle=f"fleet-{number % 3}") for number in range(9)))
    vehicles = world.folder(world.cut(several)).mapping()["vehicle_id"].to_pylist()
    assert vehicles == sorted(vehicles)
    assert set(vehicles) == {"fleet-0", "fleet-1", "fleet-2"}


def test_what_never_left_is_told_with_the_rules_that_withheld_it(world, rows, published):
    """A clip of a small cell: no row, and the release that withheld it with its rule."""
    found = asked(world, rows["clip_id"][2].as_py())
    assert (found.rows, [(one.release_id, one.rules) for one in found.withheld]) == ((), [(published, ("combination.k",))])


def test_an_approved_release_has_not_left_yet(world, rows):
    """Before its publication a row is told as not published, with neither time nor snapshot."""
    release_id = world.cut(rows)
    assert [(row.state, row.at, row.approver) for row in asked(world, rows["clip_id"][0].as_py()).rows] == [("not published", "", "")]
    world.approve(release_id)
    assert [row.approver for row in asked(world, rows["clip_id"][0].as_py()).rows] == ["officer"]


def test_a_changed_document_is_no_answer(world, rows, published, tmp_path):
    """Evidence or approval that the ledger did not record so is refused, not shown; a broken table is named."""
    clip_id = rows["clip_id"][0].as_py()
    for name, problem in (("approval.json", "recorded"), ("evidence.json", "recorded"), ("mapping.parquet", "Parquet")):
        path = tmp_path / "home" / world.folder(published).key(name)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-9])
        with pytest.raises(EvidenceBroken, match=problem):
            asked(world, clip_id)
        path.write_bytes(data)


def test_a_release_that_lost_its_rows_is_told(world, rows, published, tmp_path):
    """The mapping names a row that release.parquet does not hold, or the file is gone: nothing is made up."""
    path = tmp_path / "home" / world.folder(published).key("release.parquet")
    path.chmod(0o644)
    path.write_bytes(to_parquet(RELEASE.empty_table(), RELEASE))
    for _ in range(2):
        with pytest.raises(EvidenceBroken, match="of its mapping"):
            asked(world, rows["clip_id"][0].as_py())
        path.unlink(missing_ok=True)


def test_an_unknown_id_is_wrong_use(world, published):
    """Nothing speaks of it, and it cannot be made to ask something else."""
    for subject in ("nobody", "", "x' OR 1=1 --"):
        with pytest.raises(UsageError, match="no release speaks of it"):
            asked(world, subject)


def test_a_clip_among_many_is_found_in_seconds(world, rows, published):
    """Half a million rows in a release are looked through where they lie: within 3 s, though they are not read into Python."""
    count = 500_000
    numbers = pa.array([f"{number:064x}" for number in range(count)])
    row_ids = pa.array([f"{(number * 2654435761) % 2**32:032x}" for number in range(count)])
    same = {name: pa.array(["fleet"] * count) for name in ("vehicle_id", "captured_day")}
    others = pa.array([f"{number + 2**40:064x}" for number in range(count)])
    mapping = pa.table({"release_row_id": row_ids, "clip_id": others, **same}, schema=MAPPING)
    withheld = pa.array([["row.accepted"]] * count, pa.list_(pa.string()))
    decisions = pa.table({"clip_id": numbers, "released": pa.array([False] * count), "withheld_by": withheld}, schema=DECISIONS)
    for name, table, kind in (("mapping", mapping, MAPPING), ("decisions", decisions, DECISIONS)):
        world.store.create(f"releases/large/{name}.parquet", to_parquet(table, kind))
    world.ledger.record(StageCount(stage="release", subject="large", rows_in=count, accounted={"withheld": count}), files={})
    began_s = time.perf_counter()
    assert [one.rules for one in asked(world, f"{7:064x}").withheld] == [("row.accepted",)]
    assert time.perf_counter() - began_s < 3.0


class Bucket:
    """A store that gives stretches of objects alone, counts their bytes, and fails once it is told to."""

    def __init__(self, store, fails=None):
        self._store, self._fails, self.given_bytes = store, fails, 0

    def local_path(self, key):
        raise AssertionError(key)

    def read_range(self, key, offset_bytes, length_bytes):
        if self._fails is not None:
            raise self._fails
        data = self._store.read_range(key, offset_bytes, length_bytes)
        self.given_bytes += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_of_a_bucket_only_what_may_hold_it_is_read(world, rows, published):
    """Of 400,000 decisions most row groups stay where they are; a bucket that fails is told as that, not as broken evidence."""
    count = 400_000
    clip_ids = pa.array([hashlib.sha256(f"{number}".encode()).hexdigest() for number in range(count)]).sort()
    no = pa.array([False] * count)
    decisions = pa.table({"clip_id": clip_ids, "released": no, "withheld_by": [["row.accepted"]] * count}, schema=DECISIONS)
    key = "releases/large/decisions.parquet"
    world.store.create(key, to_parquet(decisions, DECISIONS))
    world.ledger.record(StageCount(stage="release", subject="large", rows_in=count, accounted={"withheld": count}), files={})
    bucket = Bucket(world.store)
    found = trace(clip_ids[7].as_py(), store=bucket, entries=list(world.ledger.entries()))
    assert [one.rules for one in found.withheld] == [("row.accepted",)]
    assert bucket.given_bytes < world.store.size(key)  # looked through twice, a third of it each time
    failing = Bucket(world.store, OutsideError("the bucket is gone", subject="store", fix="bring it back"))
    with pytest.raises(OutsideError, match="the bucket is gone"):
        trace(clip_ids[7].as_py(), store=failing, entries=list(world.ledger.entries()))
