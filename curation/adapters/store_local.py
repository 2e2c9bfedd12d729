"""The object store in a directory: whole or absent, written once, safe against a kill and against concurrent writers."""

from __future__ import annotations

import contextlib
import filecmp
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Self

from curation import layout
from curation.adapters.spool import make_folder, open_locked, sweep, sync_folder
from curation.errors import CurationError, ImmutableConflict, OutsideError
from curation.layout import check_key, check_range
from curation.residency.jurisdiction import require_home

STAGING: Final = layout.STAGING
_OBJECT_MODE: Final = 0o444


class DirectoryStore:
    """Immutable objects as read-only files below `root`.

    Bytes are staged in `root/.staging`, flushed to disk, then hard-linked to their key: the link is atomic and fails where the key exists.
    A staged file is locked by its writer for as long as that lives, so that the leftover of a killed one is known and swept.
    """

    def __init__(self, root: Path, *, jurisdiction: str, home_jurisdiction: str = "CN") -> None:
        """A store below `root`, which is made on the first write.

        Raises:
            NotAtHome: the store does not rest in the home jurisdiction.
        """
        require_home(subject=f"store {root}", jurisdiction=jurisdiction, home_jurisdiction=home_jurisdiction)
        self.jurisdiction = jurisdiction
        self._root = root.resolve()
        self._swept = False

    def describe(self) -> Mapping[str, str]:
        """What the store is, name → words; nothing is written to find out."""
        return {
            "folder": str(self._root),
            "jurisdiction": f"{self.jurisdiction}, as the settings say: a folder is home wherever it is mounted",
            "written once by": "hard link",
            "checked by": "the file system",
        }

    def stage(self) -> AbstractContextManager[DirectoryStagedObject]:
        """A staged object; what was not committed is discarded on exit."""
        staging = self._root / STAGING
        with _outside(STAGING):
            make_folder(staging)
        if not self._swept:
            self._swept = True
            sweep(staging)
        return DirectoryStagedObject(self._root, staging)

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` once; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key.
            ImmutableConflict: other bytes stand under `key`.
            OutsideError: the disk failed.
        """
        check_key(key)
        with self.stage() as staged:
            staged.write(data)
            return staged.commit(key)

    def read(self, key: str) -> bytes:
        """The whole object.

        Raises:
            CurationError: there is no such object.
        """
        path = self._existing(key)
        with _outside(key):
            return path.read_bytes()

    def read_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Up to `length_bytes` bytes from `offset_bytes`; fewer, or none, where the object ends before.

        Raises:
            CurationError: there is no such object, or a number is negative.
        """
        check_range(key, offset_bytes, length_bytes)
        path = self._existing(key)
        with _outside(key), path.open("rb") as file:
            file.seek(offset_bytes)
            return file.read(length_bytes)

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """The object's own file; it is read-only and stays where it is.

        Raises:
            CurationError: there is no such object.
        """
        yield self._existing(key)

    def size(self, key: str) -> int | None:
        """Size in bytes, or None where there is no such object."""
        path = self._path(key)
        with _outside(key):
            try:
                found = path.stat(follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in lexicographic order; staged bytes are not keys."""
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_key(folder)
        with _outside(prefix or "keys"):
            yield from _walk(self._root / folder, f"{folder}/" if folder else "", prefix)

    def remove(self, key: str) -> None:
        """Remove the object, durably; nothing happens where there is none. Implements `ports.Eraser`.

        Raises:
            OutsideError: the disk failed.
        """
        if self.size(key) is None:
            return
        path = self._path(key)
        with _outside(key):
            path.unlink(missing_ok=True)
            sync_folder(path.parent)

    def replace(self, key: str, data: bytes) -> None:
        """Put other bytes under `key`, whole or not at all; the same bytes change nothing. Implements `ports.Eraser`.

        Raises:
            CurationError: there is no such object.
            OutsideError: the disk failed.
        """
        path = self._existing(key)
        if self.read(key) == data:
            return
        with self.stage() as staged:
            staged.write(data)
            staged.put_over(path, key)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if self.size(key) is None:
            raise CurationError(
                "there is no such object in the store", subject=key, fix="run the stage that writes it, or restore the store"
            )
        return path


class DirectoryStagedObject:
    """A file in the staging folder, locked while its writer lives, linked to its key on commit, unlinked on exit."""

    def __init__(self, root: Path, staging: Path) -> None:
        self._root = root
        self._path = staging / secrets.token_hex(16)
        self._committed = False
        with _outside(STAGING):
            self._file = open_locked(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a close that fails to flush discards bytes that are discarded anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            OutsideError: the disk failed or is full.
        """
        with _outside(STAGING):
            self._file.write(data)

    @property
    def path(self) -> Path:
        """The staged file, with all bytes written so far."""
        with _outside(STAGING):
            self._file.flush()
        return self._path

    def commit(self, key: str) -> bool:
        """Make the bytes visible under `key`, whole and durable; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key, or the object was committed before.
            ImmutableConflict: other bytes, or a folder of keys, stand under `key`.
            OutsideError: the disk failed.
        """
        check_key(key)
        if self._committed:
            raise CurationError("the staged object was committed before", subject=key, fix="stage the bytes again")
        target = self._root / key
        with _outside(key):
            self._file.flush()
            os.fchmod(self._file.fileno(), _OBJECT_MODE)
            os.fsync(self._file.fileno())
            make_folder(target.parent)
            try:
                os.link(self._path, target)
            except FileExistsError:
                self._committed = True
                return self._same_as(target, key)
            self._committed = True
            sync_folder(target.parent)
        return True

    def put_over(self, target: Path, key: str) -> None:
        """Put the bytes in the place of the object at `target`.

        Raises:
            OutsideError: the disk failed.
        """
        with _outside(key):
            self._file.flush()
            os.fchmod(self._file.fileno(), _OBJECT_MODE)
            os.fsync(self._file.fileno())
            os.replace(self._path, target)  # noqa: PTH105 - Path.replace would read as this store's own
            self._committed = True
            sync_folder(target.parent)

    def _same_as(self, target: Path, key: str) -> bool:
        if target.is_symlink() or not target.is_file() or not filecmp.cmp(self._path, target, shallow=False):
            raise ImmutableConflict(
                "something else stands under this key already",
                subject=key,
                fix="objects are written once: find out which of the two is wrong",
            )
        return False


@contextmanager
def _outside(subject: str) -> Iterator[None]:
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise ImmutableConflict(
            "an object stands where the key needs a folder, or a folder where it needs an object",
            subject=subject,
            fix="use keys of curation/layout.py only",
        ) from error
    except OSError as error:
        raise OutsideError(
            f"the store's disk failed: {error.strerror or error}",
            subject=subject,
            fix="see to space, rights and hard links on the store's file system, then run again",
        ) from error


def _walk(folder: Path, base: str, prefix: str) -> Iterator[str]:
    """Keys below `folder`, whose own key is `base`; a folder sorts as its name with `/`, which makes the whole order lexicographic."""
    try:
        with os.scandir(folder) as found:
            names = sorted(
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found if not entry.is_symlink()
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = base + name
        if key == f"{STAGING}/" or not (key.startswith(prefix) or prefix.startswith(key)):
            continue
        if name.endswith("/"):
            yield from _walk(folder / name, key, prefix)
        elif key.startswith(prefix):
            yield key
