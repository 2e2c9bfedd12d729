"""Labelled pictures and frames of video, as `boxes.csv` lists them. Format: docs/privacy.md."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, get_args

from curation.choices import Part
from curation.errors import UsageError

LABELS_FILE: Final = "boxes.csv"
LabelKind = Literal["face", "plate", "ignore", "none"]
_REQUIRED: Final = ("file", "kind", "x", "y", "w", "h")
_NUMBERS: Final = ("x", "y", "w", "h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A labelled box, in pixels from the top left; `ignore` is what nobody can tell, and counts neither way."""

    kind: Literal["face", "plate", "ignore"]
    x_px: float
    y_px: float
    width_px: float
    height_px: float

    @property
    def side_px(self) -> float:
        """The shorter side, by which the standard takes in or leaves out."""
        return min(self.width_px, self.height_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A picture, or the frame of a video that is shown at `at_s`, with all that is labelled in it."""

    file: str
    at_s: float | None
    labels: tuple[Label, ...]


def parse(data: bytes, *, subject: str) -> tuple[Sample, ...]:
    """The samples of a label file, by file and time; a row of kind `none` says that nothing is to be seen.

    Raises:
        UsageError: the bytes are no such file; it names the line.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed(f"is no CSV in UTF-8: {error}", subject) from error
    if not rows:
        raise _malformed("lists nothing", subject)
    missing = [name for name in _REQUIRED if name not in rows[0]]
    if missing:
        raise _malformed(f"has no column {', '.join(missing)}", subject)
    found: dict[tuple[str, float], list[Label]] = {}
    for line, row in enumerate(rows, start=2):
        key = (_file(row, line, subject), _at_s(row, line, subject))
        found.setdefault(key, []).extend(_labels(row, line, subject))
    return tuple(
        Sample(file=file, at_s=None if math.isinf(at_s) else at_s, labels=tuple(labels)) for (file, at_s), labels in sorted(found.items())
    )


def _file(row: Mapping[str, str | None], line: int, subject: str) -> str:
    file = row["file"] or ""
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts:
        raise _malformed(f"line {line}: file must lie below the folder", subject)
    return file


def _at_s(row: Mapping[str, str | None], line: int, subject: str) -> float:
    """Minus infinity for a picture, which has no time."""
    return _number(row["at_s"], "at_s", line, subject) if row.get("at_s") else -math.inf


def _labels(row: Mapping[str, str | None], line: int, subject: str) -> tuple[Label, ...]:
    kind = row["kind"]
    if kind == "none":
        return ()
    if kind not in {"face", "plate", "ignore"}:
        raise _malformed(f"line {line}: kind must be one of {', '.join(get_args(LabelKind))}", subject)
    x_px, y_px, width_px, height_px = (_number(row[name], name, line, subject) for name in _NUMBERS)
    if width_px <= 0 or height_px <= 0:
        raise _malformed(f"line {line}: w and h must be above 0", subject)
    return (Label(kind=kind, x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px),)  # type: ignore[arg-type]  # one of the three


def _number(text: str | None, name: str, line: int, subject: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _malformed(f"line {line}: {name} must be a number", subject)
    return value


def _malformed(problem: str, subject: str) -> UsageError:
    return UsageError(problem, subject=subject, fix="write it as docs/privacy.md shows")


def half(file_bytes: bytes) -> Part:
    """The half to which a file belongs by its bytes, `tune` or `report`: neither its name nor other files move it."""
    return "tune" if hashlib.sha256(file_bytes).digest()[0] % 2 == 0 else "report"


def too_near(samples: Sequence[Sample], *, least_s: float) -> tuple[str, ...]:
    """Files of which two sampled frames lie less than `least_s` apart."""
    times: dict[str, list[float]] = {}
    for sample in samples:
        if sample.at_s is not None:
            times.setdefault(sample.file, []).append(sample.at_s)
    return tuple(
        sorted(file for file, at in times.items() if any(b - a < least_s - 1e-6 for a, b in zip(sorted(at), sorted(at)[1:], strict=False)))
    )
