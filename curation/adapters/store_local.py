"""The object store in a directory: whole or absent, written once, safe against a kill and against concurrent writers."""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Self

from curation.errors import CurationError, ImmutableConflict, OutsideError
from curation.residency.jurisdiction import require_home

STAGING: Final = ".staging"
_OBJECT_MODE: Final = 0o444
_PART_MAX_BYTES: Final = 255  # what ext4, xfs and APFS allow for one name
_LEFTOVER_AGE_S: Final = 60.0  # a writer locks its file right after creating it; a minute is far more than "right after"
_UNLOCKABLE_AGE_S: Final = 86_400.0  # where the file system has no locks, only age tells a leftover from a live write


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

    def stage(self) -> AbstractContextManager[DirectoryStagedObject]:
        """A staged object; what was not committed is discarded on exit."""
        staging = self._root / STAGING
        with _outside(STAGING):
            _make_folder(staging)
        if not self._swept:
            self._swept = True
            _sweep(staging)
        return DirectoryStagedObject(self._root, staging)

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` once; True if created, False if the same bytes were there already.

        Raises:
            CurationError: `key` is not a valid key.
            ImmutableConflict: other bytes stand under `key`.
            OutsideError: the disk failed.
        """
        _check_key(key)
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
            _check_key(folder)
        with _outside(prefix or "keys"):
            yield from _walk(self._root / folder, f"{folder}/" if folder else "", prefix)

    def _path(self, key: str) -> Path:
        _check_key(key)
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
            self._file = self._path.open("xb")
        with contextlib.suppress(OSError):  # without locks, `_sweep` goes by age alone
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

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
        _check_key(key)
        if self._committed:
            raise CurationError("the staged object was committed before", subject=key, fix="stage the bytes again")
        target = self._root / key
        with _outside(key):
            self._file.flush()
            os.fchmod(self._file.fileno(), _OBJECT_MODE)
            os.fsync(self._file.fileno())
            _make_folder(target.parent)
            try:
                os.link(self._path, target)
            except FileExistsError:
                self._committed = True
                return self._same_as(target, key)
            self._committed = True
            _sync_folder(target.parent)
        return True

    def _same_as(self, target: Path, key: str) -> bool:
        if target.is_symlink() or not target.is_file() or not filecmp.cmp(self._path, target, shallow=False):
            raise ImmutableConflict(
                "something else stands under this key already",
                subject=key,
                fix="objects are written once: find out which of the two is wrong",
            )
        return False


def _check_key(key: str) -> None:
    """Nothing, for a key of `/`-separated parts that cannot leave the store."""
    parts = key.split("/")
    problem = None
    if not key or any(not part for part in parts):
        problem = "has an empty part or is absolute"
    elif any(part in {".", ".."} for part in parts):
        problem = "has a part . or .."
    elif "\\" in key or not key.isprintable():
        problem = "has a backslash or a character that does not print"
    elif parts[0] == STAGING:
        problem = "lies in the staging folder"
    elif any(len(part.encode()) > _PART_MAX_BYTES for part in parts):
        problem = f"has a part of over {_PART_MAX_BYTES} bytes"
    if problem:
        raise CurationError(f"the key {problem}", subject=repr(key), fix="use a key of curation/layout.py")


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


def _make_folder(folder: Path) -> None:
    """Make `folder` and sync each new name into its parent, so that a power cut cannot lose the way to an object."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _sweep(staging: Path) -> None:
    """Remove what killed writers left behind; a failure to do so harms nobody and is tried again next time."""
    now = time.time()
    with contextlib.suppress(OSError):
        for path in staging.iterdir():
            with contextlib.suppress(OSError):
                if _is_leftover(path, now - path.stat().st_mtime):
                    path.unlink()


def _is_leftover(path: Path, age_s: float) -> bool:
    if age_s < _LEFTOVER_AGE_S:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return age_s > _UNLOCKABLE_AGE_S
    return True
