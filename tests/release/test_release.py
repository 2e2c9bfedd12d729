"""A release is cut once from its inputs, denies by default, and decides on every row."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from curation.audit.verify import verify
from curation.errors import ApprovalRefused, ConcurrentChange, CurationError, EvidenceBroken, ImmutableConflict, PackRefused
from curation.release_files import SUPERSEDED_FILE
from curation.schema import COUNTED, MAPPING, RELEASE
from curation.tables import from_parquet, to_parquet


def decisions(world, release_id):
    """clip number -> ids of the rules that withheld it, in the order of the clip ids."""
    return {row["clip_id"]: tuple(row["withheld_by"]) for row in world.folder(release_id).decisions().to_pylist()}


def test_what_leaves_is_exactly_the_closed_schema(world, rows):
    """Two rows pass; their columns are those of design.md and nothing else; every row has its decision."""
    folder = world.folder(world.cut(rows))
    assert folder.release().schema.names == RELEASE.names
    assert folder.release().num_rows == 2
    assert folder.decisions().num_rows == rows.num_rows
    assert folder.evidence()["canaries"] > 0
    assert sorted(map(len, decisions(world, folder.release_id).values())) == [0, 0, 1, 1]
    assert verify(world.store, world.key.public_key()).uncovered == ()


def test_the_same_inputs_give_the_same_release(world, rows):
    """Cutting again returns the release that is there, with the ids it drew; the ledger does not grow."""
    first = world.cut(rows)
    drawn, entries = world.folder(first).release()["release_row_id"].to_pylist(), world.kinds()
    assert world.cut(rows.take([3, 1, 0, 2])) == first
    assert world.folder(first).release()["release_row_id"].to_pylist() == drawn
    assert world.kinds() == entries


def test_row_ids_are_drawn_once_even_if_a_cut_is_killed(world, rows):
    """A cut that died after drawing ids goes on with the same ids."""

    class DiesAt:
        def __init__(self, store, name):
            self._store, self._name = store, name

        def create(self, key, data):
            if key.endswith(self._name):
                raise OSError("killed here")
            return self._store.create(key, data)

        def __getattr__(self, name):
            return getattr(self._store, name)

    for name in ("release.parquet", "decisions.parquet", "evidence.json"):
        with pytest.raises(OSError, match="killed here"):
            replace(world, store=DiesAt(world.store, name)).cut(rows)
    [key] = [key for key in world.store.keys("releases/") if key.endswith("mapping.parquet")]
    mapping = world.store.read(key)
    release_id = world.cut(rows)
    assert world.store.read(key) == mapping
    assert set(world.folder(release_id).release()["release_row_id"].to_pylist()) == set(
        world.folder(release_id).mapping()["release_row_id"].to_pylist()
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signatures_bytes": b"[]"}, "unsigned"),
        ({"trusted_keys": {}}, "trusted"),
        ({"allow_demo_pack": False}, "demo"),
        ({"pack_bytes": b"id: x"}, "."),
        ({"fences_bytes": None}, "fence"),
        ({"fences_bytes": b"{"}, "."),
    ],
)
def test_a_law_that_may_allow_nothing_lets_nothing_leave(world, rows, change, reason):
    """Unsigned, untrusted, demo outside the demo, broken, or without fences: no release, and the refusal is recorded."""
    with pytest.raises(PackRefused, match=reason):
        world.cut(rows, law=replace(world.law, **change))
    assert list(world.store.keys("releases/")) == []
    assert world.kinds() == ["release_refused"]


def test_an_expired_pack_lets_nothing_leave(world, rows):
    """After its last day the pack is refused though its signatures hold."""
    with pytest.raises(PackRefused, match="expired"):
        world.cut(rows, day=date(2028, 1, 1))


def test_a_clock_behind_the_ledger_stops_everything(world, rows):
    """With a clock that was set back nothing is released."""
    world.cut(rows)
    world.clock.instant = datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(CurationError, match="the clock says"):
        world.cut(rows)


def test_an_open_release_is_superseded_when_rows_change(world, rows, make):
    """A later cut with more rows closes the open one, which can no longer be approved."""
    first = world.cut(rows)
    more = make.table(*rows.to_pylist(), make.clip(5, vehicle="fleet-0004", province="CN-ZJ"))
    second = world.cut(more)
    assert first != second
    assert world.folder(first).has(SUPERSEDED_FILE)
    assert world.folder(second).release().num_rows == 4
    with pytest.raises(CurationError, match="superseded"):
        world.approve(first)


def test_an_approved_release_is_finished_first(world, rows, make):
    """An approved release is the window's release even if rows came meanwhile."""
    first = world.cut(rows)
    world.approve(first)
    assert world.cut(make.table(*rows.to_pylist(), make.clip(5, vehicle="fleet-0004", province="CN-ZJ"))) == first


def test_published_rows_count_towards_k_and_do_not_leave_twice(world, rows, make):
    """In the next window a row joins a published cell of two vehicles, and the published rows stay out of the release."""
    first = world.cut(rows)
    world.approve(first)
    world.publish(first, rows)
    more = make.table(*rows.to_pylist(), make.clip(6, vehicle="fleet-0009", day=9))
    assert world.cut(more) == first, "one release a window"
    world.clock.instant += timedelta(days=7)
    second = world.cut(more, day=date(2026, 11, 28))
    withheld = decisions(world, second)
    assert world.folder(second).release().num_rows == 1
    assert sorted(withheld.values()).count(("row.already_published",)) == 2
    assert world.folder(second).evidence()["counts"]["already_published"] == 2


@pytest.mark.parametrize(
    ("today", "dated", "reason"),
    [(date(2028, 1, 1), date(2026, 11, 21), "expired"), (date(2026, 11, 21), date(2026, 11, 22), "but today is")],
)
def test_a_date_of_ones_own_choice_does_not_help_a_pack_out(world, rows, today, dated, reason):
    """A release dated back into an expired pack's days, or ahead of its own day, is refused and nothing is cut."""
    world.clock.instant = datetime(today.year, today.month, today.day, 8, tzinfo=UTC)
    with pytest.raises(PackRefused, match=reason):
        world.cut(rows, day=dated)
    assert list(world.store.keys("releases/")) == []


def test_the_day_is_that_of_shanghai(world, rows):
    """At 17:00 UTC it is the next day in Shanghai: a release of that day is cut, one of the day after is not."""
    world.clock.instant = datetime(2026, 11, 21, 17, tzinfo=UTC)
    assert world.cut(rows, day=date(2026, 11, 22))
    with pytest.raises(PackRefused, match="but today is 2026-11-22"):
        world.cut(rows, day=date(2026, 11, 23))


def test_an_approval_under_fences_that_were_replaced_is_not_finished(world, rows):
    """New fences close an approved release: the cut under them is another, and the old one can no longer leave."""
    first = world.cut(rows)
    world.approve(first)
    second = world.cut(rows, law=replace(world.law, fences_bytes=world.law.fences_bytes.replace(b"1000", b"2000")))
    assert first != second
    with pytest.raises(ApprovalRefused, match="superseded"):
        world.publish(first, rows)


def test_a_publication_that_begins_while_it_is_superseded_stops_the_cut(world, rows, make):
    """Between the look for an intent and the closing of an open release its publication begins: no second release of its rows is cut."""
    first = world.cut(rows)
    intent = world.folder(first).key("intent.json")

    class BeginsMeanwhile:
        def create(self, key, data):
            if key.endswith(SUPERSEDED_FILE):
                world.store.create(intent, b"{}")
            return world.store.create(key, data)

        def __getattr__(self, name):
            return getattr(world.store, name)

    more = make.table(*rows.to_pylist(), make.clip(5, vehicle="fleet-0004", province="CN-ZJ"))
    with pytest.raises(ConcurrentChange, match="publication began"):
        replace(world, store=BeginsMeanwhile()).cut(more)
    assert world.cut(more) == first, "its rows count as published until its publication ends"


class Killed(BaseException):
    """The process ends here: nobody catches it."""


def _empty_counted(folder):
    """Counters would count nothing of the release."""
    return {"counted.parquet": to_parquet(COUNTED.empty_table(), COUNTED)}


def _fewer_withheld(folder):
    """An approver would see other counts than the rules made."""
    return {"evidence.json": folder.store.read(folder.key("evidence.json")).replace(b'"withheld":2', b'"withheld":0')}


@pytest.mark.parametrize("forged", [_empty_counted, _fewer_withheld])
def test_what_lies_in_the_folder_of_a_killed_cut_is_not_believed(world, rows, tmp_path, forged):
    """Killed between evidence and entry, and changed meanwhile by somebody who may write there: the ledger does not vouch for it."""

    class Dies:
        def __getattr__(self, name):
            return getattr(world.ledger, name)

        def record(self, *_, **__):
            raise Killed

    with pytest.raises(Killed):
        replace(world, ledger=Dies()).cut(rows)
    [release_id] = {key.split("/")[1] for key in world.store.keys("releases/")}
    before = {}
    for name, data in forged(world.folder(release_id)).items():
        path = tmp_path / "home" / world.folder(release_id).key(name)
        before[path] = path.read_bytes()
        assert data != before[path]
        path.chmod(0o644)
        path.write_bytes(data)
    with pytest.raises((EvidenceBroken, ImmutableConflict)):
        world.cut(rows, requesters=("somebody else",))
    assert world.kinds() == []
    for path, data in before.items():
        path.write_bytes(data)
    assert release_id == world.cut(rows, requesters=("somebody else",))


def test_two_cuts_at_once_draw_ids_once(world, rows):
    """A cut that finds another one's ids written between its look and its own writing goes on with those."""
    early = "0123456789abcdef" * 2

    class OtherIsFaster:
        def create(self, key, data):
            if key.endswith("mapping.parquet"):
                mapping = from_parquet(data, MAPPING)
                ids = pa.array([f"{number}{early}"[:32] for number in range(mapping.num_rows)])
                world.store.create(key, to_parquet(mapping.set_column(0, MAPPING.field(0), ids), MAPPING))
            return world.store.create(key, data)

        def __getattr__(self, name):
            return getattr(world.store, name)

    release_id = replace(world, store=OtherIsFaster()).cut(rows)
    assert {f"{number}{early}"[:32] for number in range(2)} == set(world.folder(release_id).release()["release_row_id"].to_pylist())


def test_a_cut_after_a_superseded_one_is_the_same_when_cut_again(world, rows, make):
    """What was superseded before does not change the name of the release that took its place; going back to old rows gives a new one."""
    first = world.cut(rows)
    more = make.table(*rows.to_pylist(), make.clip(5, vehicle="fleet-0004", province="CN-ZJ"))
    second, entries = world.cut(more), len(world.kinds())
    assert second == world.cut(more)
    assert entries == len(world.kinds())
    assert world.cut(rows) not in {first, second}
