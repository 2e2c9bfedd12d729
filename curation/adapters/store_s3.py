"""The object store in a bucket: written once, checked by checksum, resumed where it broke off; at home by the guard on every request."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from botocore.exceptions import BotoCoreError, ClientError

from curation import layout
from curation.adapters import s3_bucket, s3_client, s3_upload
from curation.adapters.s3_claim import claim
from curation.adapters.s3_staged import S3StagedObject, disk
from curation.adapters.spool import make_folder, open_locked, sweep
from curation.errors import CurationError, ImmutableConflict, OutsideError
from curation.layout import check_key, check_range
from curation.settings import MIB, HomeSettings, S3StoreSettings

log = logging.getLogger(__name__)

MULTIPART_FROM_BYTES: Final = 64 * MIB  # below, one request costs client and server less than parts, and is soon sent again
_KEY_MAX_BYTES: Final = 1024  # what S3 allows, prefix included
_CHUNK_BYTES: Final = MIB
_TRIES: Final = 4
_MISSING: Final = 404
_RANGE_BEYOND: Final = 416
_STALE_S: Final = 7 * 86_400.0  # no write lasts a week; until then a rerun may go on with the parts


class S3Store:
    """Immutable objects in a bucket, below a prefix.

    Bytes are staged in a local file and uploaded on commit. Nothing is sent before the first use, and nothing written before the bucket
    was found to be at home, private, and to keep what was written once, or else each write to be claimed first (`describe`).
    """

    def __init__(
        self,
        settings: S3StoreSettings,
        *,
        home: HomeSettings,
        spool: Path,
        env: Mapping[str, str] = os.environ,
        conditional: bool = True,
        multipart_from_bytes: int = MULTIPART_FROM_BYTES,
    ) -> None:
        """A store as the settings say.

        Args:
            settings: endpoint, bucket and the names of the credentials.
            home: the allow-list that every request is held against.
            spool: local folder for bytes on their way; on a disk at home with room for the clips that are staged at once.
            env: where the named credentials are.
            conditional: False has every write claimed first, even where the server would keep objects by itself.
            multipart_from_bytes: from which size on an object goes in parts, and is taken up again where it broke off.

        Raises:
            NotAtHome: the endpoint is not at home.
            SettingsError: credentials or authorities that the settings name are not there.
        """
        self.jurisdiction = settings.jurisdiction
        self._settings = settings
        self._home = home
        self._quirks = s3_client.QUIRKS[settings.profile]
        self._client = s3_client.connect(settings, home=home, env=env)
        self._bucket, self._prefix = settings.bucket, settings.prefix
        self._spool = spool
        self._may_be_conditional = conditional
        self._multipart_from_bytes = multipart_from_bytes
        self._lock = threading.Lock()
        self._findings: s3_bucket.Findings | None = None
        self._folders: set[str] = set()
        self._begun: Mapping[str, Sequence[str]] = {}  # uploads that were under way when this store was opened, newest first, by key

    def describe(self) -> Mapping[str, str]:
        """What the store is and what its bucket was found to do, name → words; asks the bucket the first time.

        Raises:
            NotAtHome: the bucket is replicated abroad, open to everybody, or in a region abroad.
            CurationError: the bucket cannot be used; OutsideError where a retry may help.
        """
        found = self._ready()
        return {
            "endpoint": self._settings.endpoint_url,
            "bucket": f"{self._bucket}/{self._prefix}",
            "region": f"{self._settings.region} (bucket: {found.region})",
            "written once by": self._how_once(found),
            "checked by": "CRC32 at the server" if self._quirks.checksums else "Content-MD5 and reading back (SHA-256)",
            "replication": found.replication,
            "policy": found.policy,
            "grants": found.grants,
        }

    def stage(self) -> AbstractContextManager[S3StagedObject]:
        """A staged object; what was not committed is discarded on exit."""
        self._ready()
        return S3StagedObject(*self._spool_file(), self.commit)

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` once; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key, or the server refuses for good.
            ImmutableConflict: other bytes stand under `key`.
            OutsideError: server or network failed.
        """
        self._full(key)
        if len(data) >= self._multipart_from_bytes:
            with self.stage() as staged:
                staged.write(data)
                return staged.commit(key)
        self._ready()
        return self.commit(key, io.BytesIO(data), len(data), zlib.crc32(data))

    def read(self, key: str) -> bytes:
        """The whole object.

        Raises:
            CurationError: there is no such object.
            OutsideError: server or network failed.
        """
        buffer = io.BytesIO()
        self._download(key, buffer)
        return buffer.getvalue()

    def read_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Up to `length_bytes` bytes from `offset_bytes`; fewer, or none, where the object ends before.

        Raises:
            CurationError: there is no such object, or a number is negative.
            OutsideError: server or network failed.
        """
        check_range(key, offset_bytes, length_bytes)
        if not length_bytes:
            self._existing_size(key)
            return b""
        with self._outside(key):
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=self._full(key), Range=f"bytes={offset_bytes}-{offset_bytes + length_bytes - 1}"
                )
            except ClientError as error:
                if s3_client.status_of(error) == _RANGE_BEYOND:
                    return b""
                raise self._told(error, key) from error
            with contextlib.closing(answer["Body"]) as body:
                return bytes(body.read())

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """A local copy of the object, gone after the context.

        Raises:
            CurationError: there is no such object.
            OutsideError: server, network or disk failed.
        """
        path, file = self._spool_file()
        try:
            with file:
                self._download(key, file)
                with disk(key):
                    file.flush()
                yield path
        finally:
            path.unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        """Size in bytes, or None where there is no such object."""
        with self._outside(key):
            try:
                return int(self._client.head_object(Bucket=self._bucket, Key=self._full(key))["ContentLength"])
            except ClientError as error:
                if s3_client.status_of(error) == _MISSING and s3_client.code_of(error) != "NoSuchBucket":
                    return None
                raise

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in lexicographic order; gathered and sorted first where the server has another order."""
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_key(folder)
        found = self._listed(prefix)
        yield from found if self._quirks.ordered else sorted(found)

    def remove(self, key: str) -> None:
        """Remove the object with every version of it; nothing happens where there is none. Implements `ports.Eraser`.

        Raises:
            CurationError: the server refuses for good, as it does where versions are locked.
            OutsideError: server or network failed.
        """
        full = self._full(key)
        self._ready()
        with self._outside(key):
            self._client.delete_object(Bucket=self._bucket, Key=full)
            s3_upload.remove_versions(self._client, self._bucket, full)

    def replace(self, key: str, data: bytes) -> None:
        """Put other bytes under `key`, whole or not at all, and keep no version of the old ones. Implements `ports.Eraser`.

        Raises:
            CurationError: there is no such object, or the server refuses for good.
            OutsideError: server or network failed.
        """
        full = self._full(key)
        self._ready()
        if self.read(key) != data:
            file = io.BytesIO(data)
            check = {} if self._quirks.checksums else {"ContentMD5": _md5(file)}
            with self._outside(key):
                self._client.put_object(Bucket=self._bucket, Key=full, Body=file, **check)
        with self._outside(key):
            s3_upload.remove_versions(self._client, self._bucket, full, keep_latest=True)

    # --- what a staged object needs ------------------------------------------------------------------------------------------------

    def _spool_file(self) -> tuple[Path, BinaryIO]:
        """A new local file, locked while it is open, and its path."""
        with disk("spool"):
            make_folder(self._spool)
            path = self._spool / secrets.token_hex(16)
            return path, open_locked(path)

    def commit(self, key: str, file: BinaryIO, size_bytes: int, crc32: int) -> bool:
        """Upload a file under `key`; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key, or the server refuses for good.
            ImmutableConflict: other bytes stand under `key`.
            OutsideError: server or network failed, or the object arrived damaged; a rerun goes on with what was uploaded.
        """
        full = self._full(key)
        with self._outside(key):
            self._require_free(key)
            if size_bytes < self._multipart_from_bytes:
                created, checked = self._put(key, full, file, crc32)
            else:
                created, checked = self._put_parts(key, full, file, size_bytes, crc32)
            if created and not checked:
                self._read_back(key, full, file)
            if not created and not self._is_same(key, file, size_bytes):
                raise ImmutableConflict(
                    "something else stands under this key already",
                    subject=key,
                    fix="objects are written once: find out which of the two is wrong",
                )
        return created

    def _put(self, key: str, full: str, file: BinaryIO, crc32: int) -> tuple[bool, bool]:
        """Whether an object of one request was created, and whether the server has checked it."""

        def put(condition: Mapping[str, str]) -> Mapping[str, Any]:
            file.seek(0)  # an earlier try has read it to its end
            answer: Mapping[str, Any] = self._client.put_object(**arguments, **condition)
            return answer

        arguments: dict[str, Any] = {"Bucket": self._bucket, "Key": full, "Body": file}
        if self._quirks.checksums:
            arguments["ChecksumCRC32"] = base64.b64encode(crc32.to_bytes(4, "big")).decode()  # else botocore reads the file to compute it
        else:
            arguments["ContentMD5"] = _md5(file)
        with self._once(key, by_condition=self._by_condition(self._ready())) as condition:
            if condition is None:
                return False, True
            answer = _when_free(lambda: put(condition))
        return answer is not None, answer is not None and self._quirks.checksums and "ChecksumCRC32" in answer

    def _put_parts(self, key: str, full: str, file: BinaryIO, size_bytes: int, crc32: int) -> tuple[bool, bool]:
        """Whether an object of many parts was created, and whether the server has checked it."""
        if self.size(key) is not None:  # what is there already is not uploaded only to be refused
            return False, True
        parts = s3_upload.Parts(
            self._client,
            self._bucket,
            full,
            file,
            size_bytes,
            crc32=crc32,
            checksums=self._quirks.checksums,
            begun=self._begun.get(full, ()),
        )
        for _ in range(_TRIES):
            try:
                parts.upload()
                with self._once(key, by_condition=self._by_condition(self._ready()) and self._quirks.atomic_parts) as condition:
                    answer = None if condition is None else _when_free(lambda condition=condition: parts.complete(**condition))
            except s3_upload.UploadGone:
                if self.size(key) is not None:
                    return False, True
                continue
            parts.end()
            return answer is not None, answer is not None and "ChecksumCRC32" in answer
        raise OutsideError("its upload was ended by another writer each time", subject=key, fix="run again")

    @contextmanager
    def _once(self, key: str, *, by_condition: bool) -> Iterator[Mapping[str, str] | None]:
        """What makes a write happen once: a condition alone, or a claim and what conditions there are; None where the object is there."""
        condition = {"IfNoneMatch": "*"} if self._by_condition(self._ready()) else {}
        if by_condition:
            yield condition
            return
        with claim(self._client, self._bucket, self._staging, self._full(key)):
            yield condition if self.size(key) is None else None

    def _read_back(self, key: str, full: str, file: BinaryIO) -> None:
        """Nothing, if what the server now holds has the SHA-256 of what was sent; else it is removed, being ours and damaged."""
        sent, held = hashlib.sha256(), hashlib.sha256()
        for chunk in _chunks(file):
            sent.update(chunk)
        with contextlib.closing(self._client.get_object(Bucket=self._bucket, Key=full)["Body"]) as body:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                held.update(chunk)
        if sent.digest() != held.digest():
            self._client.delete_object(Bucket=self._bucket, Key=full)
            raise OutsideError("arrived damaged and was removed", subject=key, fix="see to network and server, then run again")

    def _is_same(self, key: str, file: BinaryIO, size_bytes: int) -> bool:
        if self.size(key) != size_bytes:
            return False
        file.seek(0)
        with contextlib.closing(self._client.get_object(Bucket=self._bucket, Key=self._full(key))["Body"]) as body:
            return all(theirs == file.read(len(theirs)) for theirs in body.iter_chunks(_CHUNK_BYTES)) and not file.read(1)

    def _require_free(self, key: str) -> None:
        """Nothing, if no object stands where the key needs a folder, nor keys below it; this is looked at, not locked."""
        parts = key.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))} - self._folders
        taken = any(self.size(folder) is not None for folder in above)
        if taken or self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._full(key)}/", MaxKeys=1).get("Contents"):
            raise ImmutableConflict(
                "an object stands where the key needs a folder, or a folder where it needs an object",
                subject=key,
                fix="use keys of curation/layout.py only",
            )
        self._folders |= above

    # --- reading -------------------------------------------------------------------------------------------------------------------

    def _download(self, key: str, file: BinaryIO) -> None:
        """The object into `file`; a broken answer is taken up where it broke off, of the same object only."""
        full, etag, done_bytes = self._full(key), "", 0
        for last in (False,) * (_TRIES - 1) + (True,):
            further = {"Range": f"bytes={done_bytes}-", "IfMatch": etag} if done_bytes else {}
            with self._outside(key):
                try:
                    answer = self._client.get_object(Bucket=self._bucket, Key=full, **further)
                    etag = answer["ETag"]
                    with contextlib.closing(answer["Body"]) as body:
                        for chunk in body.iter_chunks(_CHUNK_BYTES):
                            with disk(key):
                                file.write(chunk)
                            done_bytes += len(chunk)
                except ClientError as error:
                    raise self._told(error, key) from error
                except BotoCoreError:
                    if last:
                        raise
                    continue
            return

    def _listed(self, prefix: str) -> Iterator[str]:
        staging = self._staging
        with self._outside(prefix or "keys"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            for page in pages:
                for found in page.get("Contents", []):
                    if not found["Key"].startswith(staging) and not found["Key"].endswith("/"):
                        yield found["Key"].removeprefix(self._prefix)

    def _existing_size(self, key: str) -> int:
        size_bytes = self.size(key)
        if size_bytes is None:
            raise _no_such(key)
        return size_bytes

    # --- the bucket ----------------------------------------------------------------------------------------------------------------

    @property
    def _staging(self) -> str:
        return f"{self._prefix}{layout.STAGING}/"

    def _ready(self) -> s3_bucket.Findings:
        """What the bucket was found to be, asked once; what dead writers left here and there is swept."""
        with self._lock:
            if self._findings is None:
                found = s3_bucket.look(self._client, self._settings, home=self._home, staging=self._staging)
                with self._outside("uploads"):
                    self._begun = s3_upload.begun(
                        self._client, self._bucket, self._prefix, staging=self._staging, stale_s=_STALE_S, now_s=time.time()
                    )
                    s3_upload.sweep_staging(self._client, self._bucket, self._staging, older_than_s=_STALE_S, now_s=time.time())
                sweep(self._spool)
                self._findings = found
            return self._findings

    def _how_once(self, found: s3_bucket.Findings) -> str:
        if not self._by_condition(found):
            return "claim, the server's conditional writes do not hold"
        return "condition" if self._quirks.atomic_parts else "condition, and a claim where an object is put together from parts"

    def keeps_writers_apart(self) -> bool:
        """Whether the server refuses, by itself, to write a second time what is there; asks the bucket the first time."""
        return self._by_condition(self._ready())

    def _by_condition(self, found: s3_bucket.Findings) -> bool:
        return found.conditional and self._may_be_conditional

    def _full(self, key: str) -> str:
        check_key(key)
        full = self._prefix + key
        if len(full.encode()) > _KEY_MAX_BYTES:
            raise CurationError(f"the key has over {_KEY_MAX_BYTES} bytes", subject=repr(key), fix="use a key of curation/layout.py")
        return full

    def _outside(self, subject: str) -> AbstractContextManager[None]:
        return s3_client.outside(subject, home=self._home)

    @staticmethod
    def _told(error: ClientError, key: str) -> Exception:
        return _no_such(key) if s3_client.code_of(error) in {"NoSuchKey", "404"} else error


def _when_free(write: Any) -> Mapping[str, Any] | None:
    """The server's answer, or None where it refused because the object is there; a conflict with a write under way is waited out."""
    for attempt in range(_TRIES):
        try:
            answer: Mapping[str, Any] = write()
        except ClientError as error:
            status = s3_client.status_of(error)
            if status == 409 and attempt < _TRIES - 1:  # S3: another conditional write of this key has not ended
                time.sleep(0.1 * 2**attempt)
                continue
            if status == 412:  # the condition: the object is there
                return None
            raise
        else:
            return answer
    return None


def _no_such(key: str) -> CurationError:
    return CurationError("there is no such object in the store", subject=key, fix="run the stage that writes it, or restore the store")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _md5(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(file):
        digest.update(chunk)
    file.seek(0)
    return base64.b64encode(digest.digest()).decode()
