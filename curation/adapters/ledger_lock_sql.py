"""A turn at the ledger by a lock in the home catalog's database, for stores that cannot keep two writers apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from curation.errors import OutsideError, SettingsError

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = "postgresql"
_NUMBER: Final = 0x6C65646765720001  # of the advisory lock: "ledger", 1; nothing else in the database takes it
_WAIT_S: Final = 60  # an append takes well under a second


class SqlTurn:
    """Held by one process at a time among all that name the same database; a holder that dies gives it back with its connection."""

    def __init__(self, uri: str) -> None:
        """A lock in PostgreSQL, or in an SQLite file of its own beside the one that is named; nothing is opened yet.

        Raises:
            SettingsError: the database is neither.
        """
        if not uri.startswith((_SQLITE, _POSTGRES)):
            raise SettingsError(
                "is no SQL database, and the store cannot keep the ledger's writers apart by itself",
                subject="home catalog",
                fix="use SQLite or PostgreSQL, or a store with conditional writes",
            )
        self._is_sqlite = uri.startswith(_SQLITE)
        self._uri = f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).with_name('ledger-lock.db')}" if self._is_sqlite else uri

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Nobody else has a turn inside the context.

        Raises:
            OutsideError: the database failed, or others held the lock for a minute.
        """
        if self._is_sqlite:
            Path(self._uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self._uri, connect_args={"timeout": _WAIT_S, "isolation_level": None} if self._is_sqlite else {})
        try:
            with engine.connect() as connection:
                self._take(connection)
                yield
        finally:
            engine.dispose()

    def _take(self, connection: Connection) -> None:
        try:
            if self._is_sqlite:
                connection.execute(text("begin immediate"))
            else:
                connection.execute(text(f"set lock_timeout = '{_WAIT_S}s'"))
                connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": _NUMBER})
        except SQLAlchemyError as error:
            raise OutsideError(
                f"its lock in the home catalog's database cannot be had: {type(error).__name__}", subject="ledger", fix="run the step again"
            ) from error
