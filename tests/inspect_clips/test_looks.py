"""What a packet list alone says of where to look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from curation.records import Packet
from curation.signals import looks

SIZE = {"width_px": 640, "height_px": 360}


def _packets(
    count: int, *, group: int, fps: float = 25.0, sizes: Mapping[int, int] | None = None, corrupt: Iterable[int] = (), late_s: float = 0.0
) -> list[Packet]:
    """A steady clip whose second half comes `late_s` later."""
    return [
        Packet(
            pts_s=at / fps + (late_s if at >= count // 2 else 0.0),
            duration_s=1 / fps,
            size_bytes=(sizes or {}).get(at, 20_000 if at % group == 0 else 4_000 + 50 * (at % 3)),
            is_keyframe=at % group == 0,
            is_corrupt=at in set(corrupt),
        )
        for at in range(count)
    ]


def test_a_healthy_clip_is_looked_at_by_its_key_frames_and_one_frame_after_each():
    """Ten groups of a second: twenty packets of 250, and nothing more to say."""
    plan = looks.plan(looks.Timeline(_packets(250, group=25)), **SIZE)
    assert plan.chosen == frozenset(at for key in range(0, 250, 25) for at in (key, key + 1))
    assert plan.because == ()


def test_a_long_clip_is_looked_at_twenty_times():
    """Sixty groups of a second give at most twenty looks, evenly spread."""
    line = looks.Timeline(_packets(1500, group=25))
    assert looks.looked_at(line) == list(range(0, 1500, 75))


def test_intra_only_video_is_looked_at_once_a_second():
    """Where every frame is a key frame, a second lies between looks."""
    assert looks.looked_at(looks.Timeline(_packets(75, group=1))) == [0, 25, 50]


def test_a_single_key_frame_in_a_longer_clip_is_decoded_on_and_said():
    """One group of eight seconds: a quarter of a second on from its start, and one frame more for the second sample's motion."""
    plan = looks.plan(looks.Timeline(_packets(200, group=200)), **SIZE)
    assert (plan.chosen, plan.because) == (frozenset(range(9)), (looks.FEW_KEY_FRAMES,))


def test_key_frames_far_apart_are_bridged_and_said():
    """Groups of twelve seconds are decoded whole: a look every twelve seconds sees too little."""
    plan = looks.plan(looks.Timeline(_packets(600, group=300)), **SIZE)
    assert (plan.chosen, plan.because) == (None, (looks.FEW_KEY_FRAMES,))


@pytest.mark.parametrize(
    ("changes", "reason", "decoded"),
    [
        ({"sizes": {at: 30 + 5 * (at % 3) for at in range(110, 116)}}, looks.TINY_PACKETS, range(100, 116)),
        ({"sizes": dict.fromkeys(range(110, 116), 3_000)}, looks.EVEN_PACKETS, range(100, 116)),
        ({"corrupt": [60]}, looks.DAMAGED, range(50, 61)),
        ({"late_s": 3.0}, looks.HOLE, range(125, 126)),
    ],
    ids=["tiny", "even", "damaged", "hole"],
)
def test_a_suspicious_stretch_is_decoded_from_the_key_frame_before_it(changes: dict, reason: str, decoded: range):
    """Tiny packets in a row, a damaged packet, a hole: decoded up to its last packet, with the reason."""
    plan = looks.plan(looks.Timeline(_packets(250, group=25, **changes)), **SIZE)
    assert plan.because == (reason,)
    assert set(decoded) <= (plan.chosen or set())
    assert len(plan.chosen or ()) <= 20 + len(decoded)


def test_few_tiny_packets_and_short_holes_raise_no_suspicion():
    """Four tiny packets in a row and a hole of half a second are everyday."""
    packets = _packets(250, group=25, sizes={at: 30 + 5 * (at % 3) for at in range(110, 114)}, late_s=0.5)
    assert looks.suspicious(looks.Timeline(packets), blocks=900.0) == {}


def test_an_always_still_clip_is_suspicious_though_all_its_packets_are_alike():
    """Where every packet is next to nothing, none is small beside the others: the picture's size says it."""
    packets = _packets(100, group=100, sizes={at: 40 + 5 * (at % 3) for at in range(1, 100)})
    assert looks.suspicious(looks.Timeline(packets), blocks=900.0) == {looks.TINY_PACKETS: [(1, 99)]}


def test_frames_are_found_by_their_time_in_the_order_shown():
    """With B-frames the frame after a key frame comes later in the file: all packets up to it are chosen."""
    order = [0, 3, 1, 2, 4, 7, 5, 6]
    packets = [Packet(pts_s=number / 25, duration_s=0.04, size_bytes=1_000, is_keyframe=number == 0, is_corrupt=False) for number in order]
    line = looks.Timeline(packets)
    assert [line.rank(number / 25) for number in (0, 1, 7)] == [0, 1, 7]
    assert line.rank(0.015) is None
    assert line.onward(0, 1) == {0, 1, 2}


def test_frames_shown_before_an_open_groups_key_frame_are_left_out():
    """They need the group before; looking at the key frame alone cannot decode them."""
    shown = [0, 1, 2, 3, 6, 4, 5, 7, 8, 9]  # the key frame at position 4 is shown after the two that follow it
    packets = [
        Packet(pts_s=number * 0.5, duration_s=0.5, size_bytes=1_000, is_keyframe=number in {0, 6}, is_corrupt=False) for number in shown
    ]
    plan = looks.plan(looks.Timeline(packets), **SIZE)
    assert plan.chosen == {0, 1, 4, 7}


@pytest.mark.parametrize("broken", ["no times", "double times", "no key frame at the start"])
def test_what_cannot_be_skipped_through_is_decoded_whole(broken: str):
    """Without a time for each packet, or a key frame to begin with, no frame could be placed."""
    packets = _packets(50, group=25)
    first = packets[0]
    changed = {
        "no times": {"pts_s": None, "is_keyframe": True},
        "double times": {"pts_s": packets[1].pts_s, "is_keyframe": True},
        "no key frame at the start": {"pts_s": 0.0, "is_keyframe": False},
    }[broken]
    packets[0] = Packet(duration_s=first.duration_s, size_bytes=first.size_bytes, is_corrupt=False, **changed)
    assert looks.plan(looks.Timeline(packets), **SIZE).chosen is None
