"""Queue in the caller's transaction on SQLite: over its own connection to the ledger's file, in the writers' queue."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger.callers import Caller, refused
from ledger.errors import InvalidOption, StorageUnavailable
from ledger.sqlite import SqliteStore
from ledger.sqlite_files import WriterLock
from ledger.statements import statements

SQL = statements("ledger", "sql/sqlite/caller.sql")
INBOX_SQL = statements("ledger", "sql/sqlite/inbox.sql")


class SqliteCaller:
    """A connection of sqlite3."""

    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection: sqlite3.Connection = connection

    @property
    def driver(self) -> object:
        """The connection itself."""
        return self._connection

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement; see `ledger.callers.Caller`."""
        try:
            cursor = self._connection.cursor()
            cursor.row_factory = None  # plain rows, whatever the caller has set
            return cursor.execute(sql, dict(parameters or {})).fetchall()
        except sqlite3.Error as error:
            raise refused(error) from error


def check(store: SqliteStore, caller: Caller) -> None:
    """Return if *caller* writes to the ledger's file; nothing is written for that.

    Raises:
        InvalidOption: It has another file open, or the ledger is in memory.

        StorageUnavailable: There is no ledger yet, one of an older version, or this thread is writing to it itself.
    """
    if store.datastore.in_memory:
        raise InvalidOption(
            "connection is for a ledger in a database; memory: can only be reached by the ledger itself"
        )
    if caller.dialect != "sqlite":
        raise InvalidOption(f"connection is not one to {store.path}, the SQLite file that this ledger is in")
    files = {_text(name): _text(file) for _, name, file in caller.execute(SQL["place"])}
    if not _is_same(files.get("main", ""), store.path):
        attached = [name for name, file in files.items() if _is_same(file, store.path)]
        more = (
            f"; as {attached[0]!r} it is only attached, and SQLite commits attached files one after the other"
            if attached
            else ""
        )
        raise InvalidOption(f"connection is to {files.get('main') or 'memory'}, this ledger is in {store.path}{more}")
    if not caller.execute(INBOX_SQL["has_inbox"]):
        raise StorageUnavailable(f"{store.path} is no ledger with an inbox yet; `workledger db init` makes one")
    if store.datastore.is_writing():
        raise StorageUnavailable(
            "this thread has begun a transaction of the ledger itself, which the given connection would wait for"
        )


def put(store: SqliteStore, caller: Caller, rows: str) -> None:
    """Write *rows* in the caller's transaction.

    A transaction that writes already, or finds nobody else writing, waits for nobody. Any other waits, as long as its
    own timeout says, in the queue of the ledger's writers, so that it gets its turn; it gives its place in the queue up
    at once, and what it holds until its commit is SQLite's lock alone.

    Raises:
        StorageUnavailable: Others wrote all that time; nothing was stored.
    """
    [(patience,)] = caller.execute("PRAGMA busy_timeout")
    caller.execute("PRAGMA busy_timeout = 0")
    try:
        caller.execute(SQL["put"], {"rows": rows})
        return
    except StorageUnavailable as error:
        if not _is_busy(error):
            raise
    finally:
        caller.execute(f"PRAGMA busy_timeout = {int(patience)}")
    queue = WriterLock(Path(store.path))
    try:
        queue.acquire(patience / 1000)
        caller.execute(SQL["put"], {"rows": rows})
    finally:
        queue.release()
        queue.forget()


def _is_busy(error: StorageUnavailable) -> bool:
    driver: Any = error.__cause__
    driver = getattr(driver, "orig", None) or getattr(driver, "__cause__", None) or driver
    return getattr(driver, "sqlite_errorname", "") in ("SQLITE_BUSY", "SQLITE_BUSY_RECOVERY")


def _is_same(file: str, path: str) -> bool:
    try:
        return bool(file) and os.path.samefile(file, path)
    except OSError:
        return False


def _text(value: str | bytes | None) -> str:
    return os.fsdecode(value or "")
