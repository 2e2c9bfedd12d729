"""Building shard sets: whole clips beside webdataset's writer, MosaicML Streaming's, `tarfile` and one plain sequential write, SHA-256 and
fsync on every side; pictures of clips beside OpenCV, which decodes all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import cv2
import pyarrow as pa
from webdataset import TarWriter

from benchmarks import rows
from benchmarks.clip_files import MIB, write_clips
from benchmarks.inspect_clips import read_by_opencv, real_clips, rendered_clips
from benchmarks.measure import PROJECT, RUNS, Figure, Work, cpu_s, figure, interleave, timed, wall_s
from curation import layout, schema, wiring
from curation.adapters.engine_local import InlineEngine
from curation.digests import canonical_json, file_digest
from curation.errors import OutsideError
from curation.ports import Ledger, ObjectStore
from curation.settings import Settings, embedded_defaults
from curation.shards.frames import pictures
from curation.shards.request import FrameRequest, ShardRequest, from_mapping
from curation.stages import shards

CLIPS: Final = 128  # 1 GiB: a set has a fixed cost of some 70 ms, which a quarter of it would still show
CLIP_BYTES: Final = 8 * MIB
SHARD_BYTES: Final = 64 * MIB
# Issue G: >= 0.95 of a raw sequential write, fsync on both sides, SHA-256 on; at least as fast as webdataset's TarWriter, and MDS's writer.
GOALS: Final[Mapping[str, float | None]] = {"raw_write": 0.95, "webdataset": 1.0, "tarfile": None}
MDS_GOAL: Final = 1.0
FRAMES_GOAL: Final = 0.9  # issue G: frame extraction at 2 fps, of the OpenCV decode rate
FRAMES_FPS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    """A home that holds clips, with their rows of curated.clips and what stands beside each of them in a shard."""

    folder: Path
    store: ObjectStore
    ledger: Ledger
    rows: pa.Table
    samples: Sequence[tuple[str, Path, bytes]]


def figures(
    folder: Path, *, clip_count: int = CLIPS, clip_bytes: int = CLIP_BYTES, clips: Sequence[Path] | None = None, runs: int = RUNS
) -> Iterator[Figure]:
    """Figures of the same samples written into shards of the same size by each side, in time and in CPU seconds; and of pictures.

    Args:
        folder: where both sides write.
        clip_count: whole clips written.
        clip_bytes: size of each.
        clips: whose pictures are taken; the shared clips without it.
        runs: of each side.
    """
    home = _home(folder, clip_count, clip_bytes)
    writers = {"raw_write": _raw_write, "webdataset": _webdataset, "tarfile": _tarfile}
    sides = {"ours": partial(_ours, home, "webdataset")} | {name: partial(_theirs, home, write) for name, write in writers.items()}
    costs = interleave({name: timed(side) for name, side in sides.items()}, runs=runs)
    for name, goal in GOALS.items():
        yield figure(f"shards.wall/{name}", wall_s(costs["ours"]), wall_s(costs[name]), unit="s", better="less", goal=goal)
        yield figure(f"shards.cpu/{name}", cpu_s(costs["ours"]), cpu_s(costs[name]), unit="CPU s", better="less")
    yield from _beside_streaming(home, runs=runs)
    given = list(real_clips() or rendered_clips(folder)) if clips is None else list(clips)
    yield from _beside_opencv(given, runs=runs) if given else ()


def _beside_streaming(home: _Home, *, runs: int) -> Iterator[Figure]:
    """MDS beside the writer of MosaicML Streaming, where the torch environment stands; both in time, since theirs is another process."""
    python = PROJECT / ".venv-torch" / "bin" / "python"
    if not python.exists():
        print("shards: there is no .venv-torch (`make test-torch` makes it), so MDS is compared with nothing", file=sys.stderr)
        return
    costs = interleave({"ours": timed(partial(_ours, home, "mds")), "streaming": partial(_streaming_s, home, python)}, runs=runs)
    yield figure("shards.mds/streaming", wall_s(costs["ours"]), costs["streaming"], unit="s", better="less", goal=MDS_GOAL)


def _streaming_s(home: _Home, python: Path) -> float:
    """Seconds that Streaming's writer took over the same clips, its process's start left out."""
    target, listing = home.folder / "streaming", home.folder / "samples.json"
    shutil.rmtree(target, ignore_errors=True)
    listing.write_text(json.dumps([[clip_id, str(path), description.decode()] for clip_id, path, description in home.samples]))
    command = [str(python), str(Path(__file__).with_name("streaming_writer.py")), str(listing), str(target), str(SHARD_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"failed: {done.stderr.strip()[-500:]}", subject="MDSWriter", fix="run `make test-torch`")
    return float(done.stdout.split()[-1])


def _beside_opencv(clips: Sequence[Path], *, runs: int) -> Iterator[Figure]:
    """Two pictures a second of every clip, as JPEG, beside OpenCV reading all frames; one thread each."""
    video, frames = wiring.video_reader(), FrameRequest(fps=FRAMES_FPS)

    def ours() -> None:
        for clip in clips:
            with video.open(clip) as stream:
                for _ in pictures(stream, frames):
                    pass

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the worker does
    try:
        sides = {"ours": ours, "opencv": lambda: [read_by_opencv(clip) for clip in clips]}
        costs = interleave({name: timed(lambda work=work: work) for name, work in sides.items()}, runs=runs)
    finally:
        cv2.setNumThreads(threads)
    yield figure("shards.frames/opencv", cpu_s(costs["ours"]), cpu_s(costs["opencv"]), unit="CPU s", better="less", goal=FRAMES_GOAL)


def _home(folder: Path, clip_count: int, clip_bytes: int) -> _Home:
    opened = wiring.home(Settings.model_validate(embedded_defaults(folder / "work")))
    invented = rows.clips(clip_count).to_pylist()
    samples = []
    for row, file in zip(invented, write_clips(folder / "source", clip_count, clip_bytes), strict=True):
        clip_id = file_digest(file)
        key = layout.clip_key(clip_id, ".mp4")
        opened.store.create(key, file.read_bytes())
        row |= {"clip_id": clip_id, "object_uri": layout.object_uri(key), "size_bytes": clip_bytes, "verdict": "accepted", "reasons": []}
        description = canonical_json({name: row[name] for name in _request().columns})
        with opened.store.local_path(key) as path:
            samples.append((clip_id, path, description))
        file.unlink()
    table = pa.Table.from_pylist(invented, schema=schema.CLIPS)
    return _Home(folder=folder, store=opened.store, ledger=opened.ledger, rows=table, samples=sorted(samples))


def _request(kind: str = "webdataset") -> ShardRequest:
    return from_mapping({"name": "bench", "format": kind, "shard_size_bytes": SHARD_BYTES, "near_duplicates": "keep_together"})


def _ours(home: _Home, kind: str) -> Work:
    shutil.rmtree(home.folder / "work" / "home" / "store" / "shards", ignore_errors=True)
    nobody = shards.Workers(engine=InlineEngine({}), settings={})  # a set of this size is written by the caller's own process
    return lambda: shards.run(_request(kind), home.rows, 1, store=home.store, ledger=home.ledger, workers=nobody)


class _HashedFile:
    """A new file, as tar writers want it: all that is written goes through SHA-256, and closing waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb")
        self._hasher = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hasher.update(data)
        return self._file.write(data)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


_Sample = tuple[str, Path, bytes]
_Write = Callable[[_HashedFile, Sequence[_Sample]], None]


def _theirs(home: _Home, write: _Write) -> Work:
    target = home.folder / "theirs"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    per_shard = max(1, SHARD_BYTES // home.rows["size_bytes"][0].as_py() - 1)  # headers and descriptions take the place of one clip

    def work() -> None:
        for begin in range(0, len(home.samples), per_shard):
            with closing(_HashedFile(target / f"{begin:06d}.tar")) as file:
                write(file, home.samples[begin : begin + per_shard])

    return work


def _raw_write(file: _HashedFile, samples: Sequence[_Sample]) -> None:
    for _, path, description in samples:
        file.write(description)
        with path.open("rb") as clip:
            while chunk := clip.read(MIB):
                file.write(chunk)


def _webdataset(file: _HashedFile, samples: Sequence[_Sample]) -> None:
    with TarWriter(file, encoder=False) as tar:
        for clip_id, path, description in samples:
            tar.write({"__key__": clip_id, "json": description, "mp4": path.read_bytes()})


def _tarfile(file: _HashedFile, samples: Sequence[_Sample]) -> None:
    with tarfile.open(fileobj=file, mode="w|") as tar:
        for clip_id, path, description in samples:
            told = tarfile.TarInfo(f"{clip_id}.json")
            told.size = len(description)
            tar.addfile(told, io.BytesIO(description))
            with path.open("rb") as clip:
                tar.addfile(tar.gettarinfo(arcname=f"{clip_id}.mp4", fileobj=clip), clip)
