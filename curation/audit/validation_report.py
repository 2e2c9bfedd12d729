"""One page about one validation: self-contained, without time or value, so that it is the same whenever and wherever it is rendered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from curation.records import ValidationResult

_TEMPLATE: Final = "validation_report.html.j2"
CLIP_IDS_SHOWN: Final = 10
_PROBLEMS_ZH: Final = {"unexpected": "不符合", "errored": "出错", "skipped": "未运行"}


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(
        _TEMPLATE
    )


def render(batch_id: str, result: ValidationResult) -> str:
    """HTML of the result in two languages: verdict, proof that every declared check ran, each failing check with counts and clip ids."""
    return _template().render(batch_id=batch_id, result=result, shown=CLIP_IDS_SHOWN, problems=_PROBLEMS_ZH)
