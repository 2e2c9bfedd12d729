"""Files that hold bytes on their way into a store: locked while their writer lives, swept once it is dead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO, Final

_LEFTOVER_AGE_S: Final = 60.0  # a writer locks its file right after creating it; a minute is far more than "right after"
_UNLOCKABLE_AGE_S: Final = 86_400.0  # where the file system has no locks, only age tells a leftover from a live write


def open_locked(path: Path) -> BinaryIO:
    """A new file for writing and reading that `sweep` leaves alone until it is closed.

    Raises:
        OSError: the disk failed.
    """
    file = path.open("x+b")
    with contextlib.suppress(OSError):  # without locks, `sweep` goes by age alone
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def make_folder(folder: Path) -> None:
    """Make `folder` and sync each new name into its parent, so that a power cut cannot lose the way to an object."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Write the folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind; a failure to do so harms nobody and is tried again next time."""
    now = time.time()
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
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
