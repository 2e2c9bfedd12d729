"""Batches as the ledger and their files tell of them: rows in and where they went, why clips were not accepted, what validation said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curation import layout, schema
from curation.audit.recorded import Recorded, accounted
from curation.records import CheckFailure, LedgerEntry, StageCount, ValidationResult
from curation.tables import from_parquet

STAGES: Final = ("pull", "manifest", "validate")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """A batch: when it was pulled (ISO 8601), and the count of each stage that it has been through, in order."""

    batch_id: str
    source: str
    pulled_at: str
    stages: tuple[StageCount, ...]

    @property
    def is_validated(self) -> bool:
        """Whether curated.clips holds it."""
        return bool(self.stages) and self.stages[-1].stage == "validate" and not self.stages[-1].accounted.get("refused", 0)

    @property
    def is_refused(self) -> bool:
        """Whether its last validation refused it."""
        return bool(self.stages) and self.stages[-1].stage == "validate" and self.stages[-1].accounted.get("refused", 0) > 0

    def rows(self, stage: str, name: str) -> int:
        """How many rows of a stage went there; 0 before the stage."""
        return sum(count.accounted.get(name, 0) for count in self.stages if count.stage == stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that the ledger answers for, and its SHA-256, hex."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch: its line, reasons of rejected clips by how many have each, its validation, and its evidence.

    reasons: a clip may have several. validation: None before it. drift: warnings of devices that measure otherwise than before.
    """

    line: BatchLine
    reasons: Mapping[str, int]
    validation: ValidationResult | None
    validated_at: str
    files: tuple[Document, ...]


def lines(entries: Sequence[LedgerEntry]) -> tuple[BatchLine, ...]:
    """Every batch that was pulled, the latest first."""
    last: dict[str, dict[str, LedgerEntry]] = {}
    for entry in entries:
        if entry.kind in STAGES:
            last.setdefault(entry.subject, {})[entry.kind] = entry
    found = [_line(batch_id, own) for batch_id, own in last.items()]
    return tuple(reversed(found))


def _line(batch_id: str, own: Mapping[str, LedgerEntry]) -> BatchLine:
    counts = (
        StageCount(stage=stage, subject=batch_id, rows_in=own[stage].counts["rows_in"], accounted=accounted(own[stage]))
        for stage in STAGES
        if stage in own
    )
    first = min(own.values(), key=lambda entry: entry.sequence)
    source = own["pull"].facts.get("source", "") if "pull" in own else ""
    return BatchLine(batch_id=batch_id, source=source, pulled_at=first.at, stages=tuple(counts))


def batch(batch_id: str, on: Recorded) -> Batch | None:
    """One batch, None where the ledger knows none of that id.

    Raises:
        EvidenceBroken: its manifest or validation is not what the ledger recorded.
    """
    found = [line for line in lines(on.entries) if line.batch_id == batch_id]
    if not found:
        return None
    validated = on.about(batch_id).get("validate")
    return Batch(
        line=found[0],
        reasons=_reasons(layout.manifest_key(batch_id), on),
        validation=None if validated is None else _validation(validated, on),
        validated_at="" if validated is None else validated.at,
        files=tuple(_files(batch_id, on)),
    )


def _files(batch_id: str, on: Recorded) -> Iterator[Document]:
    own = {key for entry in on.entries if entry.subject == batch_id for key in entry.files}
    for key in sorted(own):
        if not key.startswith(("clips/", "quarantine/")) and key in on.digests:
            yield Document(key=key, sha256=on.digests[key])


def _reasons(key: str, on: Recorded) -> dict[str, int]:
    if key not in on.digests:  # not written yet, or erased with the last of its clips
        return {}
    rows = from_parquet(on.read(key), schema.CLIPS)
    return dict(Counter(reason for reasons in rows["reasons"].to_pylist() for reason in reasons).most_common())


def _validation(entry: LedgerEntry, on: Recorded) -> ValidationResult | None:
    keys = [key for key in entry.files if key.startswith("validation/") and key.endswith(".json")]
    return result_of(on.document(keys[0])) if keys else None


def result_of(said: Mapping[str, Any]) -> ValidationResult:
    """A validation's result from its JSON."""
    told: dict[str, Any] = {name: value for name, value in said.items() if name != "passed"}
    told |= {name: tuple(_finding(one) for one in said.get(name, ())) for name in ("failures", "warnings")}
    return ValidationResult(**{**told, "without": tuple(said.get("without", ()))})


def _finding(said: Mapping[str, Any]) -> CheckFailure:
    return CheckFailure(**{**said, "clip_ids": tuple(said.get("clip_ids", ()))})
