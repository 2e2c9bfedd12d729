"""Pull: every entry accounted for, bytes read once, nothing done twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation import layout
from curation.adapters import store_local
from curation.adapters.source_folder import FolderSource
from curation.adapters.store_local import DirectoryStore
from curation.errors import CurationError, EntryChanged, OutsideError, SourceUnreachable, UsageError
from curation.records import ListingEntry
from curation.schema import LISTING, PULL_OUTCOMES, PULLED
from curation.stages import pull
from curation.tables import from_parquet

Put = Callable[..., Path]


def _pulled(store: DirectoryStore, batch_id: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in from_parquet(store.read(layout.pulled_key(batch_id)), PULLED).to_pylist()}


def _finish(store: DirectoryStore, batch_id: str) -> None:
    """Stands in for the manifest stage, which says last that a batch is finished."""
    store.create(layout.finished_key(batch_id), b"")


def _whole_pull(source: Any, store: DirectoryStore, fakes: SimpleNamespace, batch_size: int = 500) -> list[str]:
    found = pull.discover(source, store=store, batch_size=batch_size)
    for batch_id in found.batch_ids:
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
        _finish(store, batch_id)
    return list(found.batch_ids)


class _Failing:
    """A folder source whose clips fail to be read: `plan` maps a name to the errors of its first readings."""

    def __init__(self, inner: FolderSource, plan: dict[str, list[CurationError]]) -> None:
        self._inner = inner
        self._plan = plan
        self.opened: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        self.opened.append(entry.name)
        with self._inner.open(entry) as chunks:
            yield self._fail(entry.name, chunks)

    def _fail(self, name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from chunks
        if self._plan.get(name):
            raise self._plan[name].pop(0)


def _reset() -> OutsideError:
    return OutsideError("cannot be read: connection reset", subject="x", fix="retry")


def test_each_entry_goes_where_it_belongs(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Video is stored, the same bytes again are a duplicate of the first name, what is no video is quarantined, the rest rides along."""
    put("b.mov", b"video 1")
    put("a.mp4", b"video 1")
    put("c.mp4", b"no clip")
    put("d.avi", b"no clip")
    put("e.txt")
    put("fleet.csv", "file,plate\na.mp4,X\n")
    source, ledger = FolderSource("s", folder), fakes.Ledger()
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    count = pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=ledger)
    assert (6, {"stored": 1, "duplicate": 2, "quarantined": 1, "growing": 0, "sidecar": 1, "refused": 1}) == (
        count.rows_in,
        count.accounted,
    )
    video, text = (hashlib.sha256(data).hexdigest() for data in (b"video 1", b"no clip"))
    rows = _pulled(store, batch_id)
    kept, quarantined = f"clips/{video[:2]}/{video}.mp4", f"quarantine/{text}/clip.mp4"
    assert ("stored", video, kept, 7, None) == tuple(
        rows["a.mp4"][name] for name in ("outcome", "clip_id", "object_key", "size_bytes", "reason")
    )
    assert ("duplicate", "same bytes as a.mp4", kept) == tuple(rows["b.mov"][name] for name in ("outcome", "reason", "object_key"))
    assert ("quarantined", "no video stream was found", quarantined) == tuple(
        rows["c.mp4"][name] for name in ("outcome", "reason", "object_key")
    )
    assert ("duplicate", "same bytes as c.mp4") == (rows["d.avi"]["outcome"], rows["d.avi"]["reason"])
    assert ("refused", "sidecar") == (rows["e.txt"]["outcome"], rows["fleet.csv"]["outcome"])
    assert (b"video 1", b"no clip") == (store.read(kept), store.read(quarantined))
    ((stage, subject, accounted, files, facts),) = ledger.events
    assert ("pull", batch_id, dict(count.accounted), {"source": "s"}) == (stage, subject, accounted, facts)
    assert {key: hashlib.sha256(store.read(key)).hexdigest() for key in files} == files
    assert {layout.source_key(batch_id), layout.listing_key(batch_id), layout.pulled_key(batch_id), kept, quarantined} == files.keys()
    assert {"base_uri": folder.resolve().as_uri(), "source": "s"} == json.loads(store.read(layout.source_key(batch_id)))


def test_batches_are_cut_by_clips_in_name_order(folder: Path, put: Put, store: DirectoryStore) -> None:
    """Two clips a batch, others riding along; the id is the source's name and the digest of the listing."""
    for name in ("a.mp4", "b.txt", "c.mp4", "d.txt", "e.mp4", "f.mp4", "g.mp4"):
        put(name, name)
    found = pull.discover(FolderSource("my-cars", folder), store=store, batch_size=2)
    names = [from_parquet(store.read(layout.listing_key(batch_id)), LISTING)["name"].to_pylist() for batch_id in found.batch_ids]
    assert [["a.mp4", "b.txt", "c.mp4", "d.txt"], ["e.mp4", "f.mp4"], ["g.mp4"]] == names
    assert (7, 0, {"clip": 5, "refused": 2}) == (found.new_entries, found.known_entries, dict(found.kinds))
    assert all(len(batch_id) == len("my-cars-") + 16 and batch_id.startswith("my-cars-") for batch_id in found.batch_ids)


def test_a_rerun_over_an_unchanged_source_reads_nothing(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """The second run finds no batch, opens no clip and leaves every key as it is; running a finished batch opens nothing either."""
    for name in ("a.mp4", "b.mp4", "c.txt", "d.mp4"):
        put(name, f"video {name}")
    source = fakes.CountingSource(FolderSource("s", folder))
    first = _whole_pull(source, store, fakes, batch_size=2)
    read_bytes, keys = source.read_bytes, list(store.keys(""))
    assert (33, 3) == (read_bytes, len(source.opened))
    found = pull.discover(source, store=store, batch_size=2)
    assert ((), 0, 4) == (found.batch_ids, found.new_entries, found.known_entries)
    for batch_id in first:
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    assert (read_bytes, 3) == (source.read_bytes, len(source.opened))
    assert keys == list(store.keys(""))


def test_only_what_is_new_or_changed_is_listed_again(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """A new clip, a rewritten one, and one whose telemetry changed make the next batch; the others stay known."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        put(name, f"video {name}")
    source = FolderSource("s", folder)
    _whole_pull(source, store, fakes)
    put("b.mp4", b"video b, again")
    put("c.mp4.json", json.dumps({"plate": "X"}))
    put("d.mp4")
    found = pull.discover(source, store=store, batch_size=500)
    (batch_id,) = found.batch_ids
    listing = from_parquet(store.read(layout.listing_key(batch_id)), LISTING)
    assert ["b.mp4", "c.mp4", "c.mp4.json", "d.mp4"] == listing["name"].to_pylist()
    assert 1 == found.known_entries


def test_sources_do_not_know_each_others_entries(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """A source whose name begins with another's has listings of its own."""
    put("a.mp4")
    _whole_pull(FolderSource("cars", folder), store, fakes)
    assert 1 == pull.discover(FolderSource("cars-2", folder), store=store, batch_size=500).new_entries
    assert 0 == pull.discover(FolderSource("cars", folder), store=store, batch_size=500).new_entries


def test_an_unfinished_batch_is_returned_again(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """A batch that was listed, or pulled, but is not finished is still to do, before what is new."""
    put("a.mp4", b"video a")
    source = FolderSource("s", folder)
    (first,) = pull.discover(source, store=store, batch_size=1).batch_ids
    put("b.mp4", b"video b")
    again = pull.discover(source, store=store, batch_size=1).batch_ids
    assert (first, 2) == (again[0], len(again))
    for batch_id in again:
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    assert sorted(again) == sorted(pull.discover(source, store=store, batch_size=1).batch_ids)


def test_one_bad_clip_never_stops_its_batch(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Reading is tried three times where a retry may help, then quarantined; else once, and refused; what recovers is stored."""
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        put(name, f"video {name}")
    final = CurationError("vanished since it was listed", subject="b.mp4", fix="list again")
    source = _Failing(FolderSource("s", folder), {"a.mp4": [_reset(), _reset(), _reset()], "b.mp4": [final], "c.mp4": [_reset(), _reset()]})
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    count = pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    rows = _pulled(store, batch_id)
    assert {"stored": 2, "quarantined": 1, "refused": 1} == {name: rows_out for name, rows_out in count.accounted.items() if rows_out}
    assert ("quarantined", "cannot be read: connection reset", None) == tuple(
        rows["a.mp4"][name] for name in ("outcome", "reason", "clip_id")
    )
    assert ("refused", "vanished since it was listed") == (rows["b.mp4"]["outcome"], rows["b.mp4"]["reason"])
    assert ["a.mp4"] * 3 + ["b.mp4"] + ["c.mp4"] * 3 + ["d.mp4"] == source.opened


def test_what_could_not_be_read_is_offered_again_but_not_for_ever(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace
) -> None:
    """A clip that could not be read comes back in a batch of its own, three times in all; one that then can be read is stored and done."""
    put("a.mp4", b"video a")
    broken = _Failing(FolderSource("s", folder), {"a.mp4": [_reset() for _ in range(100)]})
    batches = [_whole_pull(broken, store, fakes) for _ in range(4)]
    assert [1, 1, 1, 0] == [len(one) for one in batches]
    assert 3 == len({one[0] for one in batches if one})
    put("b.mp4", b"video b")
    mended = _Failing(FolderSource("s", folder), {"b.mp4": [_reset()] * 3})
    for outcome in ("quarantined", "stored"):
        (batch_id,) = _whole_pull(mended, store, fakes)
        assert outcome == _pulled(store, batch_id)["b.mp4"]["outcome"]
    assert [] == _whole_pull(mended, store, fakes)


def test_a_source_that_is_gone_stops_the_batch(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Nothing is concluded about entries of a source out of reach: no outcome is written, and the batch goes on later."""
    put("a.mp4")
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(SourceUnreachable):
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    assert store.size(layout.pulled_key(batch_id)) is None
    folder.with_name("unmounted").rename(folder)
    assert 1 == pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger()).accounted["stored"]


def test_a_full_disk_is_not_the_clips_fault(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure of the store is retryable and stops the batch; no clip is refused for it."""
    put("a.mp4")
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_local.os, "link", full)
    with pytest.raises(OutsideError, match="No space left") as caught:
        pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    assert caught.value.retryable
    assert store.size(layout.pulled_key(batch_id)) is None


def test_clips_are_read_while_others_are_placed_and_few_at_a_time(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace
) -> None:
    """The third clip is read before the first is placed; a fourth is not: no more lie staged than the spool is said to hold."""
    for number in range(6):
        put(f"{number}.mp4", f"video {number}")
    source, seen = fakes.CountingSource(FolderSource("s", folder)), []

    def look() -> None:
        deadline_s = time.monotonic() + 30.0
        while len(source.opened) <= pull.PLACED_AT_ONCE and time.monotonic() < deadline_s:
            time.sleep(0.001)
        time.sleep(0.05)  # for the one too many that would be read now
        seen.append((len(source.opened), len(list((folder.parent / "store" / store_local.STAGING).iterdir()))))

    all_under_way = threading.Barrier(pull.PLACED_AT_ONCE, action=look, timeout=60.0)

    class Slow(fakes.Video):  # type: ignore[misc]
        @contextmanager
        def open(self, path: Path) -> Iterator[Any]:
            all_under_way.wait()
            with super().open(path) as stream:
                yield stream

    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    assert 6 == pull.run(batch_id, source=source, store=store, video=Slow(), ledger=fakes.Ledger()).accounted["stored"]
    assert (pull.PLACED_AT_ONCE + 1, pull.PLACED_AT_ONCE + 1) == seen[0]
    assert max(staged for _, staged in seen) <= pull.PLACED_AT_ONCE + 1
    assert [f"{number}.mp4" for number in range(6)] == list(_pulled(store, batch_id))


def test_a_batch_of_nothing_or_of_another_source_is_wrong_use(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace
) -> None:
    """Pulling needs a listing, and the source it was listed from; a source's name must fit into a key."""
    put("a.mp4")
    source = FolderSource("s", folder)
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    for asked, of, problem in (
        ("s-0000000000000000", source, "never listed"),
        (batch_id, FolderSource("t", folder), "no batch of source t"),
    ):
        with pytest.raises(UsageError, match=problem):
            pull.run(asked, source=of, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    source.name = "a/b"
    with pytest.raises(UsageError, match="batch id"):
        pull.discover(source, store=store, batch_size=500)


def test_an_empty_source_makes_no_batch(folder: Path, store: DirectoryStore) -> None:
    """Nothing listed, nothing written."""
    assert () == pull.discover(FolderSource("s", folder), store=store, batch_size=500).batch_ids
    assert [] == list(store.keys(""))


def _settling(fakes: SimpleNamespace, *, at_s: float, wait: Callable[[float], None], wait_max_s: float = 10.0) -> pull.Settling:
    clock = SimpleNamespace(now=lambda: datetime.fromtimestamp(at_s, tz=UTC))
    return pull.Settling(settle_s=2.0, wait_max_s=wait_max_s, clock=clock, wait=wait)


def _dated(path: Path, at_s: float) -> None:
    os.utime(path, (at_s, at_s))


def test_what_is_still_written_waits_for_the_next_listing(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """A clip that changes or goes between two looks is growing and in no batch; it is pulled whole once nothing of it changes."""
    for name, at_s in (("grows.mp4", 999.5), ("goes.mp4", 999.5), ("rests.mp4", 999.5), ("old.mp4", 0.5), ("future.mp4", 5000.0)):
        _dated(put(name, f"video {name}"), at_s)
    waits: list[float] = []

    def meanwhile(wait_s: float) -> None:
        waits.append(wait_s)
        _dated(put("grows.mp4", b"video of more bytes"), 1001.4)
        (folder / "goes.mp4").unlink()

    source = FolderSource("s", folder)
    found = pull.discover(source, store=store, batch_size=500, settling=_settling(fakes, at_s=1000.0, wait=meanwhile))
    assert {"grows.mp4": "changed between two looks", "goes.mp4": "is gone on a second look"} == found.growing
    assert ([2.0], 3, {"pull": 3, "held": 0, "growing": 2, "sidecar": 0, "refused": 0}) == (waits, found.new_entries, found.fates)
    (batch_id,) = found.batch_ids
    assert ["future.mp4", "old.mp4", "rests.mp4"] == from_parquet(store.read(layout.listing_key(batch_id)), LISTING)["name"].to_pylist()
    again = pull.discover(source, store=store, batch_size=500, settling=_settling(fakes, at_s=2000.0, wait=waits.append))
    assert ([2.0], ["grows.mp4"]) == (waits, from_parquet(store.read(layout.listing_key(again.batch_ids[-1])), LISTING)["name"].to_pylist())


def test_a_listing_does_not_wait_for_ever(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Where settling takes longer than a listing may wait, the entry is growing; what settles within the wait is pulled."""
    for name, at_s in (("soon.mp4", 998.5), ("later.mp4", 999.5)):
        _dated(put(name), at_s)
    waits: list[float] = []
    found = pull.discover(
        FolderSource("s", folder), store=store, batch_size=500, settling=_settling(fakes, at_s=1000.0, wait=waits.append, wait_max_s=1.0)
    )
    assert ([1.0], {"later.mp4": "was modified less than 2 s ago"}, 1) == (waits, found.growing, found.new_entries)


def test_what_changed_between_listing_and_pull_is_growing(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """No byte of it is stored; the next listing offers it as it is then."""
    put("a.mp4", b"video a")
    source = fakes.CountingSource(FolderSource("s", folder))
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    put("a.mp4", b"video a and more")
    count = pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    _finish(store, batch_id)
    row = _pulled(store, batch_id)["a.mp4"]
    assert (1, "changed since it was listed", None, 0) == (count.accounted["growing"], row["reason"], row["object_key"], source.read_bytes)
    (again,) = _whole_pull(source, store, fakes)
    assert ("stored", len(b"video a and more")) == (_pulled(store, again)["a.mp4"]["outcome"], source.read_bytes)


def test_what_breaks_in_the_middle_is_quarantined_with_the_first_reason(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace
) -> None:
    """A clip that changes under the reader is tried again, found changed, and quarantined for having changed while it was read."""
    put("a.mp4", b"video a")
    changed = OutsideError("changed while it was read", subject="a.mp4", fix="list again")
    since = EntryChanged("changed since it was listed", subject="a.mp4", fix="list again")
    source = _Failing(FolderSource("s", folder), {"a.mp4": [changed, since]})
    (batch_id,) = pull.discover(source, store=store, batch_size=500).batch_ids
    count = pull.run(batch_id, source=source, store=store, video=fakes.Video(), ledger=fakes.Ledger())
    row = _pulled(store, batch_id)["a.mp4"]
    assert (1, "changed while it was read", 2) == (count.accounted["quarantined"], row["reason"], len(source.opened))
    assert [] == list(store.keys("clips/")) + list(store.keys("quarantine/"))


def test_new_telemetry_costs_no_second_reading(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """A fleet file that comes later makes new rows of clips that are held; their bytes are not read again, unless the store lost them."""
    for name in ("a.mp4", "b.mp4"):
        put(name, f"video {name}")
    source = fakes.CountingSource(FolderSource("s", folder))
    _whole_pull(source, store, fakes)
    read_bytes = source.read_bytes
    put("fleet.csv", "file,plate\na.mp4,A\nb.mp4,B\n")
    lost = next(key for key in store.keys("clips/") if store.read(key) == b"video b.mp4")
    (folder.parent / "store" / lost).unlink()
    (batch_id,) = _whole_pull(source, store, fakes)
    rows = _pulled(store, batch_id)
    assert ["stored", "stored", "sidecar"] == [row["outcome"] for row in rows.values()]
    assert hashlib.sha256(b"video a.mp4").hexdigest() == rows["a.mp4"]["clip_id"]
    assert (read_bytes + len(b"video b.mp4"), b"video b.mp4") == (source.read_bytes, store.read(lost))


def test_a_recorder_that_records_over_its_oldest_clips_makes_no_other_new(
    folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace
) -> None:
    """A run's name follows from its first clip; when that is gone, the clips after it stay known under the name they were given."""
    for minute in range(3):
        put(f"Record/20260901_080{minute}00_NF.mp4", f"video {minute}")
    source = FolderSource("s", folder)
    (batch_id,) = _whole_pull(source, store, fakes)
    told = from_parquet(store.read(layout.listing_key(batch_id)), LISTING)["drive_id"].to_pylist()
    assert ["s/20260901T000000Z"] * 3 == told
    (folder / "Record/20260901_080000_NF.mp4").unlink()
    assert [] == _whole_pull(source, store, fakes)


def test_another_place_under_the_same_name_is_new(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Entries of another folder are not taken for those of the first, and a batch of the first is not filled from the second."""
    path = put("a.mp4", b"video a")
    _dated(path, 1000.0)
    other = folder.with_name("other")
    other.mkdir()
    (other / "a.mp4").write_bytes(b"video b")
    _dated(other / "a.mp4", 1000.0)
    (first,) = pull.discover(FolderSource("s", folder), store=store, batch_size=500).batch_ids
    with pytest.raises(UsageError, match="was listed from"):
        pull.run(first, source=FolderSource("s", other), store=store, video=fakes.Video(), ledger=fakes.Ledger())
    _whole_pull(FolderSource("s", folder), store, fakes)
    assert 1 == pull.discover(FolderSource("s", other), store=store, batch_size=500).new_entries


def test_a_look_ahead_writes_nothing_and_names_every_fate(folder: Path, put: Put, store: DirectoryStore, fakes: SimpleNamespace) -> None:
    """Before a pull every clip is to pull, after it held; refused and sidecar entries stay what they are; no clip is opened."""
    for name in ("a.mp4", "b.mp4", "b.mp4.json", "c.txt"):
        put(name, "{}" if name.endswith("json") else f"video {name}")
    _dated(put("d.mp4", b"no clip"), 999.9)
    source = fakes.CountingSource(FolderSource("s", folder))

    def fates(settling: pull.Settling | None = None) -> dict[str, str]:
        return {one.entry.name: one.fate for one in pull.outlook(source, store=store, settling=settling).prospects}

    rest = {"b.mp4.json": "sidecar", "c.txt": "refused"}
    assert {"a.mp4": "pull", "b.mp4": "pull", "d.mp4": "growing"} | rest == fates(
        _settling(fakes, at_s=1000.0, wait=lambda _: None, wait_max_s=0.1)
    )
    assert ([], []) == (source.opened, list(store.keys("")))
    _whole_pull(source, store, fakes)
    assert {"a.mp4": "held", "b.mp4": "held", "d.mp4": "held"} | rest == fates()


_FILES = st.dictionaries(
    st.from_regex(r"[a-c]{1,2}(/[a-c])?\.(mp4|mov|txt|json)", fullmatch=True),
    st.sampled_from([b"video 1", b"video 2", b"other", b"", b"{}"]),
    max_size=10,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files=_FILES, batch_size=st.integers(1, 4))
def test_entries_in_are_entries_out(
    tmp_path_factory: pytest.TempPathFactory, fakes: SimpleNamespace, files: dict[str, bytes], batch_size: int
) -> None:
    """Over any folder: each entry has one outcome in one batch, each content is kept once, and what is kept is what was there."""
    root = tmp_path_factory.mktemp("any")
    (root / "source").mkdir()
    for name, data in files.items():
        path = root / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    store, source = DirectoryStore(root / "store", jurisdiction="CN"), FolderSource("s", root / "source")
    batch_ids = _whole_pull(source, store, fakes, batch_size)
    rows = [row for batch_id in batch_ids for row in from_parquet(store.read(layout.pulled_key(batch_id)), PULLED).to_pylist()]
    assert sorted(files) == sorted(row["name"] for row in rows)
    assert {row["outcome"] for row in rows} <= set(PULL_OUTCOMES)
    clips = {name: data for name, data in files.items() if name.endswith((".mp4", ".mov"))}
    kept = {key: store.read(key) for key in (*store.keys("clips/"), *store.keys("quarantine/"))}
    assert set(clips.values()) == set(kept.values())
    assert {data for data in clips.values() if data.startswith(b"video")} == {kept[key] for key in kept if key.startswith("clips/")}
    assert [] == _whole_pull(source, store, fakes, batch_size)
