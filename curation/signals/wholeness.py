"""Whether a file ends before its own container says: a card pulled out, a copy broken off. Headers in, a number of bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Read = Callable[[int, int], bytes]  # offset and length to bytes, fewer at the file's end

_BOXES_MAX: Final = 100_000  # top-level boxes of one file; a recorder that writes fragments makes two a second
_SYNC: Final = 0x47
_TS_FORMS: Final = ((188, 0), (192, 4), (204, 0))  # packet size and offset of the sync byte: plain, M2TS, with parity
_EBML_ID: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID: Final = b"\x18\x53\x80\x67"


def missing_byte_count(container: str, size_bytes: int, read: Read) -> int | None:
    """Bytes that the file lacks of what its container announces, >= 0; None where that container announces nothing.

    Args:
        container: the demuxer's name of the format.
        size_bytes: size of the file.
        read: gives the file's bytes.
    """
    if "mp4" in container.split(","):
        return _boxes(size_bytes, read)
    if container == "mpegts":
        return _transport_packets(size_bytes, read)
    if container == "avi":
        return _riff(size_bytes, read)
    return _segment(size_bytes, read) if "matroska" in container else None


def _boxes(size_bytes: int, read: Read) -> int:
    at = 0
    for _ in range(_BOXES_MAX):
        head = read(at, 16)
        if len(head) < 8 or not head[4:8].isascii():  # a few bytes of padding are no box
            return 0
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0 stands for "to the end of the file"
            return 0
        at += size
        if at > size_bytes:
            return at - size_bytes
    return 0


def _transport_packets(size_bytes: int, read: Read) -> int | None:
    head = read(0, 3 * 204 + 8)
    for packet_bytes, offset in _TS_FORMS:
        if all(head[offset + number * packet_bytes : offset + number * packet_bytes + 1] == bytes([_SYNC]) for number in range(3)):
            return -size_bytes % packet_bytes
    return None


def _riff(size_bytes: int, read: Read) -> int:
    at = 0
    for _ in range(_BOXES_MAX):
        head = read(at, 8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return 0
        at += 8 + int.from_bytes(head[4:8], "little")
        if at > size_bytes:
            return at - size_bytes
    return 0


def _segment(size_bytes: int, read: Read) -> int | None:
    at = 0
    for wanted in (_EBML_ID, _SEGMENT_ID):
        head = read(at, 12)
        if head[:4] != wanted or len(head) < 12 or not head[4]:
            return None
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if wanted == _SEGMENT_ID and size == (1 << 7 * width) - 1:  # a live recording does not know its size
            return None
        at += 4 + width + size
    return max(0, at - size_bytes)
