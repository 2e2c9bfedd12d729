"""The home catalog: batches on audited branches, main by compare-and-set. Implements `ports.HomeCatalog`."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

from curation.adapters.catalog_files import WRITING_S, cells_where, entries_of, files_of, remove_files, sweep
from curation.adapters.catalog_iceberg import NO_BOUNDS, TUNED, IcebergTables, LostRace, among, ancestors, begin, commit, outside, ref_of
from curation.adapters.catalog_lists import is_struct_list
from curation.errors import ConcurrentChange, CurationError, UsageError
from curation.records import SnapshotInfo
from curation.settings import CatalogSettings

ROOT: Final = "curation.root"  # marks the empty snapshot that a home table begins with: a branch needs something to grow from
PIN: Final = "curation.pin."  # begins the tags that are set here and by upkeep; tags of others stay
ERASED: Final = "curation.erased"  # snapshot property: how many rows an erasure took away


class IcebergHome(IcebergTables):
    """The home catalog. Implements `ports.HomeCatalog`."""

    def __init__(self, settings: CatalogSettings, schemas: Mapping[str, pa.Schema]) -> None:
        super().__init__(settings, schemas, {**TUNED, **NO_BOUNDS})
        self._written: dict[tuple[str, str], int] = {}

    def head(self, table: str) -> int | None:
        """Snapshot id of main, None for an empty or missing table."""
        with outside(f"table {table}"):
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
        with outside(f"table {table}"):
            found = self._load(table)
            if found is not None and snapshot_id is None:
                snapshot_id = ref_of(found, branch or MAIN_BRANCH)
            if branch is not None and snapshot_id is None:
                raise ConcurrentChange(f"has no branch {branch} any more", subject=f"table {table}", fix="write it again")
            _refuse_unknown(table, found, snapshot_id)
            return self._rows(table, found, snapshot_id, clip_ids, columns)

    def stream(
        self, table: str, *, columns: Sequence[str], encoded: Collection[str] = (), snapshot_id: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a snapshot, by default of main, in no order: these columns alone, the table's first always among them.

        Args:
            encoded: text columns that come as dictionaries.

        Raises:
            UsageError: there is no such snapshot.
        """
        with outside(f"table {table}"):
            found = self._load(table)
            if found is not None and snapshot_id is None:
                snapshot_id = ref_of(found, MAIN_BRANCH)
            _refuse_unknown(table, found, snapshot_id)
            yield from self._batches(table, found, snapshot_id, columns, encoded)

    def clip_ids(self, table: str, column: str, value: str) -> pa.Array:
        """Ids of the clips of main whose `column` holds `value`, sorted; no other column is read."""
        with outside(f"table {table}"):
            found = self._load(table)
            first = self._schema(table).names[0]
            if found is None or (main := ref_of(found, MAIN_BRANCH)) is None:
                return pa.array([], pa.string())
            tasks = found.scan(snapshot_id=main).plan_files()
            ids = [cells_where(found.io, task.file.file_path, first, column, value) for task in tasks]
            return pa.concat_arrays([pa.array([], pa.string()), *ids]).sort()

    def write_branch(self, table: str, branch: str, rows: pa.Table, *, replace: Sequence[str], properties: Mapping[str, str]) -> int:
        """Put `rows` on a new branch grown from main's head, dropping rows whose clip_id is in `replace`; its snapshot id.

        A branch of that name which a killed run left behind is forgotten first.

        Raises:
            CurationError: the rows do not fit the table's schema.
            ConcurrentChange: other writers were faster again and again.
        """
        fitting = self._conform(table, rows)
        with outside(f"table {table}"):
            self.drop_branch(table, branch)
            written = self._retried(f"table {table}", lambda: self._grow(table, branch, fitting, replace, dict(properties)))
        self._written[table, branch] = written
        return written

    def _grown(self, table: str) -> Table:
        """The table with every column of the Arrow schema: those that came after it was made are added, null in its older rows."""
        found = self._ensure(table)
        known = {field.name for field in found.schema().fields}
        later = [field for field in self._schema(table) if field.name not in known]
        unfit = [field.name for field in later if not field.nullable or is_struct_list(field.type)]
        if unfit:  # PyIceberg reads a list of structs that an older file lacks as an empty one
            raise CurationError(
                f"has rows without {', '.join(unfit)}, and cannot show it as null in them",
                subject=f"table {table}",
                fix="make the new column nullable, and no list of structs, in curation/schema.py",
            )
        if later:
            transaction = begin(found)
            with transaction.update_schema() as update:
                update.union_by_name(pa.schema(later))
            commit(transaction, found)
            found = self._ensure(table)
        return found

    def _rooted(self, table: str) -> Table:
        found = self._grown(table)
        if ref_of(found, MAIN_BRANCH) is None:
            transaction = begin(found)
            transaction.append(self._schema(table).empty_table(), snapshot_properties={ROOT: "true"})
            commit(transaction, found)
        return found

    def _grow(self, table: str, branch: str, rows: pa.Table, replace: Sequence[str], properties: dict[str, str]) -> int:
        found = self._rooted(table)
        base = ref_of(found, MAIN_BRANCH)
        if base is None:
            raise LostRace
        transaction = begin(found)
        with ManageSnapshots(transaction) as refs:
            refs.create_branch(base, branch)
        if replace:
            with warnings.catch_warnings():
                # Rows to replace may be gone already; then there is nothing to do, which PyIceberg warns of.
                warnings.filterwarnings("ignore", message="Delete operation did not match any records")
                first = self._schema(table).names[0]
                transaction.delete(among(first, replace), snapshot_properties=properties, branch=branch)
        transaction.append(rows, snapshot_properties=properties, branch=branch)
        commit(transaction, found)
        return transaction.table_metadata.refs[branch].snapshot_id

    def advance(self, table: str, branch: str) -> bool:
        """Make the branch main if it grew from main's head; False if main moved on, or the branch is not the one written here.

        The branch is gone after True. Set by compare-and-set on main: a stale branch never replaces what came between.
        """

        def attempt() -> bool:
            found = self._ensure(table)
            tip, main = ref_of(found, branch), ref_of(found, MAIN_BRANCH)
            if tip is None or main is None or self._written.get((table, branch), tip) != tip:
                return False
            if main not in {snapshot.snapshot_id for snapshot in ancestors(found, tip)}:
                return False
            transaction = begin(found)
            # The first requirement staged is the one that is kept: main is still what we grew from.
            ManageSnapshots(transaction).set_current_snapshot(ref_name=branch).remove_branch(branch).commit()
            commit(transaction, found)
            self._written.pop((table, branch), None)
            return True

        with outside(f"table {table}"):
            return self._retried(f"table {table}", attempt)

    def snapshots(self, table: str) -> Sequence[SnapshotInfo]:
        """All snapshots that main still knows, oldest first; the empty one that the table began with is not told."""
        with outside(f"table {table}"):
            found = self._load(table)
            if found is None:
                return ()
            line = [snapshot for snapshot in ancestors(found, ref_of(found, MAIN_BRANCH)) if not _is_root(snapshot)]
            told = {snapshot.snapshot_id for snapshot in line}
            return tuple(_info(snapshot, told) for snapshot in reversed(line))

    def drop_branch(self, table: str, branch: str) -> None:
        """Forget a branch with its snapshots and data files; nothing happens where there is none."""

        def attempt() -> None:
            found = self._load(table)
            if found is None or (tip := ref_of(found, branch)) is None:
                return
            kept = {s.snapshot_id for name in found.metadata.refs if name != branch for s in ancestors(found, ref_of(found, name))}
            own = [snapshot for snapshot in ancestors(found, tip) if snapshot.snapshot_id not in kept]
            ids = {snapshot.snapshot_id for snapshot in own}
            files = {entry.data_file.file_path for snapshot in own for entry in entries_of(found, snapshot) if entry.snapshot_id in ids}
            transaction = begin(found)
            ManageSnapshots(transaction).remove_branch(branch).commit()
            if ids:
                ExpireSnapshots(transaction).by_ids(sorted(ids)).commit()
            commit(transaction, found)
            remove_files(found.io, files)

        with outside(f"table {table}"):
            self._retried(f"table {table}", attempt)

    def pin(self, table: str, name: str, snapshot_id: int) -> None:
        """Keep a snapshot by a tag until upkeep finds that nothing was made of it; one that is gone stays gone."""

        def attempt() -> None:
            found = self._ensure(table)
            if ref_of(found, f"{PIN}{name}") is not None or found.metadata.snapshot_by_id(snapshot_id) is None:
                return
            transaction = begin(found)
            ManageSnapshots(transaction).create_tag(snapshot_id, f"{PIN}{name}").commit()
            commit(transaction, found)

        with outside(f"table {table}"):
            self._retried(f"table {table}", attempt)

    def erase(self, table: str, clip_ids: Sequence[str]) -> int:
        """How many rows of these clips main held; afterwards no snapshot, branch, tag or file of the table holds one.

        All earlier snapshots expire with them, so that none can be read at an earlier time; a branch that holds such a row is dropped, and
        whoever was auditing it writes it again. Files that no snapshot refers to go once no writer can still be at work on them.
        """
        subject = f"table {table}"
        with outside(subject):
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
        count: int = self._rows(table, found, ref_of(found, MAIN_BRANCH), clip_ids).num_rows
        if count:
            transaction = begin(found)
            transaction.delete(among(self._schema(table).names[0], clip_ids), snapshot_properties={ERASED: str(count)})
            commit(transaction, found)
        return count

    def _forget(self, table: str) -> None:
        """Expire all but the heads of main and of branches under way, and remove what only those snapshots referred to."""
        found = self._ensure(table)
        tips = {r.snapshot_id for n, r in found.metadata.refs.items() if n == MAIN_BRANCH or r.snapshot_ref_type == SnapshotRefType.BRANCH}
        old = [snapshot for snapshot in found.metadata.snapshots if snapshot.snapshot_id not in tips]
        shown = {path for snapshot in old for path in files_of(found, snapshot)}
        if old:
            transaction = begin(found)
            for name, ref in found.metadata.refs.items():
                if ref.snapshot_id not in tips:
                    ManageSnapshots(transaction).remove_tag(name).commit()
            ExpireSnapshots(transaction).by_ids(sorted(snapshot.snapshot_id for snapshot in old)).commit()
            commit(transaction, found)
            found = self._ensure(table)
        sweep(found, only=lambda file: file.location in shown or file.age_s > WRITING_S)


def _refuse_unknown(table: str, found: Table | None, snapshot_id: int | None) -> None:
    if snapshot_id is not None and (found is None or found.metadata.snapshot_by_id(snapshot_id) is None):
        raise UsageError(f"has no snapshot {snapshot_id}", subject=f"table {table}", fix="name one that its snapshots still list")


def _is_root(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and ROOT in snapshot.summary.additional_properties


def _info(snapshot: Snapshot, told: set[int]) -> SnapshotInfo:
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id if snapshot.parent_snapshot_id in told else None,
        properties=dict(summary),
    )
