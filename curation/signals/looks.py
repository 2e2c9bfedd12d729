"""Which packets to decode, so that most of a clip need not be: key frames, a frame after each, and whatever looks suspicious.

A stretch is suspicious where the packets alone hint at a defect: a run of tiny packets (the picture stands, or is black), a hole in
the timeline, packets that are flagged or laid out as damaged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from curation.records import Packet

SAMPLES_PER_S: Final = 1.0  # a second moves a car a dozen metres; a median over more of them says the same at twice the cost
SHORT_SAMPLES_PER_S: Final = 2.0
SHORT_S: Final = 4.0  # a shorter clip has too few whole seconds; twice as many measurements still fall on them, so that clips compare
LOOK_EVERY_S: Final = 1.0  # neighbouring looks of a road lie no closer: they would show the same
LOOKS_MAX: Final = 20  # of a clip of any length, evenly spread
FAR_S: Final = 10.0  # x264 places a key frame every 250 frames unless told otherwise: 8 to 10 s
FIRST_S: Final = 0.25  # decoded on from a clip's only key frame, so that two samples can be compared
STILL_FRAMES: Final = 8  # shows a freeze of five steps, which a single doubled frame is not
TINY_RUN: Final = 5  # as many steps without a difference make a freeze
HOLE_S: Final = 1.0  # what is shorter is measured on the packets, and hints at no damage to pictures
_EVEN_SHARE: Final = 0.005  # an encoder in haste spends the same again on each frame that stands; a scene that moves never does
_EVEN_BYTES: Final = 2
_TINY_SHARE: Final = 0.25  # of the median packet; in 32 real clips and formats no run of five lies below
_TINY_BYTES: Final = 24.0  # a picture of skipped blocks has a header, and next to nothing for each block of 16 x 16 px
_TINY_BYTES_PER_BLOCK: Final = 0.05

FEW_KEY_FRAMES: Final = "few_key_frames"
TINY_PACKETS: Final = "tiny_packets"
EVEN_PACKETS: Final = "even_packets"
HOLE: Final = "hole_in_time"
DAMAGED: Final = "damaged_packets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Positions of the packets to decode, each run of them from a key frame on; `None` for all. `because` says why more than key frames.

    `samples_per_s` is how often the decoded frames are measured.
    """

    chosen: frozenset[int] | None
    because: tuple[str, ...] = ()
    samples_per_s: float = SHORT_SAMPLES_PER_S


def samples_per_s(length_s: float | None) -> float:
    """How often a clip that is decoded whole is measured; as a short one where its length is not known."""
    return SHORT_SAMPLES_PER_S if length_s is None or length_s < SHORT_S else SAMPLES_PER_S


class Timeline:
    """The packets of a clip in the order in which they are shown.

    `can_skip` where every packet has a time of its own and the first is a key frame: else only a full decode says which frame is which.
    """

    def __init__(self, packets: Sequence[Packet]) -> None:
        self.packets = packets
        shown = [(packet.pts_s, at) for at, packet in enumerate(packets) if packet.pts_s is not None]
        shown.sort()
        self.order = [at for _, at in shown]
        self._rank_by_tick = {_tick(pts_s): rank for rank, (pts_s, _) in enumerate(shown)}
        self._rank_of = {at: rank for rank, at in enumerate(self.order)}
        self.keys = [at for at, packet in enumerate(packets) if packet.is_keyframe]
        self.can_skip = bool(self.keys) and self.keys[0] == 0 and len(self._rank_by_tick) == len(packets)

    def rank(self, pts_s: float | None) -> int | None:
        """Which frame in order of presentation is shown at that time, None where none is known to be."""
        return None if pts_s is None else self._rank_by_tick.get(_tick(pts_s))

    def onward(self, key: int, count: int) -> set[int]:
        """The packets to decode, in demux order from the key frame `key` on, for it and the `count` frames shown after it."""
        rank = self._rank_of[key]
        last = max(self.order[rank : rank + count + 1])
        # frames shown before an open group's key frame need the group before it
        return {at for at in range(key, last + 1) if not self.is_shown_before(at, key)}

    @property
    def length_s(self) -> float:
        """From the first frame shown to the last."""
        return self.shown_s(self.order[-1]) - self.shown_s(self.order[0])

    @property
    def shown_count(self) -> int:
        """Frames that a player shows."""
        return sum(1 for packet in self.packets if not packet.is_discarded)

    def keys_of(self, ranks: Iterable[int]) -> list[int]:
        """The key frames from which the frames of these ranks can be decoded."""
        return sorted({self.key_before(self.order[rank]) for rank in ranks})

    def is_shown_before(self, at: int, key: int) -> bool:
        """Whether the packet `at` is shown before the packet `key`."""
        return self._rank_of[at] < self._rank_of[key]

    def key_before(self, at: int) -> int:
        """The key frame from which the packet `at` can be decoded."""
        return self.keys[bisect_right(self.keys, at) - 1]

    def key_after(self, at: int) -> int:
        """The first key frame after the packet `at`; the number of packets where there is none."""
        index = bisect_right(self.keys, at)
        return self.keys[index] if index < len(self.keys) else len(self.packets)

    def shown_s(self, at: int) -> float:
        """When the packet `at` is shown."""
        return self.packets[at].pts_s or 0.0


def plan(timeline: Timeline, *, width_px: int, height_px: int) -> Plan:
    """What the `keyframes` depth decodes first."""
    if not timeline.can_skip:
        return Plan(chosen=None, because=(FEW_KEY_FRAMES,))
    looks = looked_at(timeline)
    chosen: set[int] = set()
    because: list[str] = []
    for key in looks:
        chosen |= timeline.onward(key, 1)
    if len(looks) == 1:
        because.append(FEW_KEY_FRAMES)
        chosen |= timeline.onward(looks[0], _frames_within(timeline, looks[0], FIRST_S) + 1)
    far = _far(timeline, looks)
    if far:
        because.append(FEW_KEY_FRAMES)
        chosen |= far
    for name, stretches in suspicious(timeline, blocks=width_px * height_px / 256.0).items():
        because.append(name)
        for start, end in stretches:
            chosen |= set(range(timeline.key_before(start), end + 1))
    per_s = SHORT_SAMPLES_PER_S if len(looks) > 1 else 1.0 / FIRST_S
    return Plan(chosen=_from_keys(timeline, chosen), because=tuple(dict.fromkeys(because)), samples_per_s=per_s)


def longer(timeline: Timeline, before: Plan, keys: Iterable[int]) -> Plan:
    """The plan with eight frames after each of `keys`, where a picture stood still."""
    chosen = set(before.chosen or ())
    for key in keys:
        chosen |= timeline.onward(key, STILL_FRAMES)
    return Plan(chosen=_from_keys(timeline, chosen), because=before.because, samples_per_s=before.samples_per_s)


def looked_at(timeline: Timeline) -> list[int]:
    """The key frames to look at: at least a second apart, 20 at most."""
    every_s = max(LOOK_EVERY_S, timeline.length_s / LOOKS_MAX) * 0.999  # a group of exactly a second passes
    looks: list[int] = []
    for key in timeline.keys:
        if timeline.packets[key].is_discarded:
            continue
        if not looks or timeline.shown_s(key) - timeline.shown_s(looks[-1]) >= every_s:
            looks.append(key)
    return looks


def suspicious(timeline: Timeline, *, blocks: float) -> dict[str, list[tuple[int, int]]]:
    """Reason -> first and last packet of each suspicious stretch, in demux order; reasons without any are left out."""
    packets = timeline.packets
    dependent = [packet.size_bytes for packet in packets if not packet.is_keyframe]
    limit = max(_TINY_BYTES + _TINY_BYTES_PER_BLOCK * blocks, _TINY_SHARE * median(dependent)) if dependent else 0.0
    found = {
        TINY_PACKETS: [run for run in _runs([packet.size_bytes <= limit for packet in packets]) if run[1] - run[0] + 1 >= TINY_RUN],
        EVEN_PACKETS: [run for run in _runs(_even(packets)) if run[1] - run[0] + 1 >= TINY_RUN],
        DAMAGED: _runs([packet.is_corrupt for packet in packets]),
        HOLE: [
            (later, later)
            for earlier, later in zip(timeline.order, timeline.order[1:], strict=False)
            if timeline.shown_s(later) - timeline.shown_s(earlier) >= HOLE_S
        ],
    }
    return {name: stretches for name, stretches in found.items() if stretches}


def _from_keys(timeline: Timeline, chosen: set[int]) -> frozenset[int] | None:
    """The chosen packets without those that are shown before a group's key frame and need a group that is not chosen."""
    if len(chosen) == len(timeline.packets):
        return None
    orphans: set[int] = set()
    for key in timeline.keys:
        if key in chosen and key - 1 not in chosen:
            at = key + 1
            while at < len(timeline.packets) and timeline.is_shown_before(at, key):
                orphans.add(at)
                at += 1
    return frozenset(chosen - orphans)


def _far(timeline: Timeline, looks: Sequence[int]) -> set[int]:
    """Packets between key frames that lie over 10 s apart, or that far before the clip's end."""
    found: set[int] = set()
    end_s = timeline.shown_s(timeline.order[-1])
    for key in looks:
        following = timeline.key_after(key)
        until_s = timeline.shown_s(following) if following < len(timeline.packets) else end_s
        if until_s - timeline.shown_s(key) > FAR_S:
            found |= set(range(key, following))
    return found


def _frames_within(timeline: Timeline, key: int, length_s: float) -> int:
    rank = timeline.order.index(key)
    start_s = timeline.shown_s(key)
    later = (number for number, at in enumerate(timeline.order[rank:]) if timeline.shown_s(at) - start_s >= length_s)
    return next(later, len(timeline.order) - rank - 1)


def _even(packets: Sequence[Packet]) -> list[bool]:
    """Whether each packet needs the one before and is as large, to half a percent."""
    sizes = [0 if packet.is_keyframe else packet.size_bytes for packet in packets]
    steps = zip([0, *sizes], sizes, strict=False)
    return [bool(before and size) and abs(size - before) <= max(_EVEN_BYTES, _EVEN_SHARE * size) for before, size in steps]


def _runs(marked: Sequence[bool]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for at, is_marked in enumerate(marked):
        if is_marked:
            runs[-1:] = [(runs[-1][0], at)] if runs and runs[-1][1] == at - 1 else [*runs[-1:], (at, at)]
    return runs


def _tick(pts_s: float) -> int:
    return round(pts_s * 1e6)


def needed_for(timeline: Timeline, wanted: Iterable[int]) -> frozenset[int] | None:
    """The packets to decode so that the frames of these packets come out as from a full decode; None for all.

    Of each group the packets up to the last one wanted, without those from which no other picture is decoded; a frame shown before an open
    group's key frame takes the whole group before it.
    """
    if not timeline.can_skip:
        return None
    wanted, chosen = set(wanted), set[int]()
    for at in wanted:
        key = timeline.key_before(at)
        chosen.update(range(key, at + 1))
        if timeline.is_shown_before(at, key):
            chosen.update(range(timeline.key_before(key - 1), key))
    whole = _from_keys(timeline, chosen)
    kept = range(len(timeline.packets)) if whole is None else whole
    return frozenset(at for at in kept if at in wanted or not timeline.packets[at].is_disposable)
