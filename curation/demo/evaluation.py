"""The demo's evaluation of the models for faces and plates: signed with a key made here and thrown away; it proves nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import cv2

from curation import layout, pipeline, wiring
from curation.digests import sha256_hex
from curation.model_settings import ObjectKind
from curation.privacy import gate
from curation.residency.signing import keygen
from curation.settings import Settings

_KEY_FILE: Final = "trusted-evaluator.txt"
_HOLDS: Final = timedelta(days=30)
_NOTHING_MEASURED: Final = ("a demo's: nothing was measured", "演示用：未作任何测量")  # noqa: RUF001 - Chinese punctuation


def make(folder: Path, settings: Settings, *, now: datetime) -> str:
    """The public key, hex, whose word a demo's settings must take for the models in use; an evaluation that still holds is kept.

    Every setting without `allow_demo_evaluation` refuses it, whatever key it trusts.

    Args:
        folder: under the home side of the work folder.
        settings: name models and store.
        now: signing time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / _KEY_FILE
    if place.exists():
        trusted = place.read_text(encoding="ascii").strip()
        if pipeline.masking_refusal(trusting(settings, trusted)) is None:
            return trusted
    private_pem, public_hex = keygen()
    evaluation = _evaluation(settings, now)
    key = layout.evaluation_key(evaluation.id, "evaluation.json")
    wiring.store(settings).create(key, gate.to_bytes(gate.sign(evaluation, private_pem)))
    place.write_text(public_hex + "\n", encoding="ascii")
    return public_hex


def trusting(settings: Settings, public_hex: str) -> Settings:
    """The settings of a demo that takes the word of this key."""
    privacy = settings.privacy.model_copy(update={"trusted_evaluators": (public_hex,), "allow_demo_evaluation": True})
    return settings.model_copy(update={"privacy": privacy})


def _evaluation(settings: Settings, now: datetime) -> gate.Evaluation:
    names: dict[ObjectKind, str] = {"face": settings.privacy.face_model, "plate": settings.privacy.plate_model}
    models = {
        kind: gate.EvaluatedModel(
            name=name,
            version=settings.models[name].version(name),
            sha256=settings.models[name].sha256,
            licence=settings.models[name].licence,
            min_score=settings.models[name].min_score,
            runtime=f"OpenCV {cv2.__version__}",
        )
        for kind, name in names.items()
    }
    return gate.Evaluation(
        result="passed",
        reasons=(_NOTHING_MEASURED,),
        demo=True,
        part="all",
        evaluated_at=now,
        expires_at=now + _HOLDS,
        models=models,
        labels_sha256=sha256_hex(b""),
        pictures_sha256=sha256_hex(b""),
        sample_count=0,
        protocol={},
        figures={},
    )
