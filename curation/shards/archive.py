"""The bytes of a tar as WebDataset reads it: members of a sample side by side, samples in ascending order, nothing of the machine."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from curation.errors import CurationError
from curation.ports import StagedObject

_RECORD_BYTES: Final = 10_240  # POSIX: an archive fills whole records of 20 blocks
_OCTAL_LIMIT_BYTES: Final = 8**11  # USTAR gives a size eleven octal digits
_NAME_LIMIT_BYTES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One part of a sample: its suffix with its dot, its size and its bytes."""

    suffix: str
    size_bytes: int
    chunks: Iterable[bytes]


def member_bytes(size_bytes: int) -> int:
    """Size of a member with its header, which takes two blocks more where the size stands in a PAX one."""
    header = tarfile.BLOCKSIZE if size_bytes < _OCTAL_LIMIT_BYTES else 3 * tarfile.BLOCKSIZE
    return header + size_bytes + _padding(size_bytes, tarfile.BLOCKSIZE)


def archive_bytes(used_bytes: int) -> int:
    """Size of a closed archive: two empty blocks, then whole records."""
    ended = used_bytes + 2 * tarfile.BLOCKSIZE
    return ended + _padding(ended, _RECORD_BYTES)


def header(name: str, size_bytes: int) -> bytes:
    """A USTAR header that depends on name and size alone; preceded by a PAX one where the size needs more than 8 GiB's digits."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode, info.type = size_bytes, 0, 0o644, tarfile.REGTYPE
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")


def _padding(size_bytes: int, unit_bytes: int) -> int:
    return -size_bytes % unit_bytes


def check_follows(key: str, last_key: str) -> None:
    """Nothing, for a sample whose key follows the last one.

    Raises:
        CurationError: it does not, so a reader could mix two samples; or a dot in it would end it early.
    """
    if key <= last_key:
        raise CurationError(f"does not follow {last_key}", subject=f"sample {key}", fix="report this as a defect of the order")
    if "." in key or "/" in key or len(key) > _NAME_LIMIT_BYTES - 10:
        raise CurationError("is no key that a reader finds whole", subject=f"sample {key}", fix="report this as a defect of the key")


class TarStream:
    """A tar on its way into the store: samples with strictly ascending keys, members of one sample side by side."""

    def __init__(self, staged: StagedObject) -> None:
        self._staged = staged
        self._hasher = hashlib.sha256()
        self._last_key = ""
        self.size_bytes = 0
        self.sample_count = 0

    def add(self, key: str, members: Sequence[Member]) -> None:
        """Append a sample.

        Raises:
            CurationError: the key does not follow the last one, or a member is not of its size.
        """
        check_follows(key, self._last_key)
        self._last_key = key
        self.sample_count += 1
        for member in sorted(members, key=lambda one: one.suffix):
            name = key + member.suffix
            self._write(header(name, member.size_bytes))
            begin = self.size_bytes
            for chunk in member.chunks:
                self._write(chunk)
            if self.size_bytes - begin != member.size_bytes:
                raise CurationError(
                    f"has not the {member.size_bytes} bytes promised", subject=f"member {name}", fix="report this as a defect"
                )
            self._write(bytes(_padding(member.size_bytes, tarfile.BLOCKSIZE)))

    def close(self) -> str:
        """End the archive; SHA-256 of all its bytes, hex."""
        self._write(bytes(archive_bytes(self.size_bytes) - self.size_bytes))
        return self._hasher.hexdigest()

    def _write(self, data: bytes) -> None:
        self._staged.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)
