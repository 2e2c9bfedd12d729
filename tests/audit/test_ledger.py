"""The ledger keeps what was recorded, and `verify` names the first thing that does not hold."""

import dataclasses
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import __version__, wiring
from curation.adapters.clock_system import PinnedClock
from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger, signed_bytes, to_bytes
from curation.audit.verify import verify
from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, ImmutableConflict, NotConserved, OutsideError, UsageError
from curation.records import StageCount
from curation.settings import read_settings

CLOCK = PinnedClock(datetime(2026, 11, 21, 8, tzinfo=UTC))


@pytest.fixture
def key():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store", jurisdiction="CN")


@pytest.fixture
def filled(store, key):
    """A ledger of three entries that cover two files."""
    ledger = StoreLedger(store, CLOCK, key)
    for number in range(3):
        files = {}
        if number:
            data = f"file {number}".encode()
            store.create(f"manifests/{number}", data)
            files = {f"manifests/{number}": sha256_hex(data)}
        ledger.record(StageCount(stage="pull", subject=f"batch-{number}", rows_in=2, accounted={"stored": 1, "refused": 1}), files=files)
    return ledger


def overwrite(tmp_path: Path, key: str, data: bytes) -> None:
    """Put other bytes in place of an object, as somebody with a shell would."""
    path = tmp_path / "store" / key
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_whole_ledger_verifies(store, key, filled):
    """An untouched ledger is proved, and its head is that of the last entry."""
    proof = verify(store, key.public_key())
    assert (proof.entry_count, proof.file_count, proof.uncovered) == (3, 2, ())
    assert f"2:{list(filled.entries())[-1].digest()}" == proof.head


def test_an_equal_event_is_recorded_once(store, key, filled):
    """Reporting the same event again, from another process, adds nothing."""
    again = StageCount(stage="pull", subject="batch-0", rows_in=2, accounted={"stored": 1, "refused": 1})
    entry = StoreLedger(store, CLOCK, key).record(again, files={})
    assert entry.sequence == 0
    assert len(list(filled.entries())) == 3


def test_of_two_events_that_exclude_each_other_the_first_holds(store, key):
    """Two writers report one each, at once, for many subjects: of every subject one is recorded, and both are told which."""
    told = {kind: {} for kind in ("done", "failed")}

    def report(kind, other):
        ledger = StoreLedger(store, CLOCK, key)
        for number in range(20):
            count = StageCount(stage=kind, subject=f"s{number}", rows_in=1, accounted={kind: 1})
            told[kind][count.subject] = ledger.record(count, files={}, unless={other}).kind

    threads = [threading.Thread(target=report, args=pair) for pair in (("done", "failed"), ("failed", "done"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorded = [(entry.subject, entry.kind) for entry in StoreLedger(store, CLOCK, key).entries()]
    assert sorted(recorded) == sorted(told["done"].items()) == sorted(told["failed"].items())


def test_rows_that_are_not_accounted_for_are_refused(store, key):
    """A stage that lost a row cannot record anything."""
    with pytest.raises(NotConserved, match="3 rows in, 2 accounted for"):
        StoreLedger(store, CLOCK, key).record(StageCount(stage="pull", subject="b", rows_in=3, accounted={"stored": 2}), files={})
    assert list(store.keys("ledger/")) == []


def test_racing_writers_lose_nothing(store, key):
    """Eight writers at once leave one unbroken chain with every event in it."""

    def write(number: int) -> None:
        ledger = StoreLedger(store, CLOCK, key)
        for step in range(5):
            ledger.record(StageCount(stage="pull", subject=f"{number}-{step}", rows_in=0, accounted={}), files={})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(store, key.public_key()).entry_count == 40
    assert len({entry.subject for entry in StoreLedger(store, CLOCK, key).entries()}) == 40


class Overtaken:
    """A store in which another writer is faster at each of so many creations."""

    def __init__(self, store, key, times):
        self._store, self._other, self._left = store, StoreLedger(store, CLOCK, key), times

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, key, data):
        if self._left:
            self._left -= 1
            self._other.record(StageCount(stage="pull", subject=f"other-{self._left}", rows_in=0, accounted={}), files={})
        return self._store.create(key, data)


def test_a_storm_of_writers_is_no_fault_of_the_store(store, key):
    """Who loses to more writers than a fault is told by still gets its turn; a store that refuses and holds nothing is told."""
    count = StageCount(stage="pull", subject="mine", rows_in=0, accounted={})
    assert StoreLedger(Overtaken(store, key, 110), CLOCK, key).record(count, files={}).sequence == 110
    refusing = SimpleNamespace(size=lambda _: None, create=_refuse)
    with pytest.raises(OutsideError, match="retry"):
        StoreLedger(refusing, CLOCK, key).record(count, files={})


def _refuse(key, data):
    raise ImmutableConflict("exists", subject=key, fix="none")


@pytest.mark.parametrize("position", range(3))
def test_every_changed_byte_of_an_entry_is_named(store, key, filled, tmp_path, position):
    """Whichever byte of whichever entry changes, verify says no and names that entry or its successor."""
    name = f"ledger/{position:020d}.json"
    original = store.read(name)
    for offset in range(0, len(original), 7):
        overwrite(tmp_path, name, original[:offset] + bytes([original[offset] ^ 1]) + original[offset + 1 :])
        with pytest.raises(EvidenceBroken) as refusal:
            verify(store, key.public_key())
        assert name == refusal.value.subject


def test_a_changed_file_is_named(store, key, filled, tmp_path):
    """One changed byte of a covered file is found and the file named."""
    overwrite(tmp_path, "manifests/1", b"file 2")
    with pytest.raises(EvidenceBroken, match="manifests/1: is not what the ledger recorded"):
        verify(store, key.public_key())


@pytest.fixture
def with_clips(store, filled):
    """The same with a clip of 4 bytes and one of 3."""
    for name, data in (("clips/aa/aa.mp4", b"clip"), ("clips/bb/bb.mp4", b"two")):
        store.create(name, data)
        filled.record(StageCount(stage="pull", subject=name, rows_in=0, accounted={}), files={name: sha256_hex(data)})
    return filled


def test_how_many_clips_are_read_is_chosen(store, key, with_clips, tmp_path, monkeypatch):
    """All of up to a limit, a sample of more, or none; what was not read is not said to be proved, and a missing clip is always named."""
    read = {how: verify(store, key.public_key(), clips=how) for how in (None, "none", "sample", "all")}
    assert {None: 2, "none": 0, "sample": 2, "all": 2} == {how: proof.clips_read for how, proof in read.items()}
    assert {(4, 2)} == {(proof.file_count, proof.clip_count) for proof in read.values()}
    monkeypatch.setattr("curation.audit.verify._SAMPLE", 1)
    assert 2 == verify(store, key.public_key()).clips_read
    monkeypatch.setattr("curation.audit.verify._READ_ALL_BYTES", 6)
    assert 1 == verify(store, key.public_key()).clips_read
    overwrite(tmp_path, "clips/bb/bb.mp4", b"too")
    assert 0 == verify(store, key.public_key(), clips="none").clips_read
    with pytest.raises(EvidenceBroken, match=r"clips/bb/bb\.mp4: is not what the ledger recorded"):
        verify(store, key.public_key(), clips="all")
    (tmp_path / "store" / "clips/bb/bb.mp4").unlink()
    with pytest.raises(EvidenceBroken, match=r"clips/bb/bb\.mp4: is recorded in the ledger but cannot be read"):
        verify(store, key.public_key(), clips="none")


@pytest.mark.parametrize("place", ["clips", "manifests", "validation", "releases", "packs", "fences", "shards"])
def test_a_changed_file_of_every_kind_is_named(store, key, filled, tmp_path, place):
    """Whatever the ledger covers, one changed byte of it is found; a file beside it that no entry covers is listed."""
    name = f"{place}/x/file"
    store.create(name, b"evidence")
    assert (name,) == verify(store, key.public_key()).uncovered
    filled.record(StageCount(stage="any", subject=name, rows_in=0, accounted={}), files={name: sha256_hex(b"evidence")})
    assert () == verify(store, key.public_key()).uncovered
    overwrite(tmp_path, name, b"evidencE")
    with pytest.raises(EvidenceBroken, match=f"{name}: is not what the ledger recorded"):
        verify(store, key.public_key())


def test_a_missing_file_is_named(store, key, filled, tmp_path):
    """A covered file that is gone is found and named."""
    (tmp_path / "store" / "manifests/2").unlink()
    with pytest.raises(EvidenceBroken, match="manifests/2: is recorded in the ledger but cannot be read"):
        verify(store, key.public_key())


def test_a_missing_entry_is_named(store, key, filled, tmp_path):
    """An entry taken out of the middle leaves a gap that is named."""
    (tmp_path / "store" / "ledger" / f"{1:020d}.json").unlink()
    with pytest.raises(EvidenceBroken, match=f"{1:020d}.json: is missing"):
        verify(store, key.public_key())


def test_a_cut_tail_is_found_by_a_noted_head(store, key, filled, tmp_path):
    """A ledger whose tail was cut off still hangs together; the head noted earlier shows the cut."""
    head = verify(store, key.public_key()).head
    (tmp_path / "store" / "ledger" / f"{2:020d}.json").unlink()
    assert verify(store, key.public_key()).entry_count == 2
    with pytest.raises(EvidenceBroken, match="cut off before the noted head"):
        verify(store, key.public_key(), head=head)


def test_a_rewritten_tail_is_found_by_a_noted_head(store, key, filled, tmp_path):
    """Even whoever holds the key cannot rewrite an entry that a noted head sealed."""
    head = verify(store, key.public_key()).head
    name = f"ledger/{2:020d}.json"
    forged = dataclasses.replace(list(filled.entries())[2], subject="another batch")
    forged = dataclasses.replace(forged, signature=key.sign(signed_bytes(forged)).hex())
    overwrite(tmp_path, name, to_bytes(forged))
    assert verify(store, key.public_key()).entry_count == 3
    with pytest.raises(EvidenceBroken, match="is not the entry that the noted head sealed"):
        verify(store, key.public_key(), head=head)


def test_a_signature_of_another_key_is_named(store, key, filled, tmp_path):
    """An entry signed by anybody else is refused."""
    name = f"ledger/{2:020d}.json"
    entry = list(filled.entries())[2]
    forged = dataclasses.replace(entry, signature=Ed25519PrivateKey.generate().sign(signed_bytes(entry)).hex())
    overwrite(tmp_path, name, to_bytes(forged))
    with pytest.raises(EvidenceBroken, match=f"{2:020d}.json: carries a signature that is not of the ledger's key"):
        verify(store, key.public_key())


def test_a_swapped_signature_is_named(store, key, filled, tmp_path):
    """A signature of the right key over another entry counts for nothing."""
    first, second, _ = filled.entries()
    overwrite(tmp_path, f"ledger/{1:020d}.json", to_bytes(dataclasses.replace(second, signature=first.signature)))
    with pytest.raises(EvidenceBroken, match=f"{1:020d}.json: carries a signature that is not of the ledger's key"):
        verify(store, key.public_key())


def test_counts_that_do_not_add_up_are_named(store, key, tmp_path):
    """An entry that lost a row is refused though its signature is right."""
    ledger = StoreLedger(store, CLOCK, key)
    entry = ledger.record(StageCount(stage="pull", subject="b", rows_in=1, accounted={"stored": 1}), files={})
    forged = dataclasses.replace(entry, counts={"rows_in": 2, "stored": 1})
    forged = dataclasses.replace(forged, signature=key.sign(signed_bytes(forged)).hex())
    overwrite(tmp_path, f"ledger/{0:020d}.json", to_bytes(forged))
    with pytest.raises(EvidenceBroken, match="2 rows in, 1 accounted for"):
        verify(store, key.public_key())


def test_a_file_that_no_entry_covers_is_listed(store, key, filled):
    """A file that appears among the evidence is listed, so that it cannot hide there."""
    store.create("releases/x/sent/00000.parquet", b"who put this here?")
    assert verify(store, key.public_key()).uncovered == ("releases/x/sent/00000.parquet",)


def test_a_head_that_is_none_is_wrong_use(store, key, filled):
    """A head that cannot be read is a usage error, not a proof."""
    with pytest.raises(UsageError):
        verify(store, key.public_key(), head="latest")


def test_entries_are_plain_json(store, filled):
    """An auditor can read an entry without this program."""
    entry = json.loads(store.read(f"ledger/{1:020d}.json"))
    assert sorted(entry) == ["at", "counts", "facts", "files", "kind", "previous", "sequence", "signature", "subject"]


@pytest.mark.parametrize("signature", ["00" * 64, "", "zz", 5, None])
def test_a_planted_entry_answers_no_question(store, key, filled, tmp_path, signature):
    """An entry that somebody put behind the last one, unsigned, stops every reader: no gate takes it for an approval or a receipt."""
    planted = dataclasses.replace(filled.head(), sequence=3, previous=filled.head().digest(), kind="approve", signature=signature)
    path = tmp_path / "store" / "ledger" / f"{3:020d}.json"
    path.write_bytes(to_bytes(planted))
    with pytest.raises(EvidenceBroken, match=f"{3:020d}.json: carries a signature that is not of the ledger's key"):
        list(StoreLedger(store, CLOCK, key).entries())
    with pytest.raises(EvidenceBroken, match=f"{3:020d}.json"):
        verify(store, key.public_key())


def test_bytes_that_are_nested_without_end_are_no_entry(store, key, filled, tmp_path):
    """A file that breaks the parser is named like any other broken one."""
    (tmp_path / "store" / "ledger" / f"{3:020d}.json").write_bytes(b"[" * 100_000)
    with pytest.raises(EvidenceBroken, match=f"{3:020d}.json: is no ledger entry"):
        verify(store, key.public_key())


def _remove_second(filled, store):
    digest = sha256_hex(b"file 2")
    filled.record(StageCount(stage="removed", subject="e", rows_in=1, accounted={"removed": 1}), files={"manifests/2": digest})
    return digest


def test_a_removed_entry_excuses_what_an_erasure_took_away(store, key, filled):
    """The object is gone, and the ledger holds; the rest is proved as before."""
    _remove_second(filled, store)
    store.remove("manifests/2")
    proof = verify(store, key.public_key())
    assert (4, 1, ()) == (proof.entry_count, proof.file_count, proof.uncovered)


def test_an_object_that_was_to_be_removed_and_is_still_there_is_named(store, key, filled):
    """An erasure that stopped half-way is no erasure."""
    _remove_second(filled, store)
    with pytest.raises(EvidenceBroken, match="still there") as refusal:
        verify(store, key.public_key())
    assert "manifests/2" == refusal.value.subject


def test_after_a_removal_the_key_may_hold_other_bytes_once_they_are_recorded(store, key, filled, tmp_path):
    """A scrubbed file takes the place of the first; its own digest counts from then on."""
    _remove_second(filled, store)
    store.replace("manifests/2", b"scrubbed")
    event = StageCount(stage="erase", subject="e", rows_in=1, accounted={"erased": 1})
    filled.record(event, files={"manifests/2": sha256_hex(b"scrubbed")})
    assert 2 == verify(store, key.public_key()).file_count
    overwrite(tmp_path, "manifests/2", b"file 2")
    with pytest.raises(EvidenceBroken, match="not what the ledger recorded"):
        verify(store, key.public_key())


def test_a_removal_of_what_was_never_recorded_excuses_nothing(store, key, filled):
    """Nobody hides a changed file behind a removal of other bytes."""
    event = StageCount(stage="removed", subject="e", rows_in=1, accounted={"removed": 1})
    filled.record(event, files={"manifests/2": sha256_hex(b"other bytes")})
    with pytest.raises(EvidenceBroken, match="was not recorded so before"):
        verify(store, key.public_key())


def test_every_entry_says_by_which_code_and_under_which_pack(store, key):
    """The stamp stands in each entry; newer code, or another pack, that reports the same event records nothing anew."""
    count, said = StageCount(stage="pull", subject="batch", rows_in=1, accounted={"stored": 1}), {"window": "w"}
    first = StoreLedger(store, CLOCK, key, stamp=lambda: {"code_version": "1", "pack_in_force": "a"}).record(count, files={}, facts=said)
    assert first.facts == {"window": "w", "code_version": "1", "pack_in_force": "a"}
    newer = StoreLedger(store, CLOCK, key, stamp=lambda: {"code_version": "2", "pack_in_force": "b"})
    assert newer.record(count, files={}, facts=said) == first
    assert newer.record(count, files={}, facts={"window": "other"}).facts["code_version"] == "2"


def test_the_stamp_is_that_of_the_settings(tmp_path):
    """The pack in force is named by the digest of its bytes: the one of the settings, else the shipped one; `none` where it is gone."""
    law = tmp_path / "law.yaml"
    law.write_bytes(b"pack: {}")
    count, found = StageCount(stage="pull", subject="batch", rows_in=0, accounted={}), []
    for number, text in enumerate(["", f'[residency]\npack = "{law}"\n', f'[residency]\npack = "{tmp_path}/gone.yaml"\n']):
        (tmp_path / "curation.toml").write_text(text)
        entry = wiring.ground(read_settings(work=tmp_path)).ledger.record(count, files={}, facts={"number": str(number)})
        assert entry.facts["code_version"] == __version__
        found.append(entry.facts["pack_in_force"])
    shipped = sha256_hex((Path(wiring.__file__).parent / "residency" / "packs" / "cn-baseline.yaml").read_bytes())
    assert found == [shipped, sha256_hex(b"pack: {}"), "none"]
