"""How numbers, times and names look on a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

from markupsafe import Markup, escape

from curation.audit.overview import ZONE

_CODE: Final = re.compile(r"`([^`]+)`")
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_TONES: Final = {
    **dict.fromkeys(("stored", "accepted", "added", "released", "approved", "published", "train", "validated", "in force"), "good"),
    **dict.fromkeys(("val", "replaced", "test"), "more"),
    **dict.fromkeys(("withheld", "withdrawn", "partly withdrawn", "waiting", "publishing", "warn", "hold", "not yet valid"), "held"),
    **dict.fromkeys(("rejected", "refused", "block", "expired", "unexpected", "errored"), "bad"),
    **dict.fromkeys(("quarantined", "growing"), "odd"),
}

_ORDER: Final = ("good", "more", "held", "odd", "bad", "quiet")


def tone(word: str) -> str:
    """The tone that an outcome or state is drawn in; `quiet` for what is neither good nor bad."""
    return _TONES.get(word, "quiet")


def ordered(accounted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Outcomes and their rows, what is good first, what is neither good nor bad last."""
    return sorted(accounted.items(), key=lambda one: _ORDER.index(tone(one[0])))


def number(value: float) -> str:
    """The number with thousands set apart; two digits of one that is small and not whole."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 10 else f"{value:.2g}"


def moment(at: str) -> str:
    """The instant, ISO 8601, as day and minute of Asia/Shanghai; empty for an empty one."""
    return f"{datetime.fromisoformat(at).astimezone(ZONE):%Y-%m-%d %H:%M}" if at else ""


def day(value: date | None) -> str:
    """The day, empty for None."""
    return "" if value is None else value.isoformat()


def size(size_bytes: int) -> str:
    """The size in the unit that keeps it below a thousand."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def short(digest: str) -> str:
    """The first twelve signs of a digest or id."""
    return digest if len(digest) <= 12 else f"{digest[:12]}…"


def coded(text: str) -> Markup:
    """The text, escaped, what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before the tags are put in
