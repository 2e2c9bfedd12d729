"""What others say of the same files: ffmpeg's filters, CleanVision on frames a second apart, PySceneDetect. Each where it has the check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.truth_cases import GOOD, Case
from curation.errors import OutsideError

FFMPEG: Final = "ffmpeg"
CLEANVISION: Final = "CleanVision"
PYSCENEDETECT: Final = "PySceneDetect"
# Defect -> the peers that look for it.
CHECKS: Final[Mapping[str, tuple[str, ...]]] = {
    "frozen": (FFMPEG,),
    "black": (FFMPEG, CLEANVISION),
    "blurred": (FFMPEG, CLEANVISION),
    "over-exposed": (CLEANVISION,),
    "under-exposed": (CLEANVISION,),
    "scene cut": (PYSCENEDETECT,),
}
_ISSUE: Final = {"black": "dark", "blurred": "blurry", "over-exposed": "light", "under-exposed": "dark"}
# freezedetect and blackdetect at their own limits, but from half a second on: rendered faults last one, which their two would hide.
_LOOK: Final = "freezedetect=n=-60dB:d=0.5,blackdetect=d=0.5:pix_th=0.10"
# blurdetect sees a picture twice a second at 640 px width: at full size and rate it takes as long as all else together.
_BLUR: Final = "fps=2,scale=640:-2,blurdetect=block_width=32:block_height=32:block_pct=50,metadata=print:key=lavfi.blur"
_STILL: Final = "fps=1,scale=640:-2"

Alarms = Mapping[tuple[str, str], frozenset[int]]  # peer and defect -> cases in which it raises the alarm


def alarms(cases: Sequence[Case], folder: Path, *, ffmpeg: str) -> Alarms:
    """In which cases each peer finds each defect; of good files, only those that `is_asked_as_good` names are asked about."""
    found: dict[tuple[str, str], set[int]] = {(peer, defect): set() for defect, peers in CHECKS.items() for peer in peers}
    asked = [number for number, case in enumerate(cases) if case.subject.defect in CHECKS or is_asked_as_good(case)]
    stills: dict[str, int] = {}
    blurs: dict[int, float] = {}
    for number in asked:
        said, pictures = _ffmpeg(ffmpeg, cases[number].subject.path, folder / str(number))
        stills |= {str(picture): number for picture in pictures}
        for defect, sign in (("frozen", "freeze_start"), ("black", "black_start")):
            if sign in said:
                found[FFMPEG, defect].add(number)
        values = sorted(float(value) for value in re.findall(r"lavfi\.blur=([0-9.]+)", said))
        if values:
            blurs[number] = values[len(values) // 2]
    # ffmpeg publishes no limit for a blurred picture: it gets the lowest that raises no alarm on any good file here.
    limit = max((value for number, value in blurs.items() if cases[number].subject.defect == GOOD), default=0.0)
    print(f"blurdetect calls blurred what reads above {limit:.2f}", file=sys.stderr)
    found[FFMPEG, "blurred"] = {number for number, value in blurs.items() if value > limit}
    for defect, numbers in _cleanvision(stills).items():
        found[CLEANVISION, defect] = numbers
    in_question = [number for number in asked if cases[number].subject.defect in {"scene cut", GOOD}]
    found[PYSCENEDETECT, "scene cut"] = {number for number in in_question if _has_cut(cases[number].subject.path)}
    return {check: frozenset(numbers) for check, numbers in found.items()}


def is_asked_as_good(case: Case) -> bool:
    """Whether the file is a good one, and not one of many copies of another."""
    return case.subject.defect == GOOD and (bool(case.subject.label) or case.subject.path.name in {"base.mp4", "good.mp4"})


def _ffmpeg(ffmpeg: str, path: Path, place: Path) -> tuple[str, list[Path]]:
    place.mkdir(parents=True)
    graph = f"[0:v:0]split=3[a][b][c];[a]{_LOOK}[x];[b]{_BLUR}[y];[c]{_STILL}[z]"
    command = [ffmpeg, "-nostdin", "-hide_banner", "-i", f"file:{path}", "-filter_complex", graph]
    for name in ("x", "y"):
        command += ["-map", f"[{name}]", "-f", "null", "-"]
    done = subprocess.run(
        [*command, "-map", "[z]", "-frames:v", "4", str(place / "%d.png")], capture_output=True, text=True, errors="replace", check=False
    )
    return done.stderr, sorted(place.glob("*.png"))


def _cleanvision(stills: Mapping[str, int]) -> dict[str, set[int]]:
    os.environ.setdefault("TQDM_DISABLE", "1")  # it has no other way to be silent
    try:
        from cleanvision import Imagelab  # noqa: PLC0415 - of the bench group, like the other peer
    except ImportError as error:
        raise OutsideError("CleanVision is not installed", subject="inspect_truth", fix="make setup") from error
    lab = Imagelab(filepaths=sorted(stills), verbose=False)
    lab.find_issues({issue: {} for issue in set(_ISSUE.values())}, n_jobs=1, verbose=False)
    return {defect: _by_majority(lab.issues[f"is_{issue}_issue"], stills) for defect, issue in _ISSUE.items()}


def _by_majority(flags: Any, stills: Mapping[str, int]) -> set[int]:
    votes: dict[int, list[bool]] = {}
    for picture, number in stills.items():
        votes.setdefault(number, []).append(bool(flags.loc[picture]))
    return {number for number, flagged in votes.items() if 2 * sum(flagged) >= len(flagged)}


def _has_cut(path: Path) -> bool:
    try:
        from scenedetect import ContentDetector, VideoOpenFailure, detect  # noqa: PLC0415 - of the bench group
    except ImportError as error:
        raise OutsideError("PySceneDetect is not installed", subject="inspect_truth", fix="make setup") from error
    try:
        return len(detect(str(path), ContentDetector())) > 1
    except VideoOpenFailure:
        return False
