"""Clips and tables that lie anywhere: measured and validated where they are, without settings, store or ledger."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from curation import schema, wiring
from curation.choices import Depth
from curation.digests import file_digest
from curation.errors import UsageError
from curation.ports import Outcome
from curation.records import ValidationResult
from curation.settings import EngineSettings, InspectSettings, PullSettings
from curation.signals import sheet
from curation.stages import inspect_clips, manifest


def inspect_files(paths: Sequence[Path], *, depth: Depth = "keyframes", contact_sheet: Path | None = None) -> Iterator[dict[str, Any]]:
    """One row a clip, keys = manifest columns, in the order of `paths`; folders give the clips below them. No store, no settings.

    `contact_sheet` is written as PNG after the last row: of each clip whose frames were looked at, these frames and the signals over time.

    Raises:
        UsageError: a path does not exist, or there is no clip.
    """
    policy, engine = InspectSettings(depth=depth), EngineSettings(workers=os.cpu_count() or 1)
    files = [file for path in paths for file in _clips_of(path)]
    if not files:
        raise UsageError("holds no clip", subject=", ".join(map(str, paths)), fix="give video files, or folders that hold some")
    said = policy.model_dump(mode="json")
    digests = [_digest_of(file) for file in files]
    readable = [(file, clip_id) for file, (clip_id, _) in zip(files, digests, strict=True) if clip_id is not None]
    items = [{"clip_id": clip_id, "path": str(file.resolve()), "policy": said} for file, clip_id in readable]
    with tempfile.TemporaryDirectory(prefix="contact-sheet-") as folder:
        strips = [Path(folder) / f"{number}.png" for number in range(len(items))]
        if contact_sheet is not None:
            drawn = zip(items, readable, strips, strict=True)
            items = [{**item, "title": file.name, "sheet": str(strip)} for item, (file, _), strip in drawn]
        outcomes = wiring.engine(engine).map("inspect", items)
        yield from _inspected_rows(files, digests, outcomes, policy)
        if contact_sheet is not None:
            _write_contact_sheet(contact_sheet, [strip.read_bytes() for strip in strips if strip.exists()])


def validate_file(path: Path) -> ValidationResult:
    """What the shipped suite of its table says of a Parquet file, `clips` if the file does not say of which table it is.

    Raises:
        UsageError: there is no such file.
        ValidationFailed: it is not readable Parquet, or of a table or version without a suite.
    """
    if not path.is_file():
        raise UsageError("is no file", subject=str(path), fix="name a batch, or a Parquet file that ends in .parquet")
    return wiring.file_validator().validate(None, path)


SHEET_CLIPS_MAX: Final = 40  # about 15,000 px high


def _write_contact_sheet(path: Path, strips: Sequence[bytes]) -> None:
    if not strips:
        raise UsageError("there is no frame to show", subject=str(path), fix="name a clip that can be decoded, at depth keyframes or full")
    if len(strips) > SHEET_CLIPS_MAX:
        fix = f"name {SHEET_CLIPS_MAX} at most"
        raise UsageError(f"{len(strips)} clips do not fit one picture", subject=str(path), fix=fix)
    pictures = [cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_COLOR) for strip in strips]
    path.write_bytes(cv2.imencode(".png", sheet.stack([np.asarray(one, dtype=np.uint8) for one in pictures]))[1].tobytes())


def _inspected_rows(
    files: Sequence[Path], digests: Sequence[tuple[str | None, str | None]], outcomes: Iterator[Outcome], policy: InspectSettings
) -> Iterator[dict[str, Any]]:
    clock = wiring.clock()
    for file, (clip_id, problem) in zip(files, digests, strict=True):
        outcome = Outcome(value=None, failure=problem) if clip_id is None else next(outcomes)
        inspection = inspect_clips.inspection_of(outcome, clip_id=clip_id or file.name, policy=policy, clock=clock)
        row: dict[str, Any] = dict.fromkeys(schema.CLIPS.names)
        row |= {"clip_id": clip_id, "source_uri": str(file), "size_bytes": None if clip_id is None else file.stat().st_size}
        yield manifest.inspected_row(row, inspection)


def _digest_of(file: Path) -> tuple[str | None, str | None]:
    """The file's clip id, or why it has none."""
    if not file.is_file():  # a pipe would never end
        return None, "is no regular file"
    try:
        return file_digest(file), None
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"


def _clips_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if not file.is_dir() and file.suffix.lower() in PullSettings().suffixes)
    if not path.is_file():
        raise UsageError("is no file", subject=str(path), fix="give the path of a video file or of a folder")
    return [path]
