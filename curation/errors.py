"""Every error raised on purpose: it names the thing and the fix, and says whether a retry may help."""

from __future__ import annotations


class CurationError(Exception):
    """A problem with a named subject (a clip, file, release, pack …) and the next step that mends it.

    Survives pickling, so that it can cross a process boundary.
    """

    retryable = False
    exit_code = 1

    def __init__(self, problem: str, *, subject: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.subject = subject
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}{'' if self.problem.endswith('?') else '.'} Fix: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.subject, self.fix)


def _rebuild(kind: type[CurationError], problem: str, subject: str, fix: str) -> CurationError:
    return kind(problem, subject=subject, fix=fix)


class ClipUnreadable(CurationError):
    """The bytes cannot be measured as video; the clip is quarantined, the batch goes on."""


class UsageError(CurationError):
    """The caller asked for something that does not exist or does not fit."""

    exit_code = 2


class SettingsError(UsageError):
    """The settings are missing, malformed or contradict each other."""


class OutsideError(CurationError):
    """Something outside the project failed (disk, network, catalog); a retry may help."""

    retryable = True
    exit_code = 3


class LedgerUnreachable(OutsideError):
    """The ledger cannot be read, so nothing may leave: a no, though a retry may help."""

    exit_code = 1


class SourceUnreachable(OutsideError):
    """A source as a whole cannot be reached: nothing may be concluded about its entries."""


class EntryChanged(CurationError):
    """An entry of a source is not what was listed: it may still be growing, and the next listing looks at it anew."""


class ConcurrentChange(OutsideError):
    """Another writer was faster; reading again and retrying is safe."""


class NotConserved(CurationError):
    """Rows in differ from rows out plus rows accounted for by name. Never ignored."""


class ImmutableConflict(CurationError):
    """An object that is written once already exists with other bytes."""


class NotAtHome(CurationError):
    """Something that must stay at home would be written elsewhere."""


class SiteRefused(CurationError):
    """The place where data rests may not take more: a permission that it needs is missing or expired."""


class PackRefused(CurationError):
    """A residency pack that may not allow anything: missing, expired, unsigned, broken or of another setting."""


class GateRefused(CurationError):
    """A gate said no: what was about to leave is not exactly what the rules let out."""


class ApprovalRefused(CurationError):
    """The approval is missing, expired, bound to other bytes, or given by a requester."""


class EvidenceBroken(CurationError):
    """The ledger, or a file that it covers, is not what was recorded."""


class ValidationFailed(CurationError):
    """The manifest did not pass its suite, or not every declared check ran."""


class ModelRefused(CurationError):
    """A model that may not be run: missing, other bytes than the settings name, or not what it says when it is run."""


class EvaluationRefused(CurationError):
    """Nothing may be masked: the evaluation of the models in use is missing, expired, unsigned, of other models, or not passed."""


class MaskingRefused(CurationError):
    """A masked shard set may not be built: one of its clips was not looked at for faces and plates, or nothing allows the masking."""


class ReviewRefused(CurationError):
    """An answer to a review of masked pictures that does not count: unsigned, by the wrong person, or of another picture."""


class MaskRefused(CurationError):
    """A masked copy that may go into no set: it still shows a face or a plate, or could not be looked at again."""
