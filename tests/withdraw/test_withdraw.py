"""Withdrawal: two people, nothing left overseas, never again on request, whole evidence, and an interruption that changes nothing."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curation import layout
from curation.audit.trace import trace
from curation.audit.verify import verify
from curation.errors import ApprovalRefused, ConcurrentChange, EvidenceBroken, GateRefused, OutsideError, UsageError
from curation.release_files import left_releases, published_cells, published_clip_ids
from curation.stages import withdraw
from curation.stages.withdraw import Selection

TABLE = "published.clips"
WHY = {"reason": "contract ended", "requester": "engineer"}


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


class Curated:
    """The home catalog, as far as a request asks it."""

    def __init__(self, rows):
        self._rows = rows

    def clip_ids(self, table, column, value):
        return self._rows.filter(pc.equal(self._rows[column], value))["clip_id"].combine_chunks()


def ask(world, rows, by, value, **said):
    """A recorded request."""
    selection = Selection(by=by, value=value)
    given = {"store": world.store, "catalog": Curated(rows), "table": "curated.clips", "ledger": world.ledger}
    return withdraw.request(selection, **{**WHY, **said}, **given)


def confirm(world, withdrawal_id, *, approver="officer", catalog=None, store=None):
    """A confirmed one."""
    ports = {
        "store": store or world.store,
        "eraser": world.store,
        "catalog": catalog or world.catalog,
        "ledger": world.ledger,
        "clock": world.clock,
    }
    return withdraw.confirm(withdrawal_id, approver=approver, table=TABLE, **ports)


def leave(world, rows, **cut):
    """Cut, approve and publish."""
    release_id = world.cut(rows, **cut)
    world.approve(release_id)
    world.publish(release_id, rows)
    return release_id


@pytest.fixture
def many(make):
    """Two vehicles with two clips each in one cell, and one that stays at home."""
    cell = (make.clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number, device_id=f"DEV-{number % 2}") for number in range(4))
    return make.table(*cell, make.clip(9, vehicle="fleet-0001", province="CN-ZJ", drive_id="drive-9"))


@pytest.fixture
def published(world, many):
    """A published release of four rows."""
    return leave(world, many)


def words_below(folder):
    """Every byte of every file, and what Parquet files decode to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    decoded = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return "".join([*decoded, *(path.read_bytes().decode("latin-1") for path in files)])


def test_a_vehicle_is_gone_from_overseas_and_the_ledger_holds(world, many, published, tmp_path):
    """Its rows are in no table, snapshot or file; the other vehicle's stay; asked = withdrawn + not overseas; the evidence is covered."""
    mapping = world.folder(published).mapping().to_pylist()
    gone = {row["release_row_id"] for row in mapping if row["vehicle_id"] == "fleet-0001"}
    assert all(row_id in words_below(tmp_path / "overseas") for row_id in gone)
    asked = ask(world, many, "vehicle", "fleet-0001")
    assert asked == ask(world, many, "vehicle", "fleet-0001")
    assert confirm(world, asked.withdrawal_id).accounted == {"withdrawn": 2, "not_overseas": 1}
    words = words_below(tmp_path / "overseas")
    assert [row_id for row_id in gone if row_id in words] == []
    assert set(world.catalog.read(TABLE)["release_row_id"].to_pylist()) == {row["release_row_id"] for row in mapping} - gone
    receipt = json.loads(world.store.read(layout.withdrawal_key(asked.withdrawal_id, "receipt.json")))
    assert (receipt["requester"], receipt["approver"], receipt["rows_of_releases"]) == ("engineer", "officer", {published: 2})
    assert verify(world.store, world.key.public_key()).uncovered == ()
    entries = world.kinds()
    assert entries[-3:] == ["withdraw_request", "withdraw_confirm", "withdraw"]
    assert confirm(world, asked.withdrawal_id).accounted == {"withdrawn": 2, "not_overseas": 1}
    assert world.kinds() == entries


def test_by_device_and_by_drive(world, many, published):
    """curated.clips tells whose clips they are; what never left is asked for as well."""
    for by, value, withdrawn, asked in (("device", "DEV-0", 2, 2), ("drive", "drive-9", 0, 1)):
        request = ask(world, many, by, value)
        assert confirm(world, request.withdrawal_id).accounted == {"withdrawn": withdrawn, "not_overseas": asked - withdrawn}
        assert world.catalog.read(TABLE).num_rows == 2


def test_a_release_and_a_clip_that_home_erased(world, many, published):
    """A clip that curated.clips does not know any more is found by the mapping; then the rest of the release goes."""
    clip_id = many["clip_id"][0].as_py()
    erased = many.filter(pc.not_equal(many["clip_id"], clip_id))
    assert confirm(world, ask(world, erased, "clip", clip_id).withdrawal_id).accounted == {"withdrawn": 1, "not_overseas": 0}
    assert confirm(world, ask(world, erased, "release", published).withdrawal_id).accounted == {"withdrawn": 3, "not_overseas": 1}
    assert world.catalog.read(TABLE).num_rows == 0


def test_it_takes_two_people(world, many, published):
    """Who asked cannot confirm, in whatever spelling; nobody can neither."""
    asked = ask(world, many, "vehicle", "fleet-0001")
    for approver in ("engineer", " Engineer ", "\uff45ngineer", "", "  "):
        with pytest.raises(ApprovalRefused, match="nobody else"):
            confirm(world, asked.withdrawal_id, approver=approver)
    assert world.catalog.read(TABLE).num_rows == 4
    assert "withdraw_confirm" not in world.kinds()


def test_wrong_use_is_named(world, many, published):
    """Nothing known, no reason, no name, a release or withdrawal that is not there."""
    with pytest.raises(UsageError, match="nothing is known"):
        ask(world, many, "vehicle", "nobody")
    for said in ({"reason": " "}, {"requester": ""}):
        with pytest.raises(UsageError, match="reason"):
            ask(world, many, "vehicle", "fleet-0001", **said)
    with pytest.raises(UsageError, match="does not exist"):
        ask(world, many, "release", "2026-W01-000000000000")
    with pytest.raises(UsageError, match="never asked for"):
        confirm(world, "0" * 16)


def test_a_changed_request_is_not_confirmed(world, many, published, tmp_path):
    """Nobody slips other clips, or the wish for no second person, into what was asked for."""
    asked = ask(world, many, "vehicle", "fleet-0001")
    for name in ("request.json", "asked.parquet"):
        path = tmp_path / "home" / layout.withdrawal_key(asked.withdrawal_id, name)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data.replace(b'"alone":false', b'"alone":true ') if name == "request.json" else data + b" ")
        with pytest.raises(EvidenceBroken, match="not what the ledger recorded"):
            confirm(world, asked.withdrawal_id, approver="engineer")
        path.write_bytes(data)
    assert world.catalog.read(TABLE).num_rows == 4


def test_what_was_withdrawn_counts_no_more_and_never_leaves_again(world, many, published):
    """k and `already published` are without it; the next window counts it as withdrawn, and lets no row of it out."""
    clip_id = many["clip_id"][0].as_py()
    confirm(world, ask(world, many, "clip", clip_id).withdrawal_id)
    left = left_releases(world.store, world.ledger)
    pack_cell = ("province", "month", "resolution_class", "video_codec", "timeofday", "weather", "scene")
    assert (clip_id in published_clip_ids(left).to_pylist(), published_cells(left, pack_cell).num_rows) == (False, 3)
    world.clock.instant += timedelta(days=7)
    second = world.cut(many, day=date(2026, 11, 28))
    counts = world.folder(second).evidence()["counts"]
    assert counts == {"rows_in": 5, "released": 0, "withheld": 1, "already_published": 3, "withdrawn": 1}
    decided = {row["clip_id"]: row["withheld_by"] for row in world.folder(second).decisions().to_pylist()}
    assert decided[clip_id] == ["row.withdrawn"]
    cut = next(entry for entry in world.ledger.entries() if (entry.kind, entry.subject) == ("release", second))
    assert cut.counts == {"rows_in": 5, "withheld": 1, "already_published": 3, "withdrawn": 1}


def test_k_is_not_reached_with_withdrawn_rows(world, rows, make, published):
    """A cell of two vehicles loses one; a third vehicle's clip in the same cell then stays at home, for its cell is too small."""
    now = make.table(*(make.clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number) for number in range(4)))
    for vehicle in ("fleet-0000", "fleet-0001"):
        confirm(world, ask(world, now, "vehicle", vehicle).withdrawal_id)
    more = make.table(*now.to_pylist(), make.clip(7, vehicle="fleet-0007", day=9))
    world.clock.instant += timedelta(days=7)
    release_id = world.cut(more, day=date(2026, 11, 28))
    assert world.folder(release_id).release().num_rows == 0


def test_a_release_on_its_way_does_not_leave_with_a_withdrawn_clip(world, many):
    """Cut and approved, then a clip of it is withdrawn: its publication is refused, and the next cut goes without the clip."""
    release_id = world.cut(many)
    world.approve(release_id)
    clip_id = many["clip_id"][0].as_py()
    assert confirm(world, ask(world, many, "clip", clip_id).withdrawal_id).accounted == {"withdrawn": 0, "not_overseas": 1}
    with pytest.raises(GateRefused, match="was withdrawn since it was cut"):
        world.publish(release_id, many)
    assert world.catalog.read(TABLE).num_rows == 0
    again = world.cut(many)
    assert clip_id not in world.folder(again).mapping()["clip_id"].to_pylist()


def test_a_publication_that_broke_off_is_settled_first(world, many):
    """Rows are abroad without a receipt: the withdrawal waits, the publication takes everything back, then the withdrawal ends."""
    release_id = world.cut(many)
    world.approve(release_id)

    class DiesAfterCommit:
        def __getattr__(self, name):
            return getattr(world.catalog, name)

        def append(self, *args, **kwargs):
            world.catalog.append(*args, **kwargs)
            raise Killed

    with pytest.raises(Killed):
        world.publish(release_id, many, catalog=DiesAfterCommit())
    asked = ask(world, many, "clip", many["clip_id"][0].as_py())
    with pytest.raises(ConcurrentChange, match="its publication is not finished"):
        confirm(world, asked.withdrawal_id)
    assert world.catalog.read(TABLE).num_rows == 4
    with pytest.raises(GateRefused, match="withdrawn since"):
        world.publish(release_id, many)
    assert world.catalog.read(TABLE).num_rows == 0
    assert confirm(world, asked.withdrawal_id).accounted == {"withdrawn": 0, "not_overseas": 1}
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_one_withdrawal_at_a_time(world, many, published):
    """What one that was begun finds overseas must not change under it; it is finished first."""
    first, second = (ask(world, many, "vehicle", name) for name in ("fleet-0000", "fleet-0001"))
    with pytest.raises(Killed):
        confirm(world, first.withdrawal_id, catalog=Interrupted(world.catalog, {"withdraw_rows"}, at=1, after=False))
    with pytest.raises(ConcurrentChange, match="not finished"):
        confirm(world, second.withdrawal_id)
    confirm(world, first.withdrawal_id, approver="deputy")
    assert trace_of(world, "fleet-0000").rows[0].came_back.approver == "officer"
    confirm(world, second.withdrawal_id)
    assert world.catalog.read(TABLE).num_rows == 0


def test_of_two_withdrawals_at_once_the_first_in_the_ledger_goes_first(world, many, published):
    """Both look before either is confirmed: the second waits until the first has ended, and no row is counted twice."""
    clip_id = many["clip_id"][0].as_py()
    vehicle = many["vehicle_id"][0].as_py()
    first, second = ask(world, many, "vehicle", vehicle), ask(world, many, "clip", clip_id)
    killed = Interrupted(world.catalog, {"withdraw_rows"}, at=1, after=False)

    class Overtaken:
        def __getattr__(self, name):
            return getattr(world.ledger, name)

        def record(self, count, **named):
            with pytest.raises(Killed):
                confirm(world, first.withdrawal_id, catalog=killed)
            return world.ledger.record(count, **named)

    with pytest.raises(ConcurrentChange, match=f"{first.withdrawal_id}: is not finished"):
        confirm(replace(world, ledger=Overtaken()), second.withdrawal_id)
    with pytest.raises(ConcurrentChange, match=f"{first.withdrawal_id}: is not finished"):
        confirm(world, second.withdrawal_id)
    assert confirm(world, first.withdrawal_id).accounted["withdrawn"] == 2
    assert confirm(world, second.withdrawal_id).accounted == {"withdrawn": 0, "not_overseas": 1}


class Interrupted:
    """A port that ends the run, or fails, at its n-th call of these names, before or after the call's effect."""

    def __init__(self, port, names, *, at, after, error=Killed):
        self._port, self._names, self._at, self._after, self._error, self._calls = port, names, at, after, error, 0

    def __getattr__(self, name):
        method = getattr(self._port, name)
        if name not in self._names:
            return method

        def call(*args, **kwargs):
            self._calls += 1
            if self._calls == self._at and not self._after:
                raise self._error
            result = method(*args, **kwargs)
            if self._calls == self._at:
                raise self._error
            return result

        return call


@pytest.mark.parametrize("error", [Killed(), OutsideError("injected", subject="port", fix="retry")], ids=["killed", "failed"])
def test_a_withdrawal_that_ends_at_any_call_is_finished_by_the_next(world, make, error):
    """Whichever write or catalog call is the last, or fails, confirming again ends with the same table, receipt and ledger."""
    ports = {"catalog": {"withdraw_rows", "holding"}, "store": {"create"}, "ledger": {"record"}}
    calls = [("ledger", 1), ("store", 1), ("catalog", 1), ("catalog", 2), ("store", 2), ("ledger", 2)]  # all there are, in this order
    points = [*((port, at, False) for port, at in calls), ("ledger", 2, True)]  # after one is before the next
    clips = make.table(*(make.clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number) for number in range(len(points) + 2)))
    leave(world, clips)
    for number, (port, at, after) in enumerate(points):
        clip_id = clips["clip_id"][number].as_py()
        asked = ask(world, clips, "clip", clip_id)
        before = world.kinds()
        broken = Interrupted(getattr(world, port), ports[port], at=at, after=after, error=error)
        with pytest.raises(type(error)):
            confirm(replace(world, **{port: broken}), asked.withdrawal_id)
        assert confirm(world, asked.withdrawal_id).accounted == {"withdrawn": 1, "not_overseas": 0}
        assert world.kinds() == [*before, "withdraw_confirm", "withdraw"]
        [row] = trace_of(world, clip_id).rows
        assert world.catalog.holding(TABLE, pa.array([row.release_row_id])) == []
        assert world.catalog.read(TABLE).num_rows == clips.num_rows - number - 1
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_rows_that_stay_in_a_file_are_told(world, many, published, tmp_path):
    """Where a copy of a row still lies in the warehouse, the withdrawal is not finished, and says which file."""
    asked = ask(world, many, "vehicle", "fleet-0001")
    row_id = trace_of(world, "fleet-0001").rows[0].release_row_id
    stray = tmp_path / "overseas" / "warehouse" / "copy.txt"
    stray.write_text(f"row {row_id}")
    with pytest.raises(OutsideError, match=r"copy\.txt"):
        confirm(world, asked.withdrawal_id)
    assert world.kinds()[-1] == "withdraw_confirm"
    stray.unlink()
    confirm(world, asked.withdrawal_id)
    assert world.kinds()[-1] == "withdraw"


def trace_of(world, subject):
    """The trace of a subject."""
    return trace(subject, store=world.store, entries=list(world.ledger.entries()))


def test_the_trace_says_that_it_came_back(world, many, published):
    """Withdrawn, when, why, asked for and confirmed by whom; what stayed says nothing of it."""
    asked = ask(world, many, "vehicle", "fleet-0001")
    confirm(world, asked.withdrawal_id)
    back, stayed = (trace_of(world, vehicle).rows for vehicle in ("fleet-0001", "fleet-0000"))
    assert {(row.state, row.came_back.withdrawal_id, row.came_back.cause) for row in back} == {
        ("withdrawn", asked.withdrawal_id, "request")
    }
    assert {(row.came_back.reason, row.came_back.requester, row.came_back.approver) for row in back} == {
        ("contract ended", "engineer", "officer")
    }
    assert {(row.state, row.came_back) for row in stayed} == {("published", None)}


class RewrittenOnce:
    """An overseas catalog in which somebody else's withdrawal of one row rewrites the file before it is read back."""

    def __init__(self, catalog, row_ids):
        self.catalog, self.row_ids = catalog, row_ids

    def written(self, table, snapshot_id):
        self.catalog.withdraw_rows(table, self.row_ids[:1])
        return self.catalog.written(table, snapshot_id)

    def __getattr__(self, name):
        return getattr(self.catalog, name)


def test_a_take_back_after_a_withdrawal_rewrote_its_file_leaves_nothing(world, many):
    """A release whose rows another commit rewrote is taken back by its row ids, not by the snapshot that wrote them first."""
    release_id = world.cut(many)
    world.approve(release_id)
    row_ids = world.folder(release_id).mapping()["release_row_id"].combine_chunks()
    with pytest.raises(GateRefused, match="other rows"):
        world.publish(release_id, many, catalog=RewrittenOnce(world.catalog, row_ids))
    assert (world.catalog.read(TABLE).num_rows, world.catalog.holding(TABLE, row_ids)) == (0, [])
