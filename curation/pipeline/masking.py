"""What allows masking now, and what does it: for masked shard sets."""

from __future__ import annotations

from collections.abc import Mapping

from curation import layout, wiring
from curation.digests import sha256_hex
from curation.errors import EvaluationRefused, ModelRefused
from curation.model_settings import PROOF_MODELS, ObjectKind
from curation.pipeline import mask_proof, privacy
from curation.privacy import gate
from curation.records import StageCount
from curation.settings import Settings
from curation.shards.masking import MaskingModel, Permit
from curation.stages import mask_clips, masked_upkeep


def masking_permit(settings: Settings) -> Permit:
    """What allows masking now: the models in use, those that look at the copies again, and the evaluation that holds.

    Raises:
        EvaluationRefused: the models in use may not mask.
        ModelRefused: one of the models is not in the home store.
    """
    refused, signed = privacy.masking_refusal(settings), privacy.evaluation_in_force(settings)
    if signed is None or refused is not None:
        raise refused or EvaluationRefused("there is none", subject="evaluation", fix="run `curation privacy evaluate DIR --key FILE`")
    evaluation = signed.evaluation
    return Permit(
        models={kind: _model(settings, name) for kind, name in _in_use(settings).items()},
        provers={part: _model(settings, getattr(settings.privacy, part)) for part in PROOF_MODELS},
        masking=_identity(settings),
        evaluation_id=evaluation.id,
        evaluation_sha256=sha256_hex(gate.to_bytes(signed)),
        result=evaluation.result,
        is_demo=evaluation.demo,
        evaluated_at=evaluation.evaluated_at,
        expires_at=evaluation.expires_at,
    )


def masking_equipment(settings: Settings) -> mask_clips.Equipment:
    """What masks clips under these settings, and looks at the copies again. It asks no gate: `masking_permit` does.

    Raises:
        ModelRefused: a model that finds faces or plates is not in the home store, or not what the settings name.
    """
    in_use = _in_use(settings)
    return mask_clips.Equipment(
        masker=wiring.masker(),
        detectors={kind: privacy.detector(settings, name) for kind, name in in_use.items()},
        models={kind: settings.models[name] for kind, name in in_use.items()},
        prove=mask_proof.prover(settings),
        identity=_identity(settings),
    )


def prune_masked_copies(settings: Settings, *, dry_run: bool = False) -> StageCount:
    """Every masked copy at home and where it went: of the models in use, of shard sets that stand, or removed; a dry run removes none."""
    on = wiring.ground(settings)
    return masked_upkeep.run(
        identity=_identity(settings), store=on.store, eraser=wiring.eraser(settings), ledger=on.ledger, dry_run=dry_run
    )


def _identity(settings: Settings) -> str:
    return mask_clips.identity(privacy.models_in_use(settings), mask_proof.proof_versions(settings), settings.privacy.proof_step_s)


def _in_use(settings: Settings) -> Mapping[ObjectKind, str]:
    return {"face": settings.privacy.face_model, "plate": settings.privacy.plate_model}


def _model(settings: Settings, name: str) -> MaskingModel:
    model = settings.models[name]
    if wiring.store(settings).size(layout.model_key(model.sha256, model.suffix)) is None:
        raise ModelRefused("is not in the home store", subject=f"model {name}", fix=f"run `curation models pull {name}`")
    return MaskingModel(name=name, version=model.version(name), sha256=model.sha256)
