"""What a worker refuses, on its way to the stage that asked: as JSON, and raised again under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from curation.errors import CurationError, EvidenceBroken, MaskingRefused, ModelRefused, OutsideError, UsageError

_KINDS: Final = {kind.__name__: kind for kind in (CurationError, EvidenceBroken, MaskingRefused, ModelRefused, OutsideError, UsageError)}


def refused(error: CurationError) -> dict[str, Any]:
    """The answer of a job that an error ended."""
    kind = type(error).__name__ if type(error).__name__ in _KINDS else ("OutsideError" if error.retryable else "CurationError")
    return {"refused": {"kind": kind, "problem": error.problem, "subject": error.subject, "fix": error.fix}}


def or_raise(value: Mapping[str, Any]) -> dict[str, Any]:
    """A job's answer, if it refused nothing.

    Raises:
        CurationError: what it refused, of the same kind.
    """
    said = value.get("refused")
    if said is not None:
        raise _KINDS[said["kind"]](said["problem"], subject=said["subject"], fix=said["fix"])
    return dict(value)
