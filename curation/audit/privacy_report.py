"""One page about one evaluation of the models that find faces and plates, in English and Chinese; self-contained."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from curation.privacy.gate import SignedEvaluation

_TEMPLATE: Final = "privacy_report.html.j2"
_RESULTS_ZH: Final = {"passed": "通过", "failed": "未通过", "insufficient": "样本不足"}
_KINDS: Final = {"face": ("faces", "人脸"), "plate": ("plates", "车牌")}
MISSED_SHOWN: Final = 200


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(
        _TEMPLATE
    )


def render(signed: SignedEvaluation) -> str:
    """HTML of the evaluation: result and reasons, rates with their intervals, what was missed and why, models and protocol. No picture."""
    return _template().render(
        evaluation=signed.evaluation,
        signature=signed.signature,
        results_zh=_RESULTS_ZH,
        kinds=_KINDS,
        shown=MISSED_SHOWN,
    )
