"""Nothing is published but the approved bytes, once, read back and receipted; each refusal says no."""

import io
import json
import shutil
import threading
from dataclasses import replace
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import overseas_table
from curation.approval import recorded_digests
from curation.audit.leaks import find_home_values
from curation.audit.ledger import StoreLedger
from curation.audit.verify import verify
from curation.errors import ApprovalRefused, ConcurrentChange, CurationError, EvidenceBroken, GateRefused, OutsideError, PackRefused
from curation.records import StageCount
from curation.release_files import RELEASE_FILE, SUPERSEDED_FILE, check_clock
from curation.stages.publish import RELEASE_PROPERTY, WITHDRAWN_PROPERTY
from tests.release.conftest import four_rows, opened_in, world_in

TABLE = "published.clips"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a cut release, its world, and the release's id: most tests begin there, and none of them may change it."""
    folder = tmp_path_factory.mktemp("cut")
    world = world_in(folder)
    return folder, world, world.cut(four_rows())


@pytest.fixture
def world(tmp_path, request):
    """A world of the test's own, with the cut release where the test asks for one: nothing at home names where it lies."""
    if "cut" not in request.fixturenames:
        return world_in(tmp_path)
    folder, world, _ = request.getfixturevalue("kept")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return opened_in(tmp_path, world.law, world.key)


@pytest.fixture
def cut(kept):
    """A cut release."""
    return kept[2]


@pytest.fixture
def approved(world, cut):
    """An approved release."""
    world.approve(cut)
    return cut


def test_an_approved_release_is_published_once(world, rows, approved):
    """The catalog holds the approved rows; publishing again adds neither rows nor ledger entries."""
    count = world.publish(approved, rows)
    entries = world.kinds()
    assert count.accounted == {"published": 2}
    assert world.publish(approved, rows) == count
    assert world.catalog.read(TABLE).num_rows == 2
    assert world.kinds() == entries
    assert entries == ["release", "approve", "overseas_table", "publish"]
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_what_was_sent_is_kept_byte_for_byte(world, rows, approved):
    """The copies under sent/ are the files that the catalog wrote, and the snapshot names release, evidence and ledger head."""
    world.publish(approved, rows)
    snapshot = world.catalog.find(TABLE, approved)
    written = [data for _, data in world.catalog.written(TABLE, snapshot.snapshot_id)]
    sent = [world.store.read(key) for key in world.store.keys(f"releases/{approved}/sent/")]
    assert sent == written
    assert snapshot.properties[RELEASE_PROPERTY] == approved
    assert snapshot.properties["curation.pack-digest"] == world.folder(approved).evidence()["pack"]["digest"]
    assert snapshot.properties["curation.evidence-digest"] == world.folder(approved).digest("evidence.json")
    sequence, _, digest = snapshot.properties["curation.ledger-head"].partition(":")
    assert list(world.ledger.entries())[int(sequence)].digest() == digest
    assert verify(world.store, world.key.public_key(), head=snapshot.properties["curation.ledger-head"]).uncovered == ()
    last = f"{world.ledger.head().sequence:020d}"
    assert int(sequence) < int(last)


def test_no_home_value_is_overseas(world, rows, approved, tmp_path):
    """No id, place, time, name or hash of home stands in any file overseas; the search itself finds a planted one."""
    world.publish(approved, rows)
    clean = find_home_values(tmp_path / "overseas", rows)
    assert clean.found == ()
    assert clean.file_count >= 3
    (tmp_path / "overseas" / "stray.log").write_text("vin LSVTEST0000000003")
    assert [leak.column for leak in find_home_values(tmp_path / "overseas", rows).found] == ["vin"]


def test_without_approval_nothing_leaves(world, rows, cut):
    """An unapproved release is refused and the catalog stays empty."""
    with pytest.raises(ApprovalRefused, match="is not approved"):
        world.publish(cut, rows)
    assert world.catalog.find(TABLE, cut) is None


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"ticket": "  "}, "the ticket is empty"),
        ({"approver": ""}, "the approver is not named"),
        ({"approver": "engineer"}, "engineer asked for this release"),
        ({"approver": "scheduler", "requesters": ("scheduler",)}, "scheduler asked"),
        ({"digests": {"release": "0" * 64, "evidence": "0" * 64}}, "not what the approver saw"),
    ],
)
def test_an_approval_that_does_not_hold_is_refused(world, cut, said, problem):
    """No ticket, no name, one's own request, or other bytes than were seen: no approval is written."""
    with pytest.raises(ApprovalRefused, match=problem):
        world.approve(cut, **said)
    assert not world.folder(cut).has("approval.json")


def test_a_requester_of_the_cut_cannot_approve_it(world, rows):
    """Who asked for the cut is a requester even if the approving run names others."""
    release_id = world.cut(rows, requesters=("officer",))
    with pytest.raises(ApprovalRefused, match="officer asked for this release"):
        world.approve(release_id, requesters=("engineer",))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("release_id", "2026-W01-000000000000", "of another release"),
        ("digests", {"release": "0" * 64, "evidence": "0" * 64}, "bound to other bytes"),
        ("pack_digest", "0" * 64, "bound to another pack"),
        ("recipient", "somebody else", "names another recipient"),
        ("purpose", "something else", "names another purpose"),
        ("ticket", "", "carries no ticket"),
        ("requesters", [], "names no requester"),
        ("approver", "engineer", "asked for this release"),
    ],
)
def test_a_forged_approval_is_refused(world, rows, cut, tmp_path, field, value, problem):
    """An approval file that was changed in any one field lets nothing leave."""
    world.approve(cut)
    path = tmp_path / "home" / world.folder(cut).key("approval.json")
    approval = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps(approval | {field: value}))
    with pytest.raises(ApprovalRefused, match=problem):
        world.publish(cut, rows)
    assert world.catalog.find(TABLE, cut) is None


def test_a_release_that_nobody_asked_for_is_not_approved(world, rows):
    """A chain that names neither a person nor the scheduler has no requester to be another one than."""
    with pytest.raises(ApprovalRefused, match="nobody is named as requester"):
        world.approve(world.cut(rows, requesters=()), requesters=())


def test_a_signed_approval_counts_under_its_approvers_key_alone(world, rows, cut, tmp_path):
    """The key that the settings name for the approver, and none other, neither for this body nor for another one."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    world.approve(cut, seal=lambda body: key.sign(body).hex())
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    for approvers in ({}, {"officer": other}, {"deputy": public}, {"officer": "no key"}):
        with pytest.raises(ApprovalRefused, match="signature is not its approver's"):
            world.publish(cut, rows, approvers=approvers)
    assert world.catalog.find(TABLE, cut) is None
    assert world.publish(cut, rows, approvers={"officer": public}).accounted == {"published": 2}


@pytest.mark.parametrize(
    "said",
    [
        None,
        {"digests": {"release": "0" * 64, "evidence": "0" * 64}},
        {"expires_at": "2026-11-21T07:00:00+00:00"},
        {"approver": "engineer"},
        {"requesters": []},
        {"ticket": ""},
    ],
    ids=["missing", "other digest", "expired", "own request", "no requester", "no ticket"],
)
def test_a_retry_asks_for_the_approval_again(world, rows, approved, tmp_path, said):
    """A publication died after its commit; a retry whose approval does not hold any more exits 1 and leaves nothing abroad."""
    with pytest.raises(Killed):
        broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
    assert world.catalog.read(TABLE).num_rows == 2
    path = tmp_path / "home" / world.folder(approved).key("approval.json")
    approval = json.loads(path.read_text())
    path.unlink()
    if said is not None:
        path.write_text(json.dumps(approval | said))
    with pytest.raises(ApprovalRefused) as refusal:
        world.publish(approved, rows)
    assert refusal.value.exit_code == 1
    assert world.catalog.read(TABLE).num_rows == 0
    assert world.kinds()[-1] == "publish_refused"


def test_an_expired_approval_is_refused(world, rows, approved):
    """Eight days after an approval of seven days nothing leaves."""
    world.clock.instant += timedelta(days=8)
    with pytest.raises(ApprovalRefused, match="expired"):
        world.publish(approved, rows)


def test_a_superseded_release_is_refused(world, rows, approved):
    """A release that a later cut closed is not published even if it was approved."""
    world.store.create(world.folder(approved).key(SUPERSEDED_FILE), b"{}")
    with pytest.raises(ApprovalRefused, match="superseded"):
        world.publish(approved, rows)


def test_a_changed_release_file_is_refused(world, rows, approved, tmp_path):
    """A file of the release that is not what the evidence says stops the publication."""
    path = tmp_path / "home" / world.folder(approved).key("decisions.parquet")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(EvidenceBroken, match=r"decisions\.parquet"):
        world.publish(approved, rows)
    path = tmp_path / "home" / world.folder(approved).key(RELEASE_FILE)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ApprovalRefused, match="other bytes"):
        world.publish(approved, rows)


def test_a_pack_that_lapsed_since_the_cut_stops_the_publication(world, rows, approved):
    """The law is asked again before anything leaves."""

    def lapsed():
        raise PackRefused("expired", subject="pack", fix="sign a new one")

    with pytest.raises(PackRefused):
        world.publish(approved, rows, check_law=lapsed)
    assert world.catalog.find(TABLE, approved) is None


def test_a_release_changed_after_its_cut_is_shown_to_nobody(world, cut, tmp_path):
    """What an approver is shown is what the ledger recorded, or nothing."""
    assert set(recorded_digests(world.folder(cut), world.ledger)) == {"release", "evidence"}
    path = tmp_path / "home" / world.folder(cut).key("evidence.json")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"released":2', b'"released":1'))
    with pytest.raises(EvidenceBroken, match="not those that were cut"):
        recorded_digests(world.folder(cut), world.ledger)


class Meddling:
    """An overseas catalog that writes something else than it was given."""

    def __init__(self, catalog, change):
        self._catalog, self._change = catalog, change

    def append(self, table, rows, *, properties):
        return self._catalog.append(table, self._change(rows), properties=properties)

    def __getattr__(self, name):
        return getattr(self._catalog, name)


def test_a_catalog_that_writes_other_rows_is_taken_back(world, rows, approved):
    """What was read back differs: the snapshot is withdrawn at once, refused for good, and the refusal recorded."""
    meddling = Meddling(world.catalog, lambda table: table.slice(0, 1))
    with pytest.raises(GateRefused, match="other rows"):
        world.publish(approved, rows, catalog=meddling)
    assert world.catalog.read(TABLE).num_rows == 0
    assert world.kinds()[-1] == "publish_refused"
    with pytest.raises(GateRefused, match="was withdrawn"):
        world.publish(approved, rows)


class FaultAt:
    """A port that fails at its n-th call, or from then on, before or after doing what was asked."""

    def __init__(self, port, names, *, at, after, error=None, lasts=False):
        self._port, self._names, self._at, self._after, self._lasts, self.calls = port, names, at, after, lasts, 0
        self._error = error or ConcurrentChange("injected", subject="port", fix="retry")

    def __getattr__(self, name):
        method = getattr(self._port, name)
        if name not in self._names:
            return method

        def call(*args, **kwargs):
            self.calls += 1
            is_due = self.calls == self._at or (self._lasts and self.calls > self._at)
            if is_due and not self._after:
                raise self._error
            result = method(*args, **kwargs)
            if is_due:
                raise self._error
            return result

        return call


class Killed(BaseException):
    """The process ends here: nobody catches it."""


# Calls that ask or change something outside: all of the catalog, writes to the store, entries of the ledger. In their order in a run.
CALLS = [
    *(("catalog", "identify"), ("catalog", "find"), ("catalog", "make"), ("ledger", "record"), ("store", "create"), ("catalog", "append")),
    *(("catalog", "written"), ("store", "create"), ("ledger", "record")),
]
COMMIT, RECEIPT = 5, 8
POINTS = [*((number, False) for number in range(len(CALLS))), (COMMIT, True), (RECEIPT, True)]  # others: before the next


def begin(world):
    """Make and record the overseas table, so that the next entry of the ledger is the receipt."""
    overseas_table.begin(TABLE, catalog=world.catalog, store=world.store, ledger=world.ledger)


def broken_at(world, number, *, after, error):
    """The world with a port that fails at one of CALLS, before or after its effect."""
    port, name = CALLS[number]
    at = CALLS[: number + 1].count((port, name))
    return replace(world, **{port: FaultAt(getattr(world, port), {name}, at=at, after=after, error=error)})


@pytest.mark.parametrize(("number", "after"), POINTS)
def test_a_publication_killed_at_any_call_is_finished_by_the_next(world, rows, approved, number, after):
    """Whichever port call is the last, a rerun ends with the rows once, one copy, one receipt and a whole ledger."""
    with pytest.raises(Killed):
        broken_at(world, number, after=after, error=Killed()).publish(approved, rows)
    assert world.publish(approved, rows).accounted == {"published": 2}
    assert world.catalog.read(TABLE).num_rows == 2
    assert world.kinds() == ["release", "approve", "overseas_table", "publish"]
    assert len(list(world.store.keys(f"releases/{approved}/sent/"))) == 1
    assert verify(world.store, world.key.public_key()).uncovered == ()


@pytest.mark.parametrize(("number", "after"), POINTS)
def test_a_fault_at_any_call_leaves_nothing_half_done(world, rows, approved, number, after):
    """A call that fails before the commit leaves the release to be published by a rerun; one that fails after it, and before the receipt,
    has the rows taken back at once, and the command exits 1."""
    fault = ConcurrentChange("injected", subject="port", fix="retry")
    broken = broken_at(world, number, after=after, error=fault)
    if after:  # the commit, or the receipt, is there: it is looked for at once
        assert broken.publish(approved, rows).accounted == {"published": 2}
        return
    is_committed = number > COMMIT
    with pytest.raises(GateRefused if is_committed else ConcurrentChange) as told:
        broken.publish(approved, rows)
    if not is_committed:
        assert world.publish(approved, rows).accounted == {"published": 2}
        return
    assert told.value.exit_code == 1
    assert world.catalog.read(TABLE).num_rows == 0
    assert world.catalog.holding(TABLE, world.folder(approved).release()["release_row_id"].combine_chunks()) == []
    assert world.kinds() == ["release", "approve", "overseas_table", "publish_failed", "publish_refused"]
    again = world.cut(rows)
    world.approve(again)
    assert world.publish(again, rows).accounted == {"published": 2}


def test_a_take_back_that_ends_half_way_is_recorded_by_the_next(world, rows, approved):
    """Killed between the withdrawal and its entry: the next run records it, so that the rows are known not to be abroad."""
    meddling = Meddling(world.catalog, lambda table: table.slice(0, 1))
    with pytest.raises(Killed):
        replace(world, ledger=FaultAt(world.ledger, {"record"}, at=3, after=False, error=Killed())).publish(
            approved, rows, catalog=meddling
        )
    assert world.catalog.read(TABLE).num_rows == 0
    assert world.kinds() == ["release", "approve", "overseas_table", "publish_failed"]
    with pytest.raises(GateRefused, match="was withdrawn"):
        world.publish(approved, rows)
    assert world.kinds()[-1] == "publish_refused"
    assert world.cut(rows) != approved


def test_a_take_back_that_was_killed_before_it_began_is_done_by_the_next(world, rows, approved):
    """Killed between the failure's entry and the withdrawal: the rows get no receipt any more, and the next run takes them back."""
    meddling = Meddling(world.catalog, lambda table: table.slice(0, 1))
    with pytest.raises(Killed):
        world.publish(approved, rows, catalog=FaultAt(meddling, {"withdraw"}, at=1, after=False, error=Killed()))
    assert (world.catalog.read(TABLE).num_rows, world.kinds()[-1]) == (1, "publish_failed")
    with pytest.raises(ApprovalRefused, match="refused before"):
        world.publish(approved, rows)
    assert (world.catalog.read(TABLE).num_rows, world.kinds()[-1]) == (0, "publish_refused")


def test_rows_are_taken_back_though_the_ledger_takes_no_entry(world, rows, approved):
    """Neither receipt nor failure can be recorded: nothing stays abroad without a record, and the next run records that."""
    fault = OutsideError("injected", subject="ledger", fix="retry")
    begin(world)
    with pytest.raises(OutsideError, match="injected"):
        replace(world, ledger=FaultAt(world.ledger, {"record"}, at=1, after=False, error=fault, lasts=True)).publish(approved, rows)
    assert (world.catalog.read(TABLE).num_rows, world.kinds()[-1]) == (0, "overseas_table")
    with pytest.raises(GateRefused, match="was withdrawn"):
        world.publish(approved, rows)
    assert world.kinds()[-1] == "publish_refused"


class Interleaved:
    """A port before whose call of this name another publisher does something, once."""

    def __init__(self, port, name, meanwhile):
        self.port, self.name, self.meanwhile = port, name, meanwhile

    def __getattr__(self, name):
        real = getattr(self.port, name)
        if name != self.name:
            return real

        def call(*args, **kwargs):
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
            return real(*args, **kwargs)

        return call


FAULT = OutsideError("injected", subject="port", fix="retry")


def test_a_release_that_another_publisher_took_back_gets_no_receipt(world, rows, approved):
    """Two publishers of one release: the second fails between the first's reading back and its receipt. Both are refused, nothing stays."""

    def other_fails():
        with pytest.raises(GateRefused, match="injected"):
            world.publish(approved, rows, catalog=FaultAt(world.catalog, {"written"}, at=1, after=False, error=FAULT))

    begin(world)
    with pytest.raises(GateRefused, match="another publisher of it failed: injected"):
        replace(world, ledger=Interleaved(world.ledger, "record", other_fails)).publish(approved, rows)
    assert world.catalog.read(TABLE).num_rows == 0
    assert set(world.kinds()) == {"release", "approve", "publish_failed", "publish_refused", "overseas_table"}
    assert world.cut(rows) != approved


def test_what_another_publisher_has_a_receipt_of_stays(world, rows, approved):
    """The first ends between the second's failure and its entry: the ledger has the receipt first, and the second takes nothing back."""
    begin(world)
    fails = FaultAt(world.catalog, {"written"}, at=1, after=False, error=FAULT)
    second = replace(world, ledger=Interleaved(world.ledger, "record", lambda: world.publish(approved, rows)))
    assert second.publish(approved, rows, catalog=fails).accounted == {"published": 2}
    assert (world.catalog.read(TABLE).num_rows, world.kinds()) == (2, ["release", "approve", "overseas_table", "publish"])


def test_a_refusal_that_finds_a_receipt_takes_nothing_back(world, rows, approved):
    """The second finds the first's snapshot and a law that lapsed; meanwhile the first wrote its receipt: the rows stay."""
    with pytest.raises(Killed):
        broken_at(world, RECEIPT, after=False, error=Killed()).publish(approved, rows)

    def lapsed():
        world.publish(approved, rows)
        raise PackRefused("expired", subject="pack", fix="renew it")

    assert world.publish(approved, rows, check_law=lapsed).accounted == {"published": 2}
    assert (world.catalog.read(TABLE).num_rows, world.kinds()) == (2, ["release", "approve", "overseas_table", "publish"])


def test_a_publisher_that_another_ones_refusal_overtook_commits_nothing(world, rows, approved):
    """One is refused while nothing is abroad, between the other's last look and its commit: killed then, it leaves no row."""

    def refused():
        raise PackRefused("expired", subject="pack", fix="renew it")

    def other_is_refused():
        with pytest.raises(PackRefused):
            world.publish(approved, rows, check_law=refused)

    appended = []

    class Watched(Interleaved):
        def append(self, *args, **kwargs):
            self.meanwhile, meanwhile = lambda: None, self.meanwhile
            meanwhile()
            appended.append(world.catalog.append(*args, **kwargs))
            return appended[-1]

    with pytest.raises(GateRefused, match="not committed again"):
        world.publish(approved, rows, catalog=Watched(world.catalog, "", other_is_refused))
    assert [WITHDRAWN_PROPERTY in one.properties for one in appended] == [True]
    assert (world.catalog.read(TABLE).num_rows, world.kinds()) == (0, ["release", "approve", "overseas_table", "publish_refused"])
    assert world.cut(rows) != approved


def test_a_refusal_takes_back_what_another_committed_meanwhile(world, rows, approved):
    """One commits and is killed after the other looked and before that is refused: the refusal finds the rows and takes them back."""

    def refused_after_the_others_commit():
        with pytest.raises(Killed):
            broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
        raise PackRefused("expired", subject="pack", fix="renew it")

    with pytest.raises(PackRefused):
        world.publish(approved, rows, check_law=refused_after_the_others_commit)
    assert (world.catalog.read(TABLE).num_rows, world.kinds()[-1]) == (0, "publish_refused")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"recipient": "somebody else"}, "for recipient 'overseas'"),
        ({"table": "published.other"}, "the ledger knows table published.clips"),
    ],
)
def test_what_was_approved_for_others_stays_at_home_and_what_began_elsewhere_is_left_there(world, rows, approved, said, problem):
    """Whoever may receive it is in the approval: other settings publish nothing, and take nothing back from the wrong table."""
    with pytest.raises(Killed):
        broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
    with pytest.raises((ApprovalRefused, GateRefused), match=problem):
        world.publish(approved, rows, **said)
    assert world.kinds() == ["release", "approve", "overseas_table"]
    assert world.publish(approved, rows).accounted == {"published": 2}


def test_a_pack_that_lapses_while_it_is_decided_stops_the_publication(world, rows, approved):
    """The law is asked a last time right before the commit."""
    answers = iter([None, PackRefused("expired", subject="pack", fix="renew it")])

    def lapses():
        error = next(answers)
        if error:
            raise error

    with pytest.raises(PackRefused):
        world.publish(approved, rows, check_law=lapses)
    assert (world.catalog.read(TABLE).num_rows, world.kinds()[-1]) == (0, "publish_refused")


def test_a_refusal_that_ends_half_way_is_recorded_by_the_next(world, rows, approved):
    """The catalog fails as the release is to be closed, or the process is killed right after: the next run ends it, and no row is told of
    as having left."""

    def lapses_after_the_intent():
        if world.folder(approved).is_begun():
            raise PackRefused("expired", subject="pack", fix="renew it")

    begin(world)
    for broken in (
        {"catalog": FaultAt(world.catalog, {"append"}, at=1, after=False, error=FAULT)},
        {"ledger": FaultAt(world.ledger, {"record"}, at=1, after=False, error=Killed())},
    ):
        with pytest.raises((OutsideError, Killed)):
            replace(world, **broken).publish(approved, rows, check_law=lapses_after_the_intent)
        assert world.kinds() == ["release", "approve", "overseas_table"]
    with pytest.raises(GateRefused, match="not committed again"):
        world.publish(approved, rows)
    last = world.ledger.head()
    assert (last.kind, last.counts, world.catalog.read(TABLE).num_rows) == ("publish_refused", {"rows_in": 2, "withheld": 2}, 0)


class Exchanged:
    """A store in which somebody puts another file in a file's place once it was read for the first time."""

    def __init__(self, store, name, data):
        self._store, self._name, self._data, self._reads = store, name, data, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def read(self, key):
        self._reads += key.endswith(self._name)
        return self._data if key.endswith(self._name) and self._reads > 1 else self._store.read(key)


@pytest.mark.parametrize("name", ["release.parquet", "evidence.json", "approval.json", "mapping.parquet"])
def test_a_file_that_is_exchanged_after_it_was_checked_lets_nothing_leave(world, rows, approved, name):
    """What is published is what was approved, not what lies there when it is read a second time."""
    store = Exchanged(world.store, name, world.store.read(world.folder(approved).key(name)) + b" ")
    with pytest.raises(EvidenceBroken, match="was exchanged"):
        world.publish(approved, rows, store=store)
    assert world.catalog.read(TABLE).num_rows == 0


def test_a_superseded_release_whose_file_is_gone_is_still_superseded(world, rows, approved, tmp_path):
    """The ledger says so, whatever lies in the store."""
    count = StageCount(stage="supersede", subject=approved, rows_in=2, accounted={"superseded": 2})
    world.ledger.record(count, files={})
    with pytest.raises(ApprovalRefused, match="superseded"):
        world.publish(approved, rows)


def test_racing_publishers_publish_once(world, rows, approved):
    """Four publishers at once, two of them with a ledger of their own as another process has, leave the rows and the receipt once."""
    failures = []

    def go(own_ledger):
        ledger = StoreLedger(world.store, world.clock, world.key) if own_ledger else world.ledger
        try:
            replace(world, ledger=ledger).publish(approved, rows)
        except CurationError as error:
            failures.append(error)

    threads = [threading.Thread(target=go, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(error.retryable for error in failures), failures
    world.publish(approved, rows)
    assert world.catalog.read(TABLE).num_rows == 2
    assert world.kinds().count("publish") == 1


def test_an_interrupted_publication_keeps_its_rows_out_of_the_next_release(world, rows, approved, make):
    """Rows that may be abroad already count as published: they cannot leave a second time in another release."""
    with pytest.raises(Killed):
        broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
    assert world.cut(make.table(*rows.to_pylist(), make.clip(9, vehicle="fleet-0009"))) == approved


def test_published_parquet_carries_no_key_value_metadata_of_home(world, rows, approved):
    """The files hold the closed schema; neither pandas' metadata nor the docs and sensitivities of our schema went along."""
    world.publish(approved, rows)
    snapshot = world.catalog.find(TABLE, approved)
    for _, data in world.catalog.written(TABLE, snapshot.snapshot_id):
        found = pq.read_schema(io.BytesIO(data))
        assert not {key for key in found.metadata or {} if b"pandas" in key or b"curation" in key}
        assert {key for field in found for key in field.metadata or {}} <= {b"PARQUET:field_id"}


def test_two_releases_of_the_same_rows_cannot_both_leave(world, rows, approved):
    """A release that a later cut would have superseded is finished instead; the other is never made."""
    world.publish(approved, rows)
    assert world.cut(rows, recipient="somebody else") == approved
    assert replace(world).catalog.read(TABLE).num_rows == 2


def test_what_an_intent_says_keeps_no_row_abroad_without_a_receipt(world, rows, approved, tmp_path):
    """Somebody writes another table into the intent of a publication that broke off: the ledger says where it began, and it is ended."""
    with pytest.raises(Killed):
        broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
    path = tmp_path / "home" / world.folder(approved).key("intent.json")
    path.chmod(0o644)
    path.write_bytes(b'{"table":"published.elsewhere"}')
    assert world.publish(approved, rows).accounted == {"published": 2}


def test_an_approval_that_the_ledger_does_not_know_is_refused(world, rows, cut, approved, tmp_path):
    """A whole and well-formed approval that somebody put into the store lets nothing leave, and is not adopted by the next approval."""
    path = tmp_path / "home" / world.folder(cut).key("approval.json")
    forged = json.loads(path.read_text()) | {"expires_at": "2099-01-01T00:00:00+00:00"}
    path.chmod(0o644)
    path.write_text(json.dumps(forged))
    with pytest.raises(ApprovalRefused, match="not the one that the ledger recorded"):
        world.publish(cut, rows)
    with pytest.raises(ApprovalRefused, match="not written by `approve`"):
        world.approve(cut)
    path.write_text("[" * 100_000)
    with pytest.raises(ApprovalRefused, match="cannot be read"):
        world.publish(cut, rows)
    assert world.catalog.find(TABLE, cut) is None


def test_a_release_that_was_never_cut_is_not_published(world, rows, approved, tmp_path):
    """Evidence and approval that fit each other but not the recorded cut are refused, by approver and publisher alike."""
    path = tmp_path / "home" / world.folder(approved).key("evidence.json")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"released":2', b'"released":1'))
    with pytest.raises(EvidenceBroken, match="not those that were cut"):
        world.approve(approved)
    with pytest.raises(ApprovalRefused):
        world.publish(approved, rows)


@pytest.mark.parametrize("approver", ["Engineer", " engineer ", "\uff45ngineer"])
def test_a_requester_by_another_spelling_is_still_a_requester(world, cut, approver):
    """Case, spaces and full-width letters make no second person."""
    with pytest.raises(ApprovalRefused, match="asked for this release"):
        world.approve(cut, approver=approver)


def test_an_approval_is_not_given_twice(world, approved):
    """The same approval is accepted again, another person's or ticket's is refused: the file names one."""
    world.approve(approved)
    for said in ({"approver": "deputy"}, {"ticket": "T-2"}):
        with pytest.raises(ApprovalRefused, match="another approval"):
            world.approve(approved, **said)


def test_a_clock_behind_the_ledger_publishes_nothing(world, rows, approved):
    """Setting the clock back, which would make an expired approval valid again, stops approval and publication; a moment that two machines
    differ by does not."""
    world.clock.instant -= timedelta(seconds=2)
    check_clock(world.ledger, world.clock)
    world.clock.instant -= timedelta(days=1)
    with pytest.raises(CurationError, match="the clock says"):
        world.publish(approved, rows)
    with pytest.raises(CurationError, match="the clock says"):
        world.approve(approved)


@pytest.mark.parametrize(
    "corrected",
    [
        {"latitude_deg": 20.05, "longitude_deg": 110.05},
        {"vehicle_id": "fleet-0001"},
        {"verdict": "rejected", "reasons": ["blurred"]},
        {"datum": "GCJ-02"},
        {"captured_at": None},
    ],
)
def test_a_clip_that_is_curated_otherwise_since_the_cut_does_not_leave(world, rows, make, approved, corrected):
    """A corrected manifest moved a clip into a fence, to the other vehicle, or out: the approved release stays at home."""
    now = make.table(*({**row, **corrected} if row["vehicle_id"] == "fleet-0002" else row for row in rows.to_pylist()))
    with pytest.raises(GateRefused, match="decide otherwise"):
        world.publish(approved, now)
    with pytest.raises(GateRefused, match="decide otherwise"):
        world.publish(approved, rows.slice(0, 0))
    assert world.catalog.find(TABLE, approved) is None


def test_rows_that_are_in_another_release_on_its_way_do_not_leave_again(world, rows, cut, approved):
    """Two releases of the same rows, cut side by side by two machines: the second to begin is refused for good, which is recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curation.stages.release._close_open_releases", lambda *_, **__: None)
        other = world.cut(rows, recipient="somebody else")
    assert other != approved
    world.approve(other)
    world.publish(approved, rows)
    with pytest.raises(GateRefused, match="left in another release"):
        world.publish(other, rows, recipient="somebody else")
    assert world.kinds()[-1] == "publish_refused"
    assert world.catalog.read(TABLE).num_rows == 2
    with pytest.raises(GateRefused, match="not committed again"):
        world.publish(other, rows, recipient="somebody else")


def test_rows_abroad_without_receipt_are_taken_back_when_the_rerun_is_refused(world, rows, approved):
    """A publication died after its commit and its approval expired since: the rerun leaves nothing abroad and says so in the ledger."""
    with pytest.raises(Killed):
        broken_at(world, COMMIT, after=True, error=Killed()).publish(approved, rows)
    assert world.catalog.read(TABLE).num_rows == 2
    world.clock.instant += timedelta(days=8)
    with pytest.raises(ApprovalRefused, match="expired"):
        world.publish(approved, rows)
    assert world.catalog.read(TABLE).num_rows == 0
    last = world.ledger.head()
    assert (last.kind, last.counts) == ("publish_refused", {"rows_in": 2, "withdrawn": 2})
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_a_release_that_was_taken_back_is_cut_anew_under_another_name(world, rows, approved):
    """The rows of a refused release can leave in a new one; the refused one never does."""
    with pytest.raises(GateRefused, match="other rows"):
        world.publish(approved, rows, catalog=Meddling(world.catalog, lambda table: table.slice(0, 1)))
    again = world.cut(rows)
    assert again != approved
    world.approve(again)
    world.publish(again, rows)
    assert world.catalog.read(TABLE).num_rows == 2
