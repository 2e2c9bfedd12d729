"""What an mp4's header says of place and time: `©xyz` of udta (ISO 6709) and creation_time, as the demuxer gives them. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from curation.errors import ClipUnreadable
from curation.records import Track
from curation.telemetry.fixes import Seen, believe, utc
from curation.telemetry.reading import is_of_a_clock

SOURCE: Final = "udta"
MAX_CHARACTERS: Final = 256
# Where FFmpeg puts ©xyz, with and without a language, and Apple's key for the same.
_LOCATION_KEYS: Final = ("location", "location-eng", "com.apple.quicktime.location.ISO6709")
# ©mod as FFmpeg names it, Apple's and Android's keys for it; of a GoPro, which writes none, the firmware begins with its model.
_MODEL_KEYS: Final = ("model", "model-eng", "com.apple.quicktime.model", "com.android.model", "firmware")
MODEL_CHARACTERS_MAX: Final = 64
_TIME_KEYS: Final = ("com.apple.quicktime.creationdate", "creation_time")
_FIX: Final = "write it as ISO 6709, or leave it out"
_PART: Final = r"([+-]\d{%d,%d}(?:\.\d{1,12})?)"
_LOCATION: Final = re.compile(
    _PART % (2, 6) + _PART % (3, 7) + r"(?:[+-]\d{1,6}(?:\.\d{1,9})?)?(?:CRS([A-Za-z0-9_:.-]{1,32}))?/?", re.ASCII
)


def parse_location(data: bytes, *, subject: str) -> Track:
    """The one position of an ISO 6709 text, as `+31.2304+121.4737/`, in degrees, degrees and minutes, or with seconds.

    The datum is WGS-84 only where the text names it (`CRSWGS_84`): recorders write here what their system gives them, which in China may
    be shifted.

    Raises:
        ClipUnreadable: the bytes are no such text.
    """
    match = _LOCATION.fullmatch(data.strip(b"\0 ").decode("ascii", "replace")) if len(data) <= MAX_CHARACTERS else None
    if match is None:
        raise ClipUnreadable("is no place in ISO 6709", subject=subject, fix=_FIX)
    belief = believe([Seen(offset_s=0.0, latitude_deg=_degrees(match[1], 2), longitude_deg=_degrees(match[2], 3))])
    named = re.sub(r"[^0-9A-Z]", "", (match[3] or "").upper())
    return Track(
        source=SOURCE,
        fixes=belief.fixes,
        datum="WGS-84" if belief.fixes and named in {"WGS84", "EPSG4326"} else "unknown",
        seen_count=1,
        disbelieved=belief.disbelieved,
    )


def parse_header(header: Mapping[str, str], *, subject: str) -> Track:
    """Place and time of a container's metadata; a Track without fixes where it tells none, or none that can be believed.

    The mp4 format says that creation_time is UTC, and many recorders write their local time there: the zone is `UTC assumed`, unless the
    time names its own.
    """
    malformed: Counter[str] = Counter()
    track = Track(source=SOURCE)
    raw = next((header[key] for key in _LOCATION_KEYS if header.get(key)), None)
    if raw is not None:
        try:
            track = parse_location(raw.encode("utf-8", "replace"), subject=subject)
        except ClipUnreadable:
            malformed["location"] += 1
    key = next((key for key in _TIME_KEYS if header.get(key)), None)
    began_at = None if key is None else _time(header[key])
    malformed["creation_time"] += key is not None and began_at is None
    return Track(
        source=SOURCE,
        fixes=track.fixes,
        datum=track.datum,
        began_at=began_at,
        clock=key,
        zone="UTC assumed" if key == "creation_time" else "UTC",
        seen_count=track.seen_count,
        disbelieved=track.disbelieved,
        malformed=dict(+malformed),
    )


def camera_model(header: Mapping[str, str]) -> str | None:
    """The camera's model as a container's metadata names it, at most 64 printable characters; None where they name none."""
    named = ("".join(sign for sign in header[key] if sign.isprintable()).strip() for key in _MODEL_KEYS if key in header)
    return next((name[:MODEL_CHARACTERS_MAX] for name in named if name), None)


def _degrees(raw: str, degree_digits: int) -> float | None:
    """Degrees of `±DD.d`, `±DDMM.m` or `±DDMMSS.s` (three D for a longitude); None for a number of digits, or minutes, that fit none."""
    whole, _, fraction = raw[1:].partition(".")
    parts = [whole[:degree_digits], *(whole[at : at + 2] for at in range(degree_digits, len(whole), 2))]
    if any(len(part) != 2 for part in parts[1:]):
        return None
    values = [float(part) for part in parts]
    values[-1] = float(f"{parts[-1]}.{fraction or '0'}")
    if any(value >= 60.0 for value in values[1:]):
        return None
    degrees = sum(value / 60.0**power for power, value in enumerate(values))
    return -degrees if raw[0] == "-" else degrees


def _time(raw: str) -> datetime | None:
    """The time in UTC; None for what is none, or what only an unset clock shows (1904 is the zero of mp4)."""
    try:
        at = utc(datetime.fromisoformat(raw.strip()))
    except ValueError:
        return None
    return at if at is not None and is_of_a_clock(at) else None
