"""What the portal and reports say, in English and Chinese, from words.toml; a name that is not listed there is shown as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, get_args

from curation.residency.explain import Language

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


@cache
def texts() -> Mapping[str, tuple[str, str]]:
    """Key -> its sentence in each language."""
    return _table("texts")


@cache
def names() -> Mapping[str, tuple[str, str]]:
    """Stage, outcome, verdict, reason, state or unit as the ledger has it -> what a reader of each language calls it."""
    return _table("names")


def _table(which: str) -> Mapping[str, tuple[str, str]]:
    said = tomllib.loads(resources.files("curation.audit").joinpath("words.toml").read_text(encoding="utf-8"))
    return {key: (both[0], both[1]) for key, both in said[which].items()}


def text(key: str, lang: Language, /, **values: object) -> str:
    """The sentence of that key, its braces filled in."""
    return texts()[key][LANGUAGES.index(lang)].format(**values)


def name(word: str, lang: Language) -> str:
    """What a reader calls it."""
    known = names().get(word)
    return word if known is None else known[LANGUAGES.index(lang)]
