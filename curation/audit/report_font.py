"""The font of PDF reports: Noto Sans SC as one package ships it, found by the package's own list of files and proved by its digest."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from fontTools.ttLib import TTFont

from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, SettingsError

PACKAGE: Final = "pylopdf-fonts-zh-cn"  # SIL Open Font License 1.1
FILE: Final = "NotoSansSC-Regular.otf"
SHA256: Final = "faa6c9df652116dde789d351359f3d7e5d2285a2b2a1f04a2d7244df706d5ea9"


def font_path() -> Path:
    """The font's file.

    Raises:
        SettingsError: the package is not installed, or holds no such file.
        EvidenceBroken: the file is another one than the one that reports were tested with.
    """
    fix = f"install it: pip install {PACKAGE}"
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError as error:
        raise SettingsError("is not installed, so no PDF can be written", subject=f"package {PACKAGE}", fix=fix) from error
    found = [Path(str(file.locate())) for file in files if file.name == FILE]
    if not found or not found[0].is_file():
        raise SettingsError(f"holds no {FILE}", subject=f"package {PACKAGE}", fix=fix)
    if sha256_hex(found[0].read_bytes()) != SHA256:
        raise EvidenceBroken("is not the font that reports are written with", subject=str(found[0]), fix=f"install {PACKAGE} anew")
    return found[0]


@cache
def known_signs(path: Path) -> frozenset[int]:
    """Code points that the font has a glyph for."""
    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap())


def printable(text: str, signs: frozenset[int]) -> str:
    """The text, each sign that the font cannot draw spelt out as [U+XXXX]: nothing is lost without a trace."""
    return "".join(sign if ord(sign) in signs and sign.isprintable() else f"[U+{ord(sign):04X}]" for sign in text)
