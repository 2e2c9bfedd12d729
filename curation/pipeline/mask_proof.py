"""What was masked is looked at again, by models other than those that masked it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from curation import wiring
from curation.errors import ModelRefused
from curation.model_settings import PROOF_MODELS, ModelSettings
from curation.privacy import cascade, lines
from curation.privacy.proof import MaskProof
from curation.settings import Settings
from curation.stages import prove_masks

_Looker = TypeVar("_Looker")


def prove_masked(settings: Settings, path: Path) -> MaskProof:
    """What two other face models and two readers of text still find in a masked copy; `privacy.proof.refusal` says if it is too much.

    Looked at is a frame every `[privacy] proof_step_s`, the first and the last among them. A model that is missing or broken leaves the
    copy unmeasured, which is not clean.
    """
    return prover(settings)(path)


def prover(settings: Settings) -> Callable[[Path], MaskProof]:
    """`prove_masked` for many copies: its models are read once."""
    privacy, store = settings.privacy, wiring.store(settings)
    nets = (privacy.cascade_first_model, privacy.cascade_second_model, privacy.cascade_third_model)
    readers = ((privacy.line_model, privacy.character_model), (privacy.second_line_model, privacy.second_character_model))
    return partial(
        prove_masks.run,
        video=wiring.video_reader(beside_models=True),
        faces={
            privacy.second_face_model: _or_why(partial(wiring.detector, *_named(settings, privacy.second_face_model), store)),
            nets[-1]: _or_why(partial(wiring.cascade, [_named(settings, name) for name in nets], store)),
        },
        texts={
            reads: _or_why(partial(wiring.text_reader, _named(settings, finds), _named(settings, reads), store)) for finds, reads in readers
        },
        step_s=privacy.proof_step_s,
    )


def proof_versions(settings: Settings) -> Mapping[str, str]:
    """Setting -> version of each model that looks again, and the ways in which they look: another one gives another proof."""
    named = {part: _named(settings, getattr(settings.privacy, part)) for part in PROOF_MODELS}
    return {part: model.version(name) for part, (name, model) in named.items()} | {"text": lines.LOOKS, "cascade": cascade.LOOKS}


def _named(settings: Settings, name: str) -> tuple[str, ModelSettings]:
    return name, settings.models[name]


def _or_why(load: Callable[[], _Looker]) -> _Looker | str:
    try:
        return load()
    except ModelRefused as error:
        return str(error)
