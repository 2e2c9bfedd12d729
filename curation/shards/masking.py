"""Masked shard sets: what allows them, which clips were looked at for faces and plates, and the copies that go into their shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import MaskingRefused
from curation.layout import MASKED

DETECTION_COLUMNS: Final = ("face_count_max", "plate_count_max")
REASON_COLUMN: Final = "unmeasured"
COPY_SUFFIX: Final = ".mp4"
NAMED_MAX: Final = 5  # clips that an error names; it counts the others
_NEXT_STEP: Final = (
    "set detect_at_ingest = true under [privacy], run `curation models pull`, then `curation reinspect`; or filter these clips out"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingModel:
    """A model in use: its name, the version that the evaluation holds for, and SHA-256 of its bytes, hex."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What allows masking now: the models in use, those that look at copies again, and the evaluation that the gate let through.

    `masking` is the digest of how they mask, `evaluation_sha256` is over the evaluation's file, signature included.
    """

    models: Mapping[str, MaskingModel]
    provers: Mapping[str, MaskingModel]
    masking: str
    evaluation_id: str
    evaluation_sha256: str
    result: str
    is_demo: bool
    evaluated_at: datetime
    expires_at: datetime

    def plain(self) -> dict[str, Any]:
        """What index, card and ledger say of it."""
        models, proof = (
            {kind: {"name": one.name, "version": one.version, "sha256": one.sha256} for kind, one in sorted(named.items())}
            for named in (self.models, self.provers)
        )
        evaluation = {
            "id": self.evaluation_id,
            "sha256": self.evaluation_sha256,
            "result": self.result,
            "demo": self.is_demo,
            "evaluated_at": self.evaluated_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
        }
        return {"models": models, "proof": proof, "masking": self.masking, "evaluation": evaluation}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedCopy:
    """A clip's masked copy in the home store: its bytes, how much of it is masked, and on how many frames it was looked at again.

    `track_counts` are by kind.
    """

    key: str
    sha256: str
    size_bytes: int
    frame_count: int
    mask_count: int
    track_counts: Mapping[str, int]
    proved_frame_count: int


def copy_of(said: Mapping[str, Any]) -> MaskedCopy:
    """The copy that what stands beside it speaks of."""
    told = {name: said[name] for name in ("key", "sha256", "size_bytes", "frame_count", "mask_count", "track_counts")}
    return MaskedCopy(**told, proved_frame_count=len(said["proof"]["frames"]))


def is_masked(key: str) -> bool:
    """Whether an object is a masked copy, or speaks of one."""
    return key.startswith(MASKED)


def not_looked_at(rows: pa.Table) -> pa.Table:
    """Those of the rows whose clip was not looked at for faces, or not for plates."""
    faces, plates = (rows[name].is_null() for name in DETECTION_COLUMNS)
    return rows.filter(pc.or_(faces, plates))


def refusal(clips: Mapping[str, str], count: int, name: str) -> MaskingRefused:
    """The refusal of a request, `name`, some of whose clips were not looked at.

    Args:
        clips: clip_id -> why, for the first of them.
        count: how many there are.
        name: of the request.
    """
    named = "; ".join(f"{clip_id}: {why}" for clip_id, why in list(clips.items())[:NAMED_MAX])
    more = f"; and {count - NAMED_MAX:,} more" if count > NAMED_MAX else ""
    problem = f"{count:,} of its clips were not looked at for faces and plates ({named}{more})"
    return MaskingRefused(problem, subject=f"masked shard request {name}", fix=_NEXT_STEP)


def reasons_of(rows: pa.Table) -> dict[str, str]:
    """Clip -> why nothing was looked for in it, of rows with `REASON_COLUMN`, by clip_id."""
    found: dict[str, str] = {}
    for row in rows.select(["clip_id", REASON_COLUMN]).sort_by("clip_id").to_pylist():
        told = dict(row[REASON_COLUMN])
        found[row["clip_id"]] = next((told[name] for name in DETECTION_COLUMNS if told.get(name)), "its row holds no count")
    return found


def summed(copies: Iterable[MaskedCopy]) -> dict[str, Any]:
    """Frames, masks and tracks of copies together."""
    each = list(copies)
    kinds = sorted({kind for copy in each for kind in copy.track_counts})
    return {
        "frames": sum(copy.frame_count for copy in each),
        "masks": sum(copy.mask_count for copy in each),
        "proved_frames": sum(copy.proved_frame_count for copy in each),
        "tracks": {kind: sum(copy.track_counts.get(kind, 0) for copy in each) for kind in kinds},
    }


def facts_of(masking: Mapping[str, Any] | None) -> dict[str, str]:
    """What the ledger says of a set's masking, as its index tells it; None for one that is not masked."""
    if masking is None:
        return {"masked": "no"}
    models = {
        f"{part}.{kind}": f"{one['version']} SHA-256 {one['sha256']}"
        for part in ("models", "proof")
        for kind, one in sorted(masking[part].items())
    }
    evaluation = masking["evaluation"]
    return {
        "masked": "yes",
        "masking": masking["masking"],
        **models,
        "evaluation": f"{evaluation['id']} SHA-256 {evaluation['sha256']}",
        "evaluation_result": evaluation["result"],
        "evaluation_is_demo": "yes" if evaluation["demo"] else "no",
        "evaluation_expires_at": evaluation["expires_at"],
        "masks": str(masking["masks"]),
        "frames": str(masking["frames"]),
        "proved_frames": str(masking["proved_frames"]),
    }
