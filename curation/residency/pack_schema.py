"""The JSON Schema of the pack format, made from the models that read packs: `pack.schema.json` is this, and a test holds them equal.

`python -m curation.residency.pack_schema --write` rewrites the file (`make expectations` does).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from curation.residency.pack import ListPack, Pack

PATH: Final = Path(__file__).with_name("pack.schema.json")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """What an editor may check while a pack is written: a pack of rules, or a general-data list. `lint` asks for more than it can say."""
    return {"$schema": _DIALECT, "title": "Residency pack", **TypeAdapter(Pack | ListPack).json_schema()}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m curation.residency.pack_schema --write")
    PATH.write_text(text(), encoding="utf-8")
