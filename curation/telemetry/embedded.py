"""What lies inside a clip's own file, read: GoPro's and Tesla's streams, then the header. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from curation.errors import ClipUnreadable
from curation.records import Embedded, Track
from curation.telemetry.gpmf import parse_gpmf
from curation.telemetry.merge import merge
from curation.telemetry.mp4_header import parse_header
from curation.telemetry.reading import Reading
from curation.telemetry.tesla_sei import parse_tesla_sei
from curation.telemetry.track import reading_of


def read_embedded(embedded: Embedded, *, subject: str) -> Reading:
    """The telemetry of a clip's own file; a receiver's stream is trusted more than the header. What is broken is counted, never raised."""
    readings: list[Reading] = []
    counts: Counter[str] = Counter(embedded.malformed)
    parsers: dict[str, Callable[[], Track]] = {
        "gpmf": lambda: parse_gpmf(embedded.gpmf, subject=subject),
        "tesla-sei": lambda: parse_tesla_sei(embedded.sei, subject=subject),
        "udta": lambda: parse_header(embedded.header, subject=subject),
    }
    for source, parse in parsers.items():
        try:
            reading = reading_of(parse())
        except ClipUnreadable as error:
            counts[f"{source}: {error.problem}"] += 1
            continue
        readings.append(reading)
        counts.update(reading.malformed)
    return Reading(telemetry=merge(*(reading.telemetry for reading in readings)), malformed=dict(sorted(counts.items())))
