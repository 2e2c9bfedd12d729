"""A folder of clips with its sidecars, read only. Every entry is listed: a clip, a sidecar, or refused with the reason."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from curation.adapters.source_listing import CHUNK_BYTES, FLEET_FILE, Found, checked_name, list_entries, read_fleet_file
from curation.adapters.source_listing import shown_name as _shown
from curation.adapters.source_listing import suffix_of as _suffix
from curation.adapters.source_listing import unfit_name as _unfit_name
from curation.errors import CurationError, EntryChanged, OutsideError, SourceUnreachable, UsageError
from curation.layout import entry_uri
from curation.records import ListingEntry
from curation.settings import DEFAULT_ZONE, PullSettings


class FolderSource:
    """The clips below a folder, in name order. Links within the tree are followed, links to folders and out of the tree are refused.

    Telemetry of a clip comes from where `source_listing.list_entries` says.
    """

    entries_are_whole = False

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
        self.name = checked_name(name)
        if not path.is_dir():
            raise UsageError("is no folder", subject=str(path), fix="name the folder that holds the clips")
        if fleet is not None and not fleet.is_file():
            raise UsageError("is no file", subject=str(fleet), fix="name the fleet CSV, or none")
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
        listing = list_entries(
            self._walk(self._root, ""),
            self._read_sidecar,
            source_name=self.name,
            pull=self._pull,
            zone=self._zone,
            fleet=read_fleet_file(self._fleet),
            fleet_name=self._fleet_name(),
        )
        self.dropped_keys, self.malformed_values = listing.dropped_keys, listing.malformed_values
        yield from listing.entries

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        """The entry's bytes in chunks of 1 MiB, proven to be one unchanged file when the last chunk was taken.

        Raises:
            CurationError: the entry vanished, is forbidden, or is no file any more.
            EntryChanged: it changed since it was listed.
            OutsideError: it changed while being read, or the disk failed; a retry may help.
            SourceUnreachable: the folder is gone.
        """
        with self._file(entry.name) as file:
            now = os.fstat(file.fileno())
            if (now.st_size, now.st_mtime_ns) != (entry.size_bytes, entry.modified_ns):
                raise EntryChanged("changed since it was listed", subject=entry.name, fix="list the source again")
            yield self._chunks(file, entry)

    def look(self, entry: ListingEntry) -> ListingEntry | None:
        """The entry with its size and time of now; None where it is gone or no clip any more."""
        seen = self._look_at(entry.name)
        return None if seen.problem else replace(entry, size_bytes=seen.size_bytes, modified_ns=seen.modified_ns)

    def uri(self, entry: ListingEntry) -> str:
        """The entry's file URI."""
        return entry_uri(self.base_uri, entry.name)

    # -- listing

    def _walk(self, folder: Path, base: str) -> Iterator[Found]:
        try:
            with os.scandir(folder) as listed:
                inside = list(listed)
        except OSError as error:
            if not base:
                raise self._unreachable() from error
            yield Found(name=_shown(base.rstrip("/")), problem=f"folder cannot be listed: {error.strerror}")
            return
        for entry in inside:
            name = base + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield self._look_at(name)
                continue
            problem = "is a hidden folder and was not entered" if entry.name.startswith(".") else None
            if problem or _suffix(name) in self._pull.suffixes:
                yield Found(name=_shown(name), problem=problem or "is a folder")
            if not problem:
                yield from self._walk(folder / entry.name, f"{name}/")

    def _look_at(self, name: str) -> Found:
        path = self._root / name
        try:
            itself = path.lstat()
            problem = _unfit_name(name) or ("is hidden" if path.name.startswith(".") else None)
            if problem is None and stat.S_ISLNK(itself.st_mode):
                problem = self._link_problem(path)
            status = itself if problem else path.stat()
        except OSError as error:
            return Found(name=_shown(name), problem=f"cannot be looked at: {error.strerror}")
        if problem is None:
            problem = _kind_problem(status.st_mode)
        if problem is None and not os.access(path, os.R_OK):
            problem = "is not readable: permission denied"
        return Found(name=_shown(name), size_bytes=status.st_size, modified_ns=status.st_mtime_ns, problem=problem)

    def _link_problem(self, link: Path) -> str | None:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links
            return "is a link that leads nowhere"
        if not target.is_relative_to(self._root):
            return "is a link out of the source"
        return "is a link to a folder" if target.is_dir() else None

    def _fleet_name(self) -> str | None:
        if self._fleet is None:
            return FLEET_FILE
        return self._fleet.relative_to(self._root).as_posix() if self._fleet.is_relative_to(self._root) else None

    # -- reading

    def _read_sidecar(self, entry: Found, limit_bytes: int) -> bytes:
        with self._file(entry.name) as file:
            try:
                data = file.read(limit_bytes)
            except OSError as error:
                raise CurationError(f"cannot be read: {error.strerror}", subject=entry.name, fix="see to the source") from error
        return data or b""

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
            while chunk := file.read(CHUNK_BYTES):
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
