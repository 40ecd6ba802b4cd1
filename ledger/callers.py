"""Write through a connection of the caller's, in whatever transaction it has open: psycopg 3, SQLAlchemy, Django, sqlite3.

None of these is imported here: a connection is known by where its class comes from, and told what its own kind is told.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ledger.errors import InvalidOption, StorageUnavailable
from ledger.values import shown

ALLOWED = (
    "allowed is a connection of psycopg 3, of SQLAlchemy (a Connection or a Session), of Django or of sqlite3, to the "
    "ledger's own database"
)
DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}
_NAMED = re.compile(r"(?<!:):([a-z_]+)")


class Caller(Protocol):
    """A way into the caller's transaction."""

    dialect: str
    """``sqlite`` or ``postgres``."""

    @property
    def driver(self) -> object:
        """The driver's connection, which leads to one database as long as it lives."""

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement with parameters ``:name`` there and return its rows.

        Raises:
            StorageUnavailable: The connection cannot be used, or the database refused.
        """


def kinds_of(connection: object) -> set[str]:
    """Return the top packages that the classes of *connection* come from."""
    return {base.__module__.partition(".")[0] for base in type(connection).__mro__}


def is_asynchronous(connection: object) -> bool:
    """Return whether *connection* can only be used with await."""
    kinds = kinds_of(connection)
    return ("sqlalchemy" in kinds and hasattr(connection, "run_sync")) or (
        "psycopg" in kinds and any(base.__name__ == "AsyncConnection" for base in type(connection).__mro__)
    )


def caller_of(connection: object) -> Caller:
    """Return the way into the transaction of *connection*.

    Raises:
        InvalidOption: It is no connection of a kind that is known.

        StorageUnavailable: It is closed.
    """
    kinds = kinds_of(connection)
    if is_asynchronous(connection):
        raise InvalidOption(
            f"connection is asynchronous ({type(connection).__qualname__}); queue with `await` aenqueue"
        )
    if "psycopg" in kinds and hasattr(connection, "pgconn"):
        from ledger.postgres_caller import PsycopgCaller  # its driver is an extra

        return PsycopgCaller(connection)
    if "sqlite3" in kinds and hasattr(type(connection), "total_changes"):
        from ledger.sqlite_caller import SqliteCaller

        return SqliteCaller(connection)
    if "sqlalchemy" in kinds and (hasattr(connection, "exec_driver_sql") or hasattr(connection, "get_bind")):
        return AlchemyCaller(connection)
    if "django" in kinds and hasattr(connection, "vendor"):
        return DjangoCaller(connection)
    raise InvalidOption(f"connection is {shown(connection)}; {ALLOWED}")


def known_dialect(name: str) -> str:
    """Return our name for a database that a library calls *name*.

    Raises:
        InvalidOption: No ledger can be there.
    """
    if name not in DIALECTS:
        raise InvalidOption(f"connection is one to {shown(name)}, where no ledger can be; {ALLOWED}")
    return DIALECTS[name]


def refused(error: Exception) -> StorageUnavailable:
    """Return the ledger's error for what a caller's connection has raised."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    said = " ".join(str(cause).split()) or type(cause).__name__
    name = getattr(cause, "sqlite_errorname", None) or type(cause).__name__
    if name == "InFailedSqlTransaction":
        said = "its transaction has failed; roll it back first"
    elif name == "SQLITE_BUSY_SNAPSHOT":
        said = "its transaction has read what others have changed since; begin one that writes with BEGIN IMMEDIATE"
    elif name.startswith("SQLITE_BUSY"):
        said = "another program held the database for longer than the connection waits (its timeout)"
    return StorageUnavailable(f"nothing was queued through the given connection: {said} ({name})")


class AlchemyCaller:
    """A Connection of SQLAlchemy, or that of a Session; it begins its transaction by itself."""

    def __init__(self, connection: Any) -> None:
        try:
            is_session = not hasattr(connection, "exec_driver_sql")
            self._connection = connection.connection() if is_session else connection
            if self._connection.closed:
                raise StorageUnavailable("nothing was queued: the given connection is closed")
            self.dialect = known_dialect(self._connection.dialect.name)
            self._text = importlib.import_module("sqlalchemy").text
        except (InvalidOption, StorageUnavailable):
            raise
        except Exception as error:  # whatever its driver or its pool raises
            raise refused(error) from error

    @property
    def driver(self) -> object:
        """The driver's connection."""
        return self._connection.connection.driver_connection

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement; see `Caller`."""
        try:
            result = self._connection.execute(self._text(sql), dict(parameters or {}))
            return [tuple(row) for row in result] if result.returns_rows else []
        except Exception as error:
            raise refused(error) from error


class DjangoCaller:
    """A connection of Django: ``django.db.connection``, or one of ``connections``."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect = known_dialect(connection.vendor)
        try:
            connection.ensure_connection()
        except Exception as error:
            raise refused(error) from error

    @property
    def driver(self) -> object:
        """The driver's connection."""
        return self._connection.connection

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement; see `Caller`."""
        text, values = positional(sql, parameters or {})
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(text, values)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        except Exception as error:
            raise refused(error) from error


def positional(sql: str, parameters: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Return *sql* with ``%s`` for each ``:name``, and the values in that order."""
    values = [parameters[name] for name in _NAMED.findall(sql)]
    return _NAMED.sub("%s", sql), values
