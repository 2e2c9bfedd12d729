"""Whether inspection finds what is wrong, and nothing else: per defect hits of N with a 95 % interval, beside others; and right tags."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks import truth_cases as truth
from benchmarks.measure import Figure
from benchmarks.truth_cases import CLIPS, Case
from benchmarks.truth_peers import CHECKS, Alarms, alarms, is_asked_as_good
from curation import wiring
from curation.errors import OutsideError
from curation.schema import EGO_MOTION, SCENE, TIMEOFDAY, WEATHER
from curation.stages.manifest import ego_motion

Z_95: Final = 1.959964
# Issue C: recall >= 0.98 and precision >= 0.95 over these; with N < 100 no miss at all.
SURE: Final = ("timeline", "frozen", "black", "covered", "truncated", truth.UNREADABLE)
RECALL: Final = 0.98
PRECISION: Final = 0.95
FEW: Final = 100
TAGS: Final[Mapping[str, Sequence[str]]] = {"timeofday": TIMEOFDAY, "weather": WEATHER, "scene": SCENE, "ego_motion": EGO_MOTION}
# They move though the flow is near 0, or stand though the picture shakes: right or undefined, never wrong.
HARD_MOTION: Final = ("S02", "S03", "S13")


def figures(folder: Path) -> Iterator[Figure]:
    """Recall per defect, precision of the sure ones, peers' hits, good clips that stay accepted, and right tags; a table on the way."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None or not truth.SCRIPT.is_file():
        problem = "ffmpeg is not installed" if ffmpeg is None else "the shared clips are not beside the project"
        raise OutsideError(problem, subject="inspect_truth", fix="apt-get install ffmpeg, and put the shared clips beside the project")
    subjects = [*truth.real_clips(), *truth.scripted(folder), *truth.rendered(folder / "rendered"), *truth.holes(folder / "holes")]
    cases = truth.judged(subjects)
    found = alarms(cases, folder / "stills", ffmpeg=ffmpeg)
    print(table(cases, found), file=sys.stderr)
    yield from recalls(cases, found)
    yield from precisions(cases)
    labelled = [case for case in cases if case.subject.label]
    accepted = sum(case.is_hit for case in labelled)
    yield share("inspect_truth.real_clips/accepted", accepted, len(labelled), holds=accepted == len(labelled), goal=1.0)
    yield from tag_figures(labelled)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, each in [0, 1]; all of it where nothing was counted."""
    if not count:
        return 0.0, 1.0
    part, square = hits / count, Z_95 * Z_95
    middle = (part + square / (2 * count)) / (1 + square / count)
    half = Z_95 / (1 + square / count) * math.sqrt(part * (1 - part) / count + square / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(name: str, hits: int, count: int, *, goal: float | None = None, holds: bool | None = None) -> Figure:
    """Hits of N as a figure."""
    tiny = 1e-9  # nothing found is a figure too
    return Figure(name=name, ours=hits or tiny, other=count, ratio=(hits or tiny) / count, unit="files", runs=1, goal=goal, holds=holds)


def recalls(cases: Sequence[Case], found: Alarms) -> Iterator[Figure]:
    """Hits of each defect, ours and the peers'."""
    for defect, of_it in sorted(_by_defect(cases).items()):
        hits, name = sum(cases[number].is_hit for number in of_it), defect.replace(" ", "_")
        holds = hits >= RECALL * len(of_it) and (hits == len(of_it) or len(of_it) >= FEW)
        is_sure = defect in SURE
        yield share(
            f"inspect_truth.recall.{name}/all", hits, len(of_it), goal=RECALL if is_sure else None, holds=holds if is_sure else None
        )
        for peer in CHECKS.get(defect, ()):
            yield share(f"inspect_truth.{peer.lower()}.{name}/all", len(found[peer, defect] & of_it), len(of_it))


def precisions(cases: Sequence[Case]) -> Iterator[Figure]:
    """Of the files that are said to have a sure defect, those that have it."""
    for defect in SURE:
        right, said = _precision(cases, defect)
        if said:  # what is never claimed is never claimed wrongly; its recall says the rest
            name = f"inspect_truth.precision.{defect.replace(' ', '_')}/said"
            yield share(name, right, said, goal=PRECISION, holds=right >= PRECISION * said)


def _precision(cases: Sequence[Case], defect: str) -> tuple[int, int]:
    said = [case for case in cases if defect in case.claimed]
    return sum(case.has(defect) for case in said), len(said)


def _by_defect(cases: Sequence[Case]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for number, case in enumerate(cases):
        found.setdefault(case.subject.defect, set()).add(number)
    return found


def table(cases: Sequence[Case], found: Alarms) -> str:
    """One line a defect: hits of N, the interval, right claims of it, and the peers' hits and false alarms; then what was missed."""
    lines = [f"{'defect':<14}{'hits':>12}   95 % interval   right of said   others"]
    by_defect = _by_defect(cases)
    good = {number for number, case in enumerate(cases) if is_asked_as_good(case)}
    for defect, of_it in sorted(by_defect.items()):
        hits = sum(cases[number].is_hit for number in of_it)
        low, high = wilson(hits, len(of_it))
        right, said = _precision(cases, defect)
        claims = f"{right} of {said}" if defect in SURE else ""
        others = [_of_peer(peer, found[peer, defect], of_it, good) for peer in CHECKS.get(defect, ())]
        lines.append(f"{defect:<14}{hits:>4} of {len(of_it):>4}   {low:.3f} to {high:.3f}  {claims:>14}   {'; '.join(others)}".rstrip())
    lines += [f"  missed: {_told(case)}" for case in cases if not case.is_hit]
    lines += [f"  wrong:  {_told(case)}" for case in cases for defect in SURE if defect in case.claimed and not case.has(defect)]
    return "\n".join(lines)


def _of_peer(peer: str, alarmed: frozenset[int], of_it: set[int], good: set[int]) -> str:
    return f"{peer} {len(alarmed & of_it)} of {len(of_it)}, {len(alarmed & good)} false on {len(good)}"


def _told(case: Case) -> str:
    path = case.subject.path
    return f"{path.parent.name}/{path.name} is {case.subject.wanted}: {', '.join([case.report['verdict'], *case.report['reasons']])}"


def tag_figures(labelled: Sequence[Case]) -> Iterator[Figure]:
    """Of each tag, the right ones of those that are not undefined; alternatives of the labels' notes are right too. A table on the way."""
    with (CLIPS / "clips.tsv").open(encoding="utf-8") as file:
        labels = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    told = {case.subject.label: _tags(case) for case in labelled}
    for tag in TAGS:
        named = {label: tags[tag] for label, tags in told.items() if tags[tag] != "undefined"}
        right = sum(value in _accepted(labels[label], tag, "defects_notes") for label, value in named.items())
        low, high = wilson(right, len(named))
        line = f"{right:>3} of {len(named):>3} named, {len(told) - len(named)} undefined   {low:.3f} to {high:.3f}"
        print(f"{tag:<14}{line}", file=sys.stderr)
        if tag == "timeofday":
            yield share("inspect_truth.timeofday/named", right, len(named), goal=PRECISION, holds=right >= PRECISION * len(named))
    hard = sum(told[label]["ego_motion"] in {"undefined", labels[label]["ego_motion"]} for label in HARD_MOTION)
    yield share("inspect_truth.hard_ego_motion/all", hard, len(HARD_MOTION), goal=1.0, holds=hard == len(HARD_MOTION))
    right, named_count = photo_counts()
    yield share("inspect_truth.timeofday_of_photos/named", right, named_count, goal=PRECISION, holds=right >= PRECISION * named_count)


def _tags(case: Case) -> dict[str, str]:
    tags, telemetry = case.report["tags"] or {}, case.report["telemetry"] or {}
    named = {tag: str(tags.get(tag, "undefined")) for tag in ("timeofday", "weather", "scene")}
    return named | {"ego_motion": ego_motion(telemetry.get("speed_mean_mps"))[0]}


def _accepted(label: Mapping[str, str], tag: str, notes: str) -> frozenset[str]:
    return truth.alternatives(label[notes]) | {label[tag].replace("dawn_dusk", "dawn/dusk")}


def photo_counts() -> tuple[int, int]:
    """Labelled photos whose time of day is right, and those that got one."""
    right = count = 0
    with (CLIPS / "stills" / "labels.tsv").open(encoding="utf-8") as file:
        for label in csv.DictReader(file, delimiter="\t"):
            photo = cv2.imread(str(CLIPS / "stills" / label["file"]))
            if photo is None:
                continue
            small = cv2.resize(photo, (640, photo.shape[0] * 640 // photo.shape[1]), interpolation=cv2.INTER_AREA)
            value = wiring.tagger().tag([np.asarray(small, np.uint8)]).timeofday
            count += value != "undefined"
            right += value in _accepted(label, "timeofday", "notes")
    return right, count
