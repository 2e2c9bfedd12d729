"""Measuring clips at each depth, beside only decoding them (OpenCV grabs and reads, ffmpeg decodes into nothing) and beside PySceneDetect.

One thread each.
"""

from __future__ import annotations

import importlib.util
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
MINUTE_GOALS: Final[Mapping[tuple[str, str], float]] = {
    ("full", "opencv"): 0.9,
    ("keyframes", "opencv"): 8.0,
    ("keyframes", "ffmpeg"): 8.0,
}
MINUTE_RUNS: Final = 3  # each of them decodes four minutes of video four times
MINUTE_BASES: Final = ("S05", "S16")
MINUTE_SIZES: Final = ((1280, 960), (1920, 1080))
PEAK_MIB: Final = 600.0  # issue C: a worker's memory, whatever the clip


def figures(folder: Path, *, clips: Sequence[Path] | None = None, runs: int = RUNS) -> Iterator[Figure]:
    """Summed CPU seconds over all clips, per depth and decoder; the same over one-minute clips; peak memory over the largest of them."""
    given = list(clips or real_clips() or rendered_clips(folder))
    yield from _beside_decoders("inspect", given, GOALS, runs=runs)
    minutes = [] if clips else _minute_clips(folder)
    if minutes:
        yield from _beside_decoders("inspect.minute", minutes, MINUTE_GOALS, runs=MINUTE_RUNS)
    largest = max([*given, *minutes], key=lambda clip: clip.stat().st_size)
    for name, clip in [("inspect.peak", largest), *([] if clips else _huge_clips(folder))]:
        found = interleave({name: peak_mib("benchmarks.inspect_clips:inspect", depth="full", clip=str(clip))}, runs=runs)
        yield within(f"{name}/limit", found[name], PEAK_MIB, unit="MiB")


def _beside_decoders(name: str, clips: Sequence[Path], goals: Mapping[tuple[str, str], float], *, runs: int) -> Iterator[Figure]:
    decoders = _decoders()
    sides = {depth: partial(_inspect, depth, clips) for depth in DEPTHS} | {other: partial(_each, read, clips) for other, read in decoders}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the worker does
    try:
        costs = interleave({one: timed(side) for one, side in sides.items()}, runs=runs)
    finally:
        cv2.setNumThreads(threads)
    for depth in DEPTHS:
        for other, _ in decoders:
            goal = goals.get((depth, other))
            yield figure(f"{name}.{depth}/{other}", cpu_s(costs[depth]), cpu_s(costs[other]), unit="CPU s", better="less", goal=goal)


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
    peers = [("opencv", read_by_opencv)]
    if importlib.util.find_spec("scenedetect") is None:
        print("inspect: PySceneDetect is not installed (dependency group bench), so it is left out", file=sys.stderr)
    else:
        peers.append(("pyscenedetect", _find_cuts_by_pyscenedetect))
    if ffmpeg is None:
        print("inspect: ffmpeg is not installed, so nothing is compared with it", file=sys.stderr)
        return peers
    return [*peers, ("ffmpeg", partial(_decode_by_ffmpeg, ffmpeg))]


def _opened_by_opencv(clip: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _find_cuts_by_pyscenedetect(clip: Path) -> None:
    from scenedetect import ContentDetector, SceneManager  # noqa: PLC0415 - of the dependency group bench
    from scenedetect.backends.opencv import VideoCaptureAdapter  # noqa: PLC0415 - of the dependency group bench

    video, manager = _opened_by_opencv(clip), SceneManager()
    manager.add_detector(ContentDetector())
    count = manager.detect_scenes(VideoCaptureAdapter(video))
    video.release()
    if not count:
        raise OutsideError("PySceneDetect sees no frame of it", subject=str(clip), fix="leave it out of the benchmark")


def read_by_opencv(clip: Path) -> None:
    """Decode and convert all frames of a clip, in one thread."""
    video = _opened_by_opencv(clip)
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


def real_clips() -> list[Path]:
    """The shared clips, if they lie beside the project."""
    suffixes = PullSettings().suffixes
    return sorted(file for file in REAL_CLIPS.glob("*") if file.suffix.lower() in suffixes)


def _minute_clips(folder: Path) -> list[Path]:
    """One-minute clips as recorders write them: two of the real clips looped, at two sizes, 9 Mb/s, a key frame each second."""
    ffmpeg, bases = shutil.which("ffmpeg"), [clip for clip in real_clips() if clip.name[:3] in MINUTE_BASES]
    if ffmpeg is None or not bases:
        print("inspect: one-minute clips need ffmpeg and the shared clips, so they are left out", file=sys.stderr)
        return []
    made = []
    for clip in bases:
        for width, height in MINUTE_SIZES:
            made.append(folder / f"{clip.name[:3]}-{width}x{height}.mp4")
            command = [
                *(ffmpeg, "-v", "error", "-nostdin", "-stream_loop", "-1", "-i", str(clip), "-t", "60", "-an", "-r", "25"),
                *("-vf", f"scale={width}:{height},setsar=1", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
                *("-b:v", "9M", "-maxrate", "10M", "-bufsize", "10M", "-g", "25", "-keyint_min", "25", str(made[-1])),
            ]
            _encode(command, subject=str(clip))
    return made


def _huge_clips(folder: Path) -> list[tuple[str, Path]]:
    """A dozen frames of 8K under the name of their figure, where ffmpeg is there to make them."""
    ffmpeg, made = shutil.which("ffmpeg"), folder / "8k.mp4"
    if ffmpeg is None:
        return []
    command = [*(ffmpeg, "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=7680x4320:rate=6", "-t", "2")]
    _encode([*command, "-c:v", "libx264", "-preset", "ultrafast", "-g", "6", "-pix_fmt", "yuv420p", str(made)], subject=made.name)
    return [("inspect.peak_8k", made)]


def _encode(command: Sequence[str], *, subject: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"ffmpeg failed: {done.stderr.strip()[-200:]}", subject=subject, fix="look at the clip")


def rendered_clips(folder: Path) -> list[Path]:
    """Rendered clips, which show less than real ones."""
    print(f"inspect: there is no {REAL_CLIPS.relative_to(PROJECT.parent)}, so clips are rendered", file=sys.stderr)
    truth = make_fleet(folder / "fleet", writer=wiring.video_writer())
    return [folder / "fleet" / name for name, file in truth.files.items() if file.verdict == "accepted"]
