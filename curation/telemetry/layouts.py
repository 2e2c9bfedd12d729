"""How recorders name what they record: camera, start, device and drive from the path of a clip. Pure, over names alone.

The table `RECORDERS` says what each recorder's names look like. Their clocks show local time and name no zone: one is assumed, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from curation.records import Telemetry
from curation.settings import DEFAULT_ZONE
from curation.telemetry.reading import is_of_a_clock

_OLDEST_YEAR: Final = 2010  # the first of these recorders was sold that year: an earlier date is a clock that was never set
_SLACK_S: Final = 5.0  # recorders take up to some seconds to close a file and begin the next
_COMMA_SEGMENT_S: Final = 60  # openpilot cuts a route into segments of one minute
_EVENT_FOLDER: Final = re.compile(r"(?:^|/)(?:SavedClips|SentryClips)/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """How one make of recorder names its clips.

    `pattern` is searched in the whole path; its groups Y M D h m s are the local start, `camera` a key of `cameras` (the empty key where
    the name has none); `device`, `route` and `segment` stand in openpilot's paths. `folders` are those that the recorder makes itself, so
    they tell no vehicle from another. `segment_max_s` is the longest clip it can be set to: a later start is another drive. With
    `shares_track` one track file, named without the camera, stands for the clips of all cameras.
    """

    name: str
    pattern: re.Pattern[str]
    cameras: Mapping[str, str]
    folders: frozenset[str]
    segment_max_s: float
    shares_track: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What the path of one clip says: telemetry, and what it takes to find the clip's drive among others."""

    recorder: Recorder
    telemetry: Telemetry
    shared: str | None  # path without suffix of the track file that all cameras of this moment share, where the recorder writes one
    owner: str  # the folder above the recorder's own: what tells one vehicle's clips from another's; empty at the top
    drive: str | None  # where the path itself names the drive


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/){text}$", re.ASCII | re.IGNORECASE)


RECORDERS: Final = (
    Recorder(
        name="TeslaCam",
        pattern=_pattern(
            r"(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)_(?P<h>\d\d)-(?P<m>\d\d)-(?P<s>\d\d)"
            r"-(?P<camera>front|back|left_repeater|right_repeater|left_pillar|right_pillar)\.mp4"
        ),
        cameras={name: name for name in ("front", "back", "left_repeater", "right_repeater", "left_pillar", "right_pillar")},
        folders=frozenset({"teslacam", "recentclips", "savedclips", "sentryclips"}),
        segment_max_s=60,
    ),
    Recorder(
        name="openpilot",
        pattern=_pattern(
            r"(?:(?P<device>[0-9a-f]{16})[|_/])?"
            r"(?P<route>(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)--(?P<h>\d\d)-(?P<m>\d\d)-(?P<s>\d\d)|[0-9a-f]{8}--[0-9a-z]{10})"
            r"(?:--|/)(?P<segment>\d{1,5})(?:--|/)(?P<camera>[fdeq]camera|video)\.(?:hevc|ts|mp4)"
        ),
        # qcamera is a small copy of fcamera: it has a name of its own so that nobody trains on both without knowing.
        cameras={"fcamera": "front", "video": "front", "ecamera": "front_wide", "dcamera": "interior", "qcamera": "front_preview"},
        folders=frozenset(),
        segment_max_s=_COMMA_SEGMENT_S,
    ),
    Recorder(
        name="BlackVue",
        # N normal, E event, P parking, M manual, then kinds of its fleet models; a single lens may go without its letter.
        pattern=_pattern(
            r"(?P<Y>\d{4})(?P<M>\d\d)(?P<D>\d\d)_(?P<h>\d\d)(?P<m>\d\d)(?P<s>\d\d)"
            r"_(?:[NEPMIOATBRXGDLYF](?P<camera>[FRIO])|[NEPM])[LS]?\.mp4"
        ),
        cameras={"": "front", "f": "front", "r": "back", "i": "interior", "o": "optional"},
        folders=frozenset({"blackvue", "record"}),
        segment_max_s=180,
        shares_track=True,
    ),
    Recorder(
        name="Viofo",
        pattern=_pattern(
            r"(?P<Y>\d{4})_?(?P<M>\d\d)(?P<D>\d\d)_?(?P<h>\d\d)(?P<m>\d\d)(?P<s>\d\d)_\d{3,6}[PE]?(?P<camera>[FRIT]?)\.(?:mp4|ts)"
        ),
        cameras={"": "front", "f": "front", "r": "back", "i": "interior", "t": "front_tele"},
        folders=frozenset({"dcim", "movie", "ro", "parking", "photo"}),
        segment_max_s=600,
    ),
    Recorder(
        name="70mai",
        # NO normal, EV event, PA parking; other models have further pairs of letters.
        pattern=_pattern(
            r"[A-Z]{2}(?P<Y>\d{4})(?P<M>\d\d)(?P<D>\d\d)-(?P<h>\d\d)(?P<m>\d\d)(?P<s>\d\d)-\d{3,6}(?P<camera>[FBI]?)\.(?:mp4|ts)"
        ),
        cameras={"": "front", "f": "front", "b": "back", "i": "interior"},
        folders=frozenset({"normal", "event", "parking", "lapse", "front", "back", "inside"}),
        segment_max_s=300,
    ),
)


def read_name(name: str, *, zone: str = DEFAULT_ZONE) -> Named | None:
    """What a clip's path says if a recorder of the table made it, else None.

    Args:
        name: path of the clip below its source, with `/`.
        zone: IANA zone that the recorder's clock is taken to be in.
    """
    for recorder in RECORDERS:
        match = recorder.pattern.search(name)
        if match is not None:
            return _named(recorder, match, name, zone)
    return None


def drives(named: Mapping[str, Named], vehicles: Mapping[str, str | None], *, source_name: str) -> dict[str, str]:
    """The drive of each clip whose path tells one, by name: an event folder, a route, or an uninterrupted run of one vehicle's recorder.

    A run ends where the next clip starts later than the longest clip the recorder makes. It is named after its vehicle and its first start
    in UTC, so it keeps its name as it grows.

    Args:
        named: what `read_name` said, by path.
        vehicles: vehicle_id by path, where a sidecar names one.
        source_name: stands for the vehicle where neither sidecar nor folder tells one.
    """
    found: dict[str, str] = {}
    runs: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    for name, one in named.items():
        at = one.telemetry.captured_at
        if one.drive is not None:
            found[name] = one.drive
        elif at is not None:
            owner = vehicles.get(name) or one.owner or source_name
            runs.setdefault((one.recorder.name, owner), []).append((at, name))
    longest_s = {recorder.name: recorder.segment_max_s + _SLACK_S for recorder in RECORDERS}
    for (recorder_name, owner), clips in runs.items():
        began = previous = min(clips)[0]
        for at, name in sorted(clips):
            if (at - previous).total_seconds() > longest_s[recorder_name]:
                began = at
            previous = at
            found[name] = f"{owner}/{began:%Y%m%dT%H%M%SZ}"
    return found


def _named(recorder: Recorder, match: re.Match[str], name: str, zone: str) -> Named:
    told = match.groupdict()
    at = _start(told)
    segment = told.get("segment")
    clock = f"file name ({zone} assumed)"
    if at is not None and segment is not None:
        at += timedelta(seconds=_COMMA_SEGMENT_S * int(segment))
        clock = f"route name and segment number ({zone} assumed)"
    device = told.get("device")
    telemetry = Telemetry(
        camera=recorder.cameras[(told["camera"] or "").lower()],
        device_id=device.lower() if device else None,
        captured_at=None if at is None else at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC),
        captured_at_source=None if at is None else clock,
    )
    folder = name.rpartition("/")[0]
    drive = folder if _EVENT_FOLDER.search(folder) and recorder.name == "TeslaCam" else None
    if told.get("route"):
        above = name[: match.start()].strip("/")
        drive = "/".join(part for part in (above, telemetry.device_id, told["route"]) if part)
    shared = name[: match.start("camera")] if recorder.shares_track and told["camera"] else None
    return Named(recorder=recorder, telemetry=telemetry, shared=shared, owner=_owner(folder, recorder), drive=drive)


def _start(told: Mapping[str, str | None]) -> datetime | None:
    """The local time in the name, None where it has none or no clock of such a recorder can show it."""
    if told.get("Y") is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(told[part] or 0) for part in ("Y", "M", "D", "h", "m", "s"))
        at = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - the name has no zone
    except ValueError:
        return None
    return at if is_of_a_clock(at) and at.year >= _OLDEST_YEAR else None


def _owner(folder: str, recorder: Recorder) -> str:
    parts = folder.split("/")
    while parts and parts[-1].lower() in recorder.folders:
        parts.pop()
    return "/".join(parts)
