"""Names of people, as far as it takes to tell two of them apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def is_among(name: str, others: Sequence[str]) -> bool:
    """Whether one of the others is the same name, whatever its case, width and spaces."""

    def plain(text: str) -> str:
        return "".join(unicodedata.normalize("NFKC", text).casefold().split())

    return plain(name) in {plain(other) for other in others}
