"""The JSON Schema of shard requests, made from the model that reads them: `request.schema.json` is this, and a test holds them equal.

`python -m curation.shards.request_schema --write` rewrites the file (`make expectations` does). An editor takes it up from a first line
`# yaml-language-server: $schema=…/request.schema.json`; the form of the DAG curate_shards is made from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from curation.shards.request import ShardRequest

PATH: Final = Path(__file__).with_name("request.schema.json")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """What an editor may check while a request is written; the reader asks for more than it can say."""
    return {"$schema": _DIALECT, **ShardRequest.model_json_schema(), "title": "Shard request"}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m curation.shards.request_schema --write")
    PATH.write_text(text(), encoding="utf-8")
