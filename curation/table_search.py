"""Rows of large tables of home, found where they lie: of a bucket only the row groups are read that may hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow as pa
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from curation.errors import CurationError, EvidenceBroken
from curation.ports import ObjectStore

OWNER: Final = "owner"  # a column of what is found
_SCHEME: Final = "home"
_NO_EXTENSIONS: Final = {
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}


class TableSearch:
    """Looks through Parquet files of home: one row of ten million is found in seconds."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: _HomeFiles) -> None:
        """A search by a database that reads these files."""
        self._connection = connection
        self._files = files

    def rows(self, keys: Mapping[str, str], column: str, values: Sequence[str] | pa.Array, *, only: str = "TRUE") -> pa.Table:
        """The rows of some files whose `column` holds one of the values.

        Args:
            keys: owner -> its file; one that is not there has no rows.
            column: of our schemas.
            values: what is looked for, texts; as a list unless they lie in an Arrow array already.
            only: a condition in SQL, of ours, that the rows must also meet.

        Returns:
            All columns and `owner`, in no order; no columns where there is no file.

        Raises:
            EvidenceBroken: a file is not readable Parquet.
            CurationError: as the store's.
        """
        urls = {f"{_SCHEME}://{key}": owner for owner, key in keys.items() if len(values) and self._files.knows(key)}
        if not urls:
            return pa.table({})
        try:
            return self._found(urls, column, values, only)
        except duckdb.Error as error:
            if self._files.failure is not None:
                raise self._files.failure from error
            problem = f"cannot be read as Parquet ({type(error).__name__})"
            raise EvidenceBroken(problem, subject=", ".join(urls), fix="run `curation audit verify`") from error

    def _found(self, urls: Mapping[str, str], column: str, values: Sequence[str] | pa.Array, only: str) -> pa.Table:
        # Lists go in as parameters: to make an Arrow array of one, pyarrow imports pandas, which may take longer than the search.
        owners = f"CREATE OR REPLACE TABLE owners AS SELECT unnest(?) AS url, unnest(?) AS {OWNER}"
        self._connection.execute(owners, [list(urls), list(urls.values())])
        # Compared with a constant, row groups are skipped by their bounds.
        among, given = ("= ?", [str(values[0])]) if len(values) == 1 else ("IN (FROM wanted)", [])
        if not given:
            self._want(column, values)
        found = f'SELECT * FROM read_parquet(?, filename = true) WHERE {only} AND "{column}" {among}'  # noqa: S608 - all of it is ours
        sql = f"SELECT found.* EXCLUDE filename, owner FROM ({found}) found JOIN owners ON filename = url"  # noqa: S608
        return self._connection.sql(sql, params=[list(urls), *given]).to_arrow_table()

    def _want(self, column: str, values: Sequence[str] | pa.Array) -> None:
        if isinstance(values, pa.Array):
            self._connection.register("wanted", pa.table({column: values}))
        else:
            self._connection.execute(f'CREATE OR REPLACE TABLE wanted AS SELECT unnest(?) AS "{column}"', [list(values)])


@contextmanager
def searching(store: ObjectStore) -> Iterator[TableSearch]:
    """A search of the store's files by a database that reaches them and nothing else; to start and end one takes as long as to use it."""
    files = _HomeFiles(store)
    with duckdb.connect(":memory:", config=_NO_EXTENSIONS) as connection:
        connection.register_filesystem(files)
        connection.execute("SET allowed_directories = ?", [[f"{_SCHEME}://"]])
        connection.execute("SET enable_progress_bar = false")  # it is drawn on standard output, between the lines of --json
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield TableSearch(connection, files)


class _HomeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec tells no types
    """Objects of the store, as DuckDB reads files; what the store says while one is read is kept in `failure`."""

    protocol = _SCHEME
    cachable = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self.store = store
        self.failure: CurationError | None = None
        self._sizes = dict[str, int]()

    def knows(self, key: str) -> bool:
        """Whether there is such an object, which may then be read."""
        if key not in self._sizes and (size := self.store.size(key)) is not None:
            self._sizes[key] = size
        return key in self._sizes

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        key = str(self._strip_protocol(path))
        return {"name": key, "size": self._sizes[key], "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def modified(self, path: str) -> datetime:  # noqa: ARG002 - objects are written once
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> _HomeFile:
        return _HomeFile(self, path, mode, cache_type="none", size=self.info(path)["size"])


class _HomeFile(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        files: _HomeFiles = self.fs
        try:
            return files.store.read_range(self.path, start, end - start)
        except CurationError as failure:
            files.failure = failure
            raise
