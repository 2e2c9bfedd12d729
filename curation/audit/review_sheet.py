"""The contact sheet of a review: masked frames, numbered, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from curation.privacy.review import Sheet, models_text


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return found.get_template("review_sheet.html.j2")


def render(sheet: Sheet, names: Mapping[int, str]) -> str:
    """HTML of the sheet; `names` says by its number where each picture lies beside the page."""
    return _template().render(sheet=sheet, names=names, models=models_text(sheet.models))
