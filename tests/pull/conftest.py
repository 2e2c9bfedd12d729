"""Small stand-ins for the ports that pull and manifest need beside the real directory store and folder source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation.adapters.source_folder import FolderSource
from curation.adapters.store_local import DirectoryStore
from curation.errors import ClipUnreadable
from curation.records import Container, Inspection, LedgerEntry, ListingEntry, Place, StageCount
from curation.schema import SIGNALS
from curation.settings import InspectSettings

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
CONTAINER = Container(
    container="mov,mp4,m4a,3gp,3g2,mj2", video_codec="h264", width_px=640, height_px=360, duration_s=2.0, camera_model="A129"
)


class FakeVideo:
    """Takes bytes that begin with `video` for a clip, and nothing else."""

    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        if not path.read_bytes().startswith(b"video"):
            raise ClipUnreadable("no video stream was found", subject=path.name, fix="look at the file")
        yield SimpleNamespace(container=CONTAINER)


class FakeLedger:
    """Keeps every event once, and refuses counts that do not add up."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, int], dict[str, str], dict[str, str]]] = []

    def record(self, count: StageCount, *, files: Mapping[str, str], facts: Mapping[str, str] | None = None) -> LedgerEntry:
        count.check()
        event = (count.stage, count.subject, dict(count.accounted), dict(files), dict(facts or {}))
        if event not in self.events:
            self.events.append(event)
        return LedgerEntry(
            sequence=self.events.index(event), previous="", kind=count.stage, subject=count.subject, at="", counts={}, files={}, facts={},
            signature="",
        )  # fmt: skip

    def entries(self) -> Iterator[LedgerEntry]:
        raise NotImplementedError


class FakePlaces:
    """Everything lies in Jiangsu."""

    def province(self, latitude_deg: float, longitude_deg: float) -> Place:
        return Place(province=None, reason="fix is 0/0") if latitude_deg == longitude_deg == 0.0 else Place(province="CN-JS")


class FakeClock:
    def now(self) -> datetime:
        return NOW


@dataclass
class CountingSource:
    """A source that counts what was opened and read of another."""

    inner: FolderSource
    opened: list[str] = field(default_factory=list)
    read_bytes: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def entries(self) -> Iterator[ListingEntry]:
        return self.inner.entries()

    def uri(self, entry: ListingEntry) -> str:
        return self.inner.uri(entry)

    @contextmanager
    def open(self, entry: ListingEntry) -> Iterator[Iterator[bytes]]:
        self.opened.append(entry.name)
        with self.inner.open(entry) as chunks:
            yield self._counted(chunks)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.read_bytes += len(chunk)
            yield chunk


def inspection_of(data: bytes, **changed: Any) -> Inspection:
    """A made-up but consistent inspection of a clip with these bytes."""
    values: dict[str, Any] = {
        "container": CONTAINER,
        "fps": 25.0,
        "frame_count": 50,
        "decoded_frame_count": 50,
        "duration_s": 2.0,
        "signals": {name: float(len(data)) for name in SIGNALS if name != "motion_px"},
        "unmeasured": {"motion_px": "needs two decoded frames", "timeofday": "too dark", "weather": "too dark", "scene": "too dark"},
        "packet_digest": hashlib.sha256(data).hexdigest(),
        "signature": f"0:{hashlib.sha256(data).hexdigest()}",
        "verdict": "accepted",
        "inspector_version": "1",
        "inspect_depth": "full",
        "settings_digest": InspectSettings().digest(),
        "inspected_at": NOW,
    }
    return Inspection(**values | changed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", jurisdiction="CN")


@pytest.fixture
def fakes() -> SimpleNamespace:
    """Constructors of the stand-ins, for tests that need several of one."""
    return SimpleNamespace(
        Video=FakeVideo,
        Ledger=FakeLedger,
        Places=FakePlaces,
        Clock=FakeClock,
        CountingSource=CountingSource,
        inspection_of=inspection_of,
        now=NOW,
    )


@pytest.fixture
def put(folder: Path) -> Callable[..., Path]:
    """Writes a file of the source."""

    def write(name: str, data: bytes | str = b"video") -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write
