"""Upkeep of both catalogs: small files made one, snapshots forgotten that nothing pins, files removed that nothing refers to.

Every step does nothing where there is nothing to do, so that a run which was interrupted is finished by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

from curation.adapters.catalog_files import WRITING_S, Stored, entries_of, files_of, opened, remove_files, stored_below
from curation.adapters.catalog_home import PIN, IcebergHome
from curation.adapters.catalog_iceberg import IcebergTables, begin, commit, outside
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_registry import registry_names
from curation.errors import NotConserved
from curation.records import UpkeepCount
from curation.tables import with_later_columns

COMPACTED: Final = "curation.compacted"  # snapshot property: how many files were made one
BATCH: Final = "curation.batch-id"  # snapshot property: whose rows are being audited on a branch
ABANDONED_S: Final = 7 * 86_400.0  # longer than any audit, retries included: an older branch of a batch is nobody's work under way
SMALL_BYTES: Final = 32 * 1024 * 1024  # below it opening a file costs a scan more than reading it
_BATCH_ROWS: Final = 1 << 16  # of a file that is rewritten, in memory at a time


class _Upkeep(IcebergTables):
    """Implements `ports.Upkeep`, over whichever catalog it is mixed into."""

    def keep_up(self, table: str, *, pins: Mapping[str, int], keep_s: float, settled: Collection[str] = ()) -> UpkeepCount:
        """What was done; as `ports.Upkeep`.

        Raises:
            ConcurrentChange: other writers were faster again and again.
            NotConserved: the compacted file holds another number of rows; nothing was changed.
        """
        subject = f"table {table}"
        with outside(subject), self._alone():
            if self._load(table) is None:
                return UpkeepCount(table=table, compacted_files=0, expired_snapshots=0, removed_files=0, snapshots=0, pinned=0)
            self._retried(subject, lambda: self._pin(self._ensure(table), pins))
            dropped = self._retried(subject, lambda: self._drop_abandoned(self._ensure(table)))
            compacted = self._retried(subject, lambda: self._compact(table, self._ensure(table), keep_s))
            shown = set[str]()
            expired = self._retried(subject, lambda: self._expire_superseded(self._ensure(table), keep_s, settled, shown))
            found = self._ensure(table)
            removed = self._remove_orphans(found, shown)
            pinned = sum(name.startswith(PIN) for name in found.metadata.refs)
            return UpkeepCount(
                table=table,
                compacted_files=compacted,
                expired_snapshots=expired,
                removed_files=removed,
                snapshots=len(found.metadata.snapshots),
                pinned=pinned,
                dropped_branches=dropped,
            )

    def _alone(self) -> AbstractContextManager[None]:
        """Held while files are written that no snapshot refers to yet, where other writers would sweep them away."""
        return nullcontext()

    def _is_spare(self, shown: Collection[str]) -> Callable[[Stored], bool]:
        """Whether a file that no snapshot refers to may go: an expired one showed it, or nobody can still be at work on it."""
        return lambda file: file.location in shown or file.age_s > WRITING_S

    def _pin(self, found: Table, pins: Mapping[str, int]) -> None:
        """Make our tags exactly these, as far as their snapshots are still there."""
        known = {snapshot.snapshot_id for snapshot in found.metadata.snapshots}
        wanted = {f"{PIN}{name}": snapshot_id for name, snapshot_id in pins.items() if snapshot_id in known}
        standing = {name: ref.snapshot_id for name, ref in found.metadata.refs.items() if name.startswith(PIN)}
        transaction = begin(found)
        for name in sorted(name for name, snapshot_id in standing.items() if wanted.get(name) != snapshot_id):
            ManageSnapshots(transaction).remove_tag(name).commit()
        for name in sorted(name for name, snapshot_id in wanted.items() if standing.get(name) != snapshot_id):
            ManageSnapshots(transaction).create_tag(wanted[name], name).commit()
        if wanted != standing:
            commit(transaction, found)

    def _abandoned(self, found: Table) -> list[str]:  # noqa: ARG002 - for catalogs that have branches of their own
        """Names of branches on which nobody works any more."""
        return []

    def _drop_abandoned(self, found: Table) -> tuple[str, ...]:
        """Forget those branches, so that their snapshots are superseded; their names."""
        names = self._abandoned(found)
        if names:
            transaction = begin(found)
            for name in names:
                ManageSnapshots(transaction).remove_branch(name).commit()
            commit(transaction, found)
        return tuple(names)

    def _compact(self, table: str, found: Table, keep_s: float) -> int:
        """Rewrite main's small files as one; how many they were. One that came within `keep_s` is left: it may yet be read back."""
        current = found.metadata.current_snapshot()
        young = {s.snapshot_id for s in found.metadata.snapshots if time.time() - s.timestamp_ms / 1000 < keep_s}
        entries = [] if current is None else [entry for entry in entries_of(found, current) if entry.snapshot_id not in young]
        small = [entry for entry in entries if entry.data_file.file_size_in_bytes < SMALL_BYTES]
        if len(small) < 2:
            return 0
        transaction = begin(found)
        said = {COMPACTED: str(len(small))}
        with transaction.update_snapshot(snapshot_properties=said).overwrite() as overwrite:
            for entry in small:
                overwrite.delete_data_file(entry.data_file)
        between = transaction.table_metadata.current_snapshot()
        rows = pa.RecordBatchReader.from_batches(self._schema(table), self._rows_of(table, found, small))
        transaction.append(rows, snapshot_properties=said)
        _check_rows(transaction, found, sum(entry.data_file.record_count for entry in small), f"table {table}")
        if between is not None:  # the table without these rows, which nobody may ever see
            ExpireSnapshots(transaction).by_id(between.snapshot_id).commit()
        commit(transaction, found)
        return len(small)

    def _rows_of(self, table: str, found: Table, entries: Sequence[ManifestEntry]) -> Iterator[pa.RecordBatch]:
        schema = self._schema(table)
        for entry in entries:
            system, path = opened(found.io, entry.data_file.file_path)
            with pq.ParquetFile(system.open_input_file(path)) as parquet:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                    rows = with_later_columns(pa.Table.from_batches([batch]), schema)
                    yield from rows.select(schema.names).cast(schema).to_batches()

    def _expire_superseded(self, found: Table, keep_s: float, settled: Collection[str], shown: set[str]) -> int:
        """Forget snapshots that no tag or branch names and that others took the place of over `keep_s` ago; how many.

        Args:
            found: the table.
            keep_s: how long they stay after that.
            settled: releases whose snapshots need not be found by name any more.
            shown: gets the files that they refer to.
        """
        metadata = found.metadata
        ended_ms = {s.snapshot_id: s.timestamp_ms for s in metadata.snapshots}
        for snapshot in metadata.snapshots:
            parent_id = snapshot.parent_snapshot_id
            if parent_id in ended_ms:
                ended_ms[parent_id] = max(ended_ms[parent_id], snapshot.timestamp_ms)
        named = {ref.snapshot_id for ref in metadata.refs.values()}
        begin_ms = (time.time() - keep_s) * 1000
        old = [s for s in metadata.snapshots if s.snapshot_id not in named and ended_ms[s.snapshot_id] <= begin_ms]
        names = registry_names(found, settled)
        if not old and not names:
            return 0
        shown.update(path for snapshot in old for path in files_of(found, snapshot))
        transaction = begin(found)
        if old:
            ExpireSnapshots(transaction).by_ids(sorted(snapshot.snapshot_id for snapshot in old)).commit()
        if names:
            transaction.remove_properties(*names)
        commit(transaction, found)
        return len(old)

    def _remove_orphans(self, found: Table, shown: Collection[str]) -> int:
        """Remove what no snapshot refers to, and what metadata a killed writer left; how many files."""
        kept = {path for snapshot in found.metadata.snapshots for path in files_of(found, snapshot)}
        kept |= {found.metadata_location, *(entry.metadata_file for entry in found.metadata.metadata_log)}
        root, is_spare = found.location().rstrip("/"), self._is_spare(shown)
        gone = {file.location for file in stored_below(found.io, f"{root}/data") if file.location not in kept and is_spare(file)}
        for file in stored_below(found.io, f"{root}/metadata"):
            spare = is_spare(file) if file.location.endswith(".avro") else file.age_s > WRITING_S
            if spare and file.location not in kept:
                gone.add(file.location)
        remove_files(found.io, gone)
        return len(gone)


class HomeUpkeep(_Upkeep, IcebergHome):
    """Upkeep of the home catalog: a batch that is audited meanwhile loses its race for main, and is written again."""

    def _abandoned(self, found: Table) -> list[str]:
        old_ms, tips = (time.time() - ABANDONED_S) * 1000, {s.snapshot_id: s for s in found.metadata.snapshots}
        branches = {name: tips[ref.snapshot_id] for name, ref in found.metadata.refs.items() if _is_branch(name, ref)}
        return sorted(name for name, tip in branches.items() if tip.timestamp_ms < old_ms and _is_of_batch(tip))


class OverseasUpkeep(_Upkeep, IcebergOverseas):
    """Upkeep of the overseas catalog, in turn with publications and withdrawals."""

    def _alone(self) -> AbstractContextManager[None]:
        return self._turn()

    def _is_spare(self, shown: Collection[str]) -> Callable[[Stored], bool]:
        return self._is_leftover(shown)


def _is_branch(name: str, ref: SnapshotRef) -> bool:
    return name != MAIN_BRANCH and ref.snapshot_ref_type == SnapshotRefType.BRANCH


def _is_of_batch(tip: Snapshot) -> bool:
    return tip.summary is not None and BATCH in tip.summary.additional_properties


def _check_rows(transaction: Transaction, found: Table, row_count: int, subject: str) -> None:
    staged = transaction.table_metadata.current_snapshot()
    added = 0 if staged is None else sum(e.data_file.record_count for e in entries_of(found, staged) if e.snapshot_id == staged.snapshot_id)
    if added != row_count:
        raise NotConserved(f"{row_count} rows in its small files, {added} in the new one", subject=subject, fix="report this as a defect")
