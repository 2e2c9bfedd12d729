"""Files of which it is known what is wrong with them: made by the shared script, rendered, real; and what a report must hold of each."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.inspect_clips import REAL_CLIPS
from curation import wiring
from curation.choices import Depth
from curation.demo.faults import SCENES, Fault, make_faults
from curation.errors import OutsideError
from curation.settings import EngineSettings, InspectSettings

CLIPS: Final = REAL_CLIPS.parent
SCRIPT: Final = CLIPS / "make_faults.sh"
BASES: Final = ("S04", "S05", "S09")
ACCEPTED: Final = "accepted"
QUARANTINED: Final = "quarantined"
GOOD: Final = "good"
UNREADABLE: Final = "no video"
# Fault of the script -> what a report must hold (verdict or reason), and the defect it is counted under. Faults that are none of
# picture or timeline (names, metadata, near duplicates) must be accepted. Not judged: a picture upside down, red and blue swapped, and
# what permissions say.
SCRIPTED: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            *("none", "wrong_extension_mp4", "no_audio", "non_ascii_name", "leading_dash_name", "exact_duplicate", "rotation_metadata"),
            *("two_video_streams", "clock_not_set", "clock_in_future", "gps_in_udta", "near_duplicate", "near_duplicate_trim"),
            *("near_duplicate_crop", "near_duplicate_mirror", "monochrome", "start_time_offset", "non_square_pixels", "symlink"),
        ),
        (ACCEPTED, GOOD),
    ),
    **dict.fromkeys(("empty_file", "no_container", "wrong_extension_png", "wrong_extension_text", "audio_only"), (QUARANTINED, UNREADABLE)),
    **dict.fromkeys(("dangling_symlink", "directory_named_mp4", "fifo_named_mp4"), (QUARANTINED, UNREADABLE)),
    "truncated_no_moov": (QUARANTINED, "truncated"),
    "truncated_faststart": ("truncated", "truncated"),
    "truncated_ts": ("truncated", "truncated"),
    "bitflip": ("decode_errors", "corrupt"),
    "64KiB_zero_hole": ("decode_errors", "corrupt"),
    "audio_longer_than_video": ("duration_mismatch", "timeline"),
    "frozen_segment": ("frozen", "frozen"),
    "silly_fps": ("frozen", "frozen"),
    "black_segment": ("black", "black"),
    "all_black": ("black", "black"),
    "test_pattern": ("test_pattern", "test pattern"),
    "blur": ("blurred", "blurred"),
    "motion_blur": ("blurred", "blurred"),
    "over_exposed": ("over_exposed", "over-exposed"),
    "under_exposed": ("under_exposed", "under-exposed"),
    "noise": ("noisy", "noise"),
    "upscaled_blocky": ("blocky", "blocky"),
    "low_bitrate": ("starved", "starved"),
    "occluded": ("covered", "covered"),
    "variable_frame_rate": ("variable_rate", "timeline"),
    "timestamp_gap": ("dropped_frames", "timeline"),
    "dropped_frames": ("dropped_frames", "timeline"),
    "one_frame": ("too_short", "too short"),
    "very_short": ("too_short", "too short"),
    "huge_resolution": ("too_short", "too short"),
    "tiny_resolution": ("too_small", "too small"),
}
# A reason to the defect that it is counted under, where the words differ.
DEFECT_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(("dropped_frames", "disordered_frames", "variable_rate", "duration_mismatch"), "timeline"),
    "over_exposed": "over-exposed",
    "under_exposed": "under-exposed",
    "noisy": "noise",
    "decode_errors": "corrupt",
}
# Fault -> defects that its file has as well: black pictures and bars stand, and what is cut off promises more than it holds.
HAS_TOO: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("black_segment", "all_black", "black", "test_pattern", "low_contrast"), frozenset({"frozen"})),
    **dict.fromkeys(("truncated_faststart", "truncated"), frozenset({"timeline"})),
    "truncated_no_moov": frozenset({UNREADABLE}),
}
HOLES: Final = (2, 3, 5, 8)  # frames missing in a row
RATES: Final = (10, 25, 30)
PLACES: Final = (5, 17, 30)  # where the hole begins
RENDERED_SEEDS: Final = (7, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file; what its report must hold (verdict, reason, or `<signal>=<value>`); its defect, and defects that it has as well."""

    path: Path
    wanted: str
    defect: str
    has_too: frozenset[str] = frozenset()
    depth: Depth = "keyframes"
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A subject and its report."""

    subject: Subject
    report: Mapping[str, Any]

    @property
    def is_hit(self) -> bool:
        """Whether the report holds what it must."""
        signals = {f"{name}={value:g}" for name, value in (self.report["signals"] or {}).items()}
        return self.subject.wanted in {self.report["verdict"], *self.report["reasons"], *signals}

    @property
    def claimed(self) -> frozenset[str]:
        """The defects that the report claims."""
        unreadable = {UNREADABLE} if self.report["verdict"] == QUARANTINED else set()
        return frozenset(DEFECT_OF.get(reason, reason.replace("_", " ")) for reason in self.report["reasons"]) | unreadable

    def has(self, defect: str) -> bool:
        """Whether the file has that defect."""
        return defect in {self.subject.defect, *self.subject.has_too}


def real_clips() -> Iterator[Subject]:
    """The labelled clips, and other containers and codecs of one of them: all good."""
    with (CLIPS / "clips.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield Subject(path=CLIPS / row["file"], wanted=ACCEPTED, defect=GOOD, label=row["id"])
    for path in sorted((CLIPS / "formats").glob("F*")):
        if path.suffix != ".hevc":  # a raw stream carries no times: it is quarantined, which is right and no defect of it
            yield Subject(path=path, wanted=ACCEPTED, defect=GOOD)


def scripted(folder: Path) -> Iterator[Subject]:
    """What the shared script makes of each base clip.

    Raises:
        OutsideError: the script failed.
    """
    for base in BASES:
        place = folder / base
        clip = next(REAL_CLIPS.glob(f"{base}_*"))
        command = [shutil.which("bash") or "/bin/bash", str(SCRIPT), str(clip), str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OutsideError(f"failed: {done.stderr.strip()[-200:]}", subject=str(SCRIPT), fix="run it alone")
        for line in (place / "faults.tsv").read_text(encoding="utf-8").splitlines():
            name, fault, _ = line.split("\t")
            if fault in SCRIPTED:
                wanted, defect = SCRIPTED[fault]
                yield Subject(path=place / name, wanted=wanted, defect=defect, has_too=HAS_TOO.get(fault, frozenset()))


def rendered(folder: Path) -> Iterator[Subject]:
    """Every fault of the renderer, in each of its scenes."""
    writer, starving = wiring.video_writer(), wiring.video_writer(starving=True)
    for seed in RENDERED_SEEDS:
        for name, scene in SCENES.items():
            place = folder / f"{name}-{seed}"
            for file, fault in make_faults(place, writer=writer, starving=starving, scene=scene, seed=seed).items():
                yield _of_fault(place / file, fault)


def _of_fault(path: Path, fault: Fault) -> Subject:
    defect = GOOD if fault.verdict == ACCEPTED else UNREADABLE
    if fault.reason is not None:
        defect = DEFECT_OF.get(fault.reason, fault.reason.replace("_", " "))
    has_too = HAS_TOO.get(fault.name, frozenset())
    return Subject(path=path, wanted=fault.reason or fault.verdict, defect=defect, has_too=has_too, depth=fault.depth)


def holes(folder: Path) -> Iterator[Subject]:
    """Small clips that miss a few frames in a row: the very number must be measured, on the packets alone."""
    folder.mkdir(parents=True)
    slope = np.linspace(0, 255, 256, dtype=np.uint8)
    frames = [np.broadcast_to(np.roll(slope, 4 * shift)[None, :, None], (144, 256, 3)).copy() for shift in range(48)]
    for rate in RATES:
        for place in PLACES:
            for missing in (0, *HOLES):
                path = folder / f"{rate}-{place}-{missing}.mp4"
                wiring.video_writer().write(path, iter(frames), fps=Fraction(rate), skip=frozenset(range(place, place + missing)))
                wanted, defect = (f"dropped_frame_count={missing}", "timeline") if missing else (ACCEPTED, GOOD)
                yield Subject(path=path, wanted=wanted, defect=defect, depth="packets")


def judged(subjects: Sequence[Subject]) -> list[Case]:
    """The subjects with their reports, measured by two workers; one that killed its worker is quarantined."""
    items = [
        {"clip_id": one.path.name, "path": str(one.path), "policy": InspectSettings(depth=one.depth).model_dump(mode="json")}
        for one in subjects
    ]
    lost = {"verdict": QUARANTINED, "reasons": [], "tags": None, "signals": None, "telemetry": None}
    outcomes = wiring.engine(EngineSettings()).map("inspect", items)
    return [Case(subject=one, report=outcome.value or lost) for one, outcome in zip(subjects, outcomes, strict=True)]


def alternatives(notes: str) -> frozenset[str]:
    """The values that a label's notes call acceptable too: all words after each `alt`, up to the end of that remark."""
    told = [part for found in re.findall(r"alt:? ([^;()]*)", notes) for part in re.split(r"[,/]", found)]
    words = (re.sub(r"^(?:tod|weather|scene) ", "", part.strip()) for part in told)
    return frozenset(word.replace("dawn_dusk", "dawn/dusk") for word in words)
