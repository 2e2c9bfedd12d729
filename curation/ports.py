"""What the stages need from outside, in the core's words. Adapters implement these; `wiring.py` chooses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.model_settings import ModelSettings, ObjectKind
from curation.records import (
    Container,
    Detection,
    Embedded,
    LedgerEntry,
    LineageRun,
    ListingEntry,
    OverseasTable,
    Packet,
    Place,
    SnapshotInfo,
    StageCount,
    Tags,
    TextLine,
    UpkeepCount,
    ValidationResult,
)


class Clock(Protocol):
    """Where time comes from; `CURATION_NOW` pins it in tests."""

    def now(self) -> datetime:
        """The present, in UTC, timezone-aware."""


class StagedObject(Protocol):
    """Bytes on their way into a store: invisible until committed, gone if discarded."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    @property
    def path(self) -> Path:
        """A local file that holds the bytes written so far, to look at before they are committed."""

    def commit(self, key: str) -> bool:
        """Make the bytes visible under `key`, whole; True if created, False if the same bytes were there already.

        Raises:
            ImmutableConflict: other bytes stand under `key`.
        """


class ObjectStore(Protocol):
    """Immutable objects under keys with `/`. Nothing is ever half visible, nothing is overwritten."""

    def stage(self) -> AbstractContextManager[StagedObject]:
        """A staged object; what was not committed is discarded on exit."""

    def create(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` once; True if created, False if the same bytes were there already.

        Raises:
            ImmutableConflict: other bytes stand under `key`.
        """

    def read(self, key: str) -> bytes:
        """The whole object.

        Raises:
            CurationError: there is no such object.
        """

    def read_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Up to `length_bytes` bytes from `offset_bytes`; fewer, or none, where the object ends before.

        Raises:
            CurationError: there is no such object, or a number is negative.
        """

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """A readable local file with the object's bytes, valid inside the context."""

    def size(self, key: str) -> int | None:
        """Size in bytes, or None where there is no such object."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in lexicographic order."""


@runtime_checkable
class Eraser(Protocol):
    """The one way to undo a write, for lawful erasure alone; no other stage is handed one."""

    def remove(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""

    def replace(self, key: str, data: bytes) -> None:
        """Put other bytes under `key`, whole or not at all; the same bytes change nothing.

        Raises:
            CurationError: there is no such object.
        """


class Source(Protocol):
    """Where clips come from. Reading never changes it.

    `base_uri` and an entry's name make its address (`layout.entry_uri`). After `entries()`, `dropped_keys` counts the unknown keys of
    sidecars by name, and `malformed_values` the known keys whose value could not be believed; neither is ever copied.
    `entries_are_whole` where an entry can be seen only once all of it is there, as in an object store; else it may still be growing.
    """

    name: str
    base_uri: str
    dropped_keys: Mapping[str, int]
    malformed_values: Mapping[str, int]
    entries_are_whole: bool

    def entries(self) -> Iterator[ListingEntry]:
        """Every entry of the source, in name order, telemetry from sidecars included."""

    def look(self, entry: ListingEntry) -> ListingEntry | None:
        """The entry with size, time and version as they are now, None where it is gone; no byte of it is read."""

    def open(self, entry: ListingEntry) -> AbstractContextManager[Iterator[bytes]]:
        """The entry's bytes in chunks.

        Raises:
            CurationError: the entry vanished or cannot be read; retryable where another try may help.
            EntryChanged: it is not what was listed, before a byte was given.
            SourceUnreachable: the source as a whole is gone.
        """

    def uri(self, entry: ListingEntry) -> str:
        """Where the entry lies, for the home manifest."""


class Frame(Protocol):
    """A decoded picture. Keep its arrays, and of the frames the last one at most: each holds on to the decoder's buffer."""

    @property
    def pts_s(self) -> float | None:
        """Presentation time in seconds of the stream's clock, None where the stream tells none."""

    @property
    def glance(self) -> npt.NDArray[np.uint8]:
        """Some 15,000 pixels, every n-th each way, height x width, 8 bit, full range luma; costs next to nothing."""

    @property
    def luma(self) -> npt.NDArray[np.uint8]:
        """Height x width at the reader's working width, 8 bit, full range; made when asked for."""

    @property
    def bgr(self) -> npt.NDArray[np.uint8]:
        """The same x 3, 8 bit; made when asked for, at several times the cost of `luma`."""

    @property
    def quarter_turns(self) -> int:
        """By how many quarters players turn it against the clock; `luma`, `bgr` and `sized` are as it was coded."""

    def sized(self, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
        """Height x width x 3, BGR, 8 bit, of this size; the same numbers on every x86-64 machine."""


class ClipStream(Protocol):
    """One open clip."""

    @property
    def container(self) -> Container:
        """What the header says."""

    def packets(self) -> tuple[Sequence[Packet], str]:
        """All video packets in demux order, and SHA-256 over their bytes, hex."""

    def frames(self, chosen: Collection[int] | None = None) -> Iterator[Frame]:
        """All decodable frames in presentation order; counts failures in `decode_errors` and goes on.

        Args:
            chosen: positions in `packets` of the only packets to decode, None for all. After a hole decoding begins anew at the next
                key frame; what is chosen before that must not need what the hole left out.
        """

    @property
    def decode_errors(self) -> int:
        """Packets that failed to decode so far."""

    def embedded(self) -> Embedded:
        """Telemetry that the container and the packets seen by `packets` carry, unread."""


class VideoReader(Protocol):
    """Opens clips."""

    def open(self, path: Path) -> AbstractContextManager[ClipStream]:
        """An open clip.

        Raises:
            ClipUnreadable: no video stream can be found in the bytes.
        """


class VideoWriter(Protocol):
    """Writes rendered pictures as a clip."""

    def write(self, path: Path, frames: Iterator[npt.NDArray[np.uint8]], *, fps: Fraction, skip: frozenset[int] = frozenset()) -> int:
        """Encode BGR frames as H.264 into an mp4 at `path`, leaving out those whose index is in `skip`; the number of frames written."""


class Tagger(Protocol):
    """Names the scene."""

    version: str

    def tag(self, frames: Sequence[npt.NDArray[np.uint8]]) -> Tags:
        """Tags of a clip from some of its BGR frames; `undefined` rather than a guess."""


class Detector(Protocol):
    """Finds faces, or plates, in a picture."""

    version: str
    finds: ObjectKind

    def find(
        self, picture: npt.NDArray[np.uint8], *, min_score: float | None = None, within: tuple[float, float, float, float] | None = None
    ) -> Sequence[Detection]:
        """What is seen in a BGR picture (height x width x 3), highest score first, none of it twice; boxes lie within the picture.

        Args:
            min_score: from which score something counts, None for the one that the settings name.
            within: x, y, width and height in pixels of the part to look at, as closely as at the whole; what its edges cut is not seen.
        """


class FaceFinder(Protocol):
    """Finds faces in a picture that was masked."""

    version: str

    def find(self, picture: npt.NDArray[np.uint8]) -> Sequence[Detection]:
        """Faces in a BGR picture (height x width x 3), highest score first, none of it twice; boxes lie within the picture."""


class TextReader(Protocol):
    """Reads text in a picture."""

    version: str

    def read(self, picture: npt.NDArray[np.uint8], *, least_height_px: float) -> Sequence[TextLine]:
        """Every line of a BGR picture that is as high as that and says something, from the top."""


class ShownFrame(Protocol):
    """A frame as players show it, upright. Nothing of it is converted before it is asked for."""

    @property
    def at_s(self) -> float | None:
        """When it is shown, None where the clip does not say."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    @property
    def checksum(self) -> int:
        """CRC-32 of its grey samples: tells whether it came out the same when the clip was read again."""

    def luma(self, width_px: int) -> npt.NDArray[np.uint8]:
        """Grey, height x width, scaled to this width."""

    def picture(self) -> npt.NDArray[np.uint8]:
        """BGR, height x width x 3, at full size."""


# A frame's number, and the frame as it was read again, to its masks, n x 4: x, y, width, height in pixels.
Masking = Callable[[int, ShownFrame], npt.NDArray[np.float64]]


class Masker(Protocol):
    """Reads every frame of a clip, and writes it anew without sound and metadata."""

    def open(self, path: Path) -> AbstractContextManager[Iterator[ShownFrame]]:
        """Every frame that players show.

        Raises:
            ClipUnreadable: a frame cannot be decoded.
        """

    def write(self, path: Path, target: Path, masking: Masking) -> int:
        """The number of frames written to `target`, each at the time that it had, with every pixel that its masks touch one grey.

        Raises:
            ClipUnreadable: a frame cannot be decoded, or its time cannot be kept.
            OutsideError: the encoder or the disk failed.
        """


class ModelSource(Protocol):
    """Where the bytes of models come from."""

    def read(self, name: str, model: ModelSettings) -> bytes:
        """The bytes that the model's source holds, whatever they are.

        Raises:
            CurationError: the source holds no such file.
            OutsideError: it cannot be reached.
        """


class Places(Protocol):
    """Offline reverse geocoding."""

    def province(self, latitude_deg: float, longitude_deg: float) -> Place:
        """The mainland province of a WGS-84 fix, or why none is named."""


class HashIndex(Protocol):
    """Finds 256-bit hashes that lie close together without comparing every pair."""

    def add(self, hashes: npt.NDArray[np.uint8]) -> None:
        """Take hashes in (rows x 32 bytes); they are numbered on from those that are in already."""

    def near(self, hashes: npt.NDArray[np.uint8], *, within: int) -> Iterator[tuple[int, int]]:
        """(row of `hashes`, number of a hash taken in) for every pair at most `within` bits apart; `within` is 31 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job: its value, or how the worker that ran it ended."""

    value: Mapping[str, Any] | None
    failure: str | None


class Engine(Protocol):
    """Runs a named job over items, one clip's death costing one clip."""

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in input order. `job` is a name of `curation.worker.JOBS`; items and values are JSON objects."""


class Validator(Protocol):
    """Runs a suite of checks over a table."""

    def validate(self, suite: str | None, rows: pa.Table | Path, related: Mapping[str, pa.Table] | None = None) -> ValidationResult:
        """The result of `expectations/<suite>.json` over a table or a Parquet file. Never passes for lack of checks.

        Args:
            suite: None for the one of the table that the rows say they are.
            related: tables that some checks need, by name; checks of others are not declared, and the result names those.
        """


class HomeCatalog(Protocol):
    """Iceberg tables at home: a batch is written to a branch, audited there, and becomes main by compare-and-set."""

    def head(self, table: str) -> int | None:
        """Snapshot id of main, None for an empty or missing table."""

    def read(
        self,
        table: str,
        *,
        snapshot_id: int | None = None,
        branch: str | None = None,
        clip_ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows of a snapshot or branch, by default of main, under the schema given at creation; of these clips and columns, if given."""

    def stream(
        self, table: str, *, columns: Sequence[str], encoded: Collection[str] = (), snapshot_id: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a snapshot, by default of main, in no order: these columns and the clip_id alone, a few files at a time.

        Args:
            encoded: text columns that come as dictionaries, where few values stand in many rows at a third of the cost.
        """

    def clip_ids(self, table: str, column: str, value: str) -> pa.Array:
        """Ids of the clips of main whose `column` holds `value`; no other column is read."""

    def write_branch(self, table: str, branch: str, rows: pa.Table, *, replace: Sequence[str], properties: Mapping[str, str]) -> int:
        """Put `rows` on a new branch grown from main's head, dropping rows whose clip_id is in `replace`; its snapshot id."""

    def advance(self, table: str, branch: str) -> bool:
        """Make the branch main if its parent is still main's head; False if main moved on. The branch is gone after True."""

    def snapshots(self, table: str) -> Sequence[SnapshotInfo]:
        """All snapshots that main still knows, oldest first."""

    def drop_branch(self, table: str, branch: str) -> None:
        """Forget a branch; nothing happens where there is none."""

    def pin(self, table: str, name: str, snapshot_id: int) -> None:
        """Keep a snapshot, whatever takes its place, for as long as upkeep's `pins` name it; one that is gone stays gone."""

    def erase(self, table: str, clip_ids: Sequence[str]) -> int:
        """How many rows of these clips main held; afterwards no snapshot, branch or file of the table holds one."""


class OverseasCatalog(Protocol):
    """The overseas Iceberg catalog. It holds copies only and nothing that resolves into the home store."""

    def identify(self, table: str) -> OverseasTable | None:
        """Which table it is and how far it has come, None where there is none of that name."""

    def make(self, table: str) -> OverseasTable:
        """The table of that name, made empty where there is none."""

    def anchor(self, table: str, head: str, *, table_uuid: str) -> None:
        """Note in the table the head of the home ledger, `sequence:digest`; a newer one that is there stays.

        Raises:
            GateRefused: the table is not the one of this UUID.
        """

    def find(self, table: str, release_id: str) -> SnapshotInfo | None:
        """The snapshot that carries the release, None if it was never committed."""

    def append(self, table: str, rows: pa.Table, *, properties: Mapping[str, str]) -> SnapshotInfo:
        """Commit rows as one snapshot, only if no other commit came between.

        The property `curation.table-uuid` says to which table, `curation.ledger-head` is noted in it as by `anchor`.
        With the property `curation.withdrawn` nothing is written: the release is closed, so that nobody commits it from now on; the answer
        is the snapshot of one that was faster, without that property.

        Raises:
            ConcurrentChange: another writer was faster; look again with `find`.
            GateRefused: it was withdrawn, or closed; or the table is not the one of that UUID.
        """

    def written(self, table: str, snapshot_id: int) -> Sequence[tuple[str, bytes]]:
        """Names and bytes of the data files that this snapshot added, as the catalog wrote them."""

    def withdraw(self, table: str, snapshot_id: int) -> None:
        """Take back all rows that this snapshot added."""

    def withdraw_rows(self, table: str, row_ids: pa.Array) -> int:
        """How many rows of these release_row_ids were published; none of their bytes is left, whichever snapshot or rewrite held them."""

    def holding(self, table: str, row_ids: pa.Array) -> Sequence[str]:
        """Names of the files overseas that still hold one of these ids, decoded or as bytes."""

    def read(self, table: str) -> pa.Table:
        """All rows published now."""


class Upkeep(Protocol):
    """Keeps the tables of a catalog small, so that a commit costs the same after years."""

    def keep_up(self, table: str, *, pins: Mapping[str, int], keep_s: float, settled: Collection[str] = ()) -> UpkeepCount:
        """Compact small files, forget superseded snapshots, remove files that nothing refers to; rows of main stay as they are.

        Args:
            table: one that is not there yet is nothing to do.
            pins: name -> snapshot that stays, with its files, whatever its age; earlier pins that are not among them go.
            keep_s: how long a snapshot stays after another took its place, and a file before it is compacted: readers may be at work.
            settled: releases that `find` need not know any more, since the ledger says what became of them.
        """


class LedgerView(Protocol):
    """A ledger to be read, for whoever holds no key of it."""

    def entries(self) -> Iterator[LedgerEntry]:
        """All entries in order."""


class Ledger(LedgerView, Protocol):
    """Append-only, signed, hash-chained record of every event that matters."""

    def record(
        self, count: StageCount, *, files: Mapping[str, str], facts: Mapping[str, str] | None = None, unless: Collection[str] = ()
    ) -> LedgerEntry:
        """The entry of this event; an equal event (kind, subject, counts, files, facts) is recorded once.

        Where the subject has an entry of one of the kinds in `unless`, that one, and nothing is recorded: of two events that exclude each
        other the ledger takes the first, whoever reports them.

        Raises:
            NotConserved: the counts do not add up.
        """

    def head(self) -> LedgerEntry | None:
        """The last entry, None for an empty ledger."""


class Lineage(Protocol):
    """Tells lineage tools what left. It is no evidence: the ledger is, and whatever was not told is told from it later."""

    def next_entry(self) -> int:
        """Number of the first ledger entry that was not told of yet."""

    def tell(self, run: LineageRun) -> None:
        """Tell of one run; of one that was told before, nothing.

        Raises:
            OutsideError: it could not be told now.
        """
