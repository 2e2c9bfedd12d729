"""Which lines of text may be registration plates: by their form alone. What a line says is never kept."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Form = Literal["mainland", "other"]

LEAST_HEIGHT_PX: Final = 16.0  # GB/T 44464-2024, 5.6.2.1
_PROVINCES: Final = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新"
_ENDS: Final = "学警港澳挂试超领"
# GA 36-2018: province, letter, five characters, six on green plates; trailers, police, the two systems' and consulates end in a character.
_MAINLAND: Final = re.compile(
    rf"[{_PROVINCES}][A-Z](?:[A-Z0-9]{{5,6}}|[A-Z0-9]{{4}}[{_ENDS}])|使[0-9]{{6}}|[0-9]{{6}}使|WJ[{_PROVINCES}]?[0-9]{{4}}[A-Z0-9]"
)
_BETWEEN: Final = str.maketrans("", "", " -\u00b7\u2022\u30fb\u2027:|")  # what stands between groups, as it is read
_DOTTED: Final = re.compile(rf"^([{_PROVINCES}]?[A-Z])\.")  # the point of a mainland plate, read as a stop
# Letters are read as digits at night (B as 8, D as 0): digits alone count where they stand in two groups as plates have them.
_GROUPS: Final = re.compile(
    r"(?!20[0-9]{2}-(?:0[1-9]|1[0-2])$)(?:[0-9]{3}[-\u00b7][0-9]{2,4}|[0-9]{2}[-\u00b7][0-9]{3,4}|[0-9]{4}[-\u00b7][0-9]{2})"
)
_LETTERS: Final = re.compile(r"[A-Z0-9]{5,8}")
_LEAST_DIGITS: Final = 2
_NOT_LATIN: Final = re.compile(r"^[^A-Z0-9]{1,2}|[^A-Z0-9]{1,2}$")  # a province that was misread, a seal, an emblem
# Roads of the national and provincial nets, and quantities with their units.
_NO_PLATE: Final = re.compile(r"[GSXY][0-9]{1,4}[A-Z]?|[0-9]+(?:KM|KMH|KPH|MPH|M|T|MIN|AM|PM|FPS|P|K)|[NSEW][0-9]+|EXIT[0-9]+[A-Z]?")


def form(text: str) -> Form | None:
    """Whose form of plate a line has, None where it has none.

    "other" is any group of five to eight Latin letters and digits with a letter and two digits in it, and digits in two groups.
    """
    said = unicodedata.normalize("NFKC", text).upper().strip()
    if _GROUPS.fullmatch(said):
        return "other"
    plain = _DOTTED.sub(r"\1", said).translate(_BETWEEN)
    if _MAINLAND.fullmatch(plain):
        return "mainland"
    latin = _NOT_LATIN.sub("", plain)
    if not _LETTERS.fullmatch(latin) or _NO_PLATE.fullmatch(latin):
        return None
    digits = sum(one.isdigit() for one in latin)
    return "other" if _LEAST_DIGITS <= digits < len(latin) else None
