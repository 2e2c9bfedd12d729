"""Shard sets of pictures and of whole clips, as tars and as MDS: every sample is its clip's, and every clip is accounted for."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import wiring
from curation.adapters.engine_local import InlineEngine
from curation.adapters.store_local import DirectoryStore
from curation.adapters.video_av import AvVideoReader
from curation.audit.ledger import StoreLedger
from curation.errors import ClipUnreadable, CurationError, EvidenceBroken, OutsideError, UsageError
from curation.layout import clip_key, shard_key
from curation.ports import Outcome
from curation.schema import CLIPS
from curation.settings import EngineSettings, Settings, embedded_defaults
from curation.shards import mds
from curation.shards.archive import Member
from curation.shards.files import sets_holding
from curation.shards.frames import pictures
from curation.shards.request import FrameRequest, from_mapping
from curation.stages import shards
from tests.shards.conftest import Home, StoppedClock
from tests.shards.invented import FPS, FRAMES, write

CODINGS = ("keyint=25:scenecut=0:bframes=0", "keyint=25:scenecut=0:bframes=3", "keyint=20:bframes=3:open-gop=1", "keyint=75:bframes=0")
BROKEN = b"no video at all " * 40
FORMS = [{"form": form, "format": kind} for form in ("clips", "frames") for kind in ("webdataset", "mds")]
NAMES = [f"{one['form']}-{one['format']}" for one in FORMS]
MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A few small clips."""
    folder = tmp_path_factory.mktemp("videos")
    return [write(folder / f"{seed}.mp4", {"x264-params": coding}, seed=seed) for seed, coding in enumerate(CODINGS)]


@pytest.fixture
def home(tmp_path: Path, videos: list[Path], make_row: MakeRow) -> Home:
    """A home with those clips, and with one that is no video though its row says accepted."""
    store, rows = DirectoryStore(tmp_path / "work" / "home" / "store", jurisdiction="CN"), []
    for number, data in enumerate([*(video.read_bytes() for video in videos), BROKEN]):
        clip_id = hashlib.sha256(data).hexdigest()
        store.create(clip_key(clip_id, ".mp4"), data)
        shape = {"duration_s": FRAMES / FPS, "width_px": 320, "height_px": 192, "fps": float(FPS)}
        rows.append(make_row(number, clip_id, len(data), vehicle_id=f"V{number}", drive_id=f"D{number}", captured_at=None, **shape))
    ledger = StoreLedger(store, StoppedClock(), Ed25519PrivateKey.generate())
    return Home(store=store, root=tmp_path / "work" / "home" / "store", ledger=ledger, rows=pa.Table.from_pylist(rows, schema=CLIPS))


class Watched:
    """An engine in this process that notes its jobs, and lets the worker of some clips die."""

    def __init__(self, home: Home, *, deadly: Sequence[str] = ()) -> None:
        ports = {"store": home.store, "video": AvVideoReader()}
        self._jobs = InlineEngine(
            {shards.JOB: partial(shards.answer_shard, **ports), shards.LOOK_JOB: partial(shards.look_at_clip, **ports)}
        )
        self._deadly = set(deadly)
        self.done: list[tuple[str, str]] = []

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in order."""
        for item in items:
            self.done.append((job, item["name"]))
            alive = {sample["clip_id"] for sample in item["samples"]} - set(item["undecodable"])
            if alive & self._deadly:
                yield Outcome(value=None, failure="worker died: SIGSEGV")
            else:
                yield from self._jobs.map(job, [item])


def build(home: Home, engine: Any = None, **asked: Any) -> tuple[shards.ShardSet, dict[str, Any]]:
    """A set, and its index."""
    request = from_mapping({"name": "forms", "splits": {"train": 0.5, "val": 0.5}, "shard_size_bytes": 150_000} | asked)
    workers = shards.Workers(engine=engine or Watched(home), settings={})
    made = shards.run(request, home.rows, 1, store=home.store, ledger=home.ledger, workers=workers)
    return made, json.loads(home.store.read(shard_key(made.shard_set_id, "index.json")))


def samples_of(home: Home, made: shards.ShardSet, index: Mapping[str, Any]) -> list[dict[str, bytes]]:
    """Every sample, with its key and split, as readers without torch give them."""
    found: list[dict[str, bytes]] = []
    for shard in index["shards"]:
        key = shard_key(made.shard_set_id, shard["name"])
        if key.endswith(".mds"):
            with (home.root / key).open("rb") as file:
                read = [{"key": one.pop("__key__"), **one} for one in mds.read_samples(file, key)]
        else:
            from webdataset.tariterators import group_by_keys, tar_file_iterator

            with (home.root / key).open("rb") as stream:
                members = [
                    {"fname": name, "data": data, "__url__": key}
                    for name, data in ((m["fname"], m["data"]) for m in tar_file_iterator(stream))
                ]
            read = [
                {"key": one["__key__"].encode(), **{k: v for k, v in one.items() if k in {"jpg", "mp4", "json"}}}
                for one in group_by_keys(members)
            ]
        assert len(read) == shard["samples"]
        found += [{**one, "split": shard["split"].encode()} for one in read]
    return found


@pytest.mark.parametrize("asked", FORMS, ids=NAMES)
def test_every_sample_is_its_clips(home: Home, videos: list[Path], asked: dict[str, str]) -> None:
    """Keys ascend and are legal, bytes are the clip's or those of its pictures, and what is told beside them is the row's."""
    made, index = build(home, **asked, columns=["weather", "sharpness"])
    found = samples_of(home, made, index)
    of_split = {split: [one["key"] for one in found if one["split"] == split.encode()] for split in ("train", "val")}
    assert all(keys == sorted(set(keys)) and keys for keys in of_split.values())
    rows = {row["clip_id"]: row for row in home.rows.to_pylist()}
    expected = {}
    for video in videos:
        clip_id = hashlib.sha256(video.read_bytes()).hexdigest()
        told = {name: rows[clip_id][name] for name in ("weather", "sharpness")}
        if asked["form"] == "clips":
            expected[clip_id] = (video.read_bytes(), told)
            continue
        with AvVideoReader().open(video) as clip:
            for one in pictures(clip, FrameRequest()):
                expected[f"{clip_id}-{one.index:06d}"] = (one.jpeg, {**told, "frame_index": one.index, "pts_s": one.pts_s})
    if asked["form"] == "clips":
        expected[hashlib.sha256(BROKEN).hexdigest()] = (BROKEN, {name: rows[hashlib.sha256(BROKEN).hexdigest()][name] for name in told})
    part = {"frames": "jpg", "clips": "clip" if asked["format"] == "mds" else "mp4"}[asked["form"]]
    assert expected == {one["key"].decode(): (one[part], json.loads(one["json"])) for one in found}


@pytest.mark.parametrize("kind", ["webdataset", "mds"])
def test_a_clip_that_gives_no_picture_stops_nothing(home: Home, kind: str) -> None:
    """It is named with the reason, counted, and stands in no shard; the ledger's counts add up."""
    made, index = build(home, form="frames", format=kind)
    broken = hashlib.sha256(BROKEN).hexdigest()
    assert list(index["undecodable"]) == [broken]
    assert "video" in index["undecodable"][broken] or "read" in index["undecodable"][broken]
    assert (index["rows"]["considered"], index["rows"]["undecodable"]) == (len(CODINGS) + 1, 1)
    assert sum(made.count.accounted.values()) == made.count.rows_in
    assert sum(split["clips"] for split in index["splits"].values()) == len(CODINGS)
    assert sum(split["samples"] for split in index["splits"].values()) == 6 * len(CODINGS)
    assert f"| {broken} | {index['undecodable'][broken]} |" in home.store.read(shard_key(made.shard_set_id, "card.md")).decode()


def test_a_clip_that_breaks_off_keeps_its_pictures(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gave before stays, it is not called a clip without any, and index and card name it with the reason."""

    def breaking(*given: Any) -> Iterator[Any]:
        yield next(iter(pictures(*given)))
        raise ClipUnreadable("breaks off", subject="clip", fix="none")

    monkeypatch.setattr(shards, "pictures", breaking)
    made, index = build(home, form="frames")
    broken = hashlib.sha256(BROKEN).hexdigest()
    assert list(index["undecodable"]) == [broken]
    assert {"breaks off"} == set(index["incomplete"].values())
    assert sorted([broken, *index["incomplete"]]) == sorted(home.rows["clip_id"].to_pylist())
    assert b"Clips that gave some pictures only" in home.store.read(shard_key(made.shard_set_id, "card.md"))
    assert sum(split["samples"] for split in index["splits"].values()) == len(CODINGS)


def test_a_writer_without_a_video_reader_is_refused(home: Home) -> None:
    """It would write a shard without pictures and call every clip taken."""
    item = {"split": "train", "name": "train-000000.tar", "format": "webdataset", "form": "frames", "shard_set_id": "s", "samples": []}
    item["masked"] = False
    with pytest.raises(CurationError, match="without a video reader"):
        shards.write_shard({**item, "undecodable": {}, "frames": {}}, store=home.store)


def test_only_broken_clips_are_no_set(home: Home) -> None:
    """A request all of whose clips give no picture is refused."""
    home.rows = home.rows.slice(len(CODINGS))
    with pytest.raises(UsageError, match="yields no picture"):
        build(home, form="frames")


@pytest.mark.parametrize("asked", FORMS, ids=NAMES)
def test_a_withdrawn_clip_is_found_in_every_form(home: Home, asked: dict[str, str]) -> None:
    """Whole or as pictures, in tars or MDS, and also where it gave none."""
    made, _ = build(home, **asked)
    clip_ids = home.rows["clip_id"].to_pylist()
    for clip_id in clip_ids:
        assert sets_holding([clip_id], home.store) == {made.shard_set_id: frozenset([clip_id])}
    assert sets_holding(["0" * 64], home.store) == {}


@pytest.mark.parametrize("asked", FORMS, ids=NAMES)
def test_nothing_of_place_or_person_is_told(home: Home, asked: dict[str, str]) -> None:
    """Keys, samples, indexes and cards hold no value of a telling column."""
    build(home, **asked)
    for key, data in home.shard_files().items():
        for value in ("LSVNV", "京A", "driver", "CN-BJ", "39.5", "116.25", "file://", "2026-03-01", "V1", "D1"):
            assert value not in key.split("/", 2)[2]
            assert len(value) < 3 or value.encode() not in data, f"{value} in {key}"


def test_frames_tell_their_time_in_the_clip_alone(home: Home) -> None:
    """When a picture was taken stands beside it only if the request names captured_at."""
    made, index = build(home, form="frames", columns=["weather"])
    assert {"weather", "frame_index", "pts_s"} == {name for one in samples_of(home, made, index) for name in json.loads(one["json"])}


def test_an_mds_set_has_an_index_for_each_split(home: Home) -> None:
    """Streaming finds each shard of a split by it, with size and digest of its bytes; the keys are those of the samples."""
    made, index = build(home, form="frames", format="mds")
    for split in ("train", "val"):
        said = json.loads(home.store.read(shard_key(made.shard_set_id, f"{split}/index.json")))
        assert said["version"] == 2
        shards_of_split = [shard for shard in index["shards"] if shard["split"] == split]
        assert [f"{split}/{one['raw_data']['basename']}" for one in said["shards"]] == [shard["name"] for shard in shards_of_split]
        for one in said["shards"]:
            data = home.store.read(shard_key(made.shard_set_id, f"{split}/{one['raw_data']['basename']}"))
            assert one["raw_data"]["bytes"] == len(data)
            assert one["raw_data"]["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
            assert one["column_names"] == ["__key__", "jpg", "json"]


def test_a_shard_that_stands_is_not_written_again(home: Home) -> None:
    """A set whose index was lost reads no clip and writes no shard, and ends in the same bytes."""
    made, _ = build(home, form="frames")
    before = home.shard_files()
    home.store.remove(shard_key(made.shard_set_id, "index.json"))
    shutil.rmtree(home.root / "clips")
    again, _ = build(home, form="frames")
    assert (again.files, home.shard_files()) == (made.files, before)


def test_a_clip_that_kills_its_worker_costs_itself(home: Home) -> None:
    """The shard is written without it, and it is named with how the worker died."""
    deadly = home.rows["clip_id"][1].as_py()
    engine = Watched(home, deadly=[deadly])
    _, index = build(home, engine, form="frames")
    assert index["undecodable"][deadly] == "worker died: SIGSEGV"
    assert index["rows"]["undecodable"] == 2
    assert shards.LOOK_JOB in {job for job, _ in engine.done}


def test_a_worker_that_dies_without_a_clip_to_blame_stops_the_build(home: Home) -> None:
    """No clip is left out for the machine's fault."""

    class Dying(Watched):
        def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
            if job == shards.LOOK_JOB:
                yield from super().map(job, items)
                return
            for _ in items:
                yield Outcome(value=None, failure="worker died: SIGKILL")

    with pytest.raises(OutsideError, match="SIGKILL"):
        build(home, Dying(home), form="frames")


def test_other_bytes_than_the_ids_are_refused_by_a_worker_too(home: Home) -> None:
    """What a worker refuses keeps its kind and its subject."""
    clip_id = home.rows["clip_id"][0].as_py()
    path = home.root / clip_key(clip_id, ".mp4")
    path.chmod(0o644)
    path.write_bytes(BROKEN)
    with pytest.raises(EvidenceBroken, match="not those that its id names") as refused:
        build(home, form="frames")
    assert refused.value.subject == f"clip {clip_id}"


def test_real_workers_write_the_same_bytes_at_once(home: Home) -> None:
    """Two processes, which find the store by the settings, give what one gives."""
    settings = Settings.model_validate(embedded_defaults(home.root.parents[1]))
    made, _ = build(home, form="frames", format="mds")
    before = home.shard_files()
    for key in list(before):
        home.store.remove(key)
    request = from_mapping(
        {"name": "forms", "splits": {"train": 0.5, "val": 0.5}, "shard_size_bytes": 150_000, "form": "frames", "format": "mds"}
    )
    workers = shards.Workers(engine=wiring.engine(EngineSettings(workers=2)), settings=settings.model_dump(mode="json"))
    again = shards.run(request, home.rows, 1, store=home.store, ledger=home.ledger, workers=workers)
    assert (again.files, home.shard_files()) == (made.files, before)


class _Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Append."""
        self.data += data

    path = Path("unused")

    def commit(self, key: str) -> bool:
        """Nothing."""
        return bool(key)


def _member(suffix: str, data: bytes) -> Member:
    return Member(suffix=suffix, size_bytes=len(data), chunks=[data])


@pytest.mark.parametrize("is_promised", [True, False])
def test_an_mds_shard_is_read_as_it_was_written(tmp_path: Path, is_promised: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """With sizes known before or not, the bytes are the same, and what is read is what was written."""
    given = [("a", b"\xff" * 9, b"{}"), ("b", b"", b'{"x":1}')]
    promised = [mds.packed_bytes("frames", key, {".jpg": len(jpg), ".json": len(said)}) for key, jpg, said in given]
    sink = _Sink()
    stream = mds.MdsStream(sink, form="frames", size_limit_bytes=1000, promised=promised if is_promised else io.BytesIO())
    for key, jpg, said in given:
        stream.add(key, [_member(".json", said), _member(".jpg", jpg)])
    assert stream.close() == hashlib.sha256(sink.data).hexdigest()
    assert (stream.size_bytes, stream.sample_count) == (len(sink.data), 2)
    path = tmp_path / "shard"
    path.write_bytes(sink.data)
    with path.open("rb") as file:
        assert list(mds.read_samples(file, "shard")) == [{"__key__": key.encode(), "jpg": jpg, "json": said} for key, jpg, said in given]
        assert list(mds.read_keys(file, "shard")) == ["a", "b"]
    assert int(np.frombuffer(sink.data[:4], np.uint32)[0]) == 2


def test_an_mds_shard_refuses_what_would_garble_it(tmp_path: Path) -> None:
    """Another order, other sizes than promised, and bytes that are no shard."""
    stream = mds.MdsStream(_Sink(), form="frames", size_limit_bytes=1, promised=io.BytesIO())
    stream.add("b", [_member(".json", b"{}"), _member(".jpg", b"x")])
    with pytest.raises(CurationError, match="does not follow b"):
        stream.add("b", [_member(".json", b"{}"), _member(".jpg", b"x")])
    with pytest.raises(CurationError, match="bytes promised"):
        stream.add("c", [_member(".json", b"{}"), Member(suffix=".jpg", size_bytes=3, chunks=[b"x"])])
    short = mds.MdsStream(_Sink(), form="frames", size_limit_bytes=1, promised=[99])
    with pytest.raises(CurationError, match="samples promised"):
        short.close()
    for data in (b"", b"\x05\x00\x00\x00", b"\x00\x00\x00\x00\x0a\x00\x00\x00{}"):
        path = tmp_path / "garbage"
        path.write_bytes(data)
        with path.open("rb") as file, pytest.raises(EvidenceBroken, match="no MDS shard"):
            list(mds.read_keys(file, "garbage"))


def test_mds_has_a_size_that_it_cannot_exceed(home: Home) -> None:
    """A request for larger shards than the format can tell of is refused before anything is read."""
    with pytest.raises(UsageError, match="cannot be so large"):
        build(home, format="mds", shard_size_bytes=2**33)


def test_a_picture_is_a_picture(home: Home) -> None:
    """Every JPEG decodes to the size that was asked for."""
    made, index = build(home, form="frames", frames={"fps": 1, "width_px": 160})
    for one in samples_of(home, made, index):
        assert cv2.imdecode(np.frombuffer(one["jpg"], np.uint8), cv2.IMREAD_COLOR).shape == (96, 160, 3)
