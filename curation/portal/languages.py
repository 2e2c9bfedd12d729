"""Which language a reader gets: the one asked for, else the one chosen before, else what the browser prefers, else English."""

from __future__ import annotations

from typing import Final, TypeGuard

from curation.audit.words import LANGUAGES
from curation.residency.explain import Language

_LONGEST: Final = 400  # characters of a header that are looked at


def is_language(text: str | None) -> TypeGuard[Language]:
    """Whether there are pages in it."""
    return text in LANGUAGES


def preferred(header: str | None) -> Language:
    """The language of ours that an Accept-Language header ranks first; English where it names none."""
    ranked: list[tuple[float, int, Language]] = []
    for place, part in enumerate((header or "")[:_LONGEST].split(",")):
        name, _, quality = part.partition(";q=")
        language = name.strip().lower().partition("-")[0]
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if is_language(language) and weight > 0:
            ranked.append((-weight, place, language))
    return min(ranked)[2] if ranked else "en"
