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

OWNER: Final = "owner"  # a column of what `found_rows` finds
_SCHEME: Final = "home"
_NO_EXTENSIONS: Final = {
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}


def found_rows(store: ObjectStore, keys: Mapping[str, str], column: str, values: pa.Array, *, only: str = "TRUE") -> pa.Table:
    """The rows of some Parquet files of home whose `column` holds one of the values: one of ten million in seconds.

    Args:
        store: the home store.
        keys: owner -> its file; one that is not there has no rows.
        column: of our schemas.
        values: what is looked for, texts.
        only: a condition in SQL, of ours, that the rows must also meet.

    Returns:
        All columns and `owner`, in no order; no columns where there is no file.

    Raises:
        EvidenceBroken: a file is not readable Parquet.
        CurationError: as the store's.
    """
    sizes = {key: size for key in keys.values() if len(values) and (size := store.size(key)) is not None}
    if not sizes:
        return pa.table({})
    urls = {f"{_SCHEME}://{key}": owner for owner, key in keys.items() if key in sizes}
    with _reading(_HomeFiles(store, sizes), list(urls)) as connection:
        connection.register("owners", pa.table({"url": list(urls), OWNER: list(urls.values())}))
        # Compared with a constant, row groups are skipped by their bounds.
        among, given = ("= ?", [values[0].as_py()]) if len(values) == 1 else ("IN (FROM wanted)", [])
        if not given:
            connection.register("wanted", pa.table({column: values}))
        found = f'SELECT * FROM read_parquet(?, filename = true) WHERE {only} AND "{column}" {among}'  # noqa: S608 - all of it is ours
        sql = f"SELECT found.* EXCLUDE filename, owner FROM ({found}) found JOIN owners ON filename = url"  # noqa: S608
        return connection.sql(sql, params=[list(urls), *given]).to_arrow_table()


class _HomeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec tells no types
    """These objects of the store, as DuckDB reads files; what the store says while one is read is kept in `failure`."""

    protocol = _SCHEME
    cachable = False

    def __init__(self, store: ObjectStore, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.store = store
        self.failure: CurationError | None = None
        self._sizes = sizes

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


@contextmanager
def _reading(files: _HomeFiles, urls: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that reaches these files and nothing else.

    Raises:
        EvidenceBroken: a file is not readable Parquet.
        CurationError: as the store's.
    """
    with duckdb.connect(":memory:", config=_NO_EXTENSIONS) as connection:
        connection.register_filesystem(files)
        connection.execute("SET allowed_paths = ?", [urls])
        connection.execute("SET enable_progress_bar = false")  # it is drawn on standard output, between the lines of --json
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            yield connection
        except duckdb.Error as error:
            if files.failure is not None:
                raise files.failure from error
            raise EvidenceBroken(
                f"cannot be read as Parquet ({type(error).__name__})", subject=", ".join(urls), fix="run `curation audit verify`"
            ) from error
