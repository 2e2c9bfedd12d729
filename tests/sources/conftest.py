"""Places where clips lie, each as the one who delivers them sees it: a folder, a zip, a web server, memory."""

from __future__ import annotations

import functools
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from curation.adapters.source_folder import FolderSource
from curation.adapters.source_fsspec import FsspecSource


class FolderPlace:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def take_away(self) -> None:
        self.root.rename(self.root.with_name("unmounted"))

    def contents(self) -> Mapping[str, bytes]:
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def source(self, **options: Any) -> Any:
        return FolderSource("s", self.root, **options)


class FilePlace(FolderPlace):
    """The same through file://."""

    def source(self, **options: Any) -> Any:
        return FsspecSource("s", self.root.as_uri(), **options)


class MemoryPlace:
    """The memory of this process."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._system = fsspec.filesystem("memory")

    def put(self, name: str, data: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", data)

    def remove(self, name: str) -> None:
        self._system.rm(f"{self._root}/{name}")

    def take_away(self) -> None:
        self._system.rm(self._root, recursive=True)

    def contents(self) -> Mapping[str, bytes]:
        return {path.removeprefix(f"{self._root}/"): self._system.cat_file(path) for path in self._system.find(self._root)}

    def source(self, **options: Any) -> Any:
        return FsspecSource("s", f"memory:/{self._root}", **options)


class ZipPlace:
    """A zip file, written anew with every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, bytes] = {}
        self._write()

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        with zipfile.ZipFile(fresh, "w") as archive:
            for name, data in self._files.items():
                archive.writestr(name, data)
        fresh.replace(self._path)

    def put(self, name: str, data: bytes) -> None:
        self._files[name] = data
        self._write()

    def remove(self, name: str) -> None:
        del self._files[name]
        self._write()

    def take_away(self) -> None:
        self._path.unlink()

    def contents(self) -> Mapping[str, bytes]:
        return dict(self._files)

    def source(self, **options: Any) -> Any:
        return FsspecSource("s", f"zip://::{self._path.as_uri()}", **options)


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


class WebPlace(FolderPlace):
    """A folder that a web server on loopback lists and serves."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(root)))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._open = True

    def take_away(self) -> None:
        if self._open:
            self._open = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def source(self, **options: Any) -> Any:
        return FsspecSource("s", f"http://127.0.0.1:{self._server.server_address[1]}", **options)


@pytest.fixture
def folder_place(tmp_path: Path) -> FolderPlace:
    return FolderPlace(tmp_path / "place")


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    return FilePlace(tmp_path / "place")


@pytest.fixture
def memory_place(tmp_path: Path) -> Iterator[MemoryPlace]:
    place = MemoryPlace(f"/{tmp_path.name}")
    place.put("made", b"")
    place.remove("made")
    fsspec.filesystem("memory").makedirs(f"/{tmp_path.name}", exist_ok=True)
    yield place
    if fsspec.filesystem("memory").exists(f"/{tmp_path.name}"):
        place.take_away()


@pytest.fixture
def zip_place(tmp_path: Path) -> ZipPlace:
    return ZipPlace(tmp_path / "place.zip")


@pytest.fixture
def web_place(tmp_path: Path) -> Iterator[WebPlace]:
    place = WebPlace(tmp_path / "place")
    yield place
    place.take_away()
