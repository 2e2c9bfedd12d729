"""What goes wrong on the way: answers that break off, servers that lie about sizes, packages that are not there."""

from __future__ import annotations

import http.server
import io
import os
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest

from curation.adapters.source_folder import FolderSource
from curation.adapters.source_fsspec import FsspecSource
from curation.adapters.store_local import DirectoryStore
from curation.errors import CurationError, OutsideError, SettingsError, SourceUnreachable, UsageError
from curation.stages import pull

_spec = util.spec_from_file_location("source_contract", Path(__file__).with_name("source_contract.py"))
assert _spec is not None
assert _spec.loader is not None
_contract = util.module_from_spec(_spec)
_spec.loader.exec_module(_contract)
BODY = b"video" * 40_000


class _Breaking(http.server.BaseHTTPRequestHandler):
    """Lists three clips; `cut.mp4` always breaks off, `mends.mp4` twice, `whole.mp4` never; `endless.mp4` tells no size."""

    protocol_version = "HTTP/1.1"
    gets: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self._head()
        if name:
            self.gets[name] += 1
            breaks = name == "cut.mp4" or (name == "mends.mp4" and self.gets[name] <= 2)
            self.wfile.write(BODY[: len(BODY) // 2] if breaks else BODY)
        else:
            self.wfile.write(self._page())
        self.close_connection = True

    def _head(self) -> None:
        name = self.path.rpartition("/")[2]
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4" if name else "text/html")
        if name != "endless.mp4":
            self.send_header("Content-Length", str(len(BODY if name else self._page())))
        self.send_header("Connection", "close")
        self.end_headers()

    @staticmethod
    def _page() -> bytes:
        names = ("cut.mp4", "mends.mp4", "whole.mp4", "endless.mp4", "?C=N;O=D", "/elsewhere.mp4", "http://example.com/x.mp4")
        return "".join(f'<a href="{name}">{name}</a>' for name in names).encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture
def breaking_url() -> Iterator[str]:
    _Breaking.gets.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Breaking) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/clips/"
        server.shutdown()
        thread.join()


def test_what_breaks_off_is_tried_again_then_quarantined(breaking_url: str, tmp_path: Path) -> None:
    """Half a clip is never stored: one that mends is whole, one that does not is quarantined with the reason, links elsewhere are none."""
    store = DirectoryStore(tmp_path / "store", jurisdiction="CN")
    source = FsspecSource("s", breaking_url)
    (batch_id,) = pull.discover(source, store=store, batch_size=10).batch_ids
    count = pull.run(batch_id, source=source, store=store, video=_contract._Video(), ledger=_contract._Ledger())
    assert {"stored": 1, "duplicate": 1, "quarantined": 1, "refused": 1} == {name: rows for name, rows in count.accounted.items() if rows}
    rows = _contract.pulled_rows(store, batch_id)
    assert ("quarantined", None) == (rows["cut.mp4"]["outcome"], rows["cut.mp4"]["clip_id"])
    assert rows["cut.mp4"]["reason"].startswith("cannot be read: ")
    assert "has a size that the source does not tell" == rows["endless.mp4"]["reason"]
    assert {"cut.mp4": 3, "mends.mp4": 3, "whole.mp4": 1} == {name: _Breaking.gets[name] for name in ("cut.mp4", "mends.mp4", "whole.mp4")}
    assert [BODY] == [store.read(key) for key in (*store.keys("clips/"), *store.keys("quarantine/"))]


def test_a_disk_that_fails_under_the_reader_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut short, or whose time changes, while it is read is retryable, and says that it changed."""
    (tmp_path / "a.mp4").write_bytes(b"x" * 3_000_000)
    source = FolderSource("s", tmp_path)
    (entry,) = source.entries()
    with source.open(entry) as chunks:
        next(chunks)
        (tmp_path / "a.mp4").write_bytes(b"x" * 1_500_000)
        with pytest.raises(OutsideError, match="changed while it was read"):
            list(chunks)


@pytest.mark.parametrize("url", ["smb://host/share", "nosuch://x"])
def test_a_url_that_nothing_here_reads_is_refused_at_once(url: str) -> None:
    """A protocol without its package, or without any, names the protocol and the fix."""
    with pytest.raises(SettingsError, match=url.partition(":")[0]):
        FsspecSource("s", url)


def test_a_url_with_a_password_is_refused_and_not_repeated() -> None:
    """Addresses are written into listings, so no secret may be in one."""
    with pytest.raises(SettingsError, match="password") as caught:
        FsspecSource("s", "ftp://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A URL that leads to one file is wrong use."""
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises((UsageError, SourceUnreachable)):
        list(FsspecSource("s", (tmp_path / "a.mp4").as_uri()).entries())


def test_links_and_pipes_behind_a_file_url_are_refused(tmp_path: Path) -> None:
    """fsspec follows links wherever they lead; the source does not."""
    (tmp_path / "outside.mp4").write_bytes(b"secret")
    place = tmp_path / "place"
    place.mkdir()
    (place / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (place / "up.mp4").symlink_to(tmp_path)
    os.mkfifo(place / "pipe.mp4")
    source = FsspecSource("s", place.as_uri())
    assert {"link.mp4": "is a link", "up.mp4": "is a link", "pipe.mp4": "is no regular file"} == {
        entry.name: entry.reason for entry in source.entries()
    }


def test_a_folder_of_an_archive_in_another_place_is_read(memory_place: Any) -> None:
    """Chained URLs work as fsspec chains them: a folder of a zip that memory holds."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("day/a.mp4", b"video")
    memory_place.put("clips.zip", packed.getvalue())
    source = FsspecSource("s", f"zip://day::{memory_place.source().base_uri}/clips.zip")
    (entry,) = source.entries()
    with source.open(entry) as chunks:
        assert b"video" == b"".join(chunks)


def test_a_rerun_opens_no_clip_at_all(tmp_path: Path) -> None:
    """Watched from below Python's own open: the first pull opens each clip, the second none, whatever it reads of listings."""
    place = tmp_path / "place"
    place.mkdir()
    for number in range(4):
        (place / f"{number}.mp4").write_bytes(b"video %d" % number)
    (place / "fleet.csv").write_bytes(b"file,plate\n0.mp4,X\n")
    store, opened, watching = DirectoryStore(tmp_path / "store", jurisdiction="CN"), [], [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open" and str(args[0]).rpartition("/")[2] in {f"{number}.mp4" for number in range(4)}:
            opened.append(str(args[0]))

    sys.addaudithook(watch)  # it stays for the life of the process, so it is switched off below
    try:
        _contract.whole_pull(FolderSource("s", place), store)
        assert 4 == len(opened)
        opened.clear()
        assert {} == _contract.whole_pull(FolderSource("s", place), store)
        assert [] == opened
    finally:
        watching.clear()


def test_a_system_that_fails_on_one_entry_costs_only_that(monkeypatch: pytest.MonkeyPatch, memory_place: Any) -> None:
    """An error of the file system's own on opening is retryable while the folder can still be listed."""
    memory_place.put("a.mp4", b"video")
    source = memory_place.source()
    (entry,) = source.entries()

    def fails(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "_open", fails)
    with pytest.raises(OutsideError, match="cannot be opened: TimeoutError") as caught, source.open(entry) as chunks:
        list(chunks)
    assert not isinstance(caught.value, SourceUnreachable)
    assert isinstance(caught.value, CurationError)
