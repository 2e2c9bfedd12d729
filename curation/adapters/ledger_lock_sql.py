"""A turn at the ledger, or at main, by a lock in the home catalog's database: what nothing else keeps apart, or only at great cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from curation.errors import OutsideError, SettingsError

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = "postgresql"
_WAIT_S: Final = 60  # an append takes well under a second, an audit some seconds


class SqlTurn:
    """Held by one process at a time among all that name the same database; a holder that dies gives it back with its connection."""

    def __init__(self, uri: str, *, at: Literal["ledger", "main"] = "ledger", wait_s: float | None = None) -> None:
        """A lock in PostgreSQL, or in an SQLite file of its own beside the one that is named; nothing is opened yet.

        Args:
            at: which of the two; a turn at one does not wait for a turn at the other.
            wait_s: how long others may hold it before it cannot be had.

        Raises:
            SettingsError: the database is neither.
        """
        if not uri.startswith((_SQLITE, _POSTGRES)):
            raise SettingsError(
                f"is no SQL database, and has no lock for a turn at {at}",
                subject="home catalog",
                fix="use SQLite or PostgreSQL, or a store with conditional writes",
            )
        self._is_sqlite = uri.startswith(_SQLITE)
        self._uri = f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).with_name(f'{at}-lock.db')}" if self._is_sqlite else uri
        self._at = at
        self._wait_s = _WAIT_S if wait_s is None else wait_s

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Nobody else has a turn inside the context.

        Raises:
            OutsideError: the database failed, or others held the lock all the time.
        """
        if self._is_sqlite:
            Path(self._uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            engine = create_engine(self._uri, connect_args={"timeout": self._wait_s, "isolation_level": None} if self._is_sqlite else {})
            held.callback(engine.dispose)
            try:
                self._take(held.enter_context(engine.connect()))
            except SQLAlchemyError as error:
                problem = f"its lock in the home catalog's database cannot be had: {type(error).__name__}"
                raise OutsideError(problem, subject=self._at, fix="run the step again") from error
            yield

    def _take(self, connection: Connection) -> None:
        if self._is_sqlite:
            connection.execute(text("begin immediate"))
            return
        number = int.from_bytes(self._at.encode().ljust(7, b"\0") + b"\1")  # nothing else in the database takes it
        connection.execute(text(f"set lock_timeout = '{round(self._wait_s * 1000)}ms'"))
        connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": number})
