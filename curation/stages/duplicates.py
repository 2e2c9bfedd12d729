"""Name the clips that show the same recording as another one, and for each the survivor that stands for it.

First what carries the very same packets, then what was recorded at one time by one vehicle, on one drive or in one place, then all
against all through an index. The index holds the new clips and the curated ones pass by, so that memory follows the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curation.digests import sha256_hex
from curation.ports import HashIndex
from curation.schema import CLIPS
from curation.signals.fingerprint import SAME_BITS_MAX, Bits, Moment, agreement, is_copy, moments_of

COLUMNS: Final = (
    "clip_id", "verdict", "packet_digest", "signature", "duplicate_of", "duration_s", "width_px", "height_px", "size_bytes",
    "captured_at", "vehicle_id", "drive_id", "camera", "latitude_deg", "longitude_deg", "near_group",
)  # fmt: skip
ONE_TIME_S: Final = 2.0  # clocks of header, file name and receiver differ by so much over one recording
LENGTHS_DIFFER_S: Final = 0.5
IN_WINDOW_BITS_MAX: Final = 48  # a GIF of a real clip is 32 bits off, another camera's picture at least 88
_PLACE_DECIMALS: Final = 3  # degrees: cells of about 100 m


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """What is asked of one row; `moments` is empty where it has no signature."""

    clip_id: str
    verdict: str
    packet_digest: str | None
    moments: tuple[Moment, ...]
    duration_s: float
    pixel_count: int
    size_bytes: int
    captured_at: datetime | None
    vehicle_id: str | None
    drive_id: str | None
    camera: str | None
    place: tuple[float, float] | None

    def standing(self) -> tuple[bool, float, int, str]:
        """Sorts the best clip first: accepted, then what shows the most pixels for the longest, in the most bytes; then by id."""
        return (self.verdict != "accepted", -self.pixel_count * self.duration_s, -self.size_bytes, self.clip_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What rows should say and do not yet: clip_id -> clip_id of its survivor, None where it has none now; and clip_id -> near_group."""

    survivors: Mapping[str, str | None]
    groups: Mapping[str, str]


def run(new: pa.Table, curated: pa.Table, *, index: HashIndex) -> Found:
    """Which new or curated clips are duplicates, and of which; and which are one group, because they show the same or a third joins them.

    A survivor is no duplicate itself, and every duplicate was compared with its own survivor, never with a third clip only. The answer
    depends on the rows alone, not on their order. Clips that could not be measured are nobody's duplicate. A group only ever grows: what a
    row says of its group is taken over, of new rows too, so that no later batch, and no erasure of the clip between, tears two apart.

    Args:
        new: rows of a batch, with `COLUMNS` at least; one that is curated already is taken from here.
        curated: rows of curated.clips; what they know of one another, their `duplicate_of`, is taken over.
        index: an empty one.
    """
    fresh = _clips(new)
    known = {clip_id: clip for clip_id, clip in _clips(curated).items() if clip_id not in fresh}
    clips = {**known, **fresh}
    known_as = {
        row["clip_id"]: row["duplicate_of"] if row["duplicate_of"] in clips else None
        for row in curated.select(["clip_id", "duplicate_of"]).to_pylist()
        if row["clip_id"] in known
    }
    pairs = {(clip_id, survivor) for clip_id, survivor in known_as.items() if survivor in known}
    for found in (_of_one_stream(clips), _in_windows(clips), _anywhere(clips, fresh, index)):
        pairs |= {(one, other) for one, other in found if one in fresh or other in fresh}
    survivors = _survivors(clips, pairs)
    stood = known_as | {row["clip_id"]: row["duplicate_of"] for row in new.select(["clip_id", "duplicate_of"]).to_pylist()}
    groups = _named_groups(curated) | _named_groups(new)
    return Found(
        survivors={clip_id: survivors.get(clip_id) for clip_id, before in stood.items() if survivors.get(clip_id) != before},
        groups={clip_id: name for clip_id, name in _groups(pairs, groups).items() if groups.get(clip_id) != name},
    )


def stated(rows: pa.Table, found: Found) -> pa.Table:
    """The rows of curated.clips, saying what was found of them."""
    said: dict[str, Mapping[str, str | None]] = {"duplicate_of": found.survivors, "near_group": found.groups}
    for name, told in said.items():
        before = zip(rows["clip_id"].to_pylist(), rows[name].to_pylist(), strict=True)
        values = pa.array([told.get(clip_id, value) for clip_id, value in before], pa.string())
        rows = rows.set_column(rows.schema.get_field_index(name), CLIPS.field(name), values)
    return rows


def _named_groups(rows: pa.Table) -> dict[str, str]:
    named = rows.select(["clip_id", "near_group"]).filter(rows["near_group"].is_valid())
    return dict(zip(named["clip_id"].to_pylist(), named["near_group"].to_pylist(), strict=True))


def _groups(pairs: Iterable[tuple[str, str]], named: Mapping[str, str]) -> dict[str, str]:
    """clip_id -> name of all that pairs and earlier names join with it: the smallest name that was ever given there.

    A group of new clips is named by the smallest digest of their ids, so that neither the order of batches nor of rows changes a name, and
    none tells the id of a clip that was erased.
    """
    above: dict[str, str] = {}

    def top(one: str) -> str:
        while above.setdefault(one, one) != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    for one, other in chain(pairs, named.items()):
        above[top(one)] = top(other)
    earlier = frozenset(named.values())
    smallest: dict[str, str] = {}
    for one in list(above):
        name, at = one if one in earlier else "near-" + sha256_hex(one.encode())[:32], top(one)
        smallest[at] = min(name, smallest.get(at, name))
    return {one: smallest[top(one)] for one in list(above) if one not in earlier}


def _clips(rows: pa.Table) -> dict[str, _Clip]:
    found = {}
    for row in rows.select(list(COLUMNS)).to_pylist():
        if row["verdict"] == "quarantined":
            continue
        found[row["clip_id"]] = _Clip(
            **{name: row[name] for name in ("clip_id", "verdict", "packet_digest", "captured_at", "vehicle_id", "drive_id", "camera")},
            moments=moments_of(row["signature"]) if row["signature"] else (),
            duration_s=row["duration_s"] or 0.0,
            pixel_count=(row["width_px"] or 0) * (row["height_px"] or 0),
            size_bytes=row["size_bytes"] or 0,
            place=_place(row),
        )
    return found


def _place(row: Mapping[str, Any]) -> tuple[float, float] | None:
    latitude_deg, longitude_deg = row["latitude_deg"], row["longitude_deg"]
    if latitude_deg is None or longitude_deg is None or (latitude_deg, longitude_deg) == (0.0, 0.0):
        return None
    return round(latitude_deg, _PLACE_DECIMALS), round(longitude_deg, _PLACE_DECIMALS)


def _of_one_stream(clips: Mapping[str, _Clip]) -> Iterator[tuple[str, str]]:
    """Neighbours among the clips with the very same packets, best first: a chain, whose first is the survivor of all."""
    groups: dict[str, list[_Clip]] = defaultdict(list)
    for clip in clips.values():
        if clip.packet_digest:
            groups[clip.packet_digest].append(clip)
    for group in groups.values():
        best = min(group, key=_Clip.standing)
        yield from ((clip.clip_id, best.clip_id) for clip in group if clip is not best)


def _in_windows(clips: Mapping[str, _Clip]) -> Iterator[tuple[str, str]]:
    """Pairs that began within two seconds on one vehicle, drive or spot, and show the same, if less exactly."""
    groups: dict[tuple[str, object], list[_Clip]] = defaultdict(list)
    for clip in clips.values():
        if clip.captured_at is None or not clip.moments:
            continue
        for kind in ("vehicle_id", "drive_id", "place"):
            if getattr(clip, kind) is not None:
                groups[kind, getattr(clip, kind)].append(clip)
    for group in groups.values():
        timed = sorted((clip.captured_at, clip.clip_id) for clip in group if clip.captured_at is not None)
        for at, (began_at, clip_id) in enumerate(timed):
            for later_at, later_id in timed[at + 1 :]:
                if (later_at - began_at).total_seconds() > ONE_TIME_S:
                    break
                if _shows_the_same(clips[clip_id], clips[later_id], bits_max=IN_WINDOW_BITS_MAX):
                    yield clip_id, later_id


def _anywhere(clips: Mapping[str, _Clip], fresh: Mapping[str, _Clip], index: HashIndex) -> Iterator[tuple[str, str]]:
    """Pairs of a new clip and any other that show the same at the same times."""
    taken_in = [(clip.clip_id, moment) for clip in fresh.values() for moment in clip.moments]
    index.add(_hashes([moment for _, moment in taken_in]))
    asked = [(clip.clip_id, moment) for clip in clips.values() for moment in clip.moments]
    candidates: set[tuple[str, str]] = set()
    for row, number in index.near(_hashes([moment for _, moment in asked]), within=SAME_BITS_MAX):
        one, other = asked[row][0], taken_in[number][0]
        if one != other:
            candidates.add((min(one, other), max(one, other)))
    yield from (pair for pair in sorted(candidates) if _shows_the_same(clips[pair[0]], clips[pair[1]], bits_max=SAME_BITS_MAX))


def _hashes(moments: Sequence[Moment]) -> Bits:
    return np.frombuffer(bytes.fromhex("".join(moment.bits for moment in moments)), dtype=np.uint8).reshape(-1, 32)


def _shows_the_same(one: _Clip, other: _Clip, *, bits_max: int) -> bool:
    found = agreement(one.moments, other.moments, bits_max=bits_max)
    if found.distinct_count < 2 and abs(one.duration_s - other.duration_s) > LENGTHS_DIFFER_S:
        return False
    return is_copy(found, times_agree=_times_agree(one, other))


def _times_agree(one: _Clip, other: _Clip) -> bool | None:
    """Whether both can be the same camera's recording of the same moment; None where a time is unknown."""
    for name in ("vehicle_id", "camera"):
        names = {getattr(one, name), getattr(other, name)} - {None}
        if len(names) > 1:
            return False
    if one.captured_at is None or other.captured_at is None:
        return None
    return abs((one.captured_at - other.captured_at).total_seconds()) <= ONE_TIME_S


def _survivors(clips: Mapping[str, _Clip], pairs: set[tuple[str, str]]) -> dict[str, str]:
    """Duplicate -> survivor: the best clip stands for all that are paired with it, then the best of the rest, and so on."""
    beside: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        beside[one].add(other)
        beside[other].add(one)
    survivors: dict[str, str] = {}
    standing: set[str] = set()
    for clip_id in sorted(beside, key=lambda clip_id: clips[clip_id].standing()):
        if clip_id in survivors:
            continue
        standing.add(clip_id)
        survivors |= dict.fromkeys(beside[clip_id] - standing - survivors.keys(), clip_id)
    return survivors
