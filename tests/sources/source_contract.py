"""What every source must hold; a source's test subclasses `SourceContract` and supplies a `place` with clips in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from curation import layout
from curation.adapters.store_local import DirectoryStore
from curation.errors import CurationError, EntryChanged, SourceUnreachable, UsageError
from curation.ports import Source
from curation.records import ListingEntry, StageCount
from curation.schema import PULLED
from curation.settings import MIB, PullSettings
from curation.stages import pull
from curation.tables import from_parquet

# Recommended minimum sentence: 2026-09-01 00:03:00 UTC, 31 deg 00' N, 121 deg 30' E, 10 knots, valid, checksum right.
_RMC = b"$GPRMC,000300.00,A,3100.0000,N,12130.0000,E,10.0,90.0,010926,,,A*5A\r\n"


class Place(Protocol):
    """Where clips lie, as the one who delivers them sees it."""

    def put(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def take_away(self) -> None:
        """Put the whole place out of reach."""

    def source(self, **options: Any) -> Source:
        """A source over it, named `s`."""

    def contents(self) -> Mapping[str, bytes]: ...


class Counted:
    """A source that counts what is opened and read of another."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.opened: list[str] = []
        self.read_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        self.opened.append(entry.name)
        with self._inner.open(entry) as chunks:
            yield self._count(chunks)

    def _count(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.read_bytes += len(chunk)
            yield chunk


class _Video:
    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        yield SimpleNamespace(container=SimpleNamespace(container="mov,mp4"))


class _Ledger:
    def record(self, count: StageCount, *, files: Mapping[str, str], facts: Mapping[str, str] | None = None) -> None:
        count.check()


def whole_pull(source: Any, store: DirectoryStore) -> dict[str, dict[str, Any]]:
    """Everything there is to do, done; the rows of the batches by name."""
    rows: dict[str, dict[str, Any]] = {}
    for batch_id in pull.discover(source, store=store, batch_size=2).batch_ids:
        pull.run(batch_id, source=source, store=store, video=_Video(), ledger=_Ledger())
        store.create(layout.finished_key(batch_id), b"")
        rows |= pulled_rows(store, batch_id)
    return rows


def pulled_rows(store: DirectoryStore, batch_id: str) -> dict[str, dict[str, Any]]:
    """What became of a batch's entries, by name."""
    return {row["name"]: row for row in from_parquet(store.read(layout.pulled_key(batch_id)), PULLED).to_pylist()}


class SourceContract:
    """Subclass with a fixture `place`."""

    keeps_backslashes = True  # in names

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "store", jurisdiction="CN")

    def test_each_entry_is_a_clip_a_sidecar_or_refused_with_the_reason(self, place: Place) -> None:
        """The listing is complete, in name order, and the same when it is made again."""
        for name in (
            "a/clip.MP4",
            "行车 雨天 №1 (前)'é+%&#.mp4",
            "-dash first.mp4",
            "event/x.mov",
            "notes.txt",
            "none",
            "orphan.json",
            ".hidden.mp4",
            ".cache/x.mp4",
            "dir.mp4/inside.mp4",
        ):
            place.put(name, b"{}")
        for name, data in (("a/clip.MP4.json", b"{}"), ("event/event.json", b"{}"), ("fleet.csv", b"file\n"), ("broken.mov", b"v")):
            place.put(name, data)
        place.put("broken.mov.json", b"{")
        place.put("big.mp4", b"x" * 101)
        source = place.source(settings=PullSettings(max_clip_bytes=100))
        entries = list(source.entries())
        no_video = "suffix {} is no video's, and it is no sidecar of a clip here".format
        expected = {
            "a/clip.MP4": ("clip", None),
            "行车 雨天 №1 (前)'é+%&#.mp4": ("clip", None),
            "-dash first.mp4": ("clip", None),
            "a/clip.MP4.json": ("sidecar", None),
            "event/x.mov": ("clip", None),
            "event/event.json": ("sidecar", None),
            "fleet.csv": ("sidecar", None),
            "notes.txt": ("refused", no_video(".txt")),
            "none": ("refused", no_video("(none)")),
            "orphan.json": ("refused", no_video(".json")),
            ".hidden.mp4": ("refused", "is hidden"),
            ".cache": ("refused", "is a hidden folder and was not entered"),
            "dir.mp4": ("refused", "is a folder"),
            "dir.mp4/inside.mp4": ("clip", None),
            "big.mp4": ("refused", "is over the size limit of 100 bytes"),
            "broken.mov": ("clip", None),
            "broken.mov.json": ("refused", "is a sidecar that is not JSON"),
        }
        assert expected == {entry.name: (entry.kind, entry.reason) for entry in entries}
        assert sorted(expected) == [entry.name for entry in entries]
        assert entries == list(source.entries())
        assert all(entry.size_bytes == len(data) for entry in entries for name, data in place.contents().items() if entry.name == name)

    def test_names_that_do_not_show_what_they_are_are_refused(self, place: Place) -> None:
        """Control characters and marks that reverse text are refused, the name escaped."""
        for name in ("new\nline.mp4", "reversed\u202e4pm.mp4"):
            place.put(name, b"video")
        place.put("good.mp4", b"video")
        expected = {
            "good.mp4": ("clip", None),
            "new\\nline.mp4": ("refused", "name holds control characters"),
            "reversed\\u202e4pm.mp4": ("refused", "name holds control characters"),
        }
        if self.keeps_backslashes:
            place.put("new\\nline.mp4", b"its name is what the other's is shown as")
            expected |= {"new\\nline.mp4": ("clip", None), "new\\nline.mp4 (2)": expected["new\\nline.mp4"]}
        assert expected == {entry.name: (entry.kind, entry.reason) for entry in place.source().entries()}

    def test_bytes_come_whole_and_in_chunks(self, place: Place) -> None:
        """What is read is what lies there, in chunks of at most 1 MiB; an empty entry gives none."""
        big = hashlib.sha256(b"seed").digest() * (3 * MIB // 32 + 1)
        place.put("big é%20.mp4", big)
        place.put("empty.mp4", b"")
        source = place.source()
        read: dict[str, bytes] = {}
        for entry in source.entries():
            with source.open(entry) as chunks:
                parts = list(chunks)
            assert all(0 < len(part) <= MIB for part in parts)
            read[entry.name] = b"".join(parts)
        assert {"big é%20.mp4": big, "empty.mp4": b""} == read

    def test_telemetry_reaches_its_clip(self, place: Place) -> None:
        """Fleet, sidecar, event and the recorder's names are joined alike everywhere; unknown keys are dropped, counted and named."""
        event = "TeslaCam/SavedClips/2026-09-01_08-10-00"
        place.put(f"{event}/2026-09-01_08-00-00-front.mp4", b"video 1")
        place.put(f"{event}/event.json", json.dumps({"timestamp": "2026-09-01T08:09:00", "est_lat": "31.3", "est_lon": "120.6"}).encode())
        place.put("car/Record/20260901_080000_NF.mp4", b"video 2")
        place.put("car/Record/20260901_080000_NF.mp4.json", json.dumps({"plate": "浙A", "secret": "never copied"}).encode())
        place.put("car/Record/20260901_080300_NR.mp4", b"video 3")
        place.put("a2a0ccea32023010|2026-09-01--08-00-00--1/fcamera.hevc", b"video 4")
        place.put("car/Record/20260901_080300_N.gps", _RMC)
        place.put("fleet.csv", b"file,vin,colour\n20260901_080300_NR.mp4,VIN3,red\nnowhere.mp4,X,red\n")
        source = place.source()
        told = {entry.name.rpartition("/")[2]: entry.telemetry for entry in source.entries() if entry.kind == "clip"}
        tesla, front, rear, comma = (
            told[name] for name in ("2026-09-01_08-00-00-front.mp4", "20260901_080000_NF.mp4", "20260901_080300_NR.mp4", "fcamera.hevc")
        )
        assert ("front", 31.3, event) == (tesla.camera, tesla.latitude_deg, tesla.drive_id)
        assert ("front", "浙A", "car/20260901T000000Z") == (front.camera, front.plate, front.drive_id)
        assert ("back", "VIN3", "car/20260901T000000Z") == (rear.camera, rear.vin, rear.drive_id)
        assert (31.0, 121.5, "2026-09-01T00:03:00+00:00") == (
            rear.latitude_deg,
            rear.longitude_deg,
            rear.captured_at and rear.captured_at.isoformat(),
        )
        assert ("a2a0ccea32023010", "a2a0ccea32023010/2026-09-01--08-00-00") == (comma.device_id, comma.drive_id)
        assert ({"colour": 2, "secret": 1}, {"file that names no one clip of the source": 1}) == (
            source.dropped_keys,
            source.malformed_values,
        )

    def test_a_broken_fleet_file_stops_the_listing(self, place: Place) -> None:
        """It speaks of every clip, so nothing is concluded without it."""
        place.put("a.mp4", b"video")
        place.put("fleet.csv", b"plate\nX\n")
        with pytest.raises(UsageError, match="no column file"):
            list(place.source().entries())

    def test_what_vanished_cannot_be_read(self, place: Place) -> None:
        """A final error that names the entry; a look finds nothing."""
        place.put("a.mp4", b"video")
        place.put("b.mp4", b"video")
        source = place.source()
        entry = next(iter(source.entries()))
        place.remove("a.mp4")
        assert source.look(entry) is None
        with pytest.raises(CurationError, match="vanished") as caught, source.open(entry) as chunks:
            list(chunks)
        assert ("a.mp4", False) == (caught.value.subject, caught.value.retryable)

    def test_what_changed_is_not_read(self, place: Place) -> None:
        """Other bytes than those that were listed are never given; a look tells the new size."""
        place.put("a.mp4", b"video")
        source = place.source()
        (entry,) = source.entries()
        assert entry == source.look(entry)
        place.put("a.mp4", b"video and more")
        seen = source.look(entry)
        assert (14, False) == (seen and seen.size_bytes, seen == entry)
        with pytest.raises(EntryChanged, match="changed since it was listed"), source.open(entry) as chunks:
            list(chunks)

    def test_a_place_out_of_reach_says_so(self, place: Place) -> None:
        """Listing and reading raise, so that nothing is concluded about its entries; a retry may help."""
        place.put("a.mp4", b"video")
        source = place.source()
        (entry,) = source.entries()
        place.take_away()
        with pytest.raises(SourceUnreachable) as caught:
            list(source.entries())
        assert caught.value.retryable
        with pytest.raises(SourceUnreachable), source.open(entry) as chunks:
            list(chunks)

    def test_everything_is_pulled_once_and_then_held(self, place: Place, store: DirectoryStore) -> None:
        """Each clip is stored under its hash; a rerun opens nothing, a new clip costs its own bytes, and the place is as it was."""
        clips = {f"{number}.mp4": b"video %d" % number for number in range(5)}
        for name, data in clips.items():
            place.put(name, data)
        place.put("notes.txt", b"x")
        source = Counted(place.source())
        rows = whole_pull(source, store)
        assert {name: hashlib.sha256(data).hexdigest() for name, data in clips.items()} == {
            name: row["clip_id"] for name, row in rows.items() if row["outcome"] == "stored"
        }
        assert {"notes.txt": "refused"} == {name: row["outcome"] for name, row in rows.items() if name not in clips}
        assert set(clips.values()) == {store.read(key) for key in store.keys("clips/")}
        assert (5, sum(map(len, clips.values()))) == (len(source.opened), source.read_bytes)
        again = Counted(place.source())
        assert ({}, [], {"held", "refused"}) == (
            whole_pull(again, store),
            again.opened,
            {one.fate for one in pull.outlook(again, store=store).prospects},
        )
        place.put("new.mp4", b"video new")
        assert (["new.mp4"], ["new.mp4"]) == (list(whole_pull(again, store)), again.opened)
        assert clips | {"notes.txt": b"x", "new.mp4": b"video new"} == place.contents()

    def test_the_address_of_an_entry_is_below_the_sources(self, place: Place) -> None:
        """So that the home manifest can say where a clip came from; no secret is in it."""
        place.put("a b.mp4", b"video")
        source = place.source()
        (entry,) = source.entries()
        assert source.uri(entry) == f"{source.base_uri}/a%20b.mp4"
        assert dataclasses.asdict(entry)["name"] == "a b.mp4"
