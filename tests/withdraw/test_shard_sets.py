"""A clip that a person had withdrawn is in no shard set any more, to the last byte; the sets are named, and built again without it."""

import hashlib
import io
import json
import tarfile
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.cli import app
from curation.demo import law, run_demo
from curation.digests import sha256_hex
from curation.errors import ConcurrentChange
from curation.layout import clip_key, shard_key, withdrawal_key
from curation.pipeline import shard_set
from curation.records import StageCount
from curation.shards.files import sets_holding
from curation.shards.request import from_mapping
from curation.stages import withdraw
from tests.release.conftest import NOW, clip, table

pytestmark = pytest.mark.usefixtures("publisher_here")

SHOWN = {"name": "day", "filter": "timeofday = 'daytime'"}
TELLING = {"name": "one-car", "filter": "vehicle_id = 'fleet-0000'"}


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


def content(number: int) -> bytes:
    """A clip's bytes."""
    return f"frames of clip {number} ".encode() * 50


def held(number: int):
    """The row of a clip that the store holds."""
    clip_id = hashlib.sha256(content(number)).hexdigest()
    where = {"clip_id": clip_id, "object_uri": f"home:{clip_key(clip_id, '.mp4')}", "size_bytes": len(content(number))}
    return clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number, drive_id=f"drive-{number}", **where)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A work folder with five curated clips."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-25T08:00:00+08:00")
    folder = tmp_path / "work"
    run_demo._write_settings(folder, folder / "clips", None, law.make(folder / "home" / "law", fences=None, now=NOW))
    settings = pipeline.open_settings(folder)
    home = wiring.home(settings)
    clips = {clip_key(hashlib.sha256(content(number)).hexdigest(), ".mp4"): content(number) for number in range(5)}
    for key, data in clips.items():
        home.store.create(key, data)
    count = StageCount(stage="pull", subject="test", rows_in=5, accounted={"stored": 5})
    home.ledger.record(count, files={key: sha256_hex(data) for key, data in clips.items()})
    home.catalog.write_branch(settings.curated_table, "test", table(*(held(number) for number in range(5))), replace=[], properties={})
    assert home.catalog.advance(settings.curated_table, "test")
    return settings


def ask(settings, number: int) -> str:
    """A recorded request to withdraw a clip."""
    selection = withdraw.Selection(by="clip", value=held(number)["clip_id"])
    return pipeline.request_withdrawal(settings, selection, reason="r", requester="engineer").withdrawal_id


def shard_bytes(settings) -> bytes:
    """Every byte under shards/."""
    store = wiring.store(settings)
    return b"".join(store.read(key) for key in store.keys("shards/"))


def test_no_shard_set_holds_a_withdrawn_clip(settings):
    """Sets that held it are named, gone, and built again of the others from the same snapshot; later requests count it as withdrawn."""
    sets = {name["name"]: pipeline.build_shards(settings, from_mapping(name)) for name in (SHOWN, TELLING)}
    other = pipeline.build_shards(settings, from_mapping({"name": "other", "filter": "vehicle_id = 'fleet-0001'"}))
    assert content(0) in shard_bytes(settings)
    tags = wiring.home(settings).catalog._load(settings.curated_table).metadata.refs
    assert {f"curation.pin.shards.{name}" for name in (*sets.values(), other)} <= set(tags)
    withdrawal_id = ask(settings, 0)
    words = ["withdraw", "confirm", withdrawal_id, "--approver", "officer", "--work", str(settings.work)]
    told = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    receipt = json.loads(told.output)
    assert dict.fromkeys(sets.values(), 1) == receipt["shard_sets_removed"]
    again = receipt["shard_sets_built_again"]
    assert [name[: len(one)] for name, one in ((again[sets["one-car"]], "one-car-"), (again[sets["day"]], "day-"))] == ["one-car-", "day-"]
    assert again == json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).output)["shard_sets_built_again"]
    said = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert f"built again without them as {again[sets['day']]}" in said
    left = shard_bytes(settings)
    assert [False, True, True] == [content(number) in left for number in range(3)]
    assert held(0)["clip_id"].encode() not in left
    store = wiring.store(settings)
    assert {other, *again.values()} == {key.split("/")[1] for key in store.keys("shards/")}
    rows = json.loads(store.read(shard_key(again[sets["day"]], "index.json")))["rows"]
    assert {"considered": 5, "withdrawn": 1, "filtered_out": 0, "near_duplicates": 0, "over_max_samples": 0} == rows
    assert b"| withdrawn on request | 1 |" in store.read(shard_key(again[sets["day"]], "card.md"))
    assert pipeline.preview_shards(settings, from_mapping(SHOWN))["samples"] == 4
    assert pipeline.verify(settings).uncovered == ()
    assert b"vehicle_id" not in store.read(withdrawal_key(withdrawal_id, "shards.json")).replace(b"it looks at vehicle_id", b"")


def test_a_withdrawal_killed_while_it_clears_shard_sets_is_finished_by_the_next(settings, monkeypatch):
    """Killed before or after any removal, confirming again leaves none of the bytes, the same receipt, and a ledger that holds."""
    for number, (at, after) in enumerate([(1, False), (1, True), (3, True)]):
        pipeline.build_shards(settings, from_mapping({"name": f"set-{number}"}))
        withdrawal_id, real, calls = ask(settings, number), wiring.eraser(settings), []

        class Eraser:
            def remove(self, key, at=at, after=after, real=real, calls=calls):
                calls.append(key)
                if len(calls) < at or after:
                    real.remove(key)
                if len(calls) == at:
                    raise Killed

        broken = Eraser()
        monkeypatch.setattr(wiring, "eraser", lambda _, broken=broken: broken)
        with pytest.raises(Killed):
            pipeline.confirm_withdrawal(settings, withdrawal_id, approver="officer")
        monkeypatch.undo()
        monkeypatch.setenv("CURATION_NOW", "2026-11-25T08:00:00+08:00")
        pipeline.confirm_withdrawal(settings, withdrawal_id, approver="officer")
        assert content(number) not in shard_bytes(settings)
        assert len(pipeline.withdrawal_receipt(settings, withdrawal_id)["shard_sets_removed"]) == 1
        kinds = [entry.kind for entry in pipeline.ledger_entries(settings) if entry.subject == withdrawal_id]
        assert kinds == ["withdraw_request", "withdraw_confirm", "removed", "withdraw"]
        assert pipeline.verify(settings).uncovered == ()


def test_an_erasure_may_follow(settings):
    """What a withdrawal recorded as removed is no unfinished erasure."""
    from curation.stages import erase

    pipeline.build_shards(settings, from_mapping(SHOWN))
    pipeline.confirm_withdrawal(settings, ask(settings, 0), approver="officer")
    entries = list(pipeline.ledger_entries(settings))
    asked = SimpleNamespace(erasure_id="x")
    assert erase._begun(asked, entries) is None


@pytest.mark.parametrize("is_killed", [False, True], ids=["told", "killed"])
def test_a_shard_set_that_was_built_while_a_clip_of_it_was_withdrawn_goes(settings, monkeypatch, is_killed):
    """Its builder looks for withdrawals when it is whole, and removes it; where that was killed, the next upkeep does."""
    own = shard_set.shards.run
    withdrawal_id = ask(settings, 0)

    def slow(*given, **named):
        pipeline.confirm_withdrawal(settings, withdrawal_id, approver="officer")
        made = own(*given, **named)
        if is_killed:
            raise Killed
        return made

    with monkeypatch.context() as patch:
        patch.setattr(shard_set.shards, "run", slow)
        with pytest.raises(Killed if is_killed else ConcurrentChange):
            pipeline.build_shards(settings, from_mapping(SHOWN))
    store = wiring.store(settings)
    assert is_killed == bool(sets_holding([held(0)["clip_id"]], store))
    if is_killed:
        pipeline.upkeep(settings)
    assert sets_holding([held(0)["clip_id"]], store) == {}
    assert pipeline.verify(settings).uncovered == ()
    made = pipeline.build_shards(settings, from_mapping(SHOWN))
    assert [set(sets_holding([held(number)["clip_id"]], store)) for number in (0, 1)] == [set(), {made}]


class Counting:
    """A store that gives no whole object, and counts the bytes of what it gives."""

    def __init__(self, store):
        self.store, self.given_bytes = store, 0

    def read_range(self, key, offset_bytes, length_bytes):
        data = self.store.read_range(key, offset_bytes, length_bytes)
        self.given_bytes += len(data)
        return data

    def local_path(self, key):
        raise AssertionError(key)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_shard_is_searched_by_its_headers(world):
    """Twelve clips of a megabyte with their cards: each is found, and less than a tenth of the bytes is asked for."""
    ids, packed = [f"{number:064x}" for number in range(12)], io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for clip_id in ids:
            for suffix, size_bytes in ((".json", 300), (".mp4", 1 << 20)):
                member = tarfile.TarInfo(clip_id + suffix)
                member.size = size_bytes
                tar.addfile(member, io.BytesIO(bytes(size_bytes)))
    world.store.create("shards/day-0123456789abcdef/train-000000.tar", packed.getvalue())
    counting = Counting(world.store)
    assert sets_holding([*ids, "f" * 64], counting) == {"day-0123456789abcdef": frozenset(ids)}
    assert counting.given_bytes < len(packed.getvalue()) / 10
