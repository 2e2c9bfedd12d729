"""Whether a coded packet is laid out as its container says: damage that shows without decoding."""

from __future__ import annotations


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
