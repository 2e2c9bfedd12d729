"""Multipart uploads: parts that an earlier try has brought over are kept, and none is left behind once the object stands."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from botocore.exceptions import ClientError

from curation.adapters.s3_bucket import abort
from curation.adapters.s3_client import code_of, status_of
from curation.settings import MIB

PART_BYTES: Final = 8 * MIB
_MAX_PARTS: Final = 10_000
_MISSING: Final = 404
_NO_VERSIONS: Final = frozenset({"NotImplemented", "MethodNotAllowed"})
_WORKERS: Final = 4  # with parts of 8 MiB, 32 MiB under way; the memory of one upload does not grow with the clip
_PROBE_S: Final = 600.0  # a probe lasts seconds


class UploadGone(Exception):
    """Another writer has completed or aborted the upload."""


class Parts:
    """A file on its way into a bucket, part by part."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        file: BinaryIO,
        size_bytes: int,
        *,
        crc32: int,
        checksums: bool,
        begun: Sequence[str] = (),
    ) -> None:
        """The file's parts; nothing is sent yet.

        Args:
            client: a botocore S3 client.
            bucket: the bucket.
            key: the whole key, prefix included.
            file: a file on disk, read at any position by several threads.
            size_bytes: its size.
            crc32: CRC-32 of all its bytes.
            checksums: whether the server checks CRC32; else each part carries its MD5.
            begun: ids of earlier uploads of this key, the one to try first first.
        """
        self._client, self._bucket, self._key = client, bucket, key
        self._descriptor = file.fileno()
        self._size_bytes = size_bytes
        self._crc32 = crc32
        self._checksums = checksums
        self._part_bytes = max(PART_BYTES, math.ceil(size_bytes / _MAX_PARTS / MIB) * MIB)
        self._begun = list(begun)
        self._upload_id = ""
        self._etags: dict[int, str] = {}

    def upload(self) -> None:
        """Bring over every part that is not there yet; an upload of the same bytes that broke off is taken up.

        Raises:
            UploadGone: another writer ended it meanwhile.
        """
        self._upload_id, self._etags = self._resumable() or (self._begin(), {})
        missing = [number for number in range(1, math.ceil(self._size_bytes / self._part_bytes) + 1) if number not in self._etags]
        stop = threading.Event()

        def send(number: int) -> tuple[int, str] | None:
            return None if stop.is_set() else (number, self._send(number))

        with _gone(), ThreadPoolExecutor(_WORKERS, thread_name_prefix="part") as pool:
            try:
                self._etags.update(filter(None, pool.map(send, missing)))
            finally:
                stop.set()  # after one failure the parts that wait are not sent any more

    def complete(self, **condition: str) -> Mapping[str, Any]:
        """The server's answer to putting the parts together.

        Raises:
            UploadGone: another writer ended the upload meanwhile.
        """
        whole = {"ChecksumCRC32": base64.b64encode(self._crc32.to_bytes(4, "big")).decode(), "ChecksumType": "FULL_OBJECT"}
        parts = [{"PartNumber": number, "ETag": self._etags[number]} for number in sorted(self._etags)]
        with _gone():
            answer: Mapping[str, Any] = self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
                **(whole if self._checksums else {}),
                **condition,
            )
        return answer

    def end(self) -> None:
        """End this upload, if it was not completed, and those begun before: the object stands, so that none can ever become one."""
        for upload_id in {self._upload_id, *self._begun}:
            abort(self._client, self._bucket, self._key, upload_id)

    def _begin(self) -> str:
        kind = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._checksums else {}
        return str(self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key, **kind)["UploadId"])

    def _send(self, number: int) -> str:
        data = self._part(number)
        check = {} if self._checksums else {"ContentMD5": base64.b64encode(_md5(data)).decode()}
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=data, **check
        )
        return str(answer["ETag"])

    def _part(self, number: int) -> bytes:
        return os.pread(self._descriptor, self._part_bytes, (number - 1) * self._part_bytes)

    def _resumable(self) -> tuple[str, dict[int, str]] | None:
        """The first upload begun before whose every part is ours by size and MD5; a server whose ETag is another sum has none."""
        for upload_id in self._begun:
            etags = self._same_parts(upload_id)
            if etags:
                return upload_id, etags
        return None

    def _same_parts(self, upload_id: str) -> dict[int, str]:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=self._key, UploadId=upload_id)
        etags: dict[int, str] = {}
        try:
            for page in pages:
                for part in page.get("Parts", []):
                    number, etag = int(part["PartNumber"]), str(part["ETag"])
                    data = self._part(number)
                    if part["Size"] != len(data) or etag.strip('"') != _md5(data).hex():
                        return {}
                    etags[number] = etag
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            return {}
        return etags


def begun(client: Any, bucket: str, prefix: str, *, staging: str, stale_s: float, now_s: float) -> dict[str, list[str]]:
    """Ids of the uploads under way below `prefix`, by key, newest first.

    Those that nobody goes on with are ended: begun longer ago than any write lasts, or of an object that stands. Below `staging` lie the
    probes of processes that start now, whose objects stand while they are written to: those are left for ten minutes. A server that lists
    no uploads has none to end.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for one in _uploads(client, bucket, prefix):
        at = one.get("Initiated")
        begun_s = now_s if at is None else at.timestamp()
        if now_s - begun_s > (_PROBE_S if one["Key"].startswith(staging) else stale_s):
            abort(client, bucket, one["Key"], one["UploadId"])
        else:
            found.setdefault(one["Key"], []).append((begun_s, one["UploadId"]))
    for key in [key for key in found if not key.startswith(staging) and _stands(client, bucket, key)]:
        for _, upload_id in found.pop(key):
            abort(client, bucket, key, upload_id)
    return {key: [upload_id for _, upload_id in sorted(uploads, reverse=True)] for key, uploads in found.items()}


def _stands(client: Any, bucket: str, key: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if status_of(error) != _MISSING:
            raise
        return False
    return True


def sweep_staging(client: Any, bucket: str, staging: str, *, older_than_s: float, now_s: float) -> None:
    """Remove what dead writers left below `staging` longer ago than any write lasts: probes and claims."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=staging):
        for found in page.get("Contents", []):
            if now_s - found["LastModified"].timestamp() > older_than_s:
                client.delete_object(Bucket=bucket, Key=found["Key"])


def remove_versions(client: Any, bucket: str, key: str, *, keep_latest: bool = False) -> None:
    """Remove every version and delete marker of `key`, or all but the latest; a server that knows no versions has none."""
    try:
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
            for found in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                if found["Key"] == key and not (keep_latest and found["IsLatest"]):
                    client.delete_object(Bucket=bucket, Key=key, VersionId=found["VersionId"])
    except ClientError as error:
        if code_of(error) not in _NO_VERSIONS:
            raise


def _uploads(client: Any, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Uploads", [])


class _gone:  # noqa: N801  # used as a context manager
    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ClientError) and code_of(error) in {"NoSuchUpload", "InvalidPart"}:
            raise UploadGone from error


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
