"""Models that find faces and plates, and the proof of how well they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from curation import layout, wiring
from curation.audit import privacy_report
from curation.choices import Part
from curation.errors import EvaluationRefused, UsageError
from curation.model_settings import ObjectKind
from curation.ports import Detector
from curation.privacy import gate
from curation.privacy.gate import SignedEvaluation
from curation.records import PulledModel
from curation.settings import Settings
from curation.stages import evaluate_privacy, mask_clips, models, review_masks

EVALUATION_FILE: Final = "evaluation.json"
REPORT_FILE: Final = "report.html"


def pull_models(settings: Settings, names: Sequence[str] = ()) -> Iterator[PulledModel]:
    """The named models as they rest in the home store, all of the settings without names; what is missing is brought there.

    Raises:
        UsageError: the settings know no such model.
        ModelRefused: a source gives other bytes than the settings name.
        OutsideError: a source cannot be reached.
    """
    for name in names:
        if name not in settings.models:
            raise UsageError(
                "is no model of the settings", subject=f"model {name}", fix=f"choose from {', '.join(sorted(settings.models))}"
            )
    chosen = {name: model for name, model in settings.models.items() if not names or name in names}
    store = wiring.store(settings)
    yield from models.run(chosen, store=store, source=wiring.model_source(store))


def detector(settings: Settings, name: str) -> Detector:
    """The model of that name, ready to look at pictures.

    Raises:
        ModelRefused: it is not in the home store, or not what the settings name, or the self-test says no.
    """
    return wiring.detector(name, settings.models[name], wiring.store(settings))


def models_in_use(settings: Settings) -> Mapping[ObjectKind, str]:
    """Kind -> version of the model that the settings put to use, as evaluations name it."""
    return {kind: settings.models[name].version(name) for kind, name in _names_in_use(settings).items()}


def evaluate_models(
    settings: Settings,
    folder: Path,
    *,
    part: Part = "all",
    demo: bool = False,
    private_pem: bytes | None = None,
    progress: evaluate_privacy.Progress | None = None,
) -> SignedEvaluation:
    """The evaluation of the models in use on a labelled folder, signed where a key is given, and kept in the home store.

    Raises:
        UsageError: the labels or a file that they name cannot be used, or the key is none.
        ModelRefused: a model cannot be run.
    """
    in_use = {
        kind: evaluate_privacy.InUse(name=name, model=settings.models[name], detector=detector(settings, name))
        for kind, name in _names_in_use(settings).items()
    }
    evaluation = evaluate_privacy.run(
        folder,
        in_use,
        video=wiring.video_reader(beside_models=True),
        clock=wiring.clock(),
        valid_days=settings.privacy.evaluation_days,
        part=part,
        demo=demo,
        progress=progress,
    )
    signed = SignedEvaluation(evaluation=evaluation) if private_pem is None else gate.sign(evaluation, private_pem)
    store = wiring.store(settings)
    for name, data in evaluation_files(signed).items():
        store.create(layout.evaluation_key(evaluation.id, name), data)
    return signed


def evaluation_files(signed: SignedEvaluation) -> Mapping[str, bytes]:
    """Name -> bytes of what is kept of an evaluation: the signed record, and a page in English and Chinese."""
    return {EVALUATION_FILE: gate.to_bytes(signed), REPORT_FILE: privacy_report.render(signed).encode()}


def evaluation_in_force(settings: Settings) -> SignedEvaluation | None:
    """The newest evaluation of the models in use that may be masked by; where there is none, the newest that a trusted key signed.

    Without that the newest of them; None without any.

    Raises:
        EvaluationRefused: a file that should be an evaluation is none.
    """
    store, models = wiring.store(settings), models_in_use(settings)
    found = [gate.parse(store.read(key), subject=key) for key in store.keys(layout.EVALUATIONS) if key.endswith(f"/{EVALUATION_FILE}")]
    mine = [one for one in found if {kind: model.version for kind, model in one.evaluation.models.items()} == models]
    trusted = settings.privacy.trusted_evaluators
    mine.sort(
        key=lambda one: (one.signature is not None and one.signature.public_key in trusted, one.evaluation.evaluated_at), reverse=True
    )
    return next((one for one in mine if _refusal(settings, one) is None), mine[0] if mine else None)


def masking_refusal(settings: Settings) -> EvaluationRefused | None:
    """Why the models in use may not mask now, None where they may."""
    return _refusal(settings, evaluation_in_force(settings))


def mask_clip(settings: Settings, path: Path, target: Path, *, every: int = 1) -> mask_clips.Masked:
    """What was masked of a clip, and its masked copy at `target`; every `every`-th frame is looked at, and tracked between.

    Raises:
        EvaluationRefused: the models in use may not mask.
        ModelRefused: one of them cannot be run.
        ClipUnreadable: a frame cannot be decoded, or its time cannot be kept; nothing is written.
    """
    refused = masking_refusal(settings)
    if refused is not None:
        raise refused
    names = _names_in_use(settings)
    return mask_clips.run(
        path,
        target,
        masker=wiring.masker(),
        detectors={kind: detector(settings, name) for kind, name in names.items()},
        models={kind: settings.models[name] for kind, name in names.items()},
        every=every,
    )


def _names_in_use(settings: Settings) -> Mapping[ObjectKind, str]:
    return {"face": settings.privacy.face_model, "plate": settings.privacy.plate_model}


def _refusal(settings: Settings, signed: SignedEvaluation | None) -> EvaluationRefused | None:
    review_id = review_masks.missed(models_in_use(settings), wiring.ground(settings).ledger)
    if review_id is not None:
        problem = f"stands as failed: in {review_id} a person found a face or plate that the models in use had left open"
        fix = "use other models or thresholds, and evaluate and review those"
        return EvaluationRefused(problem, subject="evaluation", fix=fix)
    return gate.may_mask(
        signed,
        now=wiring.clock().now(),
        models=models_in_use(settings),
        trusted_keys=settings.privacy.trusted_evaluators,
        allow_demo=settings.privacy.allow_demo_evaluation,
    )
