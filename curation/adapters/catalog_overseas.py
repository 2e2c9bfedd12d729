"""The overseas catalog: copies only, each release committed once and taken back to the last byte."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

from curation.adapters.catalog_files import (
    WRITING_S,
    Stored,
    added_by,
    among_in,
    data_files,
    entries_of,
    files_of,
    opened,
    read_bytes,
    speaks_of,
    stored_below,
    sweep,
)
from curation.adapters.catalog_iceberg import NO_BOUNDS, TUNED, IcebergTables, LostRace, begin, commit, outside, ref_of
from curation.adapters.catalog_open import is_sqlite, warehouse_of
from curation.adapters.catalog_registry import (
    LEDGER_HEAD,
    RELEASE_ID,
    TABLE_UUID,
    WITHDRAWN,
    check_identity,
    identity_of,
    note_head,
    registered,
    registry_of,
    releases_of,
)
from curation.errors import ConcurrentChange, CurationError, GateRefused, UsageError
from curation.records import OverseasTable, SnapshotInfo
from curation.settings import CatalogSettings

_BATCH_ROWS: Final = 1 << 20  # of a data file that is rewritten, in memory at a time; about 400 MB of a release


class IcebergOverseas(IcebergTables):
    """The overseas catalog: copies only. Implements `ports.OverseasCatalog`.

    Writers of an SQLite catalog take turns by a lock file in the warehouse, so that leftovers of a killed one can be told from work under
    way. Elsewhere only what an expired snapshot showed, what holds a withdrawn row, and what is old is removed. Every writer meets the
    compare-and-set on main.
    """

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema]) -> None:
        """The catalog that the settings name; it is opened at its first use."""
        bare = {table: _bare(schema) for table, schema in schemas.items()}
        super().__init__(settings, bare, {**TUNED, **NO_BOUNDS})

    def identify(self, table: str) -> OverseasTable | None:
        """Which table it is and how far it has come, None where there is none of that name."""
        with outside(f"table {table}"):
            found = self._load(table)
            return None if found is None else identity_of(found)

    def make(self, table: str) -> OverseasTable:
        """The table of that name, made empty where there is none."""
        with outside(f"table {table}"), self._turn():
            return identity_of(self._ensure(table))

    def anchor(self, table: str, head: str, *, table_uuid: str) -> None:
        """Note in the table the head of the home ledger, `sequence:digest`; a newer one that is there stays.

        Raises:
            GateRefused: the table is not the one of this UUID.
            ConcurrentChange: other writers were faster again and again; note it again.
        """
        subject = f"table {table}"
        with outside(subject), self._turn():
            self._retried(subject, lambda: self._note(check_identity(self._load(table), table, table_uuid), head))

    def _note(self, found: Table, head: str) -> None:
        transaction = begin(found)
        if note_head(transaction, found, head):
            commit(transaction, found)

    def find(self, table: str, release_id: str) -> SnapshotInfo | None:
        """The snapshot that carries the release, None if it was never committed.

        A release that was withdrawn is still found, with the property `curation.withdrawn`: it must not be committed again.
        """
        with outside(f"table {table}"):
            found = self._load(table)
            return None if found is None else registered(found, release_id)

    def append(self, table: str, rows: pa.Table, *, properties: Mapping[str, str]) -> SnapshotInfo:
        """Commit rows as one snapshot, only if no other commit came between; a release that is there already is not written again.

        Args:
            properties: go onto the snapshot; `curation.release-id` is required. With `curation.withdrawn` among them no row is written:
                the release is closed, and whoever is about to commit it loses the race, or is refused. `curation.table-uuid` says which
                table is meant, `curation.ledger-head` is noted in it as by `anchor`.

        Raises:
            ConcurrentChange: another writer was faster; look again with `find`.
            UsageError: no release id is given.
            GateRefused: the release was withdrawn, or closed; or the table is not the one of that UUID.
            CurationError: the rows do not fit the table's schema.
        """
        subject = f"table {table}"
        release_id = properties.get(RELEASE_ID)
        if not release_id:
            raise UsageError(f"the snapshot carries no {RELEASE_ID}", subject=subject, fix="give it, so that the release is found again")
        if WITHDRAWN in properties:
            with outside(subject):
                return self._retried(subject, lambda: self._close(table, release_id, properties))
        fitting = self._conform(table, rows.select(rows.column_names).replace_schema_metadata(None))
        with outside(subject), self._turn():
            found = self._meant(table, properties)
            known = registered(found, release_id)
            if known is not None:
                if WITHDRAWN in known.properties:
                    raise GateRefused("was withdrawn; it is not committed again", subject=f"release {release_id}", fix="cut a new release")
                return known
            sweep(found, only=self._is_leftover(set()))
            transaction = begin(found)
            transaction.append(fitting, snapshot_properties=dict(properties))
            info = _register(transaction, found, release_id, properties, subject)
            try:
                commit(transaction, found)
            except LostRace as error:
                raise ConcurrentChange("another writer was faster", subject=subject, fix="look again whether it is there") from error
            return info

    def _close(self, table: str, release_id: str, properties: Mapping[str, str]) -> SnapshotInfo:
        """What the release is known as: as it was committed, else as withdrawn, by an empty snapshot that makes who is about to lose."""
        with self._turn():
            found = self._meant(table, properties)
            known = registered(found, release_id)
            if known is not None:
                return known
            transaction = begin(found)
            with transaction.update_snapshot(snapshot_properties=dict(properties)).fast_append():
                pass
            info = _register(transaction, found, release_id, properties, f"table {table}")
            commit(transaction, found)
            return info

    def _meant(self, table: str, properties: Mapping[str, str]) -> Table:
        """The table to write to: the one that the properties name, else the one of that name, made where there is none."""
        if TABLE_UUID in properties:
            check_identity(self._load(table), table, properties[TABLE_UUID])
        return self._ensure(table)

    def written(self, table: str, snapshot_id: int) -> Sequence[tuple[str, bytes]]:
        """Names and bytes of the data files that this snapshot added and that are still there, as the catalog wrote them, by name."""
        with outside(f"table {table}"):
            found = self._load(table)
            if found is None:
                return ()
            snapshot = found.metadata.snapshot_by_id(snapshot_id) or found.metadata.current_snapshot()
            locations = sorted(added_by(found, snapshot, snapshot_id))
            return [(location.rpartition("/")[2], read_bytes(found.io, location)) for location in locations]

    def withdraw(self, table: str, snapshot_id: int) -> None:
        """Take back all rows that this snapshot added, and leave none of their bytes; a second time changes nothing.

        Every snapshot that could still show them expires with them; releases that those carried stay known by name.

        Raises:
            ConcurrentChange: other writers were faster again and again; withdraw again.
        """
        subject = f"table {table}"
        with outside(subject), self._turn():
            found = self._load(table)
            if found is None:
                return
            shown = {path for snapshot in found.metadata.snapshots for path in files_of(found, snapshot)}
            self._retried(subject, lambda: self._delete_rows(table, self._ensure(table), snapshot_id))
            found = self._retried(subject, lambda: self._expire(table, self._ensure(table), snapshot_id))
            sweep(found, only=self._is_leftover(shown))

    def withdraw_rows(self, table: str, row_ids: pa.Array) -> int:
        """How many rows of these ids (values of the table's first column) were published; none of their bytes is left, nor can an
        earlier snapshot show them.

        Whichever snapshot wrote a row, and whatever rewrote it since. Done twice it changes nothing; other rows stay.

        Raises:
            ConcurrentChange: other writers were faster again and again; withdraw again.
        """
        subject, first = f"table {table}", self._schema(table).names[0]
        shown, looked = set[str](), dict[str, pa.BooleanArray]()
        with outside(subject), self._turn():
            if self._load(table) is None or not len(row_ids):
                return 0
            count = self._retried(subject, lambda: self._drop(table, row_ids, shown, looked))
            hits = {path for path, hit in looked.items() if hit.true_count}  # no file that came since holds one of the rows
            found = self._retried(subject, lambda: self._expire_those(table, self._ensure(table), hits))
            sweep(found, only=self._is_leftover(shown, lambda path: _holds(found.io, path, first, row_ids)))
            return count

    def _drop(self, table: str, row_ids: pa.Array, shown: set[str], looked: dict[str, pa.BooleanArray]) -> int:
        """How many of these rows main had, and has no more.

        Args:
            shown: gets every file that a snapshot refers to.
            looked: gets every data file among them with which of its rows are meant; one that is in it is not read again.
        """
        found = self._ensure(table)
        shown.update(path for snapshot in found.metadata.snapshots for path in files_of(found, snapshot))
        live = {path for snapshot in found.metadata.snapshots for path in data_files(found, snapshot)}
        looked |= {path: among_in(found.io, path, self._schema(table).names[0], row_ids) for path in sorted(live - looked.keys())}
        current = data_files(found, found.metadata.current_snapshot())
        hits = {path: looked[path] for path in sorted(current) if looked[path].true_count}
        self._rewrite_without(table, found, hits)
        return sum(hit.true_count for hit in hits.values())

    def _is_leftover(self, shown: Collection[str], holds: Callable[[str], bool] = lambda _: False) -> Callable[[Stored], bool]:
        """Whether a file that no snapshot refers to may go: it is nobody's work under way, or nobody may commit it any more."""
        if is_sqlite(self._settings):  # it is our turn
            return lambda _: True
        return lambda file: (
            file.location in shown or file.age_s > WRITING_S or (file.location.endswith(".parquet") and holds(file.location))
        )

    def _rewrite_without(self, table: str, found: Table, hits: Mapping[str, pa.BooleanArray]) -> Table:
        """One commit that drops these data files from main and adds anew those of their rows that are not hit."""
        current = found.metadata.current_snapshot()
        entries = [] if current is None else [one for one in entries_of(found, current) if one.data_file.file_path in hits]
        if not entries:
            return found
        transaction = begin(found)
        marked = {WITHDRAWN: "rows"}
        with transaction.update_snapshot(snapshot_properties=marked).overwrite() as overwrite:
            for entry in entries:
                overwrite.delete_data_file(entry.data_file)
        files = [entry.data_file.file_path for entry in entries]
        partly = {file: hits[file] for file in files if hits[file].false_count}
        if partly:
            kept = pa.RecordBatchReader.from_batches(self._schema(table), self._others(table, found, partly))
            transaction.append(kept, snapshot_properties=marked)
        commit(transaction, found)
        return self._ensure(table)

    def _others(self, table: str, found: Table, hits: Mapping[str, pa.BooleanArray]) -> Iterator[pa.RecordBatch]:
        schema = self._schema(table)
        # Columns after the first hold few words; by number they are filtered at a third of the cost.
        words = [field.name for field in list(schema)[1:] if pa.types.is_string(field.type)]
        for file, hit in hits.items():
            stays, begun = pc.invert(hit), 0
            system, path = opened(found.io, file)
            with pq.ParquetFile(system.open_input_file(path), read_dictionary=words) as parquet:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                    rest = batch.filter(stays.slice(begun, batch.num_rows))
                    begun += batch.num_rows
                    yield from pa.Table.from_batches([rest]).cast(schema).to_batches()

    def _expire_those(self, table: str, found: Table, paths: Collection[str]) -> Table:
        """Forget every snapshot that still shows one of these data files, and every tag or branch on one."""
        showing = {s.snapshot_id for s in found.metadata.snapshots if not data_files(found, s).isdisjoint(paths)}
        return self._expire_snapshots(table, found, showing)

    def holding(self, table: str, row_ids: pa.Array) -> Sequence[str]:
        """Names of the warehouse's files that hold one of these ids, decoded where they are Parquet, else byte by byte."""
        ids = row_ids.to_pylist()
        wanted = {length: frozenset(one for one in ids if len(one) == length) for length in set(map(len, ids))}
        first = self._schema(table).names[0]
        with outside(f"table {table}"):
            io, root = PyArrowFileIO(self._catalog().properties), warehouse_of(self._settings)
            files = [file.location for file in stored_below(io, root)]
            return [file.removeprefix(f"{root}/") for file in files if speaks_of(io, file, first, row_ids, wanted)]

    def _delete_rows(self, table: str, found: Table, snapshot_id: int) -> Table:
        current = found.metadata.current_snapshot()
        gone = added_by(found, current, snapshot_id)
        if current is None or not gone:
            return found
        transaction = begin(found)
        with transaction.update_snapshot(snapshot_properties={WITHDRAWN: str(snapshot_id)}).overwrite() as overwrite:
            for entry in entries_of(found, current):
                if entry.data_file.file_path in gone:
                    overwrite.delete_data_file(entry.data_file)
        for release_id, info in releases_of(found).items():
            if info.snapshot_id == snapshot_id:
                marked = {**info.properties, WITHDRAWN: "true"}
                kept = replace(info, properties=marked)
                transaction.set_properties(registry_of(release_id, kept))
        commit(transaction, found)
        return self._ensure(table)

    def _expire(self, table: str, found: Table, snapshot_id: int) -> Table:
        return self._expire_snapshots(table, found, {s.snapshot_id for s in found.metadata.snapshots if added_by(found, s, snapshot_id)})

    def _expire_snapshots(self, table: str, found: Table, showing: set[int]) -> Table:
        if not showing:
            return found
        transaction = begin(found)
        for name, ref in found.metadata.refs.items():
            if ref.snapshot_id in showing and name != MAIN_BRANCH:  # a reader's tag or branch would hold the rows
                refs = ManageSnapshots(transaction)
                (refs.remove_branch(name) if ref.snapshot_ref_type == SnapshotRefType.BRANCH else refs.remove_tag(name)).commit()
        ExpireSnapshots(transaction).by_ids(sorted(showing)).commit()
        commit(transaction, found)
        return self._ensure(table)

    def read(self, table: str) -> pa.Table:
        """All rows published now, sorted by the table's first column."""
        with outside(f"table {table}"):
            found = self._load(table)
            return self._rows(table, found, None if found is None else ref_of(found, MAIN_BRANCH), None)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not is_sqlite(self._settings):  # writers of other machines would not see the lock
            yield
            return
        self._settings.warehouse.mkdir(parents=True, exist_ok=True)
        with (self._settings.warehouse / ".writers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file, also by a kill
            yield


def _holds(io: FileIO, location: str, column: str, row_ids: pa.Array) -> bool:
    """Whether a Parquet file is whole and holds one of these rows: one that is not may be somebody's work under way."""
    with suppress(pa.ArrowInvalid):
        return bool(among_in(io, location, column, row_ids).true_count)
    return False


def _register(transaction: Transaction, found: Table, release_id: str, properties: Mapping[str, str], subject: str) -> SnapshotInfo:
    """The snapshot that the transaction stages, which from its commit on is found by its release's name; the head is noted, too."""
    staged = transaction.table_metadata.current_snapshot()
    if staged is None:
        raise CurationError("PyIceberg staged no snapshot", subject=subject, fix="report this as a defect")
    info = SnapshotInfo(
        snapshot_id=staged.snapshot_id,
        parent_id=staged.parent_snapshot_id,
        properties=dict(properties),
        sequence=staged.sequence_number or 0,
    )
    transaction.set_properties(registry_of(release_id, info))
    if properties.get(LEDGER_HEAD):
        note_head(transaction, found, properties[LEDGER_HEAD])
    return info


def _bare(schema: pa.Schema) -> pa.Schema:
    """The schema's names, types and nullability, and nothing else."""
    return pa.schema([pa.field(field.name, field.type, nullable=field.nullable) for field in schema])
