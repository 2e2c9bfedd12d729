"""Pulling a folder of clips into the home store, beside copying and hashing the same files; and pulling it again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.clip_files import MIB, write_clips
from benchmarks.measure import RUNS, Figure, Work, cpu_s, figure, interleave, peak_mib, timed, wall_s, within
from curation import pipeline
from curation.errors import NotConserved
from curation.settings import Settings, embedded_defaults

CLIPS: Final = 32
CLIP_BYTES: Final = 8 * MIB
SOURCE: Final = "bench"


def figures(folder: Path, *, clip_count: int = CLIPS, clip_bytes: int = CLIP_BYTES, runs: int = RUNS) -> Iterator[Figure]:
    """Figures of a first pull in time and CPU (both sides fsync), of a second one, and of a first one's peak memory."""
    source, target = folder / "source", folder / "target"
    files = write_clips(source, clip_count, clip_bytes)
    pull_anew(str(source), str(target))  # imports what pulling needs, which is none of its time
    sides = {
        "ours": timed(lambda: _first(source, target, clip_count)),
        "other": timed(lambda: _copy(files, target)),
        "again": timed(lambda: _again(source, target, clip_count)),
    }
    found = interleave(sides, runs=runs)
    yield figure("pull.wall/copy_sha256_fsync", wall_s(found["ours"]), wall_s(found["other"]), unit="s", better="less")
    yield figure("pull.cpu/copy_sha256_fsync", cpu_s(found["ours"]), cpu_s(found["other"]), unit="CPU s", better="less")
    yield figure("pull.rerun/first_run", wall_s(found["again"]), wall_s(found["ours"]), unit="s", better="less")
    peaks = interleave({"ours": peak_mib("benchmarks.pull:pull_anew", source=str(source), target=str(target))}, runs=runs)
    yield within("pull.peak/limit", peaks["ours"], 300.0, unit="MiB")  # Issue B: memory < 300 MiB


def pull_into(source: str, target: str) -> int:
    """Clips stored of the source, from its listing to the ledger."""
    settings = Settings.model_validate({**embedded_defaults(Path(target)), "sources": {SOURCE: {"path": Path(source)}}})
    counts = [pipeline.pull_batch(settings, batch_id) for batch_id in pipeline.discover(settings, SOURCE)]
    return sum(count.accounted["stored"] for count in counts)


def pull_anew(source: str, target: str) -> int:
    """`pull_into` a target that is empty."""
    shutil.rmtree(target, ignore_errors=True)
    return pull_into(source, target)


def _first(source: Path, target: Path, clip_count: int) -> Work:
    shutil.rmtree(target, ignore_errors=True)
    return lambda: _pulled(source, target, clip_count)


def _again(source: Path, target: Path, clip_count: int) -> Work:
    shutil.rmtree(target, ignore_errors=True)
    _pulled(source, target, clip_count)
    return lambda: _pulled(source, target, clip_count)


def _pulled(source: Path, target: Path, clip_count: int) -> None:
    stored = pull_into(str(source), str(target))
    if stored != clip_count:
        raise NotConserved(f"{stored} of {clip_count} clips were stored", subject="benchmark pull", fix="see why the others were not")


def _copy(files: Sequence[Path], target: Path) -> Work:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()

    def work() -> None:
        for file in files:
            with file.open("rb") as data:
                hashlib.file_digest(data, "sha256")
            copied = shutil.copy(file, target)
            with Path(copied).open("rb+") as data:
                os.fsync(data.fileno())

    return work
