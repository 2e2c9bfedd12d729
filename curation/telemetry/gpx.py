"""GPX: bytes of a track file in, Track out. Pure.

Positions are WGS-84, times UTC and speeds of GPX 1.0 metres per second, all by the format's schema. Of the extensions of GPX 1.1 only
Garmin's speed is read, since no other names its unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import gpxpy.gpx
import gpxpy.parser

from curation.errors import ClipUnreadable
from curation.records import Track
from curation.telemetry.fixes import FIXES_MAX, Seen, believe, timed, utc

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SOURCE: Final = "gpx"
MAX_BYTES: Final = 2 * 1024 * 1024  # three hours at one position a second
_FIX: Final = "export it as GPX in UTF-8, or leave it out"
_NAMESPACES_MAX: Final = 32  # gpxpy looks for each to the end of the file
_QUALITY: Final = {"none": "none", "2d": "2d", "3d": "3d", "3": "3d", "dgps": "differential", "pps": "3d"}
_GARMIN: Final = "TrackPointExtension"
_UNPARSED: Final = (gpxpy.gpx.GPXException, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)


def parse_gpx(data: bytes, *, subject: str) -> Track:
    """The recorded tracks of a GPX file, joined in file order; routes and waypoints are plans, and not read.

    Raises:
        ClipUnreadable: the bytes are no GPX in UTF-8, have over 2 MiB or 100,000 positions, or bring a document type or dozens of
            namespaces, which no recorder writes and which cost without limit.
    """
    text = _text(data, subject)
    try:
        parsed = gpxpy.parser.GPXParser(text).parse()
        seen = timed([_seen(point) for track in parsed.tracks for segment in track.segments for point in segment.points])
    except _UNPARSED as error:
        raise ClipUnreadable("is no GPX", subject=subject, fix=_FIX) from error
    if len(seen) > FIXES_MAX:
        raise ClipUnreadable(f"holds over {FIXES_MAX} positions", subject=subject, fix=_FIX)
    belief = believe(seen, from_first=True)
    return Track(
        source=SOURCE,
        fixes=belief.fixes,
        datum="WGS-84" if belief.fixes else "unknown",
        began_at=belief.fixes[0].at if belief.fixes else None,
        clock="gpx",
        zone="UTC",
        seen_count=len(seen),
        disbelieved=belief.disbelieved,
        malformed=belief.malformed,
    )


def _text(data: bytes, subject: str) -> str:
    if len(data) > MAX_BYTES:
        raise ClipUnreadable(f"is over {MAX_BYTES} bytes", subject=subject, fix="cut it to the time of its clip")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClipUnreadable("is not UTF-8", subject=subject, fix=_FIX) from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ClipUnreadable("brings a document type of its own", subject=subject, fix=_FIX)
    if text.count("xmlns") > _NAMESPACES_MAX or text.count("schemaLocation") > _NAMESPACES_MAX:
        raise ClipUnreadable("declares dozens of namespaces", subject=subject, fix=_FIX)
    return text


def _seen(point: gpxpy.gpx.GPXTrackPoint) -> Seen:
    return Seen(
        offset_s=None,
        at=None if point.time is None else utc(point.time),
        latitude_deg=point.latitude,
        longitude_deg=point.longitude,
        speed_mps=point.speed if point.speed is not None else next(_garmin_speeds(point.extensions), None),
        quality=_QUALITY.get(point.type_of_gpx_fix or "", "unknown"),
    )


def _garmin_speeds(extensions: list[Element]) -> Iterator[float]:
    """Speeds of Garmin's TrackPointExtension v2, in m/s by its schema."""
    for extension in extensions:
        if _GARMIN not in str(extension.tag):
            continue
        for element in extension:
            if str(element.tag).endswith("}speed") and _GARMIN in str(element.tag):
                yield float(element.text or "nan")
