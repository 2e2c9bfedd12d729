"""A folder behind any fsspec URL whose package is installed: memory, zip, HTTP, FTP, SFTP, SMB, HDFS … Read only, listed like a folder."""

from __future__ import annotations

import html
import importlib
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit

import fsspec

from curation.adapters.source_listing import (
    CHUNK_BYTES,
    FLEET_FILE,
    Found,
    checked_name,
    list_entries,
    path_problem,
    read_fleet_file,
    shown_name,
    suffix_of,
    unfit_name,
)
from curation.errors import CurationError, EntryChanged, OutsideError, SettingsError, SourceUnreachable, UsageError
from curation.layout import entry_uri
from curation.records import ListingEntry
from curation.settings import DEFAULT_ZONE, PullSettings

_WEB: Final = frozenset({"http", "https"})
_READ_TIMEOUT_S: Final = 60.0
# What the file systems call when an entry was last written, and which bytes it holds; the first that is there counts.
_TIMES: Final = ("mtime", "LastModified", "last_modified", "Last-Modified", "modified", "updated", "modify", "created")
_VERSIONS: Final = ("ETag", "etag", "md5Hash", "Content-MD5", "CRC")
_FAILURES: Final = (OSError, EOFError, ValueError, NotImplementedError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
_FAILURES_OF: Final = {"aiohttp": "ClientError", "ftplib": "Error", "paramiko": "SSHException", "smbprotocol.exceptions": "SMBException"}


class FsspecSource:
    """The clips below an fsspec URL, in name order. Links are refused where the file system knows any.

    Telemetry of a clip comes from where `source_listing.list_entries` says.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        options: Mapping[str, Any] | None = None,
        fleet: Path | None = None,
        settings: PullSettings | None = None,
        zone: str = DEFAULT_ZONE,
    ) -> None:
        """A source named `name`.

        Args:
            name: begins the ids of its batches.
            url: a folder, chained with `::` where fsspec chains; without a password, as it is written into listings.
            options: what fsspec passes to the file system: host, port, key …
            fleet: a fleet CSV on this machine; by default `fleet.csv` in the folder, if there is one.
            settings: limits and suffixes.
            zone: IANA zone that recorder clocks without a zone are taken to be in.

        Raises:
            UsageError: the name is unfit for a batch id.
            SettingsError: the URL holds a password, its protocol is unknown, or the package that reads it is not installed.
        """
        self.name = checked_name(name)
        if any(urlsplit(link).password for link in url.split("::")):
            raise SettingsError("url holds a password", subject=f"source {name}", fix="name the variable that holds it under secrets")
        self.base_uri = url.rstrip("/")
        self.entries_are_whole = False
        self.dropped_keys: Mapping[str, int] = {}
        self.malformed_values: Mapping[str, int] = {}
        self._url = url
        self._options = dict(options or {})
        self._web = url.partition(":")[0].lower() in _WEB
        self._fleet = fleet
        self._pull = PullSettings() if settings is None else settings
        self._zone = zone
        self._system: Any = None
        self._root = ""
        self._archive: object = None
        self._outer_options = {key: value for key, value in self._options.items() if isinstance(value, Mapping)}
        self._require_package()

    def entries(self) -> Iterator[ListingEntry]:
        """Every entry below the URL, in name order; a hidden folder is one refused entry and is not entered.

        Raises:
            UsageError: the URL is no folder, or the fleet file is not UTF-8 CSV with a column `file`.
            SourceUnreachable: the folder cannot be listed.
        """
        fleet = read_fleet_file(self._fleet)
        self._system = None  # a new look at everything: file systems keep what they have seen
        try:
            found = list(self._walk(self._fs(), ""))
        except self._failures() as error:
            raise self._unreachable(error) from error
        listing = list_entries(
            found,
            self._read_sidecar,
            source_name=self.name,
            pull=self._pull,
            zone=self._zone,
            fleet=fleet,
            fleet_name=FLEET_FILE if fleet is None else None,
        )
        self.dropped_keys, self.malformed_values = listing.dropped_keys, listing.malformed_values
        yield from listing.entries

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        """The entry's bytes in chunks of up to 1 MiB, as many as were listed, with size, time and version the same before and after.

        Raises:
            CurationError: the entry vanished.
            EntryChanged: it changed since it was listed.
            OutsideError: it cannot be opened, broke off, or changed while it was read; a retry may help.
            SourceUnreachable: the folder is gone.
        """
        now = self._now(entry.name)
        if now is None:
            raise CurationError("vanished since it was listed", subject=entry.name, fix="list the source again")
        if not _same(entry, now):
            raise EntryChanged("changed since it was listed", subject=entry.name, fix="list the source again")
        with self._file(entry.name) as file:
            yield self._chunks(file, entry)

    def look(self, entry: ListingEntry) -> ListingEntry | None:
        """The entry with its size, time and version of now; None where it is gone."""
        now = self._now(entry.name)
        return None if now is None else replace(entry, size_bytes=now.size_bytes, modified_ns=now.modified_ns, version=now.version)

    def uri(self, entry: ListingEntry) -> str:
        """The entry's URL."""
        return entry_uri(self.base_uri, entry.name)

    # -- listing

    def _require_package(self) -> None:
        for link in self._url.split("::"):
            protocol = link.partition(":")[0]
            try:
                fsspec.get_filesystem_class(protocol)
            except (ImportError, ValueError) as error:
                raise SettingsError(
                    f"{protocol}:// cannot be read: {error}",
                    subject=f"source {self.name}",
                    fix=f"install the package that fsspec reads {protocol} with",
                ) from error

    def _fs(self) -> Any:
        if self._system is None:
            options = {"use_listings_cache": False, "skip_instance_cache": True, **self._options}
            if self._web:
                timeout = importlib.import_module("aiohttp").ClientTimeout(
                    total=None, sock_connect=_READ_TIMEOUT_S, sock_read=_READ_TIMEOUT_S
                )
                options = {"simple_links": False, "client_kwargs": {"timeout": timeout}, **options}
            self._system, root = fsspec.core.url_to_fs(self._url, **options)
            self._root = root.rstrip("/")
            self._archive = self._archive_now()
        return self._system

    def _archive_now(self) -> object:
        """What tells one state of the archive that the source lies in from the next; None where it lies in none."""
        _, chained, outer = self._url.partition("::")
        if not chained:
            return None
        system, path = fsspec.core.url_to_fs(outer, use_listings_cache=False, skip_instance_cache=True, **self._outer_options)
        info = system.info(path)
        return info.get("size"), _modified_ns(info), _version(info), info.get("ino")

    def _walk(self, system: Any, base: str) -> Iterator[Found]:
        for info in system.ls(self._path(base), detail=True):
            name = self._relative(info["name"])
            if name is None or name == base.rstrip("/"):
                if info["type"] != "directory" and name == "" and not base:
                    raise UsageError("is no folder", subject=self.base_uri, fix="name the folder that holds the clips")
                continue
            if info["type"] != "directory" or info.get("islink"):
                yield self._found(name, system.info(self._path(name)) if self._web else info)
                continue
            problem = "is a hidden folder and was not entered" if name.rpartition("/")[2].startswith(".") else path_problem(name)
            if problem or suffix_of(name) in self._pull.suffixes:
                yield Found(name=shown_name(name), problem=problem or "is a folder")
            if not problem:
                yield from self._walk(system, f"{name}/")

    def _relative(self, path: str) -> str | None:
        """Name of the entry below the source, None for links of a web page that lead elsewhere."""
        if self._web:
            path = html.unescape(path)
            if "?" in path or "#" in path:  # the columns of a listing are sorted by such links
                return None
        if self._root and not f"{path}/".startswith(f"{self._root}/"):
            return None
        below = path[len(self._root) :].strip("/")
        return unquote(below, errors="surrogateescape") if self._web else below

    def _path(self, name: str) -> str:
        below = quote(name, errors="surrogateescape") if self._web else name
        return f"{self._root}/{below}" if self._root or below == "" else below

    def _found(self, name: str, info: Mapping[str, Any]) -> Found:
        size = info.get("size")
        problem = unfit_name(name) or path_problem(name) or ("is hidden" if name.rpartition("/")[2].startswith(".") else None)
        if problem is None and info.get("islink"):
            problem = "is a link"
        if problem is None and info["type"] != "file":
            problem = "is no regular file"
        if problem is None and size is None:
            problem = "has a size that the source does not tell"
        return Found(
            name=shown_name(name),
            size_bytes=int(size or 0),
            modified_ns=_modified_ns(info),
            version=_version(info),
            problem=problem,
        )

    def _now(self, name: str) -> Found | None:
        """The entry as it is, None where it is gone while the source is not."""
        try:
            if self._system is not None and self._archive != self._archive_now():
                self._system = None  # an archive is read through the directory it had when it was opened
            system = self._fs()
            system.invalidate_cache()
            return self._found(name, system.info(self._path(name)))
        except FileNotFoundError:
            self._reach()  # some file systems say so of every failure
            return None
        except self._failures() as error:
            self._reach()
            raise OutsideError(f"cannot be looked at: {_said(error)}", subject=name, fix="see to the source, then run again") from error

    def _reach(self) -> None:
        try:
            self._fs().ls(self._path(""), detail=False)
        except self._failures() as error:
            raise self._unreachable(error) from error

    # -- reading

    def _read_sidecar(self, entry: Found, limit_bytes: int) -> bytes:
        with self._file(entry.name) as file:
            try:
                return file.read(limit_bytes)
            except self._failures() as error:
                raise OutsideError(f"cannot be read: {_said(error)}", subject=entry.name, fix="see to the source") from error

    @contextmanager
    def _file(self, name: str) -> Iterator[BinaryIO]:
        streamed = {"block_size": 0} if self._web else {}  # one request for the whole entry, not one for every few MiB
        try:
            file = self._fs().open(self._path(name), "rb", **streamed)
        except self._failures() as error:
            self._reach()
            raise OutsideError(f"cannot be opened: {_said(error)}", subject=name, fix="see to the source, then run again") from error
        with file:
            yield file

    def _chunks(self, file: BinaryIO, entry: ListingEntry) -> Iterator[bytes]:
        taken_bytes = 0
        try:
            while chunk := file.read(CHUNK_BYTES):
                taken_bytes += len(chunk)
                if taken_bytes > entry.size_bytes:
                    break
                yield chunk
        except self._failures() as error:
            raise OutsideError(f"cannot be read: {_said(error)}", subject=entry.name, fix="see to the source, then run again") from error
        now = self._now(entry.name)
        if now is None or not _same(entry, now):
            raise OutsideError("changed while it was read", subject=entry.name, fix="wait until it is written, then list the source again")
        if taken_bytes != entry.size_bytes:
            problem = f"gave {taken_bytes} of {entry.size_bytes} bytes" if taken_bytes < entry.size_bytes else "gave more bytes than listed"
            raise OutsideError(problem, subject=entry.name, fix="see to the source, then run again")

    def _unreachable(self, error: BaseException) -> SourceUnreachable:
        return SourceUnreachable(
            f"{self.base_uri} cannot be listed: {_said(error)}", subject=f"source {self.name}", fix="see to the source, then run again"
        )

    @staticmethod
    def _failures() -> tuple[type[Exception], ...]:
        """What the file systems raise where something outside failed; a package's own errors once it was imported."""
        own = (getattr(sys.modules[module], name) for module, name in _FAILURES_OF.items() if module in sys.modules)
        return (*_FAILURES, *own)


def _same(entry: ListingEntry, now: Found) -> bool:
    return (entry.size_bytes, entry.modified_ns, entry.version) == (now.size_bytes, now.modified_ns, now.version)


def _said(error: BaseException) -> str:
    """The error in one line, without the addresses and keys that some put into it."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _modified_ns(info: Mapping[str, Any]) -> int:
    """When the entry was last written, in ns since 1970, 0 where the file system does not tell."""
    raw = next((info[key] for key in _TIMES if info.get(key) is not None), None)
    if isinstance(raw, int | float):
        return int(raw * 1e9)
    if isinstance(raw, str):
        raw = _moment(raw)
    if isinstance(raw, datetime):
        aware = raw if raw.tzinfo else raw.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1e9)
    return 0


def _version(info: Mapping[str, Any]) -> str | None:
    return next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), None)


def _moment(text: str) -> datetime | None:
    for read in (
        datetime.fromisoformat,
        parsedate_to_datetime,
        lambda raw: datetime.strptime(raw[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC),
    ):
        try:
            return read(text)
        except ValueError:
            continue
    return None
