"""Track files that stand beside a clip under its name: which these are, and what they say. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

from curation.errors import ClipUnreadable
from curation.records import Track
from curation.telemetry import gpx, nmea
from curation.telemetry.reading import Reading
from curation.telemetry.track import reading_of

# `.gps` is BlackVue's: NMEA sentences, each after the milliseconds of the recorder's clock.
_PARSERS: Final[Mapping[str, Callable[..., Track]]] = {".gpx": gpx.parse_gpx, ".nmea": nmea.parse_nmea, ".gps": nmea.parse_nmea}
SUFFIXES: Final = tuple(_PARSERS)
MAX_BYTES: Final = max(gpx.MAX_BYTES, nmea.MAX_BYTES)


def read(name: str, data: bytes, *, subject: str) -> Reading:
    """What the track file `name` says of the clip that it is named after; it is taken to begin with that clip.

    Raises:
        ClipUnreadable: its suffix is not one of `SUFFIXES`, or its bytes are not what the suffix says.
    """
    parse = _PARSERS.get(PurePosixPath(name).suffix.lower())
    if parse is None:
        raise ClipUnreadable("is no track file", subject=subject, fix=f"give {', '.join(SUFFIXES)}, or leave it out")
    return reading_of(parse(data, subject=subject))
