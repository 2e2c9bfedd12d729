"""One page about one validation: self-contained, without time or value, so that it is the same whenever and wherever it is rendered."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from curation.records import ValidationResult

_TEMPLATE: Final = "validation_report.html.j2"
CLIP_IDS_SHOWN: Final = 10
_PROBLEMS_ZH: Final = {"unexpected": "不符合", "errored": "出错", "skipped": "未运行"}


# Our sentences hold ASCII marks, as source code does; Chinese is set with marks of full width.
_MARKS_ZH: Final = {",": "\uff0c", ":": "\uff1a", ";": "\uff1b"}
_MARK_AT_CHINESE: Final = re.compile(r"(?<=[\u4e00-\u9fff])[,:;](?! )|[,:;](?=[\u4e00-\u9fff])")


def _chinese(text: str) -> str:
    return _MARK_AT_CHINESE.sub(lambda mark: _MARKS_ZH[mark[0]], text)


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["chinese"] = _chinese
    return made.get_template(_TEMPLATE)


def render(batch_id: str, result: ValidationResult) -> str:
    """HTML of the result in two languages: verdict, proof that every declared check ran, each failing check with counts and clip ids."""
    return _template().render(batch_id=batch_id, result=result, shown=CLIP_IDS_SHOWN, problems=_PROBLEMS_ZH)
