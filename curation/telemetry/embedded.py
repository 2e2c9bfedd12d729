"""What lies inside a clip's own file: taken out of its packets, then read. Pure, but that `Collection` grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Final

from curation.errors import ClipUnreadable
from curation.records import Embedded, TimedBytes, Track
from curation.telemetry.fixes import FIXES_MAX
from curation.telemetry.gpmf import MAX_BYTES, parse_gpmf
from curation.telemetry.merge import merge, without_place
from curation.telemetry.mp4_header import parse_header
from curation.telemetry.reading import Reading
from curation.telemetry.tesla_sei import parse_tesla_sei, user_data
from curation.telemetry.track import lie_apart, reading_of

_GPMF_BEGINS: Final = b"DEVC"
_HEADER_KEYS: Final = (
    "location",
    "location-eng",
    "creation_time",
    "com.apple.quicktime.location.ISO6709",
    "com.apple.quicktime.creationdate",
)


class Collection:
    """Takes telemetry out of packets as they pass, and keeps no more of it than the parsers read."""

    def __init__(self) -> None:
        self._gpmf: list[TimedBytes] = []
        self._gpmf_bytes = 0
        self._sei: list[TimedBytes] = []
        self._malformed: Counter[str] = Counter()

    def see_h264(self, packet: bytes | memoryview, start_s: float, *, length_bytes: int | None) -> None:
        """Take Tesla's messages out of one packet of an H.264 stream; `length_bytes` as in `tesla_sei.user_data`."""
        for data in user_data(packet, length_bytes=length_bytes):
            if len(self._sei) < FIXES_MAX:
                self._sei.append(TimedBytes(start_s=start_s, duration_s=None, data=data))
            else:
                self._malformed["tesla-sei: message beyond the limit"] += 1

    def see_data(self, packet: bytes | memoryview, start_s: float, duration_s: float | None) -> None:
        """Take one packet of a stream that is neither picture nor sound, if it is GPMF."""
        if bytes(packet[: len(_GPMF_BEGINS)]) != _GPMF_BEGINS:
            return
        if self._gpmf_bytes + len(packet) <= MAX_BYTES:
            self._gpmf_bytes += len(packet)
            self._gpmf.append(TimedBytes(start_s=start_s, duration_s=duration_s, data=bytes(packet)))
        else:
            self._malformed["gpmf: payload beyond the limit"] += 1

    def embedded(self, header: Mapping[str, str]) -> Embedded:
        """All that was taken so far, and the places and times of the container's metadata."""
        return Embedded(
            header={key: header[key] for key in _HEADER_KEYS if key in header},
            gpmf=tuple(self._gpmf),
            sei=tuple(self._sei),
            malformed=dict(self._malformed),
        )


def h264_length_bytes(extradata: bytes | None) -> int | None:
    """How many bytes hold the length of a unit, by the stream's configuration record; None for streams with start codes."""
    is_record = extradata is not None and len(extradata) > 4 and extradata[0] == 1
    return (extradata[4] & 3) + 1 if extradata is not None and is_record else None


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
    telemetry = merge(*(reading.telemetry for reading in readings))
    if any(lie_apart(one.telemetry, other.telemetry) for one, other in combinations(readings, 2)):
        telemetry = without_place(telemetry)
        counts["places that lie over 20 km apart"] += 1
    return Reading(telemetry=telemetry, malformed=dict(sorted(counts.items())))
