"""Measuring clips at each depth, beside only decoding them: OpenCV grabs and reads, ffmpeg decodes into nothing. One thread each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, get_args

import cv2

from benchmarks.measure import PROJECT, RUNS, Figure, Work, cpu_s, figure, interleave, peak_mib, timed, within
from curation import wiring
from curation.demo.fleet import make_fleet
from curation.errors import OutsideError
from curation.settings import InspectSettings, PullSettings
from curation.worker import build_inspector

REAL_CLIPS: Final = PROJECT.parent / "shared" / "clips" / "videos"
DEPTHS: Final[tuple[str, ...]] = get_args(InspectSettings.model_fields["depth"].annotation)
# Issue C, over the real clips: `full` at >= 0.9 of OpenCV's own decode rate, `keyframes` >= 4 times faster than a full decode.
GOALS: Final[Mapping[tuple[str, str], float]] = {("full", "opencv"): 0.9, ("keyframes", "opencv"): 4.0, ("keyframes", "ffmpeg"): 4.0}
PEAK_MIB: Final = 600.0  # issue C: a worker's memory, whatever the clip


def figures(folder: Path, *, clips: Sequence[Path] | None = None, runs: int = RUNS) -> Iterator[Figure]:
    """Summed CPU seconds over all clips, per depth and decoder; the peak memory of a worker's process over the largest of them."""
    clips = list(clips or _real_clips() or _rendered_clips(folder))
    decoders = _decoders()
    sides = {depth: partial(_inspect, depth, clips) for depth in DEPTHS} | {name: partial(_each, read, clips) for name, read in decoders}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the worker does
    try:
        costs = interleave({name: timed(side) for name, side in sides.items()}, runs=runs)
    finally:
        cv2.setNumThreads(threads)
    for depth in DEPTHS:
        for name, _ in decoders:
            goal = GOALS.get((depth, name))
            yield figure(f"inspect.{depth}/{name}", cpu_s(costs[depth]), cpu_s(costs[name]), unit="CPU s", better="less", goal=goal)
    largest = max(clips, key=lambda clip: clip.stat().st_size)
    peaks = interleave({"full": peak_mib("benchmarks.inspect_clips:inspect", depth="full", clip=str(largest))}, runs=runs)
    yield within("inspect.peak/limit", peaks["full"], PEAK_MIB, unit="MiB")


def inspect(depth: str, clip: str) -> None:
    """What a worker does with one clip.

    Raises:
        OutsideError: the clip is none that can be measured, so its cost says nothing.
    """
    found = build_inspector()({"path": clip, "policy": InspectSettings(depth=depth).model_dump(mode="json")})
    if found["verdict"] == "quarantined":
        raise OutsideError(f"could not be measured: {found['error']}", subject=clip, fix="leave it out of the benchmark")


def _inspect(depth: str, clips: Sequence[Path]) -> Work:
    build_inspector()
    return lambda: [inspect(depth, str(clip)) for clip in clips]


def _each(read: Callable[[Path], None], clips: Sequence[Path]) -> Work:
    return lambda: [read(clip) for clip in clips]


def _decoders() -> list[tuple[str, Callable[[Path], None]]]:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        print("inspect: ffmpeg is not installed, so nothing is compared with it", file=sys.stderr)
        return [("opencv", _read_by_opencv)]
    return [("opencv", _read_by_opencv), ("ffmpeg", partial(_decode_by_ffmpeg, ffmpeg))]


def _read_by_opencv(clip: Path) -> None:
    video = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count = 0
    while video.grab():
        video.retrieve()
        count += 1
    video.release()
    if not count:
        raise OutsideError("OpenCV decodes no frame of it", subject=str(clip), fix="leave it out of the benchmark")


def _decode_by_ffmpeg(ffmpeg: str, clip: Path) -> None:
    command = [ffmpeg, "-v", "error", "-nostdin", "-threads", "1", "-i", str(clip), "-map", "0:v:0", "-threads", "1", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"ffmpeg failed: {done.stderr.strip()[-200:]}", subject=str(clip), fix="leave it out of the benchmark")


def _real_clips() -> list[Path]:
    suffixes = PullSettings().suffixes
    return sorted(file for file in REAL_CLIPS.glob("*") if file.suffix.lower() in suffixes)


def _rendered_clips(folder: Path) -> list[Path]:
    print(f"inspect: there is no {REAL_CLIPS.relative_to(PROJECT.parent)}, so clips are rendered", file=sys.stderr)
    truth = make_fleet(folder / "fleet", writer=wiring.video_writer())
    return [folder / "fleet" / name for name, file in truth.files.items() if file.verdict == "accepted"]
