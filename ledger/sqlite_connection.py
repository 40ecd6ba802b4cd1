"""Own the connections to one SQLite file: durable settings, one writer at a time, safe after a fork."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from eventsourcing.sqlite import SQLiteCursor, SQLiteDatastore

from ledger.errors import Conflict, LedgerError, StorageFull, StorageUnavailable
from ledger.shield import SHIELD
from ledger.sqlite_files import WriterLock, refuse_network_file_system

BUSY_SECONDS = 60.0
WRITER_CACHE_KIB = 16 * 1024
"""Pages in memory: a plan's jumps through the queue of a big ledger would read each page of the index anew with 2 MiB."""
APPLICATION_ID = 0x574C4447  # "WLDG"


def translate(error: sqlite3.Error, path: str) -> LedgerError:
    """Return the ledger's error for a driver's *error*; what was not committed is not stored."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(f"{path}: {error}")
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):  # the latter where there is no room for its shared memory
        return StorageFull(f"{path}: the disk is full; nothing was stored, free some space and try again")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageUnavailable(f"{path}: another program held the database for {BUSY_SECONDS:.0f} s ({name})")
    if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return StorageUnavailable(f"{path}: not an intact SQLite database ({name}: {error})")
    if name.startswith("SQLITE_READONLY") or (name == "SQLITE_CANTOPEN" and not _may_write(path)):
        return StorageUnavailable(
            f"{path}: it or its directory cannot be written to here ({name}); a ledger needs that even to be read, "
            "for the write-ahead log beside it"
        )
    return StorageUnavailable(f"{path}: {name}: {error}")


def _may_write(path: str) -> bool:
    return os.access(Path(path).parent, os.W_OK)


class LedgerDatastore(SQLiteDatastore):
    """The library's datastore over connections of our own.

    One connection writes, under a mutex among threads and a file lock among processes, with BEGIN IMMEDIATE; it is
    re-entrant within a thread. Readers have one connection per thread. The library's pool is not used: it begins
    deferred transactions, sets no `synchronous` and caches one statement.
    """

    single_row_tracking: bool = True
    originator_id_type: Literal["uuid", "text"] = "text"

    def __init__(self, path: str) -> None:
        self.path = path
        self.in_memory = path == ":memory:"
        self._pid = 0
        self._reset()
        os.register_at_fork(after_in_child=self._abandon)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.RLock()
        self._depth = 0
        self._writer: sqlite3.Connection | None = None
        self._lock = None if self.in_memory else WriterLock(Path(self.path))
        self._readers = threading.local()
        self._all_readers: list[sqlite3.Connection] = []

    def _abandon(self) -> None:
        """Forget the parent's connections after a fork, for ever: closing one here could touch its locks."""
        for connection in (*self._all_readers, *([self._writer] if self._writer else [])):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        if self._lock is not None:
            self._lock.forget()
        self._reset()

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        """Open a transaction and yield its cursor (rows by name, as the library's recorders expect)."""
        with self.write() if commit or self.in_memory else self.read() as connection:
            yield cast(SQLiteCursor, _NamedCursor(connection))

    @contextmanager
    def write(self, wait_seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield the writing connection inside BEGIN IMMEDIATE; commit at the end, roll back on any error.

        It waits for its turn after other processes: *wait_seconds* at most if given.
        """
        with SHIELD.up(), self._mutex:
            if self._depth:
                yield self._open_writer()
                return
            try:
                if self._lock is not None:
                    self._lock.acquire(wait_seconds)
                yield from self._immediate()
            finally:
                if self._lock is not None:
                    self._lock.release()

    def _immediate(self) -> Iterator[sqlite3.Connection]:
        connection = self._open_writer()
        try:  # an interrupt from the keyboard may come after any of these
            connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise translate(error, self.path) from error
            raise
        finally:
            self._depth = 0

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a snapshot; within a writing transaction of this thread, that one."""
        if self.in_memory or self.is_writing():
            with self.write() as connection:
                yield connection
            return
        try:
            with SHIELD.up():
                yield from self._snapshot()
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        connection = self._open_reader()
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def is_writing(self) -> bool:
        """Return whether this thread is inside a writing transaction."""
        return self._depth > 0 and self._mutex._is_owned()  # type: ignore[attr-defined]

    def data_version(self) -> int:
        """Return SQLite's counter of other connections' commits, as the writer's connection sees it."""
        with self._mutex:
            try:
                return int(self._open_writer().execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect()
            self._writer.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        return self._writer

    def _open_reader(self) -> sqlite3.Connection:
        connection = getattr(self._readers, "connection", None)
        if connection is None:
            if not Path(self.path).exists():
                raise StorageUnavailable(f"there is no ledger at {self.path}; `workledger db init` makes one")
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._readers.connection = connection
            self._all_readers.append(connection)
        return cast(sqlite3.Connection, connection)

    def _connect(self) -> sqlite3.Connection:
        if not self.in_memory:
            refuse_network_file_system(Path(self.path))
        try:
            connection = sqlite3.connect(
                self.path,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
                timeout=BUSY_SECONDS,
            )
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        """Set and assert what durability rests on: write-ahead log, fsync at every commit."""
        if self.in_memory:
            return
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and tables:
            raise StorageUnavailable(f"{self.path} is an SQLite database of another program, not a ledger")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous = FULL")
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode.lower() != "wal" or synchronous != 2:
            raise StorageUnavailable(
                f"{self.path}: journal mode {mode} and synchronous {synchronous} cannot be made WAL and FULL (2), "
                "which an acknowledged task needs to survive a power failure"
            )

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        if self._pid != os.getpid():
            return
        with self._mutex:
            for connection in (*self._all_readers, *([self._writer] if self._writer else [])):
                connection.close()
            if self._lock is not None:
                self._lock.forget()
            if not self.in_memory:
                self._reset()


class _NamedCursor:
    """A cursor whose rows are found by name, closed over one open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._cursor.row_factory = sqlite3.Row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
