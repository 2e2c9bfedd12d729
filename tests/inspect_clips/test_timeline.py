"""Timeline signals on packet lists whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from curation.records import Packet
from curation.signals import timeline


def _packets(times: Iterable[float | None], *, duration_s: float | None = None, discarded: int = 0) -> list[Packet]:
    return [
        Packet(pts_s=time, duration_s=duration_s, size_bytes=100, is_keyframe=index == 0, is_corrupt=False, is_discarded=index < discarded)
        for index, time in enumerate(times)
    ]


STEADY = [index / 25 for index in range(100)]


def test_a_steady_clip_has_no_gap_and_its_own_length():
    """100 frames at 25 fps last 4 s at 25 fps without gap, drop or double."""
    packets = _packets(STEADY)
    assert timeline.span_s(packets) == pytest.approx(4.0)
    assert timeline.fps(packets) == pytest.approx(25.0)
    assert [timeline.gap_count(packets), timeline.dropped_frame_count(packets), timeline.duplicate_pts_count(packets)] == [0, 0, 0]


def test_a_hole_is_one_gap_of_as_many_frames_as_fell_out():
    """Ten frames taken out of the middle are one gap of ten frames."""
    packets = _packets(STEADY[:40] + STEADY[50:])
    assert [timeline.gap_count(packets), timeline.dropped_frame_count(packets)] == [1, 10]


def test_frames_in_decode_order_are_no_gaps():
    """B-frames make presentation times jump in demux order; only the presented order counts."""
    order = [time for start in range(0, 100, 4) for time in (STEADY[start], STEADY[start + 3], STEADY[start + 1], STEADY[start + 2])]
    assert [timeline.gap_count(_packets(order)), timeline.dropped_frame_count(_packets(order))] == [0, 0]


def test_a_rate_that_changes_is_no_gap():
    """25 fps for three seconds and 5 fps afterwards is a variable rate: at most the change itself counts."""
    slow = [3.0 + index / 5 for index in range(1, 30)]
    packets = _packets(STEADY[:75] + slow)
    assert timeline.gap_count(packets) <= 1
    assert timeline.dropped_frame_count(packets) <= 5


def test_jitter_and_late_frames_are_no_gap():
    """Times that wobble by 15 %, or one frame that comes 0.7 frame times late, hide no frame."""
    wobbling = [time + 0.006 * math.sin(7.0 * index) for index, time in enumerate(STEADY)]
    late = [time + (0.028 if index == 50 else 0.0) for index, time in enumerate(STEADY)]
    assert [timeline.gap_count(_packets(wobbling)), timeline.gap_count(_packets(late))] == [0, 0]


def test_frames_dropped_here_and_there_are_counted():
    """Every fourth frame missing from a steady clip is one gap each, and none is explained away as a variable rate."""
    kept = [time for index, time in enumerate(STEADY) if index % 4 != 2]
    assert timeline.dropped_frame_count(_packets(kept)) == 25


def test_doubled_times_are_counted_and_no_gap():
    """A presentation time that stands twice is one duplicate and moves no other number."""
    packets = _packets([*STEADY, STEADY[10]])
    assert [timeline.duplicate_pts_count(packets), timeline.gap_count(packets)] == [1, 0]


def test_discarded_packets_are_no_part_of_the_timeline():
    """Frames before an edit list's start neither lengthen the clip nor open a gap."""
    packets = _packets([-2.0, -1.0, *STEADY], discarded=2)
    assert timeline.span_s(packets) == pytest.approx(4.0)
    assert timeline.gap_count(packets) == 0


def test_a_late_start_is_no_mismatch_beyond_itself():
    """A picture that begins 0.8 s into a 4 s container misses 0.8 s, whatever its first presentation time."""
    packets = _packets([0.8 + index / 10 for index in range(32)])
    assert timeline.duration_mismatch_s(4.0, packets) == pytest.approx(0.8)


def test_one_frame_has_the_length_that_its_packet_says():
    """A single packet lasts its own duration; whether it has gaps cannot be known."""
    packets = _packets([0.0], duration_s=0.04)
    assert timeline.span_s(packets) == pytest.approx(0.04)
    assert timeline.gap_count(packets) is None


@pytest.mark.parametrize("packets", [[], _packets([None, None, None])], ids=["no packet", "no times"])
def test_without_times_nothing_is_made_up(packets: list[Packet]):
    """No presentation time: every timeline number is unmeasured."""
    found = [
        timeline.span_s(packets),
        timeline.fps(packets),
        timeline.gap_count(packets),
        timeline.dropped_frame_count(packets),
        timeline.duplicate_pts_count(packets),
        timeline.duration_mismatch_s(4.0, packets),
    ]
    assert found == [None] * 6


def test_a_container_without_duration_promises_nothing():
    """No duration in the header: the mismatch is unmeasured, not zero."""
    assert timeline.duration_mismatch_s(None, _packets(STEADY)) is None


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([], "the packets carry no presentation times"),
        ([1.0, 1.0], "the packets carry fewer than two distinct presentation times"),
        ([0.0, 0.04, 9.2e13], "the packets claim to span more than a day"),
    ],
)
def test_times_that_nobody_can_believe_are_unmeasured_with_a_reason(times: list[float], reason: str):
    """Missing, equal and absurd times give no length and no rate, and the reason says which of them it was."""
    packets = _packets(times)
    assert (timeline.span_s(packets), timeline.fps(packets), timeline.why_unmeasured(packets)) == (None, None, reason)


def test_a_rate_that_no_camera_has_is_unmeasured():
    """Two packets one clock tick apart claim 90,000 frames per second: the length stands, the rate is not believed."""
    packets = _packets([0.0, 1 / 90_000])
    assert (timeline.fps(packets), timeline.why_unmeasured(packets)) == (None, "the packets claim more than 240 frames per second")
