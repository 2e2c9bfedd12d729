"""A folder of clips with its sidecars, read only. Every entry is listed: a clip, a sidecar, or refused with the reason."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from curation.errors import CurationError, OutsideError, SourceUnreachable, UsageError
from curation.layout import entry_uri
from curation.records import ListingEntry, Telemetry
from curation.settings import MIB, PullSettings
from curation.telemetry.merge import merge, with_drive
from curation.telemetry.reading import Reading
from curation.telemetry.sidecar import Fleet, parse_fleet, parse_sidecar
from curation.telemetry.teslacam import DEFAULT_ZONE, EVENT_FILE, parse_event, read_clip_name

FLEET_FILE: Final = "fleet.csv"
_CHUNK_BYTES: Final = MIB
_SIDECAR_MAX_BYTES: Final = MIB  # a JSON object of a dozen keys has a few hundred bytes
_FLEET_MAX_BYTES: Final = 256 * MIB  # about a million rows
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Line separators, controls, lone surrogates (undecodable bytes) and the marks that reverse text: what they print is not what they are.
_UNFIT_CATEGORIES: Final = {"Cc", "Cs", "Zl", "Zp"}
_BIDIRECTIONAL: Final = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A directory entry below the root; `problem` is why it is refused whatever its suffix."""

    name: str
    size_bytes: int = 0
    modified_ns: int = 0
    problem: str | None = None


@dataclass(slots=True)
class _Sidecars:
    """What the sidecars of one listing say: readings by clip or event folder, and the verdict on each sidecar by name."""

    fleet: Fleet = field(default_factory=Fleet)
    beside: dict[str, Reading] = field(default_factory=dict)
    events: dict[str, Reading] = field(default_factory=dict)
    problems: dict[str, str | None] = field(default_factory=dict)  # sidecar -> why it is refused, None where it was read


class FolderSource:
    """The clips below a folder, in name order. Links within the tree are followed, links to folders and out of the tree are refused.

    Telemetry of a clip comes from fleet.csv, then `<clip>.json` (or `<stem>.json`), then a TeslaCam file name, then event.json.
    """

    def __init__(
        self, name: str, path: Path, *, fleet: Path | None = None, settings: PullSettings | None = None, zone: str = DEFAULT_ZONE
    ) -> None:
        """A source named `name`.

        Args:
            name: begins the ids of its batches.
            path: the folder.
            fleet: a fleet CSV at another place; by default `fleet.csv` in the folder, if there is one.
            settings: limits and suffixes.
            zone: IANA zone that recorder clocks without a zone are taken to be in.

        Raises:
            UsageError: the name is unfit for a batch id, or the folder or the named fleet file does not exist.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "is no name for a source", subject=repr(name), fix="use up to 64 letters, digits, dots, hyphens and underscores"
            )
        if not path.is_dir():
            raise UsageError("is no folder", subject=str(path), fix="name the folder that holds the clips")
        if fleet is not None and not fleet.is_file():
            raise UsageError("is no file", subject=str(fleet), fix="name the fleet CSV, or none")
        self.name = name
        self._root = path.resolve()
        self.base_uri = self._root.as_uri()
        self.dropped_keys: Mapping[str, int] = {}
        self.malformed_values: Mapping[str, int] = {}
        self._fleet = None if fleet is None else fleet.resolve()
        self._pull = PullSettings() if settings is None else settings
        self._zone = zone

    def entries(self) -> Iterator[ListingEntry]:
        """Every entry below the folder, in name order; a hidden folder is one refused entry and is not entered.

        Raises:
            UsageError: the fleet file is not UTF-8 CSV with a column `file`.
            SourceUnreachable: the folder is gone.
        """
        found = sorted(self._walk(self._root, ""), key=lambda entry: entry.name)
        problems = {entry.name: self._problem_as_clip(entry) for entry in found}
        clips = {name for name, problem in problems.items() if problem is None}
        sidecars = self._read_sidecars(found, clips)
        by_file_name = self._clips_by_file_name(clips)
        self._count(sidecars, clips, by_file_name)
        for entry in found:
            kind, reason, telemetry = "refused", problems[entry.name], Telemetry()
            if entry.name in clips:
                kind, telemetry = "clip", self._telemetry(entry.name, sidecars, by_file_name)
            elif entry.name in sidecars.problems:
                reason = sidecars.problems[entry.name]
                kind = "sidecar" if reason is None else "refused"
            yield ListingEntry(
                name=entry.name,
                kind=kind,
                reason=reason,
                size_bytes=entry.size_bytes,
                modified_ns=entry.modified_ns,
                telemetry=telemetry,
            )

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        """The entry's bytes in chunks of 1 MiB, proven to be one unchanged file when the last chunk was taken.

        Raises:
            CurationError: the entry vanished, is forbidden, is no file any more, or changed since it was listed.
            OutsideError: it changed while being read, or the disk failed; a retry may help.
            SourceUnreachable: the folder is gone.
        """
        with self._file(entry.name) as file:
            now = os.fstat(file.fileno())
            if (now.st_size, now.st_mtime_ns) != (entry.size_bytes, entry.modified_ns):
                raise CurationError("changed since it was listed", subject=entry.name, fix="list the source again")
            yield self._chunks(file, entry)

    def uri(self, entry: ListingEntry) -> str:
        """The entry's file URI."""
        return entry_uri(self.base_uri, entry.name)

    # -- listing

    def _walk(self, folder: Path, base: str) -> Iterator[_Found]:
        try:
            with os.scandir(folder) as listed:
                inside = list(listed)
        except OSError as error:
            if not base:
                raise self._unreachable() from error
            yield _Found(name=_shown(base.rstrip("/")), problem=f"folder cannot be listed: {error.strerror}")
            return
        for entry in inside:
            name = base + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield self._look_at(name)
                continue
            problem = "is a hidden folder and was not entered" if entry.name.startswith(".") else None
            if problem or _suffix(name) in self._pull.suffixes:
                yield _Found(name=_shown(name), problem=problem or "is a folder")
            if not problem:
                yield from self._walk(folder / entry.name, f"{name}/")

    def _look_at(self, name: str) -> _Found:
        path = self._root / name
        try:
            itself = path.lstat()
            problem = _unfit_name(name) or ("is hidden" if path.name.startswith(".") else None)
            if problem is None and stat.S_ISLNK(itself.st_mode):
                problem = self._link_problem(path)
            status = itself if problem else path.stat()
        except OSError as error:
            return _Found(name=_shown(name), problem=f"cannot be looked at: {error.strerror}")
        if problem is None:
            problem = _kind_problem(status.st_mode)
        if problem is None and not os.access(path, os.R_OK):
            problem = "is not readable: permission denied"
        return _Found(name=_shown(name), size_bytes=status.st_size, modified_ns=status.st_mtime_ns, problem=problem)

    def _link_problem(self, link: Path) -> str | None:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links
            return "is a link that leads nowhere"
        if not target.is_relative_to(self._root):
            return "is a link out of the source"
        return "is a link to a folder" if target.is_dir() else None

    def _problem_as_clip(self, entry: _Found) -> str | None:
        if entry.problem is not None:
            return entry.problem
        suffix = _suffix(entry.name)
        if suffix not in self._pull.suffixes:
            return f"suffix {suffix or '(none)'} is no video's, and it is no sidecar of a clip here"
        if entry.size_bytes > self._pull.max_clip_bytes:
            return f"is over the size limit of {self._pull.max_clip_bytes} bytes"
        return None

    # -- telemetry

    def _read_sidecars(self, found: list[_Found], clips: set[str]) -> _Sidecars:
        sidecars = _Sidecars()
        candidates = {entry.name: entry for entry in found if entry.problem is None and entry.name not in clips}
        fleet = self._fleet or (self._root / FLEET_FILE if FLEET_FILE in candidates else None)
        if fleet is not None:
            sidecars.fleet = self._parse_fleet(fleet)
            if fleet.is_relative_to(self._root):
                sidecars.problems[fleet.relative_to(self._root).as_posix()] = None
        folders = {_folder(name) for name in clips}
        by_stem: dict[str, list[str]] = {}
        for clip in sorted(clips):
            by_stem.setdefault(clip.removesuffix(PurePosixPath(clip).suffix), []).append(clip)
        for name, entry in candidates.items():
            if PurePosixPath(name).name == EVENT_FILE and _folder(name) in folders:
                self._read_json(entry, sidecars, event_folder=_folder(name))
            elif _suffix(name) == ".json":
                self._read_beside(entry, sidecars, clips, by_stem.get(name[: -len(".json")], []), set(candidates))
        return sidecars

    def _read_beside(self, entry: _Found, sidecars: _Sidecars, clips: set[str], of_stem: list[str], candidates: set[str]) -> None:
        """Read `<clip>.json`, or `<stem>.json` where just one clip has that stem and no `<clip>.json` of its own."""
        full = entry.name[: -len(".json")]
        if full in clips:
            self._read_json(entry, sidecars, clip=full)
        elif len(of_stem) > 1:
            sidecars.problems[entry.name] = "stands beside several clips of that name: call it <clip>.<suffix>.json"
        elif of_stem and f"{of_stem[0]}.json" in candidates:
            sidecars.problems[entry.name] = f"is not read: {PurePosixPath(of_stem[0]).name}.json stands beside the same clip"
        elif of_stem:
            self._read_json(entry, sidecars, clip=of_stem[0])

    def _parse_fleet(self, path: Path) -> Fleet:
        try:
            if path.stat().st_size > _FLEET_MAX_BYTES:
                raise UsageError(f"is over {_FLEET_MAX_BYTES} bytes", subject=str(path), fix="split the source into several folders")
            data = path.read_bytes()
        except OSError as error:
            raise OutsideError(
                f"cannot be read: {error.strerror}", subject=str(path), fix="make the file readable, then run again"
            ) from error
        return parse_fleet(data, subject=str(path))

    def _read_json(self, entry: _Found, sidecars: _Sidecars, *, clip: str | None = None, event_folder: str | None = None) -> None:
        if entry.size_bytes > _SIDECAR_MAX_BYTES:
            sidecars.problems[entry.name] = f"is a sidecar of over {_SIDECAR_MAX_BYTES} bytes"
            return
        try:
            with self._file(entry.name) as file:
                data = file.read(_SIDECAR_MAX_BYTES)
            if event_folder is not None:
                sidecars.events[event_folder] = parse_event(data, subject=entry.name, zone=self._zone)[1]
            elif clip is not None:
                sidecars.beside[clip] = parse_sidecar(data, subject=entry.name)
        except SourceUnreachable:
            raise
        except (CurationError, OSError) as error:
            sidecars.problems[entry.name] = f"is a sidecar that {error.problem if isinstance(error, CurationError) else error.strerror}"
            return
        sidecars.problems[entry.name] = None

    @staticmethod
    def _clips_by_file_name(clips: set[str]) -> dict[str, str]:
        counts = Counter(PurePosixPath(name).name for name in clips)
        return {PurePosixPath(name).name: name for name in clips if counts[PurePosixPath(name).name] == 1}

    def _fleet_reading(self, name: str, sidecars: _Sidecars, by_file_name: Mapping[str, str]) -> Reading:
        """The fleet's row of this path, else the row of this bare file name where no other clip is called so."""
        file_name = PurePosixPath(name).name
        bare = sidecars.fleet.readings.get(file_name) if by_file_name.get(file_name) == name else None
        return sidecars.fleet.readings.get(name) or bare or Reading()

    def _telemetry(self, name: str, sidecars: _Sidecars, by_file_name: Mapping[str, str]) -> Telemetry:
        folder = _folder(name)
        merged = merge(
            self._fleet_reading(name, sidecars, by_file_name).telemetry,
            sidecars.beside.get(name, Reading()).telemetry,
            read_clip_name(name, zone=self._zone),
            sidecars.events.get(folder, Reading()).telemetry,
        )
        return with_drive(merged, event_folder=(folder or self.name) if folder in sidecars.events else None, zone=self._zone)

    def _count(self, sidecars: _Sidecars, clips: set[str], by_file_name: Mapping[str, str]) -> None:
        dropped, malformed = Counter(sidecars.fleet.dropped), Counter(sidecars.fleet.malformed)
        for reading in (*sidecars.beside.values(), *sidecars.events.values()):
            dropped.update(reading.dropped)
            malformed.update(reading.malformed)
        strangers = sum(file not in clips and file not in by_file_name for file in sidecars.fleet.readings)
        malformed.update({"file that names no one clip of the source": strangers} if strangers else {})
        self.dropped_keys, self.malformed_values = dict(sorted(dropped.items())), dict(sorted(malformed.items()))

    # -- reading

    @contextmanager
    def _file(self, name: str) -> Iterator[BinaryIO]:
        """The regular file `name`, opened part by part without following links, so that nothing outside the tree can be reached."""
        try:
            target = (self._root / name).resolve(strict=True)
            descriptor = self._descend(target.relative_to(self._root).parts or (".",))
        except FileNotFoundError as error:
            if not self._root.is_dir():
                raise self._unreachable() from error
            raise CurationError("vanished since it was listed", subject=name, fix="list the source again") from error
        except (NotADirectoryError, RuntimeError, ValueError) as error:
            raise CurationError("is a link out of the source, or lies behind one", subject=name, fix="list the source again") from error
        except PermissionError as error:
            raise CurationError("is not readable: permission denied", subject=name, fix="mend its rights, then list again") from error
        except OSError as error:
            kind = CurationError if error.errno == errno.ELOOP else OutsideError
            raise kind(f"cannot be opened: {error.strerror}", subject=name, fix="see to the source, then run again") from error
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CurationError("is no regular file any more", subject=name, fix="list the source again")
            yield file

    def _descend(self, parts: tuple[str, ...]) -> int:
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = below
            return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)

    def _chunks(self, file: BinaryIO, entry: ListingEntry) -> Iterator[bytes]:
        before = os.fstat(file.fileno())
        taken_bytes = 0
        try:
            while chunk := file.read(_CHUNK_BYTES):
                taken_bytes += len(chunk)
                if taken_bytes > entry.size_bytes:
                    break
                yield chunk
            after, at_path = os.fstat(file.fileno()), (self._root / entry.name).stat()
        except OSError as error:
            raise OutsideError(f"cannot be read: {error.strerror}", subject=entry.name, fix="see to the source, then run again") from error
        if taken_bytes != entry.size_bytes or not _identity(before) == _identity(after) == _identity(at_path):
            raise OutsideError("changed while it was read", subject=entry.name, fix="wait until it is written, then list the source again")

    def _unreachable(self) -> SourceUnreachable:
        return SourceUnreachable("the folder cannot be listed", subject=f"source {self.name}", fix=f"mount {self._root}, then run again")


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _unfit_name(name: str) -> str | None:
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in name):
        return "name holds bytes that are no UTF-8"
    if any(unicodedata.category(char) in _UNFIT_CATEGORIES or char in _BIDIRECTIONAL for char in name):
        return "name holds control characters"
    return None


def _shown(name: str) -> str:
    """The name as it can be listed: with unfit characters or undecodable bytes, it is escaped."""
    return name if _unfit_name(name) is None else name.encode("unicode_escape", "surrogatepass").decode("ascii")


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return f"is {kinds.get(stat.S_IFMT(mode), 'no regular file')}"
