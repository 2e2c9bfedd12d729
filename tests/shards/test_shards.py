"""Shard sets load in a real reader, are equal to the byte for equal input, and tell nothing of place or person."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.adapters.engine_local import InlineEngine
from curation.adapters.video_av import AvVideoReader
from curation.errors import CurationError, EvidenceBroken, NotConserved, UsageError
from curation.layout import clip_key, shard_key
from curation.ports import StagedObject
from curation.schema import CLIPS
from curation.shards import archive
from curation.shards.archive import Member
from curation.shards.card import CARD_FILE
from curation.shards.preview import preview
from curation.shards.request import ShardRequest, from_mapping
from curation.shards.selection import select
from curation.stages import shards

SNAPSHOT = 4242
HALVES = {"train": 0.5, "val": 0.5}


class HomeLike(Protocol):
    """What the fixture `make_home` builds."""

    store: Any
    root: Path
    ledger: Any
    rows: pa.Table

    def shard_files(self) -> Mapping[str, bytes]: ...


MakeHome = Callable[..., HomeLike]
MakeRow = Callable[..., dict[str, Any]]


def ask(**asked: Any) -> ShardRequest:
    """A request with small shards."""
    return from_mapping({"name": "night-rain", "seed": 7, "splits": HALVES, "shard_size_bytes": 20_480} | asked)


def nobody(home: HomeLike) -> shards.Workers:
    """No worker processes: this one writes every shard."""
    jobs = {
        shards.JOB: partial(shards.answer_shard, store=home.store, video=AvVideoReader()),
        shards.LOOK_JOB: partial(shards.look_at_clip, store=home.store, video=AvVideoReader()),
    }
    return shards.Workers(engine=InlineEngine(jobs), settings={})


def build(home: HomeLike, request: ShardRequest, snapshot_id: int = SNAPSHOT) -> shards.ShardSet:
    """The request's shard set over all rows of the home."""
    return shards.run(request, home.rows, snapshot_id, store=home.store, ledger=home.ledger, workers=nobody(home))


def index_of(home: HomeLike, built: shards.ShardSet) -> dict[str, Any]:
    """The set's index."""
    index: dict[str, Any] = json.loads(home.store.read(shard_key(built.shard_set_id, shards.INDEX_FILE)))
    return index


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_sample_whole(make_home: MakeHome) -> None:
    """The real reader, without torch, finds each clip once, with its bytes and the asked columns."""
    import webdataset

    home = make_home(20)
    built = build(home, ask(columns=["weather", "sharpness", "unmeasured", "captured_at"]))
    urls = [str(home.root / shard_key(built.shard_set_id, shard["name"])) for shard in index_of(home, built)["shards"]]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert "torch" not in sys.modules
    assert len(urls) > 3
    assert sorted(home.rows.column("clip_id").to_pylist()) == sorted(sample["__key__"] for sample in samples)
    by_id = {row["clip_id"]: row for row in home.rows.to_pylist()}
    for sample in samples:
        row = by_id[sample["__key__"]]
        assert row["clip_id"] == hashlib.sha256(sample["mp4"]).hexdigest()
        assert json.loads(sample["json"]) == {
            "weather": row["weather"],
            "sharpness": row["sharpness"],
            "unmeasured": {"scene": "nobody looked"},
            "captured_at": "2026-03-01T04:05:06.000000+00:00",
        }


def test_the_same_request_over_the_same_rows_gives_the_same_bytes(make_home: MakeHome) -> None:
    """Two homes, rows in another order: equal keys, equal bytes."""
    first, second = make_home(20), make_home(20)
    second.rows = second.rows.take(pa.array(list(reversed(range(20)))))
    assert build(first, ask()).shard_set_id == build(second, ask()).shard_set_id
    assert first.shard_files() == second.shard_files()


@pytest.mark.parametrize("change", [{"seed": 8}, {"filter": "sharpness > 3"}, {"columns": ["weather"]}, {"max_samples": 5}])
def test_another_request_is_another_set(make_home: MakeHome, change: dict[str, Any]) -> None:
    """Whatever changes what is asked changes the id."""
    home = make_home(20)
    assert build(home, ask()).shard_set_id != build(home, ask(**change)).shard_set_id


def test_another_value_in_a_sample_is_another_set(make_home: MakeHome) -> None:
    """A re-tagged clip under the same id gives a new set instead of other bytes under the old one."""
    home, again = make_home(20), make_home(20, {3: {"weather": "snowy"}})
    assert build(home, ask()).shard_set_id != build(again, ask()).shard_set_id


def test_a_finished_set_is_left_as_it_is(make_home: MakeHome) -> None:
    """The second build writes nothing, records nothing new, and returns the same; so does one from a later snapshot."""
    home = make_home(20)
    first = build(home, ask())
    before, entries = home.shard_files(), list(home.ledger.entries())
    shutil.rmtree(home.root / "clips")  # nothing is read either
    for again in (build(home, ask()), build(home, ask(), snapshot_id=SNAPSHOT + 1)):
        assert (again.shard_set_id, again.files, again.count) == (first.shard_set_id, first.files, first.count)
        assert (first.created, again.created) == (True, False)
    assert before == home.shard_files()
    assert entries == list(home.ledger.entries())


def test_equal_rows_of_two_snapshots_give_equal_bytes(make_home: MakeHome) -> None:
    """Index, card and shards are the same bytes whatever number a catalog drew for the snapshot; only the ledger names it."""
    one, other = make_home(20), make_home(20)
    build(one, ask())
    build(other, ask(), snapshot_id=SNAPSHOT + 1)
    assert one.shard_files() == other.shard_files()
    assert ["4242", "4243"] == [entry.facts["snapshot"] for home in (one, other) for entry in home.ledger.entries()]


def test_the_ledger_covers_every_file_and_every_row(make_home: MakeHome) -> None:
    """Accepted rows in equal rows accounted for by name; each object of the set is recorded with its digest."""
    home = make_home(20, {4: {"verdict": "rejected"}, 5: {"verdict": "quarantined"}})
    built = build(home, ask(filter="sharpness > 2", max_samples=10))
    (entry,) = home.ledger.entries()
    kept = {f"shard_requests/{entry.facts['request']}.json": entry.facts["request"]}
    assert dict(entry.files) == kept | {key: hashlib.sha256(data).hexdigest() for key, data in home.shard_files().items()}
    assert entry.counts["rows_in"] == 18
    assert built.count.accounted["filtered_out"] == 3
    assert built.count.accounted["over_max_samples"] == 5
    assert built.count.accounted["train"] + built.count.accounted["val"] == 10
    assert entry.facts == {
        "request": ask(filter="sharpness > 2", max_samples=10).digest(),
        "snapshot": "4242",
        "version": "0.1.0",
        "masked": "no",
    }


def test_the_index_says_what_the_shards_hold(make_home: MakeHome) -> None:
    """Digest, size and sample count of each shard are those of its bytes; no shard outgrows the asked size."""
    home = make_home(20)
    built = build(home, ask())
    index = index_of(home, built)
    total = 0
    for shard in index["shards"]:
        data = home.store.read(shard_key(built.shard_set_id, shard["name"]))
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        assert shard["samples"] * 2 == len(names)
        assert len(data) <= 20_480 or shard["samples"] == 1
        total += shard["samples"]
    assert total == 20
    assert {"train-000000.tar", "val-000000.tar"} <= {shard["name"] for shard in index["shards"]}
    assert index["splits"]["train"]["samples"] + index["splits"]["val"]["samples"] == 20


def test_tar_headers_carry_nothing_of_the_machine(make_home: MakeHome) -> None:
    """Owner, time and mode are fixed, keys ascend, and a sample's members stand side by side, json first."""
    home = make_home(20)
    build(home, ask())
    for key, data in home.shard_files().items():
        if not key.endswith(".tar"):
            continue
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = tar.getmembers()
        assert {(0, 0, "", "", 0, 0o644, tarfile.REGTYPE)} == {
            (member.uid, member.gid, member.uname, member.gname, member.mtime, member.mode, member.type) for member in members
        }
        names = [member.name for member in members]
        assert names == sorted(set(names))
        assert [name.removesuffix(".json") for name in names[::2]] == [name.removesuffix(".mp4") for name in names[1::2]]
        assert len(data) % 10_240 == 0


def test_gnu_tar_lists_a_shard(make_home: MakeHome, tmp_path: Path) -> None:
    """The tar that a trainer's machine has reads the shard without a complaint."""
    home = make_home(3)
    build(home, ask(splits={"train": 1.0}))
    (key,) = [key for key in home.shard_files() if key.endswith("000000.tar")]
    listed = subprocess.run(["tar", "-tf", str(home.root / key)], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert all(line.endswith((".json", ".mp4")) for line in listed.stdout.splitlines())


def test_a_member_beyond_the_octal_limit_gets_a_pax_size() -> None:
    """A clip of over 8 GiB keeps its size in the header."""
    size_bytes = 9 * 2**30
    assert archive.member_bytes(size_bytes) == len(archive.header("a.mp4", size_bytes)) + size_bytes
    assert archive.member_bytes(8**11 - 512) == len(archive.header("a.mp4", 8**11 - 512)) + 8**11 - 512
    with tarfile.open(fileobj=io.BytesIO(archive.header("a.mp4", size_bytes)), mode="r:", errorlevel=0) as tar:
        (member,) = [tar.next()]
    assert member is not None
    assert (member.name, member.size) == ("a.mp4", size_bytes)


class _Sink:
    """Staged bytes in memory."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def commit(self, key: str) -> bool:
        return True


@given(st.lists(st.sampled_from("abcd"), max_size=6))
def test_interleaved_or_duplicate_keys_are_impossible(keys: list[str]) -> None:
    """The tar takes strictly ascending keys and refuses any other order."""
    stream = archive.TarStream(_Sink())
    refused = False
    try:
        for key in keys:
            stream.add(key, [Member(suffix=".json", size_bytes=2, chunks=[b"{}"]), Member(suffix=".mp4", size_bytes=1, chunks=[b"x"])])
    except CurationError:
        refused = True
    assert refused == (keys != sorted(set(keys)))


def test_a_member_of_another_size_than_promised_is_refused() -> None:
    """A header never lies about the bytes that follow."""
    with pytest.raises(CurationError, match="3 bytes promised"):
        archive.TarStream(_Sink()).add("a", [Member(suffix=".json", size_bytes=3, chunks=[b"{}"])])


def test_a_clip_that_stands_twice_is_named(make_home: MakeHome) -> None:
    """Two rows of one clip are refused before anything is written."""
    home = make_home(3)
    home.rows = pa.concat_tables([home.rows, home.rows.slice(1, 1)])
    with pytest.raises(CurationError, match="twice") as refused:
        build(home, ask())
    assert refused.value.subject == f"clip {home.rows.column('clip_id')[1].as_py()}"
    assert home.shard_files() == {}


@pytest.mark.parametrize("change", ["flip", "truncate", "grow"])
def test_changed_bytes_of_a_clip_are_named(make_home: MakeHome, change: str) -> None:
    """A clip whose bytes are not those of its id stops the build, names the clip, and leaves no finished set."""
    home = make_home(5)
    clip_id = home.rows.column("clip_id")[2].as_py()
    path = home.root / clip_key(clip_id, ".mp4")
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes({"flip": b"X" + data[1:], "truncate": data[:-1], "grow": data + b"X"}[change])
    with pytest.raises(EvidenceBroken, match="not those that its id names") as refused:
        build(home, ask())
    assert refused.value.subject == f"clip {clip_id}"
    assert not any(key.endswith(shards.INDEX_FILE) for key in home.shard_files())
    assert list(home.ledger.entries()) == []


def test_a_missing_clip_is_named(make_home: MakeHome) -> None:
    """A clip whose bytes are gone stops the build and names the object."""
    home = make_home(5)
    clip_id = home.rows.column("clip_id")[2].as_py()
    (home.root / clip_key(clip_id, ".mp4")).unlink()
    with pytest.raises(CurationError) as refused:
        build(home, ask())
    assert clip_id in refused.value.subject


class _Killed(BaseException):
    """Stands for a kill: nothing in the project may catch it."""


class _DyingStore:
    """A store that dies at the first read or write after so many writes: in the middle of a shard, before the index, before the card."""

    def __init__(self, store: Any, writes: int) -> None:
        self._store = store
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Killed

    @contextmanager
    def stage(self) -> Iterator[StagedObject]:
        with self._store.stage() as staged:
            yield staged
            self._spend()

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        if self._left == 0:
            raise _Killed
        path: AbstractContextManager[Path] = self._store.local_path(key)
        return path

    def create(self, key: str, data: bytes) -> bool:
        self._spend()
        created: bool = self._store.create(key, data)
        return created


def test_a_build_killed_anywhere_ends_in_the_same_bytes(make_home: MakeHome) -> None:
    """After a kill between shards, before the index, or before the card, a rerun ends as if nothing had happened."""
    whole, request = make_home(8), ask(shard_size_bytes=10_240)
    built = build(whole, request)
    writes = len(built.files)
    assert writes > 5
    for after in range(writes):
        home = make_home(8)
        with pytest.raises(_Killed):
            shards.run(request, home.rows, SNAPSHOT, store=_DyingStore(home.store, after), ledger=home.ledger, workers=nobody(home))
        assert list(home.ledger.entries()) == []
        again = build(home, request)
        assert (again.shard_set_id, again.files, again.count) == (built.shard_set_id, built.files, built.count)
        assert whole.shard_files() == home.shard_files()
        assert len(list(home.ledger.entries())) == 1


def test_a_broken_index_is_named(make_home: MakeHome) -> None:
    """An index that was changed by hand is refused, not believed."""
    home = make_home(5)
    built = build(home, ask())
    path = home.root / shard_key(built.shard_set_id, shards.INDEX_FILE)
    index = json.loads(path.read_bytes())
    path.chmod(0o644)
    for text in ("[]", "{", "{}"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(EvidenceBroken, match="no index of a shard set"):
            build(home, ask())
    index["rows"]["considered"] += 1
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(NotConserved):
        build(home, ask())


TELLING = ("VEHICLE-", "LSVNV", "京A", "DRIVE-", "driver", "CN-BJ", "39.5", "116.25", "file://", "2026-03-01")


def test_nothing_but_a_named_column_tells_place_or_person(make_home: MakeHome) -> None:
    """Keys, index, card and samples of a default request hold no value of a telling column, nor does a filter that names one."""
    home = make_home(20)
    build(home, ask(group_by="vehicle"))
    build(home, ask(filter="province = 'CN-BJ' AND vehicle_id <> 'VEHICLE-1' AND captured_at > '2026-02-01'"))
    for key, data in home.shard_files().items():
        for value in TELLING:
            assert value not in key
            assert value.encode() not in data, f"{value} in {key}"
    assert any(b"withheld: it looks at captured_at, province, vehicle_id" in data for data in home.shard_files().values())


def test_a_named_column_enters_and_the_card_says_so(make_home: MakeHome) -> None:
    """Asking for province by name puts it into the samples, and the card names it."""
    home = make_home(5)
    built = build(home, ask(columns=["weather", "province"]))
    card = home.store.read(shard_key(built.shard_set_id, CARD_FILE)).decode()
    assert "only because the request names them: province." in card
    assert "Stays home" in card
    assert any(b'"province":"CN-BJ"' in data for data in home.shard_files().values())
    assert "CN-BJ" not in card


@pytest.mark.parametrize("asked", [{"name": "only-vehicle-3"}, {"name": "cn-bj"}, {"splits": {"driver1": 1.0}}])
def test_a_name_that_tells_is_refused(make_home: MakeHome, asked: dict[str, Any]) -> None:
    """The set's and the splits' names may not repeat a vehicle, province or driver of the rows."""
    home = make_home(5)
    with pytest.raises(UsageError, match="repeats a value"):
        build(home, ask(**asked))
    assert home.shard_files() == {}


def test_a_filter_that_repeats_a_telling_value_is_withheld(make_home: MakeHome) -> None:
    """A remark in a filter over public columns cannot carry a vehicle into index or card."""
    home = make_home(5)
    built = build(home, ask(filter="sharpness >= 0 -- for vehicle-3"))
    assert "vehicle-3" not in json.dumps(index_of(home, built))


def test_a_request_that_takes_nothing_is_refused(make_home: MakeHome) -> None:
    """An empty set is no set; the counts are in the preview."""
    home = make_home(5)
    with pytest.raises(UsageError, match="takes no accepted clip"):
        build(home, ask(filter="sharpness > 1000"))


@pytest.mark.parametrize(
    "object_uri",
    [
        "s3://bucket/clips/{0:.2}/{0}.mp4",
        "home:clips/00/{0}.mp4",
        "home:clips/{0:.2}/{0}.json",
        "home:clips/{0:.2}/{0}",
        "home:../{0}.mp4",
        "",
    ],
)
def test_bytes_are_read_only_from_the_clips_own_place(make_home: MakeHome, object_uri: str) -> None:
    """Any URI but the clip's own key in the home store is refused."""
    home = make_home(1)
    clip_id = home.rows.column("clip_id")[0].as_py()
    changed = pa.array([object_uri.format(clip_id)])
    home.rows = home.rows.set_column(CLIPS.get_field_index("object_uri"), CLIPS.field("object_uri"), changed)
    with pytest.raises(CurationError, match="not its place in the home store"):
        build(home, ask())


def test_a_number_that_is_not_finite_is_named(make_home: MakeHome) -> None:
    """NaN has no JSON form; the clip is named rather than a value invented."""
    home = make_home(3, {1: {"sharpness": float("nan")}})
    with pytest.raises(CurationError, match="not finite") as refused:
        build(home, ask())
    assert refused.value.subject == f"clip {home.rows.column('clip_id')[1].as_py()}"


def test_rows_of_another_schema_are_refused(make_home: MakeHome) -> None:
    """A table that lacks a column is not guessed at."""
    home = make_home(1)
    with pytest.raises(CurationError, match="weather"):
        select(home.rows.drop_columns(["weather"]), ask())


def test_preview_counts_what_the_build_gives(make_home: MakeHome) -> None:
    """Counts per split and tag and the bytes of clips are those of the index, without reading a clip."""
    home = make_home(20, {4: {"verdict": "rejected"}})
    request = ask(filter="sharpness > 2", max_samples=12)
    index = index_of(home, build(home, request))
    shutil.rmtree(home.root / "clips")
    seen = preview(request, home.rows)
    assert {split: {name: told[name] for name in told if name != "clips"} for split, told in index["splits"].items()} == seen["splits"]
    assert index["rows"] == {"considered": seen["considered"], **seen["left_out"]}
    assert {"considered": 19, "filtered_out": 3, "near_duplicates": 0, "over_max_samples": 4} == index["rows"]
    assert (index["quotas"], index["groups"]) == (seen["quotas"], seen["groups"])
    assert seen["samples"] == 12
    assert sum(seen["splits"][split]["tags"]["weather"].get("rainy", 0) for split in HALVES) > 0
    assert {"unmeasured": seen["splits"]["train"]["samples"]} == seen["splits"]["train"]["tags"]["scene"]


def _row_table(groups: list[str | None]) -> pa.Table:
    columns: dict[str, Any] = {}
    for field in CLIPS:
        columns[field.name] = pa.nulls(len(groups), type=field.type)
    columns["clip_id"] = pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(groups))])
    columns["drive_id"] = pa.array(groups, type=pa.string())
    columns["verdict"] = pa.array(["accepted"] * len(groups))
    return pa.table(columns, schema=pa.schema([pa.field(field.name, field.type) for field in CLIPS]))


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.none() | st.sampled_from([f"D{number}" for number in range(6)]), min_size=1, max_size=30),
    seed=st.integers(0, 2**63 - 1),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_a_group_never_straddles_two_splits(groups: list[str | None], seed: int, weights: list[int]) -> None:
    """Every row gets one split, all rows of a drive the same one, and it stays when the table grows."""
    splits = {f"s{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    request = ask(seed=seed, splits=splits)
    rows = _row_table(groups)
    chosen = select(rows, request)
    assert chosen.num_rows == rows.num_rows
    by_drive: dict[str, set[str]] = {}
    drive_of = dict(zip(rows.column("clip_id").to_pylist(), groups, strict=True))
    for clip_id, split in zip(chosen.column("clip_id").to_pylist(), chosen.column("split").to_pylist(), strict=True):
        drive = drive_of[clip_id]
        assert split in splits
        if drive is not None:
            by_drive.setdefault(drive, set()).add(split)
    assert all(len(found) == 1 for found in by_drive.values())
    fewer = select(rows.slice(0, len(groups) // 2 + 1), request)
    split_of = dict(zip(chosen.column("clip_id").to_pylist(), chosen.column("split").to_pylist(), strict=True))
    assert all(
        split_of[clip] == split for clip, split in zip(fewer.column("clip_id").to_pylist(), fewer.column("split").to_pylist(), strict=True)
    )


def test_splits_follow_the_ratios() -> None:
    """Over many groups the shares come close to what was asked."""
    rows = _row_table([f"D{number}" for number in range(4_000)])
    chosen = select(rows, ask(splits={"train": 0.8, "val": 0.2}))
    share = chosen.column("split").to_pylist().count("train") / 4_000
    assert share == pytest.approx(0.8, abs=0.03)


def test_rows_without_a_group_stand_alone() -> None:
    """Clips without a drive do not all land in one split."""
    chosen = select(_row_table([None] * 40), ask())
    assert {"train", "val"} == set(chosen.column("split").to_pylist())


@given(st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_a_larger_limit_only_adds_samples(limit: int) -> None:
    """What max_samples drew stays drawn when it grows, in the same splits."""
    rows = _row_table([f"D{number % 5}" for number in range(30)])
    fewer, more = (select(rows, ask(max_samples=number)).select(["clip_id", "split"]).to_pylist() for number in (limit, limit + 1))
    assert len(fewer) == limit
    assert all(row in more for row in fewer)
