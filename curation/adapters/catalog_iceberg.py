"""Iceberg tables through PyIceberg's SQL catalog: at home with audited branches, overseas with releases committed once.

PyIceberg 0.12 keeps one ref requirement per transaction and retries commits by default, which commits twice or loses a branch in
silence; so `commit.retry.num-retries` is 0 here, and every commit asserts the one ref that decides it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import random
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, In
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots
from pyiceberg.typedef import Record
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from curation.errors import ConcurrentChange, CurationError, OutsideError, SettingsError, UsageError
from curation.records import SnapshotInfo
from curation.settings import CatalogSettings

ROOT: Final = "curation.root"  # marks the empty snapshot that a home table begins with: a branch needs something to grow from
RELEASE_ID: Final = "curation.release-id"
ERASED: Final = "curation.erased"  # snapshot property: how many rows an erasure took away
WITHDRAWN: Final = "curation.withdrawn"
_REGISTERED: Final = "curation.release."  # table property: a release's snapshot, remembered after that snapshot has expired
_BUSY_S: Final = 60  # how long SQLite waits for another process's write; one commit takes about 10 ms
_TRIES: Final = 40
_BATCH_ROWS: Final = 1 << 20  # of a data file that is rewritten, in memory at a time; about 400 MB of a release
_WRITING_S: Final = 3600.0  # longer than any commit takes: an older file that nothing refers to is nobody's work under way
_TUNED: Final = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "5",
}
# Bounds of column values would stay in manifests after the rows are gone, so they are never written.
_NO_BOUNDS: Final = {"write.metadata.metrics.default": "counts"}

_T = TypeVar("_T")


class _Lost(Exception):
    """Another writer's commit came between; nothing of ours is visible."""


class _Tables:
    """A SQL catalog and the tables in it, each made on demand from the Arrow schema given for its name."""

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema], properties: Mapping[str, str]) -> None:
        self._settings = settings
        self._schemas = dict(schemas)
        self._properties = dict(properties)
        self._opened: SqlCatalog | None = None
        logging.getLogger("pyiceberg").setLevel(logging.ERROR)  # its warnings speak of lost races that are handled here

    def _catalog(self) -> SqlCatalog:
        if self._opened is None:
            uri = self._settings.uri
            if uri.startswith("sqlite:///"):
                Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
                uri = f"{uri}?timeout={_BUSY_S}"
            self._settings.warehouse.mkdir(parents=True, exist_ok=True)
            warehouse = f"file://{self._settings.warehouse.resolve()}"
            if {"#", "?"} & set(warehouse):  # PyIceberg parses locations as URLs and would cut there
                raise SettingsError("holds # or ?", subject=f"warehouse {self._settings.warehouse}", fix="use a folder without them")
            try:
                self._opened = SqlCatalog(self._settings.name, uri=uri, warehouse=warehouse)
            except OperationalError:  # two processes made the catalog's own tables at once; the other one's serve as well
                self._opened = SqlCatalog(self._settings.name, uri=uri, warehouse=warehouse)
        return self._opened

    def _schema(self, table: str) -> pa.Schema:
        if table not in self._schemas:
            raise UsageError("no schema is known for the table", subject=f"table {table}", fix=f"use one of {', '.join(self._schemas)}")
        return self._schemas[table]

    def _load(self, table: str) -> Table | None:
        for _ in range(_TRIES):
            try:
                return self._catalog().load_table(table)
            except NoSuchTableError:
                return None
            except FileNotFoundError:  # the metadata file was superseded and removed between look-up and reading
                continue
        raise OutsideError("its metadata file is missing", subject=f"table {table}", fix="restore the warehouse from its backup")

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
            return _marked(rows.cast(schema))
        except (ValueError, pa.ArrowException) as error:
            raise CurationError(
                f"rows do not fit its schema: {error}", subject=f"table {table}", fix="use the columns of curation/schema.py"
            ) from error

    def _rows(
        self, table: str, found: Table | None, snapshot_id: int | None, keys: Sequence[str] | None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        schema = self._schema(table)
        first = schema.names[0]
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in dict.fromkeys((first, *columns))])
        if found is None or snapshot_id is None:
            return schema.empty_table()
        only: BooleanExpression = AlwaysTrue() if keys is None else _among(first, keys)
        scan = found.scan(row_filter=only, snapshot_id=snapshot_id, selected_fields=("*",) if columns is None else tuple(schema.names))
        return _unmarked(scan.to_arrow().select(schema.names).cast(schema).sort_by(first))

    def _retried(self, subject: str, attempt: Callable[[], _T]) -> _T:
        for turn in range(_TRIES):
            try:
                return attempt()
            except _Lost:
                time.sleep(random.uniform(0.0, 0.01 * min(turn + 1, 20)))  # noqa: S311 - jitter, no secret
        raise ConcurrentChange(f"other writers were faster {_TRIES} times", subject=subject, fix="try again when fewer batches run")


# PyIceberg 0.12 reads and writes lists of structs by their offsets alone, so a missing list comes back as an empty one
# (ArrowProjectionVisitor.list). A list of one missing struct survives: inside the table it stands for a missing list.


def _is_struct_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def _lone_null(lists: pa.ListArray) -> npt.NDArray[np.bool_]:
    """Whether each list is there and holds one struct, a missing one."""
    starts = lists.offsets.to_numpy()
    alone: npt.NDArray[np.bool_] = (np.diff(starts) == 1) & ~lists.is_null().to_numpy(zero_copy_only=False)
    missing = lists.values.is_null().to_numpy(zero_copy_only=False)
    alone[alone] = missing[starts[:-1][alone]]
    return alone


def _marked(rows: pa.Table) -> pa.Table:
    """The rows with missing lists of structs marked.

    Raises:
        ValueError: a list holds nothing but a missing struct, as the mark does.
    """
    for at, field in enumerate(rows.schema):
        lists = rows.column(at).combine_chunks() if _is_struct_list(field.type) else None
        if lists is None:
            continue
        if _lone_null(lists).any():
            raise ValueError(f"column {field.name} holds a list of one missing struct")
        if lists.null_count:
            with_mark = pa.concat_arrays([lists, pa.array([[None]], field.type)])
            own = np.arange(len(lists))
            picked = np.where(lists.is_null().to_numpy(zero_copy_only=False), len(lists), own)
            rows = rows.set_column(at, field, with_mark.take(pa.array(picked)))
    return rows


def _unmarked(rows: pa.Table) -> pa.Table:
    """The rows as they were before `_marked`."""
    for at, field in enumerate(rows.schema):
        if _is_struct_list(field.type):
            lists = rows.column(at).combine_chunks()
            rows = rows.set_column(at, field, lists.take(pa.array(np.arange(len(lists)), mask=_lone_null(lists))))
    return rows


def _among(column: str, values: Sequence[str]) -> BooleanExpression:
    return In(column, set(values))  # type: ignore[call-arg, arg-type]  # its own __init__ takes these two; the pydantic plugin sees fields


def _entries(found: Table, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    for manifest in snapshot.manifests(found.io):
        yield from manifest.fetch_manifest_entry(found.io, discard_deleted=True)


def _commit(transaction: Transaction, found: Table) -> None:
    """Commit, or leave nothing behind.

    Raises:
        _Lost: another commit came between.
    """
    known = {snapshot.snapshot_id for snapshot in found.metadata.snapshots}
    staged = [snapshot for snapshot in transaction.table_metadata.snapshots if snapshot.snapshot_id not in known]
    ids = {snapshot.snapshot_id for snapshot in staged}
    written = {entry.data_file.file_path for snapshot in staged for entry in _entries(found, snapshot) if entry.snapshot_id in ids}
    try:
        transaction.commit_transaction()
    except (CommitFailedException, ValidationException, FileNotFoundError) as error:
        _remove(written)
        raise _Lost from error
    except ValueError as error:  # a branch committed meanwhile took our sequence number, or our snapshot was dropped
        if "sequence number" not in str(error) and "unknown snapshot" not in str(error):
            raise
        _remove(written)
        raise _Lost from error


def _path(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def _remove(locations: set[str]) -> None:
    for location in locations:
        _path(location).unlink(missing_ok=True)


@contextmanager
def _outside(subject: str) -> Iterator[None]:
    """Errors of the catalog's database and disk, in the project's words."""
    try:
        yield
    except CommitStateUnknownException as error:
        raise OutsideError("nobody knows whether the commit arrived", subject=subject, fix="run the step again; it looks first") from error
    except SQLAlchemyError as error:
        kind = ConcurrentChange if "locked" in str(error) else OutsideError
        raise kind(f"the catalog's database failed: {type(error).__name__}", subject=subject, fix="run the step again") from error
    except OSError as error:
        raise OutsideError(f"the warehouse failed: {error}", subject=subject, fix="check disk and permissions, then run again") from error


def _ancestors(found: Table, snapshot_id: int | None) -> Iterator[Snapshot]:
    """The snapshot, its parent, and so on."""
    while snapshot_id is not None:
        snapshot = found.metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            return
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def _ref(found: Table, name: str) -> int | None:
    ref = found.metadata.refs.get(name)
    return None if ref is None else ref.snapshot_id


def _is_root(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and ROOT in snapshot.summary.additional_properties


class IcebergHome(_Tables):
    """The home catalog. Implements `ports.HomeCatalog`."""

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema]) -> None:
        super().__init__(settings, schemas, {**_TUNED, **_NO_BOUNDS})
        self._written: dict[tuple[str, str], int] = {}

    def head(self, table: str) -> int | None:
        """Snapshot id of main, None for an empty or missing table."""
        with _outside(f"table {table}"):
            found = self._load(table)
            if found is None or (current := found.metadata.current_snapshot()) is None or _is_root(current):
                return None
            return current.snapshot_id

    def read(
        self,
        table: str,
        *,
        snapshot_id: int | None = None,
        branch: str | None = None,
        clip_ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows of a snapshot or branch, by default of main, under the table's Arrow schema, sorted by its first column.

        Args:
            clip_ids: only the rows of these clips.
            columns: only these, the table's first always among them.

        Raises:
            UsageError: there is no such snapshot.
            ConcurrentChange: there is no such branch; another writer dropped or advanced it.
        """
        with _outside(f"table {table}"):
            found = self._load(table)
            if found is not None and snapshot_id is None:
                snapshot_id = _ref(found, branch or MAIN_BRANCH)
            if branch is not None and snapshot_id is None:
                raise ConcurrentChange(f"has no branch {branch} any more", subject=f"table {table}", fix="write it again")
            if snapshot_id is not None and (found is None or found.metadata.snapshot_by_id(snapshot_id) is None):
                raise UsageError(f"has no snapshot {snapshot_id}", subject=f"table {table}", fix="name one that its snapshots still list")
            return self._rows(table, found, snapshot_id, clip_ids, columns)

    def clip_ids(self, table: str, column: str, value: str) -> pa.Array:
        """Ids of the clips of main whose `column` holds `value`, sorted; no other column is read."""
        with _outside(f"table {table}"):
            found = self._load(table)
            first = self._schema(table).names[0]
            if found is None or (main := _ref(found, MAIN_BRANCH)) is None:
                return pa.array([], pa.string())
            ids = found.scan(row_filter=_among(column, [value]), selected_fields=(first,), snapshot_id=main).to_arrow()[first]
            return ids.combine_chunks().cast(pa.string()).sort()

    def write_branch(self, table: str, branch: str, rows: pa.Table, *, replace: Sequence[str], properties: Mapping[str, str]) -> int:
        """Put `rows` on a new branch grown from main's head, dropping rows whose clip_id is in `replace`; its snapshot id.

        A branch of that name which a killed run left behind is forgotten first.

        Raises:
            CurationError: the rows do not fit the table's schema.
            ConcurrentChange: other writers were faster again and again.
        """
        fitting = self._conform(table, rows)
        with _outside(f"table {table}"):
            self.drop_branch(table, branch)
            written = self._retried(f"table {table}", lambda: self._grow(table, branch, fitting, replace, dict(properties)))
        self._written[table, branch] = written
        return written

    def _rooted(self, table: str) -> Table:
        found = self._ensure(table)
        if _ref(found, MAIN_BRANCH) is None:
            transaction = found.transaction()
            transaction.append(self._schema(table).empty_table(), snapshot_properties={ROOT: "true"})
            _commit(transaction, found)
        return found

    def _grow(self, table: str, branch: str, rows: pa.Table, replace: Sequence[str], properties: dict[str, str]) -> int:
        found = self._rooted(table)
        base = _ref(found, MAIN_BRANCH)
        if base is None:
            raise _Lost
        transaction = found.transaction()
        with ManageSnapshots(transaction) as refs:
            refs.create_branch(base, branch)
        if replace:
            with warnings.catch_warnings():
                # Rows to replace may be gone already; then there is nothing to do, which PyIceberg warns of.
                warnings.filterwarnings("ignore", message="Delete operation did not match any records")
                first = self._schema(table).names[0]
                transaction.delete(_among(first, replace), snapshot_properties=properties, branch=branch)
        transaction.append(rows, snapshot_properties=properties, branch=branch)
        _commit(transaction, found)
        return transaction.table_metadata.refs[branch].snapshot_id

    def advance(self, table: str, branch: str) -> bool:
        """Make the branch main if it grew from main's head; False if main moved on, or the branch is not the one written here.

        The branch is gone after True. Set by compare-and-set on main: a stale branch never replaces what came between.
        """

        def attempt() -> bool:
            found = self._ensure(table)
            tip, main = _ref(found, branch), _ref(found, MAIN_BRANCH)
            if tip is None or main is None or self._written.get((table, branch), tip) != tip:
                return False
            if main not in {snapshot.snapshot_id for snapshot in _ancestors(found, tip)}:
                return False
            transaction = found.transaction()
            # The first requirement staged is the one that is kept: main is still what we grew from.
            ManageSnapshots(transaction).set_current_snapshot(ref_name=branch).remove_branch(branch).commit()
            _commit(transaction, found)
            self._written.pop((table, branch), None)
            return True

        with _outside(f"table {table}"):
            return self._retried(f"table {table}", attempt)

    def snapshots(self, table: str) -> Sequence[SnapshotInfo]:
        """All snapshots that main still knows, oldest first; the empty one that the table began with is not told."""
        with _outside(f"table {table}"):
            found = self._load(table)
            if found is None:
                return ()
            line = [snapshot for snapshot in _ancestors(found, _ref(found, MAIN_BRANCH)) if not _is_root(snapshot)]
            told = {snapshot.snapshot_id for snapshot in line}
            return tuple(_info(snapshot, told) for snapshot in reversed(line))

    def drop_branch(self, table: str, branch: str) -> None:
        """Forget a branch with its snapshots and data files; nothing happens where there is none."""

        def attempt() -> None:
            found = self._load(table)
            if found is None or (tip := _ref(found, branch)) is None:
                return
            kept = {s.snapshot_id for name in found.metadata.refs if name != branch for s in _ancestors(found, _ref(found, name))}
            own = [snapshot for snapshot in _ancestors(found, tip) if snapshot.snapshot_id not in kept]
            ids = {snapshot.snapshot_id for snapshot in own}
            files = {entry.data_file.file_path for snapshot in own for entry in _entries(found, snapshot) if entry.snapshot_id in ids}
            transaction = found.transaction()
            ManageSnapshots(transaction).remove_branch(branch).commit()
            if ids:
                ExpireSnapshots(transaction).by_ids(sorted(ids)).commit()
            _commit(transaction, found)
            _remove(files)

        with _outside(f"table {table}"):
            self._retried(f"table {table}", attempt)

    def erase(self, table: str, clip_ids: Sequence[str]) -> int:
        """How many rows of these clips main held; afterwards no snapshot, branch, tag or file of the table holds one.

        All earlier snapshots expire with them, so that none can be read at an earlier time; a branch that holds such a row is dropped, and
        whoever was auditing it writes it again. Files that no snapshot refers to go once no writer can still be at work on them.
        """
        subject = f"table {table}"
        with _outside(subject):
            if (found := self._load(table)) is None:
                return 0
            for name, ref in found.metadata.refs.items():
                is_other = name != MAIN_BRANCH and ref.snapshot_ref_type == SnapshotRefType.BRANCH
                if is_other and self._rows(table, found, ref.snapshot_id, clip_ids).num_rows:
                    self.drop_branch(table, name)
            count = self._retried(subject, lambda: self._delete(table, clip_ids))
            self._retried(subject, lambda: self._forget(table))
            return count

    def _delete(self, table: str, clip_ids: Sequence[str]) -> int:
        found = self._ensure(table)
        count: int = self._rows(table, found, _ref(found, MAIN_BRANCH), clip_ids).num_rows
        if count:
            transaction = found.transaction()
            transaction.delete(_among(self._schema(table).names[0], clip_ids), snapshot_properties={ERASED: str(count)})
            _commit(transaction, found)
        return count

    def _forget(self, table: str) -> None:
        """Expire all but the heads of main and of branches under way, and remove what only those snapshots referred to."""
        found = self._ensure(table)
        tips = {r.snapshot_id for n, r in found.metadata.refs.items() if n == MAIN_BRANCH or r.snapshot_ref_type == SnapshotRefType.BRANCH}
        old = [snapshot for snapshot in found.metadata.snapshots if snapshot.snapshot_id not in tips]
        shown = {str(path) for snapshot in old for path in _files_of(found, snapshot)}
        if old:
            transaction = found.transaction()
            for name, ref in found.metadata.refs.items():
                if ref.snapshot_id not in tips:
                    ManageSnapshots(transaction).remove_tag(name).commit()
            ExpireSnapshots(transaction).by_ids(sorted(snapshot.snapshot_id for snapshot in old)).commit()
            _commit(transaction, found)
            found = self._ensure(table)
        _sweep(found, only=lambda path: str(path) in shown or time.time() - path.stat().st_mtime > _WRITING_S)


def _info(snapshot: Snapshot, told: set[int]) -> SnapshotInfo:
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id if snapshot.parent_snapshot_id in told else None,
        properties=dict(summary),
    )


def _bare(schema: pa.Schema) -> pa.Schema:
    """The schema's names, types and nullability, and nothing else."""
    return pa.schema([pa.field(field.name, field.type, nullable=field.nullable) for field in schema])


class IcebergOverseas(_Tables):
    """The overseas catalog: copies only. Implements `ports.OverseasCatalog`.

    Writers take turns by a lock file in the warehouse, so that leftovers of a killed one can be told from work under way; whoever does
    not take the lock still meets the compare-and-set on main.
    """

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema]) -> None:
        """A catalog on this machine.

        Raises:
            SettingsError: the catalog is not an SQLite file.
        """
        if not settings.uri.startswith("sqlite:///"):  # writers of other machines do not see the lock; their work would be swept away
            raise SettingsError(
                "is no SQLite file", subject=f"overseas catalog {settings.name}", fix="use a URI that begins with sqlite:///"
            )
        bare = {table: _bare(schema) for table, schema in schemas.items()}
        super().__init__(settings, bare, {**_TUNED, **_NO_BOUNDS})

    def find(self, table: str, release_id: str) -> SnapshotInfo | None:
        """The snapshot that carries the release, None if it was never committed.

        A release that was withdrawn is still found, with the property `curation.withdrawn`: it must not be committed again.
        """
        with _outside(f"table {table}"):
            found = self._load(table)
            return None if found is None else _registered(found, release_id)

    def append(self, table: str, rows: pa.Table, *, properties: Mapping[str, str]) -> SnapshotInfo:
        """Commit rows as one snapshot, only if no other commit came between; a release that is there already is not written again.

        Args:
            properties: go onto the snapshot; `curation.release-id` is required.

        Raises:
            ConcurrentChange: another writer was faster; look again with `find`.
            UsageError: no release id is given, or the release was withdrawn.
            CurationError: the rows do not fit the table's schema.
        """
        subject = f"table {table}"
        release_id = properties.get(RELEASE_ID)
        if not release_id:
            raise UsageError(f"the snapshot carries no {RELEASE_ID}", subject=subject, fix="give it, so that the release is found again")
        fitting = self._conform(table, rows.select(rows.column_names).replace_schema_metadata(None))
        with _outside(subject), self._turn():
            found = self._ensure(table)
            known = _registered(found, release_id)
            if known is not None:
                if WITHDRAWN in known.properties:
                    raise UsageError("was withdrawn", subject=f"release {release_id}", fix="cut a new release")
                return known
            _sweep(found)
            transaction = found.transaction()
            transaction.append(fitting, snapshot_properties=dict(properties))
            staged = transaction.table_metadata.current_snapshot()
            if staged is None:
                raise CurationError("PyIceberg staged no snapshot", subject=subject, fix="report this as a defect")
            info = SnapshotInfo(snapshot_id=staged.snapshot_id, parent_id=staged.parent_snapshot_id, properties=dict(properties))
            transaction.set_properties(_registry(release_id, info))
            try:
                _commit(transaction, found)
            except _Lost as error:
                raise ConcurrentChange("another writer was faster", subject=subject, fix="look again whether it is there") from error
            return info

    def files(self, table: str, snapshot_id: int) -> Sequence[Path]:
        """The data files that this snapshot added and that are still there, as the catalog wrote them, in name order."""
        with _outside(f"table {table}"):
            found = self._load(table)
            if found is None:
                return ()
            snapshot = found.metadata.snapshot_by_id(snapshot_id) or found.metadata.current_snapshot()
            return sorted(_path(file) for file in _added_by(found, snapshot, snapshot_id))

    def withdraw(self, table: str, snapshot_id: int) -> None:
        """Take back all rows that this snapshot added, and leave none of their bytes; a second time changes nothing.

        Every snapshot that could still show them expires with them; releases that those carried stay known by name.

        Raises:
            ConcurrentChange: another writer was faster; withdraw again.
        """
        with _outside(f"table {table}"), self._turn():
            found = self._load(table)
            if found is None:
                return
            try:
                found = self._delete_rows(table, found, snapshot_id)
                found = self._expire(table, found, snapshot_id)
            except _Lost as error:
                raise ConcurrentChange("another writer was faster", subject=f"table {table}", fix="withdraw again") from error
            _sweep(found)

    def withdraw_rows(self, table: str, row_ids: pa.Array) -> int:
        """How many rows of these ids (values of the table's first column) were published; none of their bytes is left, nor can an
        earlier snapshot show them.

        Whichever snapshot wrote a row, and whatever rewrote it since. Done twice it changes nothing; other rows stay.

        Raises:
            ConcurrentChange: another writer was faster; withdraw again.
        """
        with _outside(f"table {table}"), self._turn():
            found = self._load(table)
            if found is None or not len(row_ids):
                return 0
            shown = {path for snapshot in found.metadata.snapshots for path in _data_files(found, snapshot)}
            first = self._schema(table).names[0]
            hits = {path: hit for path in sorted(shown) if (hit := _among_in(path, first, row_ids)).true_count}
            count: int = sum(hits[path].true_count for path in _data_files(found, found.metadata.current_snapshot()) & hits.keys())
            try:
                found = self._rewrite_without(table, found, hits)
                found = self._expire_those(table, found, hits.keys())
            except _Lost as error:
                raise ConcurrentChange("another writer was faster", subject=f"table {table}", fix="withdraw again") from error
            _sweep(found)
            return count

    def _rewrite_without(self, table: str, found: Table, hits: Mapping[Path, pa.BooleanArray]) -> Table:
        """One commit that drops these data files from main and adds anew those of their rows that are not hit."""
        current = found.metadata.current_snapshot()
        entries = [] if current is None else [one for one in _entries(found, current) if _path(one.data_file.file_path) in hits]
        if not entries:
            return found
        transaction = found.transaction()
        marked = {WITHDRAWN: "rows"}
        with transaction.update_snapshot(snapshot_properties=marked).overwrite() as overwrite:
            for entry in entries:
                overwrite.delete_data_file(entry.data_file)
        files = [_path(entry.data_file.file_path) for entry in entries]
        partly = {file: hits[file] for file in files if hits[file].false_count}
        if partly:
            kept = pa.RecordBatchReader.from_batches(self._schema(table), self._others(table, partly))
            transaction.append(kept, snapshot_properties=marked)
        _commit(transaction, found)
        return self._ensure(table)

    def _others(self, table: str, hits: Mapping[Path, pa.BooleanArray]) -> Iterator[pa.RecordBatch]:
        schema = self._schema(table)
        for file, hit in hits.items():
            stays, begun = pc.invert(hit), 0
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                    rest = batch.filter(stays.slice(begun, batch.num_rows))
                    begun += batch.num_rows
                    yield from pa.Table.from_batches([rest]).cast(schema).to_batches()

    def _expire_those(self, table: str, found: Table, paths: Collection[Path]) -> Table:
        """Forget every snapshot that still shows one of these data files, and every tag or branch on one."""
        showing = {s.snapshot_id for s in found.metadata.snapshots if not _data_files(found, s).isdisjoint(paths)}
        return self._expire_snapshots(table, found, showing)

    def holding(self, table: str, row_ids: pa.Array) -> Sequence[str]:
        """Names of the warehouse's files that hold one of these ids, decoded where they are Parquet, else byte by byte."""
        wanted = frozenset(row_ids.to_pylist())
        lengths = sorted(set(map(len, wanted)))
        first = self._schema(table).names[0]
        root = self._settings.warehouse
        with _outside(f"table {table}"):
            files = sorted(path for path in root.rglob("*") if path.is_file())
            return [str(file.relative_to(root)) for file in files if _speaks_of(file, first, row_ids, wanted, lengths)]

    def _delete_rows(self, table: str, found: Table, snapshot_id: int) -> Table:
        current = found.metadata.current_snapshot()
        gone = _added_by(found, current, snapshot_id)
        if current is None or not gone:
            return found
        transaction = found.transaction()
        with transaction.update_snapshot(snapshot_properties={WITHDRAWN: str(snapshot_id)}).overwrite() as overwrite:
            for entry in _entries(found, current):
                if entry.data_file.file_path in gone:
                    overwrite.delete_data_file(entry.data_file)
        for release_id, info in _releases(found).items():
            if info.snapshot_id == snapshot_id:
                marked = {**info.properties, WITHDRAWN: "true"}
                kept = SnapshotInfo(snapshot_id=snapshot_id, parent_id=info.parent_id, properties=marked)
                transaction.set_properties(_registry(release_id, kept))
        _commit(transaction, found)
        return self._ensure(table)

    def _expire(self, table: str, found: Table, snapshot_id: int) -> Table:
        return self._expire_snapshots(table, found, {s.snapshot_id for s in found.metadata.snapshots if _added_by(found, s, snapshot_id)})

    def _expire_snapshots(self, table: str, found: Table, showing: set[int]) -> Table:
        if not showing:
            return found
        transaction = found.transaction()
        for name, ref in found.metadata.refs.items():
            if ref.snapshot_id in showing and name != MAIN_BRANCH:  # a reader's tag or branch would hold the rows
                refs = ManageSnapshots(transaction)
                (refs.remove_branch(name) if ref.snapshot_ref_type == SnapshotRefType.BRANCH else refs.remove_tag(name)).commit()
        ExpireSnapshots(transaction).by_ids(sorted(showing)).commit()
        _commit(transaction, found)
        return self._ensure(table)

    def read(self, table: str) -> pa.Table:
        """All rows published now, sorted by the table's first column."""
        with _outside(f"table {table}"):
            found = self._load(table)
            return self._rows(table, found, None if found is None else _ref(found, MAIN_BRANCH), None)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._settings.warehouse.mkdir(parents=True, exist_ok=True)
        with (self._settings.warehouse / ".writers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file, also by a kill
            yield


def _data_files(found: Table, snapshot: Snapshot | None) -> set[Path]:
    """Data files live in `snapshot`."""
    return set() if snapshot is None else {_path(entry.data_file.file_path) for entry in _entries(found, snapshot)}


def _among_in(file: Path, column: str, values: pa.Array) -> pa.BooleanArray:
    """Whether each row of a Parquet file holds one of the values; no rows where the file, or the column, is not there."""
    if not file.exists():  # an earlier try had removed it and was killed
        return pa.array([], pa.bool_())
    with pq.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            return pa.array([], pa.bool_())
        cells = parquet.read(columns=[column], use_threads=False)[column]
        return pa.concat_arrays(pc.is_in(cells, value_set=values).chunks)  # in one call: each builds an index of the values


def _speaks_of(file: Path, column: str, values: pa.Array, wanted: frozenset[str], lengths: Sequence[int]) -> bool:
    """Whether a file holds one of the values, decoded in `column` if it is Parquet, and as bytes anywhere in any other."""
    if file.suffix == ".parquet":
        return bool(_among_in(file, column, values).true_count)
    text = file.read_bytes().decode("latin-1")  # byte by byte; ids are plain ASCII
    if file.suffix == ".avro":  # its blocks are compressed
        with AvroFile[Record](PyArrowFileIO().new_input(f"file://{file}")) as records:
            text += "".join(map(repr, records))
    return any(text[at : at + length] in wanted for length in lengths for at in range(len(text) - length + 1))


def _added_by(found: Table, snapshot: Snapshot | None, snapshot_id: int) -> set[str]:
    """Data files live in `snapshot` that `snapshot_id` added."""
    if snapshot is None:
        return set()
    return {entry.data_file.file_path for entry in _entries(found, snapshot) if entry.snapshot_id == snapshot_id}


def _registry(release_id: str, info: SnapshotInfo) -> dict[str, str]:
    value = {"snapshot_id": info.snapshot_id, "parent_id": info.parent_id, "properties": dict(info.properties)}
    return {f"{_REGISTERED}{release_id}": json.dumps(value, sort_keys=True)}


def _releases(found: Table) -> dict[str, SnapshotInfo]:
    return {
        name.removeprefix(_REGISTERED): SnapshotInfo(**json.loads(value))
        for name, value in found.properties.items()
        if name.startswith(_REGISTERED)
    }


def _registered(found: Table, release_id: str) -> SnapshotInfo | None:
    return _releases(found).get(release_id)


def _sweep(found: Table, *, only: Callable[[Path], bool] = lambda _: True) -> None:
    """Remove data files, manifests and manifest lists that no snapshot refers to: withdrawn rows, and leftovers of killed writers."""
    kept = {path for snapshot in found.metadata.snapshots for path in _files_of(found, snapshot)}
    root = _path(found.location())
    for file in [*root.glob("data/**/*"), *root.glob("metadata/*.avro")]:
        if file.is_file() and file not in kept and only(file):
            file.unlink(missing_ok=True)


def _files_of(found: Table, snapshot: Snapshot) -> Iterator[Path]:
    """The snapshot's manifest list, its manifests, and the data files that it shows."""
    yield _path(snapshot.manifest_list)
    for manifest in snapshot.manifests(found.io):
        yield _path(manifest.manifest_path)
        for entry in manifest.fetch_manifest_entry(found.io, discard_deleted=True):
            yield _path(entry.data_file.file_path)


__all__ = ["RELEASE_ID", "WITHDRAWN", "IcebergHome", "IcebergOverseas"]
