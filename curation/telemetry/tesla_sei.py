"""Tesla's telemetry in H.264: the bytes of one packet in, its user data out; the user data of a clip in, Track out. Pure.

Published by Tesla in December 2025 (teslamotors/dashcam). A unit of supplemental enhancement information (SEI) holds user data of type 5:
a run of bytes 0x42 ended by 0x69, or an identifier of 16 bytes and then that run, and one protobuf message. The datum is not documented.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from curation.errors import ClipUnreadable
from curation.records import TimedBytes, Track
from curation.telemetry.fixes import FIXES_MAX, Seen, believe

SOURCE: Final = "tesla-sei"
USER_DATA_MAX_BYTES: Final = 1024  # a message with every field set has about 130
_SEI: Final = 6
_USER_DATA_UNREGISTERED: Final = 5
_UUID_BYTES: Final = 16
_RUN: Final = re.compile(rb"\x42{1,64}\x69", re.DOTALL)
_START_CODE: Final = re.compile(rb"\x00\x00\x01", re.DOTALL)
_FIX: Final = "take the clip from the car's drive again"

_Field = descriptor_pb2.FieldDescriptorProto
_FIELDS: Final = (
    (1, "version", _Field.TYPE_UINT32),
    (2, "gear_state", _Field.TYPE_INT32),  # 0 park, 1 drive, 2 reverse, 3 neutral
    (3, "frame_seq_no", _Field.TYPE_UINT64),
    (4, "vehicle_speed_mps", _Field.TYPE_FLOAT),
    (5, "accelerator_pedal_position", _Field.TYPE_FLOAT),
    (6, "steering_wheel_angle", _Field.TYPE_FLOAT),
    (7, "blinker_on_left", _Field.TYPE_BOOL),
    (8, "blinker_on_right", _Field.TYPE_BOOL),
    (9, "brake_applied", _Field.TYPE_BOOL),
    (10, "autopilot_state", _Field.TYPE_INT32),  # 0 none, 1 self driving, 2 autosteer, 3 traffic-aware cruise
    (11, "latitude_deg", _Field.TYPE_DOUBLE),
    (12, "longitude_deg", _Field.TYPE_DOUBLE),
    (13, "heading_deg", _Field.TYPE_DOUBLE),
    (14, "linear_acceleration_mps2_x", _Field.TYPE_DOUBLE),
    (15, "linear_acceleration_mps2_y", _Field.TYPE_DOUBLE),
    (16, "linear_acceleration_mps2_z", _Field.TYPE_DOUBLE),
)


@cache
def message_type() -> Any:
    """The protobuf message of one frame."""
    file = descriptor_pb2.FileDescriptorProto(name="tesla_sei.proto", package="curation", syntax="proto3")
    message = file.message_type.add(name="Frame")
    for number, name, kind in _FIELDS:
        message.field.add(number=number, name=name, type=kind, label=_Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("curation.Frame"))


def user_data(packet: bytes | memoryview, *, length_bytes: int | None) -> list[bytes]:
    """Tesla's user data in one packet of an H.264 stream, without emulation prevention; of other makers' user data nothing is taken.

    Args:
        packet: NAL units, each after its length in `length_bytes` bytes (as in mp4), or after a start code where that is None.
        length_bytes: 1, 2 or 4.
    """
    units = _split_by_start_code(bytes(packet)) if length_bytes is None else _split_by_length(memoryview(packet), length_bytes)
    return [data for unit in units for data in _user_data_of(unit) if len(data) <= USER_DATA_MAX_BYTES and _messages(data)]


def parse_tesla_sei(payloads: Sequence[TimedBytes], *, subject: str) -> Track:
    """The way of a car by the messages of its clip, one for each payload; what does not parse as one is counted, and nothing is guessed.

    Messages are read in the order in which their pictures are shown, which is not that in which a stream holds them.

    Raises:
        ClipUnreadable: there are over 100,000 payloads.
    """
    if len(payloads) > FIXES_MAX:
        raise ClipUnreadable(f"holds over {FIXES_MAX} messages", subject=subject, fix=_FIX)
    seen: list[Seen] = []
    malformed: Counter[str] = Counter()
    for payload in payloads:
        message = _parsed(payload.data)
        if message is None:
            malformed["message"] += 1
            continue
        seen.append(_seen(message, payload.start_s))
    belief = believe(sorted(seen, key=lambda one: math.inf if one.offset_s is None or math.isnan(one.offset_s) else one.offset_s))
    return Track(
        source=SOURCE,
        fixes=belief.fixes,
        seen_count=len(seen),
        disbelieved=belief.disbelieved,
        malformed=belief.malformed | dict(malformed),
    )


def _seen(message: Any, start_s: float) -> Seen:
    # proto3 does not tell a missing number from 0: one coordinate that is just 0 was most likely never sent.
    is_half = (message.latitude_deg == 0.0) != (message.longitude_deg == 0.0)
    return Seen(
        offset_s=start_s,
        latitude_deg=None if is_half else message.latitude_deg,
        longitude_deg=None if is_half else message.longitude_deg,
        speed_mps=abs(message.vehicle_speed_mps),  # a car in reverse may count it backwards
    )


def _messages(data: bytes) -> list[bytes]:
    """What may be the message: after a run that begins the user data, or one that begins behind an identifier."""
    runs = (_RUN.match(data, start) for start in (0, _UUID_BYTES))
    return [data[run.end() :] for run in runs if run is not None]


def _parsed(data: bytes) -> Any:
    for candidate in _messages(data):
        message = message_type()()
        try:
            message.ParseFromString(candidate)
        except DecodeError:
            continue
        if candidate and message.ListFields():
            return message
    return None


def _split_by_length(packet: memoryview, length_bytes: int) -> Iterator[bytes]:
    """SEI units only; a length that leads out of the packet ends it."""
    at = 0
    while at + length_bytes < len(packet):
        start = at + length_bytes
        end = start + int.from_bytes(packet[at:start], "big")
        if end > len(packet):
            return
        if end > start and packet[start] & 0x1F == _SEI:
            yield bytes(packet[start:end])
        at = end


def _split_by_start_code(packet: bytes) -> Iterator[bytes]:
    """SEI units only, up to the first picture: they come before it."""
    starts = _START_CODE.finditer(packet)
    here = next(starts, None)
    while here is not None:
        kind = packet[here.end()] & 0x1F if here.end() < len(packet) else 0
        if kind in {1, 5}:
            return
        following = next(starts, None)
        if kind == _SEI:
            yield packet[here.end() : following.start() if following is not None else len(packet)]
        here = following


def _user_data_of(unit: bytes) -> Iterator[bytes]:
    """The user data of an SEI unit, by the sizes that it names; a size that leads out of the unit ends it."""
    raw = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 < len(raw):  # the last byte is the stop bit
        kind, at = _extended(raw, at)
        size, at = _extended(raw, at)
        if at + size > len(raw):
            return
        if kind == _USER_DATA_UNREGISTERED:
            yield raw[at : at + size]
        at += size


def _extended(raw: bytes, at: int) -> tuple[int, int]:
    """A number as SEI writes it, 255 for each byte 0xFF and then the rest; and where it ends."""
    number = 0
    while at < len(raw) and raw[at] == 0xFF:
        number, at = number + 255, at + 1
    return (number + raw[at], at + 1) if at < len(raw) else (number, at)
