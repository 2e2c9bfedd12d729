"""The published JSON Schema is the one of the models, takes every shipped pack, and refuses what is out of shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml

from curation.residency import pack_schema

SHIPPED = sorted(path.name.removesuffix(".yaml") for path in resources.files("curation.residency").joinpath("packs").iterdir())


def document(data: bytes) -> dict[str, Any]:
    """The pack as JSON, its days as text."""
    found: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(data), default=str))
    return found


def test_the_file_is_what_the_models_say() -> None:
    """Whoever changes a model rewrites the file with `make expectations`."""
    assert pack_schema.text() == pack_schema.PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_pack_fits(name: str, pack_bytes: Callable[[str], bytes]) -> None:
    """The file an editor reads takes what the loader takes."""
    jsonschema.Draft202012Validator(json.loads(pack_schema.PATH.read_text(encoding="utf-8"))).validate(document(pack_bytes(name)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cn-baseline", {"allow": "all"}),
        ("cn-baseline", {"demo": "yes"}),
        ("cn-baseline", {"sources": []}),
        ("cn-baseline", {"counters": [{"id": "counter.x"}]}),
        ("lingang-2024", {"kind": "white-list"}),
        ("lingang-2024", {"conditions": []}),
        ("lingang-2024", {"outputs": []}),
    ],
)
def test_the_schema_refuses_what_is_out_of_shape(name: str, change: dict[str, Any], pack_bytes: Callable[[str], bytes]) -> None:
    """An unknown key, a word for a truth value, an empty list of sources or conditions, half a counter: the editor marks it."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document(pack_bytes(name)), **change}, pack_schema.schema())
