"""What every object store must hold; a store's test subclasses `StoreContract` and supplies `make_store`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import CurationError, ImmutableConflict
from curation.ports import ObjectStore

BAD_KEYS = (
    "",
    "/absolute",
    "a//b",
    "a/",
    "a/../b",
    "..",
    "./a",
    "a/.",
    "back\\slash",
    "new\nline",
    "nul\x00",
    "bell\x07",
    "right-to-left\u202e",
    "lone\udcff",
    ".staging/x",
    "long/" + "x" * 256,
    "长" * 86,
)


class MakeStore(Protocol):
    """Opens the same store again, as another process would."""

    def __call__(self) -> ObjectStore: ...


class StoreContract:
    """Subclass with a fixture `make_store`."""

    race_turns = 10

    @pytest.fixture
    def make_store(self) -> Callable[[], ObjectStore]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, make_store: MakeStore) -> ObjectStore:
        return make_store()

    def test_what_was_created_is_read_back(self, store: ObjectStore) -> None:
        """Bytes come back whole, by read, by size and by local path."""
        assert store.create("clips/ab/x.mp4", b"bytes") is True
        assert store.read("clips/ab/x.mp4") == b"bytes"
        assert store.size("clips/ab/x.mp4") == 5
        with store.local_path("clips/ab/x.mp4") as path:
            assert path.read_bytes() == b"bytes"

    def test_the_same_bytes_again_change_nothing(self, store: ObjectStore) -> None:
        """Creating an object again with equal bytes says False."""
        store.create("k", b"same")
        assert store.create("k", b"same") is False
        assert store.read("k") == b"same"

    def test_other_bytes_are_refused(self, store: ObjectStore) -> None:
        """An object is written once: other bytes, longer or as long, are a conflict and leave it as it is."""
        store.create("k", b"first")
        for other in (b"other", b"", b"first and more"):
            with pytest.raises(ImmutableConflict, match="k"):
                store.create("k", other)
        assert store.read("k") == b"first"

    def test_a_key_is_no_folder_of_another(self, store: ObjectStore) -> None:
        """`a` and `a/b` cannot both be objects."""
        store.create("a", b"1")
        with pytest.raises(ImmutableConflict):
            store.create("a/b", b"2")
        store.create("c/d", b"3")
        with pytest.raises(ImmutableConflict):
            store.create("c", b"4")

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_could_leave_the_store_is_refused(self, store: ObjectStore, key: str) -> None:
        """Every operation refuses a key with dots, empty parts, controls or backslashes."""
        for operate in (lambda: store.create(key, b""), lambda: store.read(key), lambda: store.size(key)):
            with pytest.raises(CurationError, match="key"):
                operate()
        with store.stage() as staged, pytest.raises(CurationError, match="key"):
            staged.commit(key)
        assert list(store.keys("")) == []

    def test_a_missing_object_has_no_size_and_cannot_be_read(self, store: ObjectStore) -> None:
        """Reading what is not there is an error that names it."""
        assert store.size("no/such") is None
        with pytest.raises(CurationError, match="no/such"):
            store.read("no/such")
        with pytest.raises(CurationError, match="no/such"), store.local_path("no/such"):
            pass

    def test_a_range_is_read_alone(self, store: ObjectStore) -> None:
        """Bytes from an offset come back, fewer where the object ends; a missing object and a negative number are errors."""
        store.create("k", b"0123456789")
        ranges = [(0, 4), (3, 4), (8, 4), (10, 1), (99, 1), (5, 0)]
        assert [store.read_range("k", *one) for one in ranges] == [b"0123", b"3456", b"89", b"", b"", b""]
        for key, offset_bytes, length_bytes in (("none", 0, 1), ("none", 0, 0), ("k", -1, 2), ("k", 0, -1)):
            with pytest.raises(CurationError, match=key):
                store.read_range(key, offset_bytes, length_bytes)

    def test_staged_bytes_are_invisible_until_committed(self, store: ObjectStore) -> None:
        """Nothing is listed or readable before the commit, and the staged file shows the bytes written so far."""
        with store.stage() as staged:
            staged.write(b"half")
            assert staged.path.read_bytes() == b"half"
            staged.write(b" whole")
            assert list(store.keys("")) == []
            assert staged.commit("k") is True
            assert list(store.keys("")) == ["k"]
        assert store.read("k") == b"half whole"

    def test_what_was_not_committed_is_gone(self, store: ObjectStore) -> None:
        """Leaving without a commit discards the bytes."""
        with store.stage() as staged:
            staged.write(b"x")
            path = staged.path
        assert not path.exists()
        assert list(store.keys("")) == []

    def test_a_staged_object_is_committed_once(self, store: ObjectStore) -> None:
        """A second commit of the same staged object is refused."""
        with store.stage() as staged:
            staged.commit("k")
            with pytest.raises(CurationError, match="before"):
                staged.commit("l")

    def test_keys_are_listed_in_order_under_any_prefix(self, store: ObjectStore) -> None:
        """Keys come in the order of their characters, whatever folders they lie in, and a prefix may end inside a name."""
        keys = ["a.b", "a/b", "a/b-c/d", "a/b.c", "a0", "ledger/00", "ledger/01", "清/单"]
        for key in reversed(keys):
            store.create(key, key.encode())
        assert list(store.keys("")) == sorted(keys)
        for prefix in ("a", "a/", "a/b", "a/b-", "ledger/0", "ledger/01", "none", "none/at/all", "清"):
            assert list(store.keys(prefix)) == sorted(key for key in keys if key.startswith(prefix))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
    @given(data=st.binary(max_size=4096))
    def test_any_bytes_survive(self, store: ObjectStore, data: bytes) -> None:
        """Bytes in, the same bytes out."""
        key = f"any/{hashlib.sha256(data).hexdigest()}"
        store.create(key, data)
        assert store.read(key) == data

    def test_of_many_writers_one_creates(self, make_store: MakeStore) -> None:
        """Eight threads with equal bytes: one creates, seven find it there."""
        stores = [make_store() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            for turn in range(self.race_turns):
                created = list(pool.map(lambda store, turn=turn: store.create(f"race/{turn}", b"x" * 10_000), stores))
                assert sorted(created) == [False] * 7 + [True]

    def test_of_many_writers_with_other_bytes_one_wins(self, make_store: MakeStore) -> None:
        """Eight threads with different bytes: one creates, seven are told of the conflict, and the object is the winner's."""

        def write(number: int) -> int | None:
            try:
                make_store().create("race", bytes([number]) * 5000)
            except ImmutableConflict:
                return None
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(write, range(8)) if number is not None]
        assert len(winners) == 1
        assert make_store().read("race") == bytes(winners) * 5000
