"""Clips below a prefix of an S3 bucket, read only, through botocore: s3fs cannot be installed beside the boto3 that the store needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from curation.adapters import s3_client
from curation.adapters.source_listing import (
    CHUNK_BYTES,
    FLEET_FILE,
    Found,
    checked_name,
    found_at,
    list_entries,
    read_fleet_file,
)
from curation.errors import CurationError, EntryChanged, OutsideError, SourceUnreachable
from curation.layout import entry_uri
from curation.records import ListingEntry
from curation.settings import HomeSettings, PullSettings, S3SourceSettings

_MISSING: Final = 404
_FROZEN: Final = frozenset({"GLACIER", "DEEP_ARCHIVE", "Archive", "ColdArchive", "DeepColdArchive", "COLD", "DEEP_COLD"})
_NS: Final = 1_000_000_000


class S3Source:
    """The objects below a prefix, in name order; `/` in a key stands for a folder, and the marker of an empty folder is no entry.

    An object can be seen only once all of it is there, so none is ever growing. Telemetry of a clip comes from where
    `source_listing.list_entries` says.
    """

    def __init__(
        self, name: str, settings: S3SourceSettings, *, home: HomeSettings, env: Mapping[str, str], pull: PullSettings | None = None
    ) -> None:
        """A source named `name`.

        Args:
            name: begins the ids of its batches.
            settings: the bucket, and the names of the variables that hold the credentials.
            home: the hosts and regions that are at home: where clips are fetched from is asked for only there.
            env: where those variables stand.
            pull: limits and suffixes.

        Raises:
            UsageError: the name is unfit for a batch id.
            SettingsError: a credential is missing.
            NotAtHome: the endpoint is not on the home allow-list.
        """
        self.name = checked_name(name)
        self.base_uri = f"s3://{settings.bucket}/{settings.prefix}".rstrip("/")
        self.entries_are_whole = True
        self.dropped_keys: Mapping[str, int] = {}
        self.malformed_values: Mapping[str, int] = {}
        self._settings = settings
        self._home = home
        self._pull = PullSettings() if pull is None else pull
        self._client = s3_client.connect(settings, home=home, env=env)

    def entries(self) -> Iterator[ListingEntry]:
        """Every object below the prefix, in name order; a hidden folder is one refused entry.

        Raises:
            UsageError: the fleet file is not UTF-8 CSV with a column `file`.
            SourceUnreachable: the bucket cannot be listed.
        """
        fleet = read_fleet_file(self._settings.fleet)
        found: dict[str, Found] = {}
        with self._reached():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=self._settings.prefix):
                for item in page.get("Contents", ()):
                    name = item["Key"][len(self._settings.prefix) :]
                    if name and not (name.endswith("/") and item["Size"] == 0):
                        found_at(name, _found(name, item), suffixes=self._pull.suffixes, seen=found)
        listing = list_entries(
            found.values(),
            self._read_sidecar,
            source_name=self.name,
            pull=self._pull,
            zone=self._settings.zone,
            fleet=fleet,
            fleet_name=FLEET_FILE if fleet is None else None,
        )
        self.dropped_keys, self.malformed_values = listing.dropped_keys, listing.malformed_values
        yield from listing.entries

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        """The entry's bytes in chunks of up to 1 MiB, all from one answer whose size, time and ETag are those that were listed.

        Raises:
            CurationError: the entry vanished, or may not be read.
            EntryChanged: it changed since it was listed.
            OutsideError: the answer broke off; a retry may help.
            SourceUnreachable: the bucket is gone.
        """
        answer = self._get(entry.name)
        with answer["Body"] as body:
            if not _same(entry, _found(entry.name, answer)):
                raise EntryChanged("changed since it was listed", subject=entry.name, fix="list the source again")
            yield self._chunks(body, entry)

    def look(self, entry: ListingEntry) -> ListingEntry | None:
        """The entry with its size, time and ETag of now, None where it is gone."""
        try:
            with self._asked(entry.name):
                now = _found(entry.name, self._client.head_object(Bucket=self._settings.bucket, Key=self._settings.prefix + entry.name))
        except _MissingError:
            self._reach()
            return None
        return replace(entry, size_bytes=now.size_bytes, modified_ns=now.modified_ns, version=now.version)

    def uri(self, entry: ListingEntry) -> str:
        """The entry's s3:// address; it names no endpoint."""
        return entry_uri(self.base_uri, entry.name)

    def _read_sidecar(self, entry: Found, limit_bytes: int) -> bytes:
        with self._get(entry.name)["Body"] as body, self._asked(entry.name):
            return bytes(body.read(limit_bytes))

    def _get(self, name: str) -> Any:
        try:
            with self._asked(name):
                return self._client.get_object(Bucket=self._settings.bucket, Key=self._settings.prefix + name)
        except _MissingError as error:
            self._reach()
            raise CurationError("vanished since it was listed", subject=name, fix="list the source again") from error
        except OutsideError:
            self._reach()
            raise

    def _chunks(self, body: Any, entry: ListingEntry) -> Iterator[bytes]:
        taken_bytes = 0
        with self._asked(entry.name):
            while chunk := body.read(CHUNK_BYTES):
                taken_bytes += len(chunk)
                yield chunk
        if taken_bytes != entry.size_bytes:
            raise OutsideError(
                f"gave {taken_bytes} of {entry.size_bytes} bytes", subject=entry.name, fix="see to the source, then run again"
            )

    def _reach(self) -> None:
        with self._reached():
            self._client.list_objects_v2(Bucket=self._settings.bucket, Prefix=self._settings.prefix, MaxKeys=1)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            with self._asked(f"source {self.name}"):
                yield
        except _MissingError as error:
            raise SourceUnreachable("there is no such bucket", subject=f"source {self.name}", fix=f"see to {self.base_uri}") from error
        except CurationError as error:
            raise SourceUnreachable(error.problem, subject=error.subject, fix=error.fix) from error

    @contextmanager
    def _asked(self, subject: str) -> Iterator[None]:
        """Errors of the server in the words of a source; `_MissingError` where it knows no such object or bucket."""
        try:
            with s3_client.outside(subject, home=self._home):
                yield
        except CurationError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and s3_client.status_of(cause) == _MISSING:
                raise _MissingError from error
            fix = error.fix.replace("[store]", f"[sources.{self.name}]")
            raise type(error)(error.problem.replace("the store", "the source"), subject=subject, fix=fix) from error


class _MissingError(Exception):
    """The server answered 404. Never leaves this module."""


def _same(entry: ListingEntry, now: Found) -> bool:
    return (entry.size_bytes, entry.modified_ns, entry.version) == (now.size_bytes, now.modified_ns, now.version)


def _found(name: str, said: Mapping[str, Any]) -> Found:
    """An object as a listing or an answer describes it; to the second, as answers are no finer."""
    modified: datetime = said["LastModified"]
    storage_class = said.get("StorageClass", "")
    return Found(
        name=name,
        size_bytes=int(said["Size"] if "Size" in said else said["ContentLength"]),
        modified_ns=int(modified.timestamp()) * _NS,
        version=said.get("ETag"),
        problem=f"rests in storage class {storage_class}: restore it first" if storage_class in _FROZEN else None,
    )
