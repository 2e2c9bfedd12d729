"""Tesla's messages in H.264: encoded here by hand into a stream and read back; what does not parse is counted, not guessed."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from curation.errors import ClipUnreadable
from curation.records import TimedBytes
from curation.telemetry.tesla_sei import message_type, parse_tesla_sei, user_data

PICTURE = b"\x65" + b"\x88\x84" * 40  # the kind of unit that holds a picture; its content does not matter here
X264 = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + b"x264 - core 165"


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def wire(latitude_deg: float, longitude_deg: float, speed_mps: float, *, frame: int = 0) -> bytes:
    """The message by the wire format itself, so that field numbers and types are proven and not repeated."""
    return (
        b"\x08\x01" + b"\x10\x01" + b"\x18" + _varint(frame) + b"\x25" + struct.pack("<f", speed_mps) + b"\x38\x01"
        + b"\x59" + struct.pack("<d", latitude_deg) + b"\x61" + struct.pack("<d", longitude_deg) + b"\x69" + struct.pack("<d", 90.0)
    )  # fmt: skip


def marked(message: bytes, *, run: int = 3, identifier: bytes = b"") -> bytes:
    """User data: the identifier, the run of 0x42, its end 0x69, the message."""
    return identifier + b"\x42" * run + b"\x69" + message


@pytest.mark.parametrize("identifier", [b"", bytes(range(0x80, 0x90))])
@pytest.mark.parametrize("form", ["avcc", "annex_b"])
def test_messages_are_found_in_a_stream_and_read_back(made: SimpleNamespace, identifier: bytes, form: str) -> None:
    """Behind an identifier or without, in mp4's form or with start codes, emulation prevention undone."""
    pack, length_bytes = (made.avcc, 4) if form == "avcc" else (made.annex_b, None)
    payloads = []
    for second, (latitude_deg, longitude_deg) in enumerate(made.way):
        unit = made.sei_unit(marked(wire(latitude_deg, longitude_deg, 0.0 if second == 0 else 10.0, frame=second), identifier=identifier))
        packet = pack(made.sei_unit(X264), unit, PICTURE)
        (data,) = user_data(packet, length_bytes=length_bytes)
        payloads.append(TimedBytes(start_s=float(second), duration_s=None, data=data))
    track = parse_tesla_sei(payloads, subject="a.mp4")
    assert (11, {}, {}, "unknown", None) == (track.seen_count, track.disbelieved, track.malformed, track.datum, track.began_at)
    assert made.way == tuple((fix.latitude_deg, fix.longitude_deg) for fix in track.fixes)
    assert [0.0] + [10.0] * 10 == [fix.speed_mps for fix in track.fixes]


def test_emulation_prevention_is_undone(made: SimpleNamespace) -> None:
    """A message full of zeros, which a stream may not hold as they stand, comes back to the byte."""
    data = marked(wire(31.0, 121.0, 0.0) + b"\x71" + bytes(8) + b"\x79" + b"\0\0\1\0\0\2\0\0")
    unit = made.sei_unit(data)
    assert (True, False) == (b"\0\0\3" in unit, b"\0\0\0" in unit)
    assert [data] == user_data(made.avcc(unit), length_bytes=4)


def test_every_field_of_the_list_is_known() -> None:
    """Sixteen numbers, by the published names."""
    names = [field.name for field in message_type().DESCRIPTOR.fields]
    assert ["version", "gear_state", "frame_seq_no", "vehicle_speed_mps"] == names[:4]
    assert (list(range(1, 17)), "linear_acceleration_mps2_z") == ([field.number for field in message_type().DESCRIPTOR.fields], names[-1])


def test_other_units_and_other_makers_user_data_are_not_taken(made: SimpleNamespace) -> None:
    """Nothing of an encoder's own user data, of other SEI types, or of pictures is kept."""
    tesla = marked(wire(31.0, 121.0, 1.0))
    for unit in (made.sei_unit(X264), made.sei_unit(tesla, kind=4), b"\x65" + tesla, b"\x06", b""):
        assert [] == user_data(made.avcc(unit, PICTURE), length_bytes=4)


def test_lengths_that_lie_end_the_search(made: SimpleNamespace) -> None:
    """A length out of the packet, or out of the unit, gives nothing, and no error."""
    unit = made.sei_unit(marked(wire(31.0, 121.0, 1.0)))
    for packet in (b"", b"\0", b"\xff\xff\xff\xff" + unit, made.avcc(unit)[:-9], made.avcc(b"\x06\x05\xff\xff\xff"), bytes(64)):
        assert [] == user_data(packet, length_bytes=4)


@pytest.mark.parametrize(
    ("latitude_deg", "longitude_deg", "reason"), [(0.0, 0.0, "0/0"), (31.0, 0.0, "no position"), (95.0, 121.0, "off the globe")]
)
def test_a_car_without_a_fix_is_said(latitude_deg: float, longitude_deg: float, reason: str) -> None:
    """proto3 sends no zeros: what is missing reads as 0, and is not believed."""
    data = marked(wire(latitude_deg, longitude_deg, 3.0))
    track = parse_tesla_sei([TimedBytes(start_s=0.0, duration_s=None, data=data)], subject="a.mp4")
    assert ((), {reason: 1}) == (track.fixes, track.disbelieved)


@pytest.mark.parametrize("data", [b"", b"\x42\x69", marked(b"\xff\xff\xff"), marked(wire(31.0, 121.0, 1.0)[:-3]), b"\x42" * 9, X264])
def test_what_does_not_parse_is_counted_and_not_guessed(data: bytes) -> None:
    """A cut message gives no position at all, though its first fields stand whole."""
    track = parse_tesla_sei([TimedBytes(start_s=0.0, duration_s=None, data=data)], subject="a.mp4")
    assert ((), 0, {"message": 1}) == (track.fixes, track.seen_count, track.malformed)


def test_a_flood_of_messages_is_refused() -> None:
    """More than any clip holds."""
    with pytest.raises(ClipUnreadable, match=r"a\.mp4: holds over"):
        parse_tesla_sei([TimedBytes(start_s=0.0, duration_s=None, data=b"")] * 100_001, subject="a.mp4")
