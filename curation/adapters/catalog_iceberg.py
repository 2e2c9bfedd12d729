"""Iceberg tables through PyIceberg: what the home and the overseas catalog share.

PyIceberg 0.12 keeps one ref requirement per transaction and retries commits by default, which commits twice or loses a branch in
silence; so `commit.retry.num-retries` is 0 here, and every commit asserts the one ref that decides it.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, In
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from curation.adapters.catalog_files import among_in, entries_of, remove_files
from curation.adapters.catalog_lists import marked, unmarked
from curation.adapters.catalog_open import open_catalog
from curation.errors import ConcurrentChange, CurationError, OutsideError, UsageError
from curation.settings import CatalogSettings
from curation.tables import with_later_columns

_TRIES: Final = 40
_RESTORE: Final = "put a work folder that was moved back to where it was made, or restore the warehouse from its backup"
_ROWS_AHEAD: Final = 1_000_000
_ENCODED: Final = pa.dictionary(pa.int32(), pa.string())
TUNED: Final = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "5",
}
# Bounds of column values would stay in manifests after the rows are gone, so they are never written.
NO_BOUNDS: Final = {"write.metadata.metrics.default": "counts"}

_T = TypeVar("_T")


class LostRace(Exception):
    """Another writer's commit came between; nothing of ours is visible."""


class IcebergTables:
    """A catalog and the tables in it, each made on demand from the Arrow schema given for its name."""

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema], properties: Mapping[str, str]) -> None:
        self._settings = settings
        self._schemas = dict(schemas)
        self._properties = dict(properties)
        self._opened: Catalog | None = None
        logging.getLogger("pyiceberg").setLevel(logging.ERROR)  # its warnings speak of lost races that are handled here

    def _catalog(self) -> Catalog:
        if self._opened is None:
            self._opened = open_catalog(self._settings)
        return self._opened

    def _schema(self, table: str) -> pa.Schema:
        if table not in self._schemas:
            raise UsageError("no schema is known for the table", subject=f"table {table}", fix=f"use one of {', '.join(self._schemas)}")
        return self._schemas[table]

    def _load(self, table: str) -> Table | None:
        for _ in range(_TRIES):
            try:
                return self._catalog().load_table(table)
            except (NoSuchTableError, NoSuchNamespaceError):
                return None
            except FileNotFoundError:  # the metadata file was superseded and removed between look-up and reading
                continue
        raise OutsideError("its metadata file is missing", subject=f"table {table}", fix=_RESTORE)

    def _ensure(self, table: str) -> Table:
        found = self._load(table)
        if found is None:
            found = self._make(table)
        if found.properties.get("commit.retry.num-retries") != "0":
            raise CurationError(
                "retries commits by itself, which commits twice",
                subject=f"table {table}",
                fix="set its property commit.retry.num-retries to 0",
            )
        return found

    def _make(self, table: str) -> Table:
        catalog = self._catalog()
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(table.rpartition(".")[0])
        try:
            return catalog.create_table(table, schema=self._schema(table), properties=self._properties)
        except TableAlreadyExistsError:
            return catalog.load_table(table)

    def _conform(self, table: str, rows: pa.Table) -> pa.Table:
        schema = self._schema(table)
        try:
            return marked(rows.cast(schema))
        except (ValueError, pa.ArrowException) as error:
            raise CurationError(
                f"rows do not fit its schema: {error}", subject=f"table {table}", fix="use the columns of curation/schema.py"
            ) from error

    def _rows(
        self, table: str, found: Table | None, snapshot_id: int | None, keys: Sequence[str] | None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        schema = self._columns(table, columns)
        if found is None or snapshot_id is None:
            return schema.empty_table()
        scan, tasks = _scan(found, snapshot_id, schema, keys)
        return _fitting(scan.to_table(tasks), schema).sort_by(schema.names[0])

    def _batches(
        self, table: str, found: Table | None, snapshot_id: int | None, columns: Sequence[str], encoded: Collection[str]
    ) -> Iterator[pa.RecordBatch]:
        """The rows in no order, a few files at a time: PyIceberg reads all files it is given ahead of whoever looks at the rows."""
        schema = self._columns(table, columns)
        if found is None or snapshot_id is None:
            return
        scan, tasks = _scan(found, snapshot_id, schema, None, encoded)
        schema = pa.schema([one.with_type(_ENCODED) if one.name in encoded else one for one in schema])
        for some in _few(tasks):
            for batch in scan.to_record_batches(some):
                yield from _fitting(pa.Table.from_batches([batch]), schema).to_batches()

    def _columns(self, table: str, columns: Sequence[str] | None) -> pa.Schema:
        """The table's schema, or that of the named columns, its first always among them."""
        schema = self._schema(table)
        return schema if columns is None else pa.schema([schema.field(name) for name in dict.fromkeys((schema.names[0], *columns))])

    def _retried(self, subject: str, attempt: Callable[[], _T]) -> _T:
        for turn in range(_TRIES):
            try:
                return attempt()
            except LostRace:
                time.sleep(random.uniform(0.0, 0.01 * min(turn + 1, 20)))  # noqa: S311 - jitter, no secret
        raise ConcurrentChange(f"other writers were faster {_TRIES} times", subject=subject, fix="try again when fewer batches run")


def _scan(
    found: Table, snapshot_id: int, schema: pa.Schema, keys: Sequence[str] | None, encoded: Collection[str] = ()
) -> tuple[ArrowScan, list[FileScanTask]]:
    """How to read those columns that the snapshot knows, and the files to read, only those with one of the keys if any are given."""
    first = schema.names[0]
    only: BooleanExpression = AlwaysTrue() if keys is None else among(first, keys)
    known = {field.name for field in found.scan(snapshot_id=snapshot_id).projection().fields}
    scan = found.scan(row_filter=only, snapshot_id=snapshot_id, selected_fields=tuple(name for name in schema.names if name in known))
    tasks = list(scan.plan_files()) if keys is None else _holding(found, scan.plan_files(), first, keys)
    dictionaries = tuple(name for name in schema.names if name in encoded and name in known)
    reader = ArrowScan(
        scan.table_metadata, scan.io, scan.projection(), scan.row_filter, scan.case_sensitive, dictionary_columns=dictionaries
    )
    return reader, tasks


def _fitting(arrow: pa.Table, schema: pa.Schema) -> pa.Table:
    return unmarked(with_later_columns(arrow, schema).select(schema.names).cast(schema))


def _few(tasks: Iterable[FileScanTask]) -> Iterator[list[FileScanTask]]:
    """The files in their order, as many at once as hold so many rows."""
    held: list[FileScanTask] = []
    for task in tasks:
        held.append(task)
        if sum(one.file.record_count for one in held) >= _ROWS_AHEAD:
            yield held
            held = []
    if held:
        yield held


def _holding(found: Table, tasks: Iterable[FileScanTask], column: str, values: Sequence[str]) -> list[FileScanTask]:
    """The files that hold one of the values: bounds are never written, so a scan by itself would read every column of every file."""
    wanted = pa.array(values, pa.string())
    held = ((task, among_in(found.io, task.file.file_path, column, wanted)) for task in tasks)
    return [task for task, rows in held if rows.true_count or not len(rows)]  # a file that is missing is the scan's to tell


class _Transaction(Transaction):
    """PyIceberg's own works out anew, copying every snapshot there is, what its updates make of the table, 30 times in an append."""

    _worked_out: tuple[object, object, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with all updates applied."""
        base, updates, known = self._table.metadata, self._updates, self._worked_out
        if known is None or known[0] is not base or known[1] is not updates:
            self._worked_out = known = (base, updates, super().table_metadata)
        return known[2]


def begin(found: Table) -> Transaction:
    """A transaction that costs what it changes, and not what the table has lived through."""
    return _Transaction(found)


def among(column: str, values: Sequence[str]) -> BooleanExpression:
    return In(column, set(values))  # type: ignore[call-arg, arg-type]  # its own __init__ takes these two; the pydantic plugin sees fields


def commit(transaction: Transaction, found: Table) -> None:
    """Commit, or leave nothing behind.

    Raises:
        LostRace: another commit came between.
    """
    known = {snapshot.snapshot_id for snapshot in found.metadata.snapshots}
    staged = [snapshot for snapshot in transaction.table_metadata.snapshots if snapshot.snapshot_id not in known]
    ids = {snapshot.snapshot_id for snapshot in staged}
    written = {entry.data_file.file_path for snapshot in staged for entry in entries_of(found, snapshot) if entry.snapshot_id in ids}
    try:
        transaction.commit_transaction()
    except (CommitFailedException, ValidationException, FileNotFoundError) as error:
        remove_files(found.io, written)
        raise LostRace from error
    except ValueError as error:  # a branch committed meanwhile took our sequence number, or our snapshot was dropped
        if "sequence number" not in str(error) and "unknown snapshot" not in str(error):
            raise
        remove_files(found.io, written)
        raise LostRace from error


@contextmanager
def outside(subject: str) -> Iterator[None]:
    """Errors of the catalog's database and disk, in the project's words."""
    try:
        yield
    except CommitStateUnknownException as error:
        raise OutsideError("nobody knows whether the commit arrived", subject=subject, fix="run the step again; it looks first") from error
    except (ForbiddenError, UnauthorizedError, OAuthError) as error:
        raise CurationError(f"the catalog refuses: {type(error).__name__}", subject=subject, fix="see to the rights of its keys") from error
    except RESTError as error:
        raise OutsideError(f"the catalog failed: {type(error).__name__}", subject=subject, fix="run the step again") from error
    except SQLAlchemyError as error:
        kind = ConcurrentChange if "locked" in str(error) else OutsideError
        cause = error.orig if isinstance(error, DBAPIError) else None
        told = f" ({cause})" if isinstance(cause, sqlite3.Error) else ""  # such as a full disk; a server's own words may hold its address
        raise kind(f"the catalog's database failed: {type(error).__name__}{told}", subject=subject, fix="run the step again") from error
    except OSError as error:
        if "ACCESS_DENIED" in str(error):
            raise CurationError("the warehouse refuses", subject=subject, fix="see to the rights of the catalog's keys") from error
        raise OutsideError(f"the warehouse failed: {error}", subject=subject, fix="check disk and permissions, then run again") from error


def ancestors(found: Table, snapshot_id: int | None) -> Iterator[Snapshot]:
    """The snapshot, its parent, and so on."""
    while snapshot_id is not None:
        snapshot = found.metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            return
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def ref_of(found: Table, name: str) -> int | None:
    ref = found.metadata.refs.get(name)
    return None if ref is None else ref.snapshot_id
