"""What Great Expectations and DuckDB must both understand alike: the version of a vocabulary, and forms of text as patterns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

HEX64: Final = r"^[0-9a-f]{64}$"
HEX32: Final = r"^[0-9a-f]{32}$"
COARSE_TIME: Final = r"20[0-9]{2}-(0[1-9]|1[0-2])"  # the whole value
_BEGIN, _END = r"(?:^|[^A-Za-z0-9])", r"(?:$|[^A-Za-z0-9])"
# In the syntax that Python and RE2 share. What a released value could give away, however it came there.
SENSITIVE_FORMS: Final[Mapping[str, str]] = {
    "vin": rf"{_BEGIN}[A-HJ-NPR-Z0-9]{{17}}{_END}",
    "plate": r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][· ]?[A-Z0-9]{5,6}",
    "digest": r"[0-9a-fA-F]{64}",
    "coordinate": r"[0-9]{1,3}\.[0-9]{3,}",
    "day": r"[0-9]{4}[-/.年][0-9]{1,2}[-/.月][0-9]{1,2}",
    "time": r"[0-9]{1,2}:[0-9]{2}",
    "phone": rf"{_BEGIN}1[3-9][0-9]{{9}}{_END}",
    "identity card": rf"{_BEGIN}[0-9]{{17}}[0-9Xx]{_END}",
    "mail": r"[^ @]@[^ @]+\.",
    "file": r"[A-Za-z0-9+]:/|^/|\\|\.(?:mp4|mov|ts|mkv|avi)$",
    "host": r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}",
}
_VERSION_DIGITS: Final = 12


def version_of(words: Sequence[str]) -> str:
    """The version of a closed vocabulary: the first 12 hex digits of SHA-256 over its words, whatever their order."""
    return hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()[:_VERSION_DIGITS]
