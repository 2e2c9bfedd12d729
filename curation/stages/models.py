"""Bring models to the home store: named by their digest, checked before they are written, with a card of source and licence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from curation import layout
from curation.digests import sha256_hex
from curation.errors import ModelRefused
from curation.model_settings import ModelSettings
from curation.ports import ModelSource, ObjectStore
from curation.records import PulledModel


def run(models: Mapping[str, ModelSettings], *, store: ObjectStore, source: ModelSource) -> Iterator[PulledModel]:
    """Each model as it rests in the home store, by name; one that rests there already is not read from its source again.

    Raises:
        ModelRefused: a source gives other bytes than the settings name; nothing of it is kept.
        OutsideError: a source cannot be reached.
    """
    for name, model in sorted(models.items()):
        key = layout.model_key(model.sha256, model.suffix)
        size_bytes = store.size(key)
        is_new = size_bytes is None
        if size_bytes is None:
            data = source.read(name, model)
            check(name, model, data)
            store.create(key, data)
            size_bytes = len(data)
        card_key = layout.model_card_key(model.sha256)
        if store.size(card_key) is None:
            store.create(card_key, _card(name, model, size_bytes))
        yield PulledModel(
            name=name,
            version=model.version(name),
            finds=model.finds,
            sha256=model.sha256,
            licence=model.licence,
            key=key,
            size_bytes=size_bytes,
            is_new=is_new,
        )


def check(name: str, model: ModelSettings, data: bytes) -> None:
    """Nothing, if these bytes are the model.

    Raises:
        ModelRefused: they are not.
    """
    found = sha256_hex(data)
    if found != model.sha256:
        problem = f"its bytes have SHA-256 {found}, the settings name {model.sha256}"
        raise ModelRefused(problem, subject=f"model {name}", fix=f"correct [models.{name}], or find out who changed the file")


def _card(name: str, model: ModelSettings, size_bytes: int) -> bytes:
    told = {
        "name": name,
        "finds": model.finds,
        "form": model.form,
        "licence": model.licence,
        "sha256": model.sha256,
        "size_bytes": size_bytes,
        "source": model.source.model_dump(mode="json"),
    }
    return (json.dumps(told, indent=2, sort_keys=True) + "\n").encode()
