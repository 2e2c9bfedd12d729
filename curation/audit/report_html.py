"""A report as one HTML file that asks nothing of any server and runs nothing."""

from __future__ import annotations

from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from curation.audit.report_document import Document

_TEMPLATE: Final = "report.html.j2"


@cache
def _template() -> Template:
    loader = PackageLoader("curation.audit", ".")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return found.get_template(_TEMPLATE)


def render(told: Document) -> str:
    """The document as HTML."""
    return _template().render(told=told, kind=lambda block: type(block).__name__)
