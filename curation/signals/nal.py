"""Whether a coded packet is laid out as its container says: damage that shows without decoding."""

from __future__ import annotations

from typing import Final

_SLICE: Final = 1  # nal_unit_type: of a picture that is no IDR, in one piece; 2 to 4 are its partitions
_IDR_SLICE: Final = 5


def lays_out(data: memoryview, length_bytes: int) -> bool:
    """Whether NAL units, each after its length, fill the packet to its last byte, none empty and none with the forbidden bit.

    Args:
        data: a packet of H.264 or HEVC as MP4 and Matroska hold it.
        length_bytes: size of the length before each unit, 1 to 4; 0 where the packet holds none, and nothing can be said: True.
    """
    if not length_bytes:
        return True
    at, end = 0, len(data)
    while at < end:
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size == 0 or at + size > end or data[at] & 0x80:
            return False
        at += size
    return True


def is_disposable_h264(data: memoryview, length_bytes: int) -> bool:
    """Whether no other picture is decoded from this one: its slices are not of an IDR picture, and their nal_ref_idc is 0 (H.264, 7.4.1).

    Args:
        data: a packet of H.264 as MP4 and Matroska hold it.
        length_bytes: size of the length before each unit, 1 to 4; 0 where the packet holds none, and nothing can be said: False.
    """
    if not length_bytes:
        return False
    at, end = 0, len(data)
    while at + length_bytes < end:
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        kind = data[at] & 0x1F
        if _SLICE <= kind <= _IDR_SLICE:  # all slices of a picture have the same nal_ref_idc, or are all above 0
            return kind == _SLICE and not data[at] & 0x60
        at += size
    return False
