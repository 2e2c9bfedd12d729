"""Whether models may mask: each way in which an evaluation is not enough is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from curation.errors import EvaluationRefused, UsageError
from curation.model_settings import ObjectKind
from curation.privacy.gate import EvaluatedModel, Evaluation, SignedEvaluation, may_mask, parse, sign, to_bytes
from curation.residency.signing import keygen

_PEM, _KEY = keygen()
_NOW = datetime(2026, 11, 21, tzinfo=UTC)
_MODELS: Mapping[ObjectKind, str] = {"face": "centerface-1", "plate": "clp-1"}


def _evaluation(**changes: Any) -> Evaluation:
    models = {
        kind: EvaluatedModel(name=kind, version=version, sha256="0" * 64, licence="MIT", min_score=0.3, runtime="OpenCV")
        for kind, version in _MODELS.items()
    }
    told = {
        "result": "passed",
        "reasons": (),
        "demo": False,
        "part": "all",
        "evaluated_at": _NOW - timedelta(days=1),
        "expires_at": _NOW + timedelta(days=1),
        "models": models,
        "labels_sha256": "0" * 64,
        "pictures_sha256": "0" * 64,
        "sample_count": 500,
        "protocol": {},
        "figures": {},
        **changes,
    }
    return Evaluation.model_validate(told)


def _refusal(signed: SignedEvaluation | None, **changes: Any) -> str:
    asked = {"now": _NOW, "models": _MODELS, "trusted_keys": [_KEY], **changes}
    refused = may_mask(signed, **asked)
    return "" if refused is None else str(refused)


def test_a_signed_evaluation_that_passed_and_holds_lets_its_models_mask() -> None:
    """Passed, signed by a trusted key, of these models, not expired; it survives being written and read."""
    signed = sign(_evaluation(), _PEM)
    assert not _refusal(signed)
    assert not _refusal(parse(to_bytes(signed)))
    assert not _refusal(sign(_evaluation(part="report"), _PEM))
    assert not _refusal(sign(_evaluation(demo=True), _PEM), allow_demo=True)


@pytest.mark.parametrize(
    ("signed", "asked", "told"),
    [
        (None, {}, "there is none"),
        (SignedEvaluation(evaluation=_evaluation()), {}, "is not signed"),
        (sign(_evaluation(), keygen()[0]), {}, "trusted_evaluators does not name"),
        (sign(_evaluation(), _PEM), {"trusted_keys": []}, "trusted_evaluators does not name"),
        (sign(_evaluation(), _PEM).model_copy(update={"evaluation": _evaluation(sample_count=501)}), {}, "does not fit it"),
        (sign(_evaluation(demo=True), _PEM), {}, "is a demo's"),
        (sign(_evaluation(part="tune"), _PEM), {}, "tuned on"),
        (sign(_evaluation(), _PEM), {"now": _NOW + timedelta(days=1)}, "expired at"),
        (sign(_evaluation(), _PEM), {"now": _NOW - timedelta(days=2)}, "still to come"),
        (sign(_evaluation(result="failed", reasons=(("faces: 80 %", "x"),)), _PEM), {}, r"did not pass: failed \(faces: 80 %\)"),
        (sign(_evaluation(result="insufficient"), _PEM), {}, "did not pass: insufficient"),
        (sign(_evaluation(), _PEM), {"models": {**_MODELS, "plate": "clp-2"}}, "is of clp-1 for plates, in use is clp-2"),
        (sign(_evaluation(models={"face": _evaluation().models["face"]}), _PEM), {}, "is of no model for plates"),
        (sign(_evaluation(), _PEM), {"models": {"face": "centerface-1"}}, "no model for plates is in use"),
    ],
)
def test_everything_else_is_refused_with_its_reason(signed: SignedEvaluation | None, asked: dict[str, Any], told: str) -> None:
    """Missing, unsigned, untrusted, altered, a demo's, tuned on, expired, not yet made, failed, too few, or of other models."""
    with pytest.raises(AssertionError, match=told):
        assert not _refusal(signed, **asked)


def test_bytes_that_are_no_evaluation_are_refused() -> None:
    """A file with a field more, or less, or of another kind proves nothing; nor does a PEM without a key sign."""
    data = to_bytes(sign(_evaluation(), _PEM))
    for broken in (b"{}", b"no json", data.replace(b'"demo": false', b'"demo": 0.5'), data.replace(b'"part"', b'"parts"')):
        with pytest.raises(EvaluationRefused):
            parse(broken)
    with pytest.raises(UsageError):
        sign(_evaluation(), b"no key")
