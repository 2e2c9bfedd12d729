"""Masked shard sets: no sample shows or tells what was masked, what cannot be masked is left out by name, and a kill changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.errors import CurationError, EvidenceBroken, MaskingRefused, OutsideError, UsageError
from curation.layout import MASKED, clip_key, shard_key, tombstone_key
from curation.ports import Outcome
from curation.privacy.proof import Residue
from curation.schema import CLIPS
from curation.shards import masked_copies
from curation.shards.files import copies_of, erased_copies, sets_holding
from curation.shards.masking import Permit
from curation.shards.preview import columns_of_preview, preview
from curation.shards.request import from_mapping
from curation.stages import mask_clips, shards
from tests.shards.conftest import Home, StoppedClock
from tests.shards.masked import CLEAN, FPS, FRAMES, PERMIT, SECRETS, check_masked, engine, equipment, write
from tests.shards.test_forms import FORMS, NAMES, samples_of

SEEDS = (3, 4, 5)
MakeRow = Callable[..., dict[str, Any]]


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three clips that can be masked, and one with a hole in it."""
    folder = tmp_path_factory.mktemp("videos")
    good = [write(folder / f"{seed}.mp4", seed=seed).read_bytes() for seed in SEEDS]
    broken = bytearray(good[0])
    middle = broken.rindex(b"mdat") + 2000
    broken[middle : middle + 400] = bytes(400)
    return [*good, bytes(broken)]


@pytest.fixture
def make_masked_home(tmp_path: Path, videos: list[bytes], make_row: MakeRow) -> Callable[..., Home]:
    """A home with the clips that can be masked, or with `more`; `replaced` gives columns of all rows another value."""

    def build(name: str = "home", *, more: int = 0, **replaced: Any) -> Home:
        store, rows = DirectoryStore(tmp_path / name, jurisdiction="CN"), []
        for number, data in enumerate(videos[: 3 + more]):
            clip_id = hashlib.sha256(data).hexdigest()
            store.create(clip_key(clip_id, ".mp4"), data)
            shape = {"duration_s": FRAMES / FPS, "width_px": 160, "height_px": 96, "fps": float(FPS)}
            seen = {"face_count_max": 1, "plate_count_max": 0, "detector_versions": "white-1 none-1"}
            names = {"vehicle_id": f"V{number}", "drive_id": f"D{number}", "captured_at": None}
            rows.append(make_row(number, clip_id, len(data), **{**shape, **seen, **names, **replaced}))
        ledger = StoreLedger(store, StoppedClock(), Ed25519PrivateKey.generate())
        return Home(store=store, root=tmp_path / name, ledger=ledger, rows=pa.Table.from_pylist(rows, schema=CLIPS))

    return build


class Watched:
    """An engine in this process that notes its jobs; the worker of some clips dies, and the build is killed after so many."""

    def __init__(self, home: Home, *, deadly: Sequence[str] = (), kill_after: int = 1000, prove: Any = lambda _: CLEAN) -> None:
        self._real = engine(home.store, lambda: equipment(prove=prove))
        self._deadly, self._kill_after = deadly, kill_after
        self.done: list[str] = []

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in order."""
        for item in items:
            if len(self.done) == self._kill_after:
                raise Killed
            self.done.append(job)
            if item.get("clip_id") in self._deadly:
                yield Outcome(value=None, failure="worker died: SIGSEGV")
            else:
                yield from self._real.map(job, [item])


def build(home: Home, watched: Any = None, *, permit: Permit | None = PERMIT, **asked: Any) -> tuple[shards.ShardSet, dict[str, Any]]:
    """A masked set, and its index."""
    request = from_mapping({"name": "masked", "masked": True, "shard_size_bytes": 50_000, "columns": ["weather"]} | asked)
    workers = masked_copies.Workers(engine=watched or Watched(home), settings={})
    made = shards.run(request, home.rows, 1, store=home.store, ledger=home.ledger, workers=workers, permit=permit)
    return made, json.loads(home.store.read(shard_key(made.shard_set_id, "index.json")))


def frames_of(data: bytes) -> list[np.ndarray]:
    """Every frame of a clip, which holds nothing else."""
    with av.open(io.BytesIO(data)) as container:
        assert ["video"] == [stream.type for stream in container.streams]
        assert not {"creation_time", "location", "title", "encoder"} & container.metadata.keys()
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("asked", FORMS, ids=NAMES)
def test_no_sample_shows_or_tells_what_was_masked(make_masked_home: Callable[..., Home], videos: list[bytes], asked: Any) -> None:
    """Every frame of each sample is grey where the square was, and as it was elsewhere; sound, title and place are in no shard."""
    home = make_masked_home()
    made, index = build(home, **asked)
    seeds = {hashlib.sha256(data).hexdigest(): seed for data, seed in zip(videos, SEEDS, strict=False)}
    looked_at = 0
    for sample in samples_of(home, made, index):
        seed = seeds[sample["key"].decode()[:64]]
        if asked["form"] == "clips":
            frames = frames_of(sample.get("clip") or sample["mp4"])
            assert FRAMES == len(frames)
            for number, shown in enumerate(frames):
                check_masked(shown, number, seed=seed)
        else:
            number = round(json.loads(sample["json"])["pts_s"] * FPS)
            check_masked(cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR), number, seed=seed)
        assert {"weather"} <= json.loads(sample["json"]).keys() <= {"weather", "frame_index", "pts_s"}
        looked_at += 1
    assert looked_at == {"clips": 3, "frames": 3 * 4}[asked["form"]]
    assert all(secret in videos[0] for secret in SECRETS)
    assert [] == [key for key, data in home.shard_files().items() if any(secret in data for secret in SECRETS)]


def test_index_card_and_ledger_say_what_masked_the_set(make_masked_home: Callable[..., Home]) -> None:
    """Models with digests, the evaluation with its digest and result, and how many masks; of a set that is not masked, that it is not."""
    home = make_masked_home()
    made, index = build(home)
    said = index["masking"]
    assert (3 * FRAMES, {"face": 3, "plate": 0}, "e" * 64) == (said["frames"], said["tracks"], said["evaluation"]["sha256"])
    assert said["masks"] >= 3 * FRAMES
    card = home.store.read(shard_key(made.shard_set_id, "card.md")).decode()
    for words in (f"masked: {said['masks']} masks over 3 faces and 0 plates", "white-1, SHA-256 000", "a demo's, which proves nothing"):
        assert words in card
    assert "| looked at again | 6 frames, nothing found, by eye-1 |" in card
    assert "Models miss some faces and plates" in card
    facts = next(entry.facts for entry in home.ledger.entries() if entry.subject == made.shard_set_id)
    assert ("yes", "passed", "yes", str(said["masks"])) == tuple(
        facts[name] for name in ("masked", "evaluation_result", "evaluation_is_demo", "masks")
    )
    assert ("white-1 SHA-256 " + "0" * 64, "eye-1 SHA-256 " + "2" * 64) == (facts["models.face"], facts["proof.eye"])
    assert "e" * 64 in facts["evaluation"]
    plain, index = build(home, masked=False)
    assert (None, {"masked": "no"}) == (index["masking"], {k: v for k, v in plain_facts(home, plain).items() if k.startswith("mask")})
    assert "| faces and plates | not masked |" in home.store.read(shard_key(plain.shard_set_id, "card.md")).decode()


def plain_facts(home: Home, made: shards.ShardSet) -> Mapping[str, str]:
    """What the ledger says of a set."""
    return next(entry.facts for entry in home.ledger.entries() if entry.subject == made.shard_set_id)


def test_nothing_is_masked_without_leave(make_masked_home: Callable[..., Home]) -> None:
    """Without a permit the stage itself refuses, and leaves neither a copy nor a shard."""
    home = make_masked_home()
    with pytest.raises(MaskingRefused, match="nothing allows masking"):
        build(home, permit=None)
    assert [] == [*home.store.keys(MASKED), *home.store.keys("shards/")]


@pytest.mark.parametrize("column", ["face_count_max", "plate_count_max"])
def test_a_clip_that_was_not_looked_at_refuses_the_set(make_masked_home: Callable[..., Home], column: str) -> None:
    """It is named with the reason and the next step before any copy; a preview names it, too, and a filter may leave it out."""
    home = make_masked_home(unmeasured=[(column, "model gone")], **{column: None})
    watched = Watched(home)
    with pytest.raises(MaskingRefused) as refused:
        build(home, watched)
    first = min(home.rows["clip_id"].to_pylist())
    assert f"3 of its clips were not looked at for faces and plates ({first}: model gone; " in refused.value.problem
    assert "curation reinspect" in refused.value.fix
    assert ([], []) == (watched.done, list(home.store.keys(MASKED)))
    request = from_mapping({"name": "masked", "masked": True})
    seen = preview(request, home.rows.select(columns_of_preview(request)))
    assert sorted(home.rows["clip_id"].to_pylist()) == seen["not_looked_at"]
    with pytest.raises(UsageError, match="takes no accepted clip"):
        build(home, filter=f"{column} IS NOT NULL")


def test_a_clip_that_cannot_be_masked_is_left_out_by_name(make_masked_home: Callable[..., Home], videos: list[bytes]) -> None:
    """One with a hole in it and one whose worker dies: counted, named with the reason, in no shard; a withdrawal finds the set by them."""
    home = make_masked_home(more=1)
    hole, deadly = hashlib.sha256(videos[3]).hexdigest(), hashlib.sha256(videos[0]).hexdigest()
    made, index = build(home, Watched(home, deadly=[deadly]))
    assert {hole, deadly} == index["unmaskable"].keys()
    assert ("worker died: SIGSEGV", True) == (index["unmaskable"][deadly], "decoded" in index["unmaskable"][hole])
    assert (4, 2, 2) == (index["rows"]["considered"], index["rows"]["unmaskable"], index["splits"]["train"]["clips"])
    assert sum(made.count.accounted.values()) == made.count.rows_in
    assert b"Clips that could not be masked" in home.store.read(shard_key(made.shard_set_id, "card.html"))
    assert {made.shard_set_id: frozenset([hole])} == sets_holding([hole], home.store)
    assert [] == [key for key in home.store.keys(MASKED) if hole in key or deadly in key]


def test_a_copy_that_still_shows_something_is_not_kept(make_masked_home: Callable[..., Home]) -> None:
    """What a second model finds, and what it could not look at, leaves the clip out by name; its copy is not stored."""
    home, face = make_masked_home(), {"x_px": 1.0, "y_px": 2.0, "width_px": 30.0, "height_px": 40.0, "score": 0.9}
    found = Residue(kind="face", model="eye", frame=3, at_s=0.5, hidden=0.0, **face)  # type: ignore[arg-type]  # numbers
    answers = iter([replace(CLEAN, residues=(found,)), replace(CLEAN, unmeasured="model gone"), CLEAN])
    made, index = build(home, Watched(home, prove=lambda _: next(answers)))
    problems = sorted(index["not_clean"].values())
    assert ["after masking, other models still find 1 faces and 0 plates", "could not be looked at after masking: model gone"] == [
        problems[0].split(",", 2)[0] + "," + problems[0].split(",", 2)[1],
        problems[1],
    ]
    assert (1, 2) == (index["splits"]["train"]["clips"], len(list(home.store.keys(MASKED))))
    assert (0, 2) == (made.count.accounted["unmaskable"], made.count.accounted["not_clean"])
    assert "| not clean when the masked copy was looked at again | 2 |" in home.store.read(shard_key(made.shard_set_id, "card.md")).decode()
    assert {made.shard_set_id: index["not_clean"].keys()} == sets_holding(list(index["not_clean"]), home.store)


def test_where_all_workers_die_no_clip_is_to_blame(make_masked_home: Callable[..., Home]) -> None:
    """The build stops instead of leaving every clip out; so it does where none can be masked."""
    home = make_masked_home()
    with pytest.raises(OutsideError, match="none could be masked: worker died"):
        build(home, Watched(home, deadly=home.rows["clip_id"].to_pylist()))
    broken = make_masked_home("broken", more=1)
    broken.rows = broken.rows.slice(3)
    with pytest.raises(UsageError, match="holds no clip that can be masked"):
        build(broken)


def test_a_kill_at_any_point_ends_in_the_same_bytes(make_masked_home: Callable[..., Home]) -> None:
    """Killed after one copy, after all of them and after one shard: what was made is not made again, and the set is that of no kill."""
    undisturbed, killed = make_masked_home("undisturbed"), make_masked_home("killed")
    made, _ = build(undisturbed, form="frames", shard_size_bytes=20_000)
    jobs = []
    for after in (1, 2, 1):
        watched = Watched(killed, kill_after=after)
        with pytest.raises(Killed):
            build(killed, watched, form="frames", shard_size_bytes=20_000)
        jobs += watched.done
    watched = Watched(killed)
    again, _ = build(killed, watched, form="frames", shard_size_bytes=20_000)
    assert 3 == (jobs + watched.done).count(masked_copies.JOB)
    assert (made.files, undisturbed.shard_files()) == (again.files, killed.shard_files())
    copies = [{key: home.store.read(key) for key in home.store.keys(MASKED)} for home in (undisturbed, killed)]
    assert copies[0] == copies[1]
    assert (again.shard_set_id, False) == (
        (once_more := build(killed, form="frames", shard_size_bytes=20_000)[0]).shard_set_id,
        once_more.created,
    )


def test_other_models_or_another_evaluation_are_another_set(make_masked_home: Callable[..., Home]) -> None:
    """The id says by what the set was masked, and on whose word; a worker with other models than were allowed masks nothing."""
    home = make_masked_home()
    first, _ = build(home)
    second, _ = build(home, permit=replace(PERMIT, evaluation_sha256="f" * 64))
    assert first.shard_set_id != second.shard_set_id
    other = replace(PERMIT, masking="a" * 64)
    with pytest.raises(MaskingRefused, match="other models than were allowed"):
        build(home, permit=other)


def test_bytes_that_are_no_masked_copy_enter_no_masked_shard(make_masked_home: Callable[..., Home]) -> None:
    """Neither a clip as it is, whatever the plan says, nor a copy that somebody changed."""
    home = make_masked_home()
    clip_id = home.rows["clip_id"][0].as_py()
    sample = {
        "clip_id": clip_id,
        "key": clip_key(clip_id, ".mp4"),
        "sha256": clip_id,
        "suffix": ".mp4",
        "size_bytes": 1,
        "description": "{}",
    }
    common = {"split": "train", "name": "train-000000.tar", "format": "webdataset", "form": "clips", "shard_set_id": "s", "undecodable": {}}
    with pytest.raises(CurationError, match="would enter a masked set as it is"):
        shards.write_shard({**common, "masked": True, "samples": [sample]}, store=home.store)
    assert [] == list(home.store.keys("shards/"))
    said = mask_clips.write_copy(clip_id, ".mp4", store=home.store, equipment=equipment())
    path = home.root / said["key"]
    path.chmod(0o644)
    path.write_bytes(b"x" * said["size_bytes"])
    for form in ("clips", "frames"):
        with pytest.raises(EvidenceBroken, match="are not those that were masked"):
            build(home, form=form)


def test_a_clip_with_other_bytes_than_its_id_is_not_masked(make_masked_home: Callable[..., Home]) -> None:
    """It is named, and the set is not built."""
    home = make_masked_home()
    path = home.root / clip_key(home.rows["clip_id"][0].as_py(), ".mp4")
    path.chmod(0o644)
    path.write_bytes(b"another clip")
    with pytest.raises(EvidenceBroken, match="not those that its id names"):
        build(home)


def test_copies_of_an_erased_clip_are_found_and_no_more_are_made(make_masked_home: Callable[..., Home]) -> None:
    """All of its copies under its id; a worker that is at it when the clip is erased stores nothing."""
    home = make_masked_home()
    first, second = home.rows["clip_id"].to_pylist()[:2]
    mask_clips.write_copy(first, ".mp4", store=home.store, equipment=equipment())
    assert (2, 0, []) == (len(copies_of([first], home.store)), len(copies_of([second], home.store)), erased_copies(home.store))
    assert copies_of([first], home.store) == copies_of([first, *(f"{number:064x}" for number in range(200))], home.store)  # in one listing
    for clip_id in (first, second):
        home.store.create(tombstone_key(clip_id), b"{}")
    with pytest.raises(MaskingRefused, match="was erased while it was masked"):
        mask_clips.write_copy(second, ".mp4", store=home.store, equipment=equipment())
    assert sorted(copies_of([first], home.store)) == erased_copies(home.store)
    assert [] == list((home.root / ".staging").iterdir())
