"""Evaluations of detectors, signed; and the one question whether models may mask today."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.choices import Part
from curation.digests import canonical_json
from curation.errors import EvaluationRefused
from curation.model_settings import ObjectKind
from curation.privacy.annex_b import Result
from curation.residency.signing import private_key

_DOMAIN: Final = b"curation privacy evaluation signature 1\n"
_KINDS: Final[tuple[ObjectKind, ...]] = ("face", "plate")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EvaluatedModel(_Frozen):
    """A model as it was run: `version` changes with a weight, a size or a threshold."""

    name: str
    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    min_score: float
    runtime: str


class Evaluation(_Frozen):
    """What the protocol found of the models in use, on which pictures, and until when that holds."""

    standard: Literal["GB/T 44464-2024 Annex B"] = "GB/T 44464-2024 Annex B"
    result: Result
    reasons: tuple[tuple[str, str], ...]
    demo: bool
    part: Part
    evaluated_at: datetime
    expires_at: datetime
    models: Mapping[ObjectKind, EvaluatedModel]
    labels_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    pictures_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sample_count: int
    protocol: Mapping[str, float]
    figures: Mapping[ObjectKind, Mapping[str, Any]]

    @property
    def id(self) -> str:
        """Names the evaluation by its day and its models."""
        versions = "+".join(self.models[kind].version for kind in _KINDS if kind in self.models)
        return f"{self.evaluated_at:%Y%m%dT%H%M%S}-{versions}"


class EvaluationSignature(_Frozen):
    """An Ed25519 signature over an evaluation, in hex."""

    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class SignedEvaluation(_Frozen):
    """An evaluation, and the signature under it where there is one."""

    evaluation: Evaluation
    signature: EvaluationSignature | None = None


def sign(evaluation: Evaluation, private_pem: bytes) -> SignedEvaluation:
    """The evaluation with a signature under it.

    Raises:
        UsageError: the PEM holds no Ed25519 private key.
    """
    key = private_key(private_pem)
    signature = EvaluationSignature(public_key=key.public_key().public_bytes_raw().hex(), signature=key.sign(_message(evaluation)).hex())
    return SignedEvaluation(evaluation=evaluation, signature=signature)


def _message(evaluation: Evaluation) -> bytes:
    return _DOMAIN + canonical_json(evaluation.model_dump(mode="json"))


def to_bytes(signed: SignedEvaluation) -> bytes:
    """The JSON file of an evaluation."""
    return (json.dumps(signed.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes, *, subject: str = "evaluation") -> SignedEvaluation:
    """The evaluation of `to_bytes`.

    Raises:
        EvaluationRefused: the bytes are none.
    """
    try:
        return SignedEvaluation.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise EvaluationRefused(f"{where}: {first['msg']}", subject=subject, fix=_FIX) from error


_FIX: Final = "run `curation privacy evaluate DIR --key FILE` on labelled pictures with the models in use"


def may_mask(
    signed: SignedEvaluation | None,
    *,
    now: datetime,
    models: Mapping[ObjectKind, str],
    trusted_keys: Sequence[str],
    allow_demo: bool = False,
) -> EvaluationRefused | None:
    """None where these models may mask now; else the refusal, to be raised or shown.

    Args:
        signed: the evaluation that is claimed, None where there is none.
        now: the present, with a zone.
        models: kind -> version of the model in use, as `ModelSettings.version` gives it; both kinds.
        trusted_keys: public keys, hex, whose signature counts.
        allow_demo: whether an evaluation that calls itself a demo counts.
    """
    if signed is None:
        return EvaluationRefused("there is none of the models in use", subject="evaluation", fix=_FIX)
    evaluation = signed.evaluation
    problem = (
        _signature_problem(signed, trusted_keys)
        or _standing_problem(evaluation, now, allow_demo=allow_demo)
        or _model_problem(evaluation, models)
    )
    return EvaluationRefused(problem, subject=f"evaluation {evaluation.id}", fix=_FIX) if problem else None


def _signature_problem(signed: SignedEvaluation, trusted_keys: Sequence[str]) -> str | None:
    signature = signed.signature
    if signature is None:
        return "is not signed"
    if signature.public_key not in {key.lower() for key in trusted_keys}:
        return "is signed by a key that [privacy] trusted_evaluators does not name"
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key)).verify(
            bytes.fromhex(signature.signature), _message(signed.evaluation)
        )
    except (InvalidSignature, ValueError):
        return "carries a signature that does not fit it"
    return None


def _standing_problem(evaluation: Evaluation, now: datetime, *, allow_demo: bool) -> str | None:
    if evaluation.demo and not allow_demo:
        return "is a demo's, which proves nothing"
    if evaluation.part == "tune":
        return "was made on the half that the thresholds were tuned on"
    if now < evaluation.evaluated_at:
        return f"was made at {evaluation.evaluated_at.isoformat()}, which is still to come"
    if now >= evaluation.expires_at:
        return f"expired at {evaluation.expires_at.isoformat()}"
    if evaluation.result != "passed":
        return f"did not pass: {evaluation.result} ({'; '.join(english for english, _ in evaluation.reasons)})"
    return None


def _model_problem(evaluation: Evaluation, models: Mapping[ObjectKind, str]) -> str | None:
    for kind in _KINDS:
        if kind not in models:
            return f"no model for {kind}s is in use"
        evaluated = evaluation.models.get(kind)
        if evaluated is None or evaluated.version != models[kind]:
            return f"is of {evaluated.version if evaluated else 'no model'} for {kind}s, in use is {models[kind]}"
    return None
