"""The fields of the form that asks for shards, from the JSON Schema of shard requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from airflow.sdk import Param

KEPT = ("minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "pattern", "enum", "items", "properties", "propertyNames")
KEPT_TOO = ("additionalProperties", "minItems")


def fields() -> dict[str, Param]:
    """A field for every key of a request. None of them must be filled in here: the request is checked as a whole when the run begins."""
    schema = json.loads(resources.files("curation.shards").joinpath("request.schema.json").read_text(encoding="utf-8"))
    return {name: _field(name, _whole(wanted, schema["$defs"])) for name, wanted in schema["properties"].items()}


def _whole(wanted: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with what it refers to written out: a field stands alone."""
    if isinstance(wanted, list):
        return [_whole(one, definitions) for one in wanted]
    if not isinstance(wanted, dict):
        return wanted
    if "$ref" in wanted:
        wanted = {**definitions[wanted["$ref"].removeprefix("#/$defs/")], **{key: value for key, value in wanted.items() if key != "$ref"}}
    return {key: _whole(value, definitions) for key, value in wanted.items()}


def _field(name: str, wanted: Mapping[str, Any]) -> Param:
    some = next((one for one in wanted.get("anyOf", ()) if one.get("type") != "null"), wanted)
    rules = {key: some[key] for key in (*KEPT, *KEPT_TOO) if key in some}
    if "enum" in rules:
        rules["enum"] = [*rules["enum"], None]
    kind = some.get("type", "string")
    default = wanted.get("default")
    return Param(default, title=name.replace("_", " "), type=[kind, "null"], description_md=wanted.get("description", ""), **rules)
