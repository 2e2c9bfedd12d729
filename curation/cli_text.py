"""What every command prints with."""

from __future__ import annotations

from typing import Final

from rich.console import Console

out: Final = Console(markup=False, highlight=False, soft_wrap=True)


def shown(text: str) -> str:
    """The text without terminal codes, which a file name or an error about it may hold."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
