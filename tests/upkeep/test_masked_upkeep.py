"""Masked copies by models that are out of use go; those that a standing shard set was made of stay, and a kill changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.audit.verify import verify
from curation.cli import app
from curation.layout import MASKED, masked_copy_key, masked_note_key, review_picture_key, shard_key
from curation.pipeline import masking
from curation.records import StageCount
from curation.stages import masked_upkeep
from tests.shards.conftest import StoppedClock

IN_USE, OF_A_SET, OLD, OLDER = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)
CLIPS = ("a" * 64, "b" * 64, "c" * 64)
SET = "street-0123456789abcdef"
KEY = Ed25519PrivateKey.generate()


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


class Eraser:
    """Removes objects until it is killed, before the last one that it may still remove."""

    def __init__(self, store: DirectoryStore, *, at_most: int = 1000) -> None:
        self._store, self._at_most = store, at_most
        self.removed: list[str] = []

    def remove(self, key: str) -> None:
        """Remove it."""
        if len(self.removed) == self._at_most:
            raise Killed
        self.removed.append(key)
        self._store.remove(key)

    def replace(self, key: str, data: bytes) -> None:
        """Nobody asks for that."""
        raise AssertionError(key)


def put_copies(store: DirectoryStore) -> None:
    """Two clips by every kind of models, bytes of a third whose masking was killed, and a picture that a person was shown."""
    for number, identity in enumerate((IN_USE, OF_A_SET, OLD, OLDER)):
        for clip_id in CLIPS[:2]:
            key = masked_copy_key(clip_id, identity, f"{number:064x}")
            store.create(key, b"copy")
            store.create(masked_note_key(clip_id, identity), json.dumps({"key": key}).encode())
    store.create(masked_copy_key(CLIPS[2], OLD, "f" * 64), b"killed")
    store.create(review_picture_key(CLIPS[0], "review-0123456789abcdef", 1), b"jpeg")


def built(store: DirectoryStore, ledger: Any, masking: str = OF_A_SET, name: str = SET) -> None:
    """A masked shard set that stands."""
    store.create(shard_key(name, "index.json"), b"{}")
    ledger.record(
        StageCount(stage="shards", subject=name, rows_in=0, accounted={}),
        files={},
        facts={"masked": "yes", "masking": masking, "snapshot": "1"},
    )


MakeHome = Callable[[str], tuple[DirectoryStore, StoreLedger]]


@pytest.fixture
def make_home(tmp_path: Path) -> MakeHome:
    """A store with copies and a set, and its ledger."""

    def make(name: str) -> tuple[DirectoryStore, StoreLedger]:
        store = DirectoryStore(tmp_path / name, jurisdiction="CN")
        ledger = StoreLedger(store, StoppedClock(), KEY)
        put_copies(store)
        built(store, ledger)
        return store, ledger

    return make


def told(ledger: Any) -> list[tuple[Any, ...]]:
    """What the ledger says of copies."""
    return [
        (entry.kind, entry.subject, dict(entry.counts), dict(entry.facts)) for entry in ledger.entries() if entry.kind.startswith("masked_")
    ]


def identities(store: DirectoryStore) -> set[str]:
    """Of the copies that stand."""
    return {key.split("/")[3].removesuffix(".json") for key in store.keys(MASKED) if not key.endswith(".jpg")}


def prune(store: DirectoryStore, ledger: Any, eraser: Eraser | None = None, **asked: Any) -> dict[str, int]:
    """Where each copy went."""
    count = masked_upkeep.run(**{"identity": IN_USE, **asked}, store=store, eraser=eraser or Eraser(store), ledger=ledger)
    assert count.rows_in == sum(count.accounted.values())
    return dict(count.accounted)


WENT = {"in_use": 2, "of_shard_sets": 2, "removed": 5}


def test_a_dry_run_tells_what_would_go_and_changes_nothing(make_home: MakeHome) -> None:
    """The same counts as the run that removes; no object goes, no entry comes."""
    store, ledger = make_home("home")
    before = list(store.keys("")), told(ledger)
    eraser = Eraser(store)
    assert WENT == prune(store, ledger, eraser, dry_run=True)
    assert ([], before) == (eraser.removed, (list(store.keys("")), told(ledger)))


def test_what_no_model_in_use_and_no_standing_set_made_goes_and_is_recorded(make_home: MakeHome) -> None:
    """Bytes before what tells of them; a person's picture stays; a second run does nothing; once its set is gone, that set's copies go."""
    store, ledger = make_home("home")
    eraser = Eraser(store)
    assert WENT == prune(store, ledger, eraser)
    assert (9, {IN_USE, OF_A_SET}) == (len(eraser.removed), identities(store))
    assert eraser.removed.index(masked_copy_key(CLIPS[0], OLD, f"{2:064x}")) < eraser.removed.index(masked_note_key(CLIPS[0], OLD))
    assert store.size(review_picture_key(CLIPS[0], "review-0123456789abcdef", 1)) is not None
    by_kind = {f"copies.{OLD}": "3", f"copies.{OLDER}": "2"}
    entries = [
        ("masked_superseded", "copies-000000", {"rows_in": 9, **WENT}, by_kind),
        ("masked_removed", "copies-000000", {"rows_in": 5, "removed": 5}, {}),
    ]
    assert entries == told(ledger)
    assert {"in_use": 2, "of_shard_sets": 2, "removed": 0} == prune(store, ledger)
    assert entries == told(ledger)
    store.remove(shard_key(SET, "index.json"))
    assert {"in_use": 2, "of_shard_sets": 0, "removed": 2} == prune(store, ledger)
    assert ({IN_USE}, "copies-000001") == (identities(store), told(ledger)[-1][1])
    assert () == verify(store, KEY.public_key()).uncovered


def test_a_kill_at_any_point_ends_in_the_same_home(make_home: MakeHome) -> None:
    """Killed before each removal, and after the last before that was recorded: the next run leaves the same objects and entries."""
    undisturbed = make_home("undisturbed")
    prune(*undisturbed)
    for at_most in range(9):
        store, ledger = make_home(f"killed-{at_most}")
        with pytest.raises(Killed):
            prune(store, ledger, Eraser(store, at_most=at_most))
        prune(store, ledger)
        assert (list(undisturbed[0].keys("")), told(undisturbed[1])) == (list(store.keys("")), told(ledger)), at_most
    store, ledger = make_home("unrecorded")
    for key in [key for key in store.keys(MASKED) if OLD in key or OLDER in key]:
        store.remove(key)
    kind, subject, counts, facts = told(undisturbed[1])[0]
    rows_in = counts.pop("rows_in")
    ledger.record(StageCount(stage=kind, subject=subject, rows_in=rows_in, accounted=counts), files={}, facts=facts)
    prune(store, ledger)
    assert told(undisturbed[1]) == told(ledger)


def test_what_is_needed_again_after_a_kill_stays(make_home: MakeHome) -> None:
    """The models were put back into use: what is left of their copies is not removed, and the ledger says so."""
    store, ledger = make_home("home")
    with pytest.raises(Killed):
        prune(store, ledger, Eraser(store, at_most=0))
    assert {"in_use": 3, "of_shard_sets": 2, "removed": 2} == prune(store, ledger, identity=OLD)
    assert {OF_A_SET, OLD} == identities(store)
    assert [{"rows_in": 5, "removed": 2, "called_off": 3}, {"rows_in": 2, "removed": 2}] == [
        counts for kind, _, counts, _ in told(ledger) if kind == "masked_removed"
    ]


def test_the_command_tells_before_it_removes(tmp_path: Path) -> None:
    """`--dry-run` names the copies that would go, as text and as JSON, and looks at no catalog; nothing is said where there is no copy."""
    settings = pipeline.open_settings(tmp_path)
    words = ["upkeep", "--dry-run", "--work", str(tmp_path)]
    assert "" == CliRunner().invoke(app, words, catch_exceptions=False).output
    store, identity = wiring.store(settings), masking._identity(settings)
    for one in (identity, OLD):
        store.create(masked_note_key(CLIPS[0], one), b"{}")
    said = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "masked copies: 2 at home, 1 of the models in use, 0 of shard sets that stand, 1 would be removed\n" == said
    as_json = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).output)
    assert {"in_use": 1, "of_shard_sets": 0, "removed": 1} == as_json["accounted"]
    assert {"in_use": 1, "of_shard_sets": 0, "removed": 1} == pipeline.prune_masked_copies(settings).accounted
    assert [masked_note_key(CLIPS[0], identity)] == list(store.keys(MASKED))
