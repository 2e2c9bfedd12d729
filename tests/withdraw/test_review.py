"""A review takes back what today's rules do not let out; an error takes nothing back and stops publishing; much of it needs two people."""

from dataclasses import asdict, replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation import schema
from curation.audit.verify import verify
from curation.errors import ApprovalRefused, CurationError, GateRefused, PackRefused
from curation.residency import pack as packs
from curation.residency import signing
from curation.stages import review, withdraw
from curation.withdrawal_files import BY_EXPIRY, BY_REVIEW

TABLE = "published.clips"
COUNT = 42  # so that two rows are under, and three over, one in twenty


def look(world, rows, **law):
    """What a review finds."""
    given = asdict(replace(world.law, **law))
    return review.decide(rows, catalog=world.catalog, table=TABLE, store=world.store, ledger=world.ledger, clock=world.clock, **given)


def act(world, found):
    """Ask for what it found, and carry it out where nobody need confirm it; the request."""
    given = {"cause": found.cause, "reason": "review", "requester": "scheduler", "facts": {"pack_digest": found.pack_digest}}
    asked = withdraw.ask(found.asked, alone=found.alone, store=world.store, ledger=world.ledger, **given)
    if found.alone:
        confirm(world, asked, approver="")
    review.record(found, withdrawal_id=asked.withdrawal_id, withdrawn=found.alone, ledger=world.ledger)
    return asked


def confirm(world, asked, *, approver):
    """Carry a request out."""
    ports = {
        "store": world.store,
        "eraser": world.store,
        "catalog": world.catalog,
        "table": TABLE,
        "ledger": world.ledger,
        "clock": world.clock,
    }
    return withdraw.confirm(asked.withdrawal_id, approver=approver, **ports)


def put_there(world, rows):
    """Append rows to the overseas table as somebody with another program does."""
    world.catalog._catalog().load_table(TABLE).append(world.catalog._conform(TABLE, rows))


def signed(world, text):
    """A law of another pack, signed by new keys that are trusted."""
    pack = packs.parse(text)
    signatures, trusted = [], {}
    for role in signing.ROLES:
        private_pem, public_hex = signing.keygen()
        signatures.append(signing.sign(pack, role, private_pem, signed_at=world.clock.now()))
        trusted[role] = (public_hex,)
    return {"pack_bytes": text, "signatures_bytes": signing.signatures_bytes(signatures), "trusted_keys": trusted}


def changed(make, rows, number, **values):
    """The rows with one of them curated otherwise."""
    return make.table(*({**row, **values} if at == number else row for at, row in enumerate(rows.to_pylist())))


@pytest.fixture
def many(make):
    """One cell of 42 rows of six vehicles on many days."""
    return make.table(*(make.clip(number, vehicle=f"fleet-000{number % 6}", day=1 + number % 28) for number in range(COUNT)))


@pytest.fixture
def published(world, many):
    """They are published."""
    release_id = world.cut(many)
    world.approve(release_id)
    world.publish(release_id, many)
    return release_id


def test_what_the_rules_still_let_out_stays(world, many, published):
    """Nothing to take back; the record says so once a day, and says when the pack expires."""
    found = look(world, many)
    assert (found.row_count, found.missing_count, found.asked.num_rows, found.rule_counts, found.alone) == (COUNT, 0, 0, {}, True)
    assert (found.days_left > review.ANNOUNCED_DAYS, found.is_announced) == (True, False)
    for _ in range(2):
        assert review.record(found, withdrawal_id="", withdrawn=False, ledger=world.ledger).accounted == {"stay": COUNT, "waiting": 0}
    assert world.kinds().count("review") == 1


def test_a_few_rows_are_taken_back_alone_and_may_leave_again(world, many, published, make, tmp_path):
    """A clip moved into a fence and one moved to another province: both come back under their rules, and are no barred clips."""
    now = changed(make, changed(make, many, 3, latitude_deg=20.05, longitude_deg=110.05), 4, province="CN-ZJ")
    found = look(world, now)
    assert (found.cause, found.asked.num_rows, found.alone, found.whole_releases) == (BY_REVIEW, 2, True, ())
    assert found.rule_counts == {"combination.k": 1, "geofence.inside": 1}
    act(world, found)
    assert world.catalog.read(TABLE).num_rows == COUNT - 2
    assert look(world, now).asked.num_rows == 0
    assert verify(world.store, world.key.public_key()).uncovered == ()
    world.clock.instant = datetime(2026, 11, 28, 8, tzinfo=UTC)
    again = world.folder(world.cut(many, day=date(2026, 11, 28)))
    assert set(again.mapping()["clip_id"].to_pylist()) == {many["clip_id"][number].as_py() for number in (3, 4)}


def test_a_row_that_would_leave_otherwise_today_comes_back(world, many, published, make):
    """The rules let the clip out, but not this row of it; a clip that home does not hold any more cannot be let out at all."""
    now = changed(make, many, 5, sharpness=1.0).filter(pc.not_equal(many["clip_id"], many["clip_id"][6]))
    found = look(world, now)
    assert found.rule_counts == {"row.changed": 1, "row.not_curated": 1}
    assert set(found.asked["clip_id"].to_pylist()) == {many["clip_id"][number].as_py() for number in (5, 6)}


def test_what_made_a_cell_large_goes_and_the_rest_of_the_cell_with_it(world, make):
    """Two vehicles share a cell; one's clip is erased at home: k is counted again, and the other's row must come back too."""
    rows = make.table(
        *(make.clip(number, vehicle=f"fleet-000{number % 6}", day=1 + number % 28) for number in range(60)),
        make.clip(70, vehicle="fleet-0001", province="CN-ZJ"),
        make.clip(71, vehicle="fleet-0002", province="CN-ZJ", day=2),
    )
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    found = look(world, rows.slice(0, 61))
    assert (found.rule_counts, found.alone) == ({"combination.k": 1, "row.not_curated": 1}, True)


def test_more_than_one_in_twenty_needs_a_second_person(world, many, published, make):
    """Three of 42: nothing is withdrawn until somebody else confirms; the next review asks for the very same."""
    now = many
    for number in (3, 4, 5):
        now = changed(make, now, number, datum="GCJ-02")
    found = look(world, now)
    assert (found.asked.num_rows, found.alone, found.whole_releases) == (3, False, ())
    asked = act(world, found)
    assert act(world, look(world, now)) == asked
    assert world.catalog.read(TABLE).num_rows == COUNT
    for approver in ("", "Scheduler"):
        with pytest.raises(ApprovalRefused, match="second person"):
            confirm(world, asked, approver=approver)
    assert confirm(world, asked, approver="officer").accounted == {"withdrawn": 3, "not_overseas": 0}
    assert look(world, now).asked.num_rows == 0


def test_a_whole_publication_needs_a_second_person(world, many, published, make):
    """A publication of two rows among 44 is under one in twenty, and still nobody takes it back alone."""
    more = make.table(*many.to_pylist(), *(make.clip(number, vehicle=f"fleet-000{number % 2}", day=3) for number in (90, 91)))
    world.clock.instant = datetime(2026, 11, 28, 8, tzinfo=UTC)
    second = world.cut(more, day=date(2026, 11, 28))
    world.approve(second)
    world.publish(second, more)
    found = look(world, many)
    assert (found.asked.num_rows, found.row_count, found.whole_releases, found.alone) == (2, COUNT + 2, (second,), False)


def test_an_expired_pack_takes_everything_back_after_it_was_announced(world, many, published):
    """Announced in the last 30 days; on the last day all stays; the day after all goes, and nobody need confirm it."""
    last = packs.parse(world.law.pack_bytes).valid_to
    for days_left, announced in ((30, False), (29, True), (0, True)):
        world.clock.instant = datetime.fromordinal(last.toordinal() - days_left).replace(hour=4, tzinfo=UTC)
        found = look(world, many)
        assert (found.days_left, found.is_announced, found.asked.num_rows) == (days_left, announced, 0)
        review.record(found, withdrawal_id="", withdrawn=False, ledger=world.ledger)
    world.clock.instant = datetime.fromordinal(last.toordinal() + 1).replace(hour=4, tzinfo=UTC)
    found = look(world, many)
    assert (found.cause, found.rule_counts, found.alone) == (BY_EXPIRY, {"pack.expired": COUNT}, True)
    act(world, found)
    assert world.catalog.read(TABLE).num_rows == 0
    assert look(world, many).row_count == 0


def test_an_expiry_that_nobody_announced_in_time_needs_a_second_person(world, rows):
    """The first review under the pack ran 28 days before its last day: everything is asked for, and nobody takes it back alone."""
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    last = packs.parse(world.law.pack_bytes).valid_to
    for days_left in (28, -1):
        world.clock.instant = datetime.fromordinal(last.toordinal() - days_left).replace(hour=4, tzinfo=UTC)
        found = look(world, rows)
        review.record(found, withdrawal_id="", withdrawn=False, ledger=world.ledger)
    assert (found.cause, found.asked.num_rows, found.alone) == (BY_EXPIRY, 2, False)
    asked = act(world, found)
    with pytest.raises(ApprovalRefused, match="second person"):
        confirm(world, asked, approver="")
    assert confirm(world, asked, approver="officer").accounted == {"withdrawn": 2, "not_overseas": 0}


def test_a_clock_that_jumps_past_the_last_day_takes_nothing_back_alone(world, many, published):
    """Daily reviews knew of the last day all along, but none ever told of it: a second person must agree."""
    review.record(look(world, many), withdrawal_id="", withdrawn=False, ledger=world.ledger)
    last = packs.parse(world.law.pack_bytes).valid_to
    world.clock.instant = datetime.fromordinal(last.toordinal() + 400).replace(hour=4, tzinfo=UTC)
    for _ in range(2):
        found = look(world, many)
        review.record(found, withdrawal_id="", withdrawn=False, ledger=world.ledger)
        assert (found.cause, found.alone) == (BY_EXPIRY, False)


class Meanwhile:
    """A catalog before whose first answer of what is published somebody else does something."""

    def __init__(self, catalog, act):
        self._catalog, self._act = catalog, act

    def __getattr__(self, name):
        return getattr(self._catalog, name)

    def read(self, table):
        act, self._act = self._act, lambda: None
        act()
        return self._catalog.read(table)


def test_a_release_that_leaves_while_the_books_are_compared_is_no_stranger(world, many):
    """Published between the look into the books and that into the catalog: no alarm. Rows of nobody are one at the second look, too."""
    release_id = world.cut(many)
    world.approve(release_id)
    catalog = Meanwhile(world.catalog, lambda: world.publish(release_id, many))
    assert look(replace(world, catalog=catalog), many).missing_count == 0
    row = world.catalog.read(TABLE).slice(0, 1).to_pylist()[0] | {"release_row_id": "0" * 31 + "1"}
    stranger = pa.Table.from_pylist([row], schema=schema.RELEASE)
    put_there(world, stranger)
    with pytest.raises(GateRefused, match="holds 1 rows that no release let out"):
        look(world, many)


def test_an_evaluation_that_fails_takes_nothing_back(world, rows):
    """Unsigned, untrusted, broken, without fences, a demo pack outside the demo: the review fails, and every row stays."""
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    laws = (
        ({"signatures_bytes": b"[]"}, "unsigned"),
        ({"trusted_keys": {}}, "trusted"),
        ({"pack_bytes": b"id: x"}, "."),
        ({"fences_bytes": None}, "fence"),
        ({"fences_bytes": b"{"}, "."),
        ({"allow_demo_pack": False}, "demo"),
    )
    for law, problem in laws:
        with pytest.raises(PackRefused, match=problem):
            look(world, rows, **law)
    assert world.catalog.read(TABLE).num_rows == 2


def test_a_failed_review_stops_publishing_until_one_succeeds(world, rows):
    """Nothing is committed or taken back meanwhile; failing again is recorded again after a success."""
    release_id = world.cut(rows)
    world.approve(release_id)
    problem = PackRefused("unsigned", subject="pack", fix="sign it")
    for turn in range(2):
        for _ in range(2):
            review.record_failure(problem, pack_bytes=b"x", clock=world.clock, ledger=world.ledger)
        with pytest.raises(GateRefused, match="the last one failed"):
            world.publish(release_id, rows)
        assert world.catalog.find(TABLE, release_id) is None
        review.record(look(world, rows), withdrawal_id="", withdrawn=False, ledger=world.ledger)
        assert (world.kinds().count("review_failed"), world.kinds().count("review")) == (turn + 1, turn + 1)
    world.publish(release_id, rows)
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_a_newer_pack_decides(world, many, published):
    """A signed pack with a larger k than the cell takes all back, by two people for it is a whole publication."""
    stricter = world.law.pack_bytes.replace(b"min_vehicles: 2", b"min_vehicles: 7")
    assert stricter != world.law.pack_bytes
    found = look(world, many, **signed(world, stricter))
    assert (found.rule_counts, found.whole_releases, found.alone) == ({"combination.k": COUNT}, (published,), False)


def test_rows_that_nobody_released_are_an_alarm(world, many, published):
    """A row that somebody put into the overseas table fails the review; one that somebody removed is told."""
    stranger = world.folder(published).release().slice(0, 1)
    row_id = stranger["release_row_id"].combine_chunks()
    world.catalog.withdraw_rows(TABLE, row_id)
    assert look(world, many).missing_count == 1
    other = stranger.set_column(0, stranger.schema.field(0), pa.array(["0" * 32]))
    put_there(world, other)
    with pytest.raises(GateRefused, match="no release let out"):
        look(world, many)


def test_a_clock_behind_the_ledger_reviews_nothing(world, many, published):
    """A clock that was set back must not make an expired pack valid."""
    world.clock.instant = datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(CurationError, match="the clock says"):
        look(world, many)
