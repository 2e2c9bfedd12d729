"""Bytes on their way into a bucket: a local file, uploaded on commit."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from curation.errors import CurationError, OutsideError
from curation.layout import check_key


class S3StagedObject:
    """A local file, uploaded under its key on commit, unlinked on exit."""

    def __init__(self, path: Path, file: BinaryIO, commit: Callable[[str, BinaryIO, int, int], bool]) -> None:
        """An empty object.

        Args:
            path: of the local file.
            file: the file, open for writing and reading.
            commit: uploads under a key so many bytes of the file with this CRC-32.
        """
        self._upload = commit
        self._path, self._file = path, file
        self._size_bytes = 0
        self._crc32 = 0
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a close that fails to flush discards bytes that are discarded anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            OutsideError: the local disk failed or is full.
        """
        with disk("spool"):
            self._file.seek(0, os.SEEK_END)
            self._file.write(data)
        self._size_bytes += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)

    @property
    def path(self) -> Path:
        """The staged file, with all bytes written so far."""
        with disk("spool"):
            self._file.flush()
        return self._path

    def commit(self, key: str) -> bool:
        """Upload the bytes under `key`; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key, the object was committed before, or the server refuses for good.
            ImmutableConflict: other bytes, or a folder of keys, stand under `key`.
            OutsideError: server, network or disk failed.
        """
        check_key(key)
        if self._committed:
            raise CurationError("the staged object was committed before", subject=key, fix="stage the bytes again")
        with disk("spool"):
            self._file.flush()
        created = self._upload(key, self._file, self._size_bytes, self._crc32)
        self._committed = True
        return created


@contextmanager
def disk(subject: str) -> Iterator[None]:
    """A failure of the local disk as ours, retryable.

    Raises:
        OutsideError: it failed or is full.
    """
    try:
        yield
    except OSError as error:
        raise OutsideError(
            f"the local disk failed: {error.strerror or error}", subject=subject, fix="see to space and rights of the spool folder"
        ) from error
