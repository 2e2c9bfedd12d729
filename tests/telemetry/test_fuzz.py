"""Any bytes into any parser: a Track, or a ClipUnreadable that names the file, soon. Never another exception."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import ClipUnreadable
from curation.records import TimedBytes, Track
from curation.telemetry.embedded import Collection, read_embedded
from curation.telemetry.gpmf import parse_gpmf
from curation.telemetry.gpx import parse_gpx
from curation.telemetry.mp4_header import parse_header, parse_location
from curation.telemetry.nmea import parse_nmea
from curation.telemetry.tesla_sei import parse_tesla_sei
from curation.telemetry.track import telemetry_of

SLOW_S = 15.0  # of CPU for a large file, many times what it takes; Hypothesis' own inputs are small
CALMLY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)  # a busy machine is no failure


def _gpmf(data: bytes, *, subject: str) -> Track:
    return parse_gpmf([TimedBytes(start_s=0.0, duration_s=1.0, data=data)], subject=subject)


def _sei(data: bytes, *, subject: str) -> Track:
    return parse_tesla_sei([TimedBytes(start_s=0.0, duration_s=None, data=data)], subject=subject)


def _header(data: bytes, *, subject: str) -> Track:
    text = data.decode("utf-8", "surrogateescape")
    return parse_header({"location": text, "creation_time": text}, subject=subject)


PARSERS: dict[str, Callable[..., Track]] = {
    "gpx": parse_gpx,
    "nmea": parse_nmea,
    "gpmf": _gpmf,
    "tesla-sei": _sei,
    "location": parse_location,
    "header": _header,
}


def holds(parse: Callable[..., Track], data: bytes) -> None:
    """The promise of a parser on these bytes."""
    try:
        track = parse(data, subject="clip.mp4")
    except ClipUnreadable as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert ("clip.mp4", True) == (refused.subject, bool(refused.fix))
        return
    assert track.seen_count == len(track.fixes) + sum(track.disbelieved.values())
    told = telemetry_of(track)
    assert (told.latitude_deg is None) == (told.datum is None)
    assert all(0.0 <= point.offset_s < 2e9 for point in told.track or ())


@pytest.mark.parametrize("name", PARSERS)
@CALMLY
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    """Noise."""
    holds(PARSERS[name], data)


def _real(made: SimpleNamespace, name: str) -> bytes:
    texts = {
        "gpx": made.gpx(made.way[:3], inner="<speed>1</speed><fix>3d</fix><extensions><a>1</a></extensions>"),
        "nmea": made.nmea(made.way[:3], extra=made.sentence("GPGST,000000.00,1.0,1.0,1.0,0.0,3.0,4.0,9.0")),
        "gpmf": made.gps5(made.way[:3]) + made.gps9(made.way[:3]),
        "tesla-sei": b"\x42\x42\x69\x08\x01\x25\0\0\x20\x41\x59" + b"\1" * 8 + b"\x61" + b"\2" * 8,
        "location": b"+31.2304+121.4737+004.000CRSWGS_84/",
        "header": b"2026-09-01T00:00:00.000000Z",
    }
    return texts[name]


@pytest.mark.parametrize("name", PARSERS)
@CALMLY
@given(data=st.data())
def test_a_file_that_was_damaged_is_read_or_refused(made: SimpleNamespace, name: str, data: st.DataObject) -> None:
    """A sound file with bytes replaced, cut out and put in: nearer to what parsers believe than noise is."""
    raw = bytearray(_real(made, name))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    holds(PARSERS[name], bytes(raw))


TOKENS = st.sampled_from(
    [
        "$GPRMC",
        "$GPGGA",
        "$GNGSA",
        "$GPGST",
        "$GPDTM",
        ",",
        ",,",
        "A",
        "V",
        "N",
        "E",
        "9999.9",
        "-1",
        "nan",
        "1e999",
        "010926",
        "246060",
        "\u0663",
        "*",
    ]
)


@CALMLY
@given(texts=st.lists(st.lists(TOKENS, max_size=16).map("".join), max_size=5))
def test_sentences_with_sound_checksums_and_no_sense(made: SimpleNamespace, texts: list[str]) -> None:
    """What passes the checksum is still not believed for that."""
    holds(parse_nmea, "".join(made.sentence(text.lstrip("$")) for text in texts).encode())


@CALMLY
@given(packet=st.binary(max_size=300), length_bytes=st.sampled_from([None, 1, 2, 4]))
def test_any_packet_passes_a_collection(packet: bytes, length_bytes: int | None) -> None:
    """What rides in a stream never stops the inspection of its pictures."""
    collection = Collection()
    collection.see_h264(packet, 0.0, length_bytes=length_bytes)
    collection.see_h264(b"\0\0\1\6\5" + packet, 0.0, length_bytes=None)
    collection.see_data(b"DEVC" + packet, 0.0, None)
    reading = read_embedded(collection.embedded({"location": packet.hex(), "creation_time": packet.hex()}), subject="clip.mp4")
    assert reading.dropped == {}


MIB = 1024 * 1024
POINT = b'<trkpt lat="31" lon="121"><time>2026-09-01T00:00:00Z</time></trkpt>'
LARGE: dict[str, Callable[[SimpleNamespace], bytes]] = {
    "gpx": lambda _: b'<gpx version="1.0"><trk><trkseg>' + POINT * 15_000 + b"</trkseg></trk></gpx>",
    "gpx deep": lambda _: b"<a>" * 250_000 + b"</a>" * 250_000,
    "gpx attributes": lambda _: b"<gpx " + b"".join(b'a%d="" ' % at for at in range(180_000)) + b"/>",
    "nmea": lambda made: made.nmea([(31.0, 121.0)] * 7_000),
    "gpmf": lambda made: made.gps5([(31.0, 121.0)] * 3_000) * 15,
    "gpmf empty elements": lambda _: b"DEVC\0\0\0\0" * MIB,
    "tesla-sei": lambda _: b"\x42" * (4 * MIB),
    "location": lambda _: b"+1" * MIB,
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_does_not_run_long(made: SimpleNamespace, name: str) -> None:
    """Files of a megabyte and more, and forms that make naive readers quadratic."""
    data = LARGE[name](made)
    start_s = time.process_time()
    holds(PARSERS[name.split(maxsplit=1)[0]], data)
    assert time.process_time() - start_s < SLOW_S, name
