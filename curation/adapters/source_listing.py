"""What every source does with the entries it found: clips, sidecars and refused ones told apart, telemetry joined from sidecars and names.

An adapter finds entries and reads sidecars; everything else of a listing is here, so that all sources list alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Final

from curation.errors import CurationError, OutsideError, SourceUnreachable, UsageError
from curation.records import ListingEntry, Telemetry
from curation.settings import MIB, PullSettings
from curation.telemetry import beside
from curation.telemetry.layouts import Named, drives, read_name
from curation.telemetry.merge import merge, with_drive, without_place
from curation.telemetry.reading import Reading
from curation.telemetry.sidecar import Fleet, parse_fleet, parse_sidecar
from curation.telemetry.teslacam import EVENT_FILE, parse_event
from curation.telemetry.track import lie_apart

FLEET_FILE: Final = "fleet.csv"
CHUNK_BYTES: Final = MIB
FLEET_MAX_BYTES: Final = 256 * MIB  # about a million rows
SIDECAR_MAX_BYTES: Final = MIB  # a JSON object of a dozen keys has a few hundred bytes
_BESIDE: Final = frozenset({".json", *beside.SUFFIXES})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Line separators, controls, lone surrogates (undecodable bytes) and the marks that reverse text: what they print is not what they are.
_UNFIT_CATEGORIES: Final = {"Cc", "Cs", "Zl", "Zp"}
_BIDIRECTIONAL: Final = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry as an adapter found it; `problem` is why it is refused whatever its suffix.

    `name` is what the listing shows, which differs from the real name only where that is unfit and therefore refused.
    """

    name: str
    size_bytes: int = 0
    modified_ns: int = 0
    version: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every entry in name order, and counts by key of what its sidecars said and nobody took over."""

    entries: tuple[ListingEntry, ...]
    dropped_keys: Mapping[str, int]
    malformed_values: Mapping[str, int]


ReadSidecar = Callable[[Found, int], bytes]
"""The bytes of an entry, which has at most so many; raises CurationError where it cannot be read."""


def checked_name(name: str) -> str:
    """The source's name.

    Raises:
        UsageError: it cannot begin a batch id.
    """
    if not _NAME.fullmatch(name):
        raise UsageError("is no name for a source", subject=repr(name), fix="use up to 64 letters, digits, dots, hyphens and underscores")
    return name


def read_fleet_file(path: Path | None) -> Fleet | None:
    """The fleet CSV that lies at a place of its own on this machine, None where none is named.

    Raises:
        UsageError: it is over 256 MiB, or not UTF-8 CSV with a column `file`.
        OutsideError: it cannot be read.
    """
    if path is None:
        return None
    try:
        if path.stat().st_size > FLEET_MAX_BYTES:
            raise UsageError(f"is over {FLEET_MAX_BYTES} bytes", subject=str(path), fix="split the source into several folders")
        data = path.read_bytes()
    except OSError as error:
        raise OutsideError(f"cannot be read: {error.strerror}", subject=str(path), fix="make the file readable, then run again") from error
    return parse_fleet(data, subject=str(path))


def list_entries(
    found: Iterable[Found],
    read: ReadSidecar,
    *,
    source_name: str,
    pull: PullSettings,
    zone: str,
    fleet: Fleet | None,
    fleet_name: str | None,
) -> Listing:
    """The listing of what was found, in name order.

    Telemetry of a clip comes from the fleet, then `<clip>.json` (or `<stem>.json`), then track files of that name (GPX, NMEA), then its
    recorder's way to name it, then event.json.

    Args:
        found: a name stands twice only where an unfit one is shown as a fit one is called; it is told from it by a number.
        read: gives the bytes of a sidecar.
        source_name: stands for the vehicle in a drive that no sidecar or folder gives one.
        pull: limits and suffixes.
        zone: IANA zone that recorder clocks without a zone are taken to be in.
        fleet: the fleet CSV where it was read already; else `fleet_name` is read.
        fleet_name: name in the source of the fleet CSV, which thus is no refused entry; it need not be there.

    Raises:
        UsageError: the fleet CSV in the source is none.
        SourceUnreachable: the source was gone when a sidecar was read.
    """
    ordered = sorted(_told_apart(found), key=lambda entry: entry.name)
    return _Lister(ordered, read, source_name=source_name, pull=pull, zone=zone).listing(fleet, fleet_name)


def _told_apart(found: Iterable[Found]) -> Iterator[Found]:
    taken: set[str] = set()
    for entry in sorted(found, key=lambda entry: entry.problem is not None):
        name, number = entry.name, 1
        while name in taken:
            number += 1
            name = f"{entry.name} ({number})"
        taken.add(name)
        yield entry if name == entry.name else replace(entry, name=name)


class _Lister:
    """The work of one listing."""

    def __init__(self, found: Sequence[Found], read: ReadSidecar, *, source_name: str, pull: PullSettings, zone: str) -> None:
        self._found = found
        self._read = read
        self._source_name = source_name
        self._zone = zone
        self._refusals = {entry.name: _problem_as_clip(entry, pull) for entry in found}
        self._clips = {name for name, problem in self._refusals.items() if problem is None}
        self._candidates = {entry.name: entry for entry in found if entry.problem is None and entry.name not in self._clips}
        self._sidecars: dict[str, str | None] = {}  # sidecar -> why it is refused, None where it was read
        self._beside: dict[str, Reading] = {}
        self._tracks: dict[str, list[Reading]] = {}
        self._track_readings: list[Reading] = []
        self._named = {name: told for name in sorted(self._clips) if (told := read_name(name, zone=zone)) is not None}
        self._events: dict[str, Reading] = {}
        self._apart: set[str] = set()  # clips whose sidecars tell places that contradict each other
        self._sharing: dict[str, list[str]] = {}
        for name, told in self._named.items():
            if told.shared is not None:
                self._sharing.setdefault(told.shared, []).append(name)
        self._fleet = Fleet()

    def listing(self, fleet: Fleet | None, fleet_name: str | None) -> Listing:
        """Everything put together."""
        self._read_fleet(fleet, fleet_name)
        self._read_sidecars()
        counts = Counter(PurePosixPath(name).name for name in self._clips)
        own_names = {PurePosixPath(name).name: name for name in self._clips if counts[PurePosixPath(name).name] == 1}
        telemetry = self._telemetry(own_names)
        dropped, malformed = self._counts(own_names)
        return Listing(
            entries=tuple(self._entry(entry, telemetry) for entry in self._found), dropped_keys=dropped, malformed_values=malformed
        )

    def _entry(self, found: Found, telemetry: Mapping[str, Telemetry]) -> ListingEntry:
        kind, reason = "refused", self._refusals[found.name]
        if found.name in self._clips:
            kind = "clip"
        elif found.name in self._sidecars:
            reason = self._sidecars[found.name]
            kind = "sidecar" if reason is None else "refused"
        return ListingEntry(
            name=found.name,
            kind=kind,
            reason=reason,
            size_bytes=found.size_bytes,
            modified_ns=found.modified_ns,
            version=found.version,
            telemetry=telemetry.get(found.name, Telemetry()),
        )

    # -- sidecars

    def _read_fleet(self, fleet: Fleet | None, fleet_name: str | None) -> None:
        entry = None if fleet_name is None else self._candidates.get(fleet_name)
        if fleet is not None:
            self._fleet = fleet
        elif entry is not None:
            if entry.size_bytes > FLEET_MAX_BYTES:
                raise UsageError(f"is over {FLEET_MAX_BYTES} bytes", subject=entry.name, fix="split the source into several folders")
            self._fleet = parse_fleet(self._read(entry, FLEET_MAX_BYTES), subject=entry.name)
        if entry is not None:
            self._sidecars[entry.name] = None

    def _read_sidecars(self) -> None:
        folders = {_folder(name) for name in self._clips}
        by_stem: dict[str, list[str]] = {}
        for clip in sorted(self._clips):
            by_stem.setdefault(clip.removesuffix(PurePosixPath(clip).suffix), []).append(clip)
        for name, entry in self._candidates.items():
            if PurePosixPath(name).name == EVENT_FILE and _folder(name) in folders:
                self._parse(entry, partial(self._take_event, entry))
            elif _suffix(name) in _BESIDE:
                self._read_beside(entry, by_stem.get(_stem(name), []))

    def _read_beside(self, entry: Found, of_stem: Sequence[str]) -> None:
        """Read `<clip><suffix>`, or `<stem><suffix>` where just one clip has that stem and no `<clip><suffix>` of its own."""
        full, suffix = _stem(entry.name), PurePosixPath(entry.name).suffix
        if full in self._clips:
            self._read_of((full,), entry)
        elif len(of_stem) > 1:
            self._sidecars[entry.name] = f"stands beside several clips of that name: call it <clip>.<suffix>{suffix.lower()}"
        elif of_stem and f"{of_stem[0]}{suffix}" in self._candidates:
            self._sidecars[entry.name] = f"is not read: {PurePosixPath(of_stem[0]).name}{suffix} stands beside the same clip"
        elif of_stem:
            self._read_of(of_stem, entry)
        elif suffix.lower() in beside.SUFFIXES and full in self._sharing:
            self._read_of(self._sharing[full], entry)

    def _read_of(self, clips: Sequence[str], entry: Found) -> None:
        if _suffix(entry.name) == ".json":
            self._parse(entry, partial(self._take_json, clips[0], entry))
        else:
            self._parse(entry, partial(self._take_track, clips, entry), limit_bytes=beside.MAX_BYTES)

    def _take_json(self, clip: str, entry: Found, data: bytes) -> None:
        self._beside[clip] = parse_sidecar(data, subject=entry.name)

    def _take_track(self, clips: Sequence[str], entry: Found, data: bytes) -> None:
        reading = beside.read(entry.name, data, subject=entry.name)
        self._track_readings.append(reading)
        for clip in clips:
            self._tracks.setdefault(clip, []).append(reading)

    def _take_event(self, entry: Found, data: bytes) -> None:
        self._events[_folder(entry.name)] = parse_event(data, subject=entry.name, zone=self._zone)[1]

    def _parse(self, entry: Found, take: Callable[[bytes], None], *, limit_bytes: int = SIDECAR_MAX_BYTES) -> None:
        if entry.size_bytes > limit_bytes:
            self._sidecars[entry.name] = f"is a sidecar of over {limit_bytes} bytes"
            return
        try:
            take(self._read(entry, limit_bytes))
        except SourceUnreachable:
            raise
        except CurationError as error:
            self._sidecars[entry.name] = f"is a sidecar that {error.problem}"
            return
        self._sidecars[entry.name] = None

    # -- telemetry

    def _telemetry(self, own_names: Mapping[str, str]) -> dict[str, Telemetry]:
        merged = {name: self._merged(name, self._named.get(name), own_names) for name in self._clips}
        vehicles = {name: telemetry.vehicle_id for name, telemetry in merged.items()}
        of_run = drives(self._named, vehicles, source_name=self._source_name)
        return {
            name: with_drive(
                telemetry,
                event_folder=(_folder(name) or self._source_name) if _folder(name) in self._events else of_run.get(name),
                zone=self._zone,
            )
            for name, telemetry in merged.items()
        }

    def _merged(self, name: str, named: Named | None, own_names: Mapping[str, str]) -> Telemetry:
        told = (
            self._fleet_reading(name, own_names).telemetry,
            self._beside.get(name, Reading()).telemetry,
            *(reading.telemetry for reading in self._tracks.get(name, ())),
            Telemetry() if named is None else named.telemetry,
            self._events.get(_folder(name), Reading()).telemetry,
        )
        merged = merge(*told)
        if not any(lie_apart(one, other) for one, other in combinations(told, 2)):
            return merged
        self._apart.add(name)
        return without_place(merged)

    def _fleet_reading(self, name: str, own_names: Mapping[str, str]) -> Reading:
        """The fleet's row of this path, else the row of this bare file name where no other clip is called so."""
        file_name = PurePosixPath(name).name
        bare = self._fleet.readings.get(file_name) if own_names.get(file_name) == name else None
        return self._fleet.readings.get(name) or bare or Reading()

    def _counts(self, own_names: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
        dropped, malformed = Counter(self._fleet.dropped), Counter(self._fleet.malformed)
        for reading in (*self._beside.values(), *self._track_readings, *self._events.values()):
            dropped.update(reading.dropped)
            malformed.update(reading.malformed)
        strangers = sum(file not in self._clips and file not in own_names for file in self._fleet.readings)
        malformed.update({"file that names no one clip of the source": strangers} if strangers else {})
        malformed.update({"places of one clip that lie over 20 km apart": len(self._apart)} if self._apart else {})
        return dict(sorted(dropped.items())), dict(sorted(malformed.items()))


# --- names ------------------------------------------------------------------------------------------------------------------------


def found_at(name: str, entry: Found, *, suffixes: Sequence[str], seen: dict[str, Found]) -> None:
    """Add to `seen`, by its real name, an entry of a source without real folders, where only names with `/` tell them.

    A hidden folder becomes one refused entry, as it is not entered elsewhere; a folder called like a video is a refused entry of its own.
    """
    problem = entry.problem or unfit_name(name) or path_problem(name)
    if problem is not None:
        seen[name] = replace(entry, name=shown_name(name), problem=problem)
        return
    *folders, last = name.split("/")
    for depth, folder in enumerate(folders, start=1):
        above = "/".join(folders[:depth])
        if folder.startswith("."):
            seen[above] = Found(name=above, problem="is a hidden folder and was not entered")
            return
        if _suffix(folder) in suffixes:
            seen.setdefault(above, Found(name=above, problem="is a folder"))
    seen[name] = replace(entry, name=name, problem="is hidden" if last.startswith(".") else None)


def unfit_name(name: str) -> str | None:
    """Why a name cannot be shown as it is, None where it can."""
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in name):
        return "name holds bytes that are no UTF-8"
    if any(unicodedata.category(char) in _UNFIT_CATEGORIES or char in _BIDIRECTIONAL for char in name):
        return "name holds control characters"
    return None


def shown_name(name: str) -> str:
    """The name as it can be listed: with unfit characters or undecodable bytes, it is escaped."""
    return name if unfit_name(name) is None else name.encode("unicode_escape", "surrogatepass").decode("ascii")


def path_problem(name: str) -> str | None:
    """Why a name leads nowhere below its source, None where it is a plain path."""
    return "name is no path below the source" if any(part in {"", ".", ".."} for part in name.split("/")) else None


def suffix_of(name: str) -> str:
    """The suffix of a path's last part with its dot, lower case."""
    return _suffix(name)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _problem_as_clip(entry: Found, pull: PullSettings) -> str | None:
    if entry.problem is not None:
        return entry.problem
    suffix = _suffix(entry.name)
    if suffix not in pull.suffixes:
        return f"suffix {suffix or '(none)'} is no video's, and it is no sidecar of a clip here"
    if entry.size_bytes > pull.max_clip_bytes:
        return f"is over the size limit of {pull.max_clip_bytes} bytes"
    return None
