"""What was masked is looked at again, by models other than those that masked it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from curation import wiring
from curation.errors import ModelRefused
from curation.ports import Detector, TextReader
from curation.privacy.proof import MaskProof
from curation.settings import Settings
from curation.stages import prove_masks


def prove_masked(settings: Settings, path: Path) -> MaskProof:
    """What a second face model and text recognition still find in a masked copy; `privacy.proof.refusal` says whether that is too much.

    Looked at is a frame every `[privacy] proof_step_s`, the first and the last among them. A model that is missing or broken leaves the
    copy unmeasured, which is not clean.
    """
    return prover(settings)(path)


def prover(settings: Settings) -> Callable[[Path], MaskProof]:
    """`prove_masked` for many copies: its models are read once."""
    return partial(
        prove_masks.run,
        video=wiring.video_reader(beside_models=True),
        faces=_faces(settings),
        text=_text(settings),
        step_s=settings.privacy.proof_step_s,
    )


def _faces(settings: Settings) -> Detector | str:
    name = settings.privacy.second_face_model
    try:
        return wiring.detector(name, settings.models[name], wiring.store(settings))
    except ModelRefused as error:
        return str(error)


def _text(settings: Settings) -> TextReader | str:
    lines, characters = ((name, settings.models[name]) for name in (settings.privacy.line_model, settings.privacy.character_model))
    try:
        return wiring.text_reader(lines, characters, wiring.store(settings))
    except ModelRefused as error:
        return str(error)
