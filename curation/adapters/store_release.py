"""One release's folder of a home store, to be read and nothing else. What the store's server would allow beyond that is not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from curation.errors import CurationError
from curation.layout import release_key
from curation.ports import ObjectStore, StagedObject


class ReleaseReader:
    """Implements `ports.ObjectStore` below `releases/<release_id>/`; every write, and every key outside, is refused."""

    def __init__(self, store: ObjectStore, release_id: str) -> None:
        """A view of `store`.

        Raises:
            CurationError: the id is no name of one folder.
        """
        if not release_id or "/" in release_id or release_id in {".", ".."}:
            raise CurationError("is no id of a release", subject=repr(release_id), fix="name one that `curation release --list` shows")
        self._store = store
        self._prefix = release_key(release_id, "")

    def stage(self) -> AbstractContextManager[StagedObject]:
        """Refused."""
        self._refuse("a new object")

    def create(self, key: str, data: bytes) -> bool:  # noqa: ARG002 - the port's
        """Refused."""
        self._refuse(key)

    def read(self, key: str) -> bytes:
        """The whole object."""
        return self._store.read(self._own(key))

    def read_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Some bytes of an object."""
        return self._store.read_range(self._own(key), offset_bytes, length_bytes)

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """A readable local file with the object's bytes, valid inside the context."""
        return self._store.local_path(self._own(key))

    def size(self, key: str) -> int | None:
        """Size in bytes, or None where there is no such object."""
        return self._store.size(self._own(key))

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`."""
        return self._store.keys(self._own(prefix))

    def _own(self, key: str) -> str:
        if not key.startswith(self._prefix):
            self._refuse(key)
        return key

    def _refuse(self, key: str) -> NoReturn:
        raise CurationError("is not the publishing process's", subject=key, fix="read a file of the release that is published")
