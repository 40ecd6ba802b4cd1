"""Own the SQLite file that the report views are kept in: connections, transactions, and what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.errors import InvalidOption, LedgerError, StorageUnavailable
from ledger.sqlite_connection import translate
from ledger.sqlite_files import use_write_ahead_log
from ledger.statements import statements
from projections.report_store import SCHEMA, DamagedReports
from projections.views import Row

SQL = statements("projections", "sql/sqlite/report/meta.sql")
BUSY_SECONDS = 60.0
SCRATCH = ""
"""The path of a database of SQLite's own that is gone when it is closed; what does not fit in memory goes to disk."""


def report_path(store_path: str) -> str:
    """Return where the reports of the ledger file *store_path* are: ``work.db`` has ``work.reports.db``."""
    if store_path == ":memory:":
        return store_path
    path = Path(store_path)
    return str(path.with_name(f"{path.stem}.reports{path.suffix or '.db'}"))


class FileUnit:
    """One open transaction on the report file (see `projections.report_store.ReportUnit`)."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        return self._connection.execute(sql, parameters).fetchall()

    def stream(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Row]:
        """Return the rows of a query one after the other, within this transaction."""
        return iter(self._connection.execute(sql, parameters))

    def columns(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[str, ...]:
        """Return the names of what a query gives."""
        return tuple(item[0] for item in self._connection.execute(sql, parameters).description or ())

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute one statement."""
        self._connection.execute(sql, parameters)

    def run_many(self, sql: str, rows: Iterable[Row]) -> None:
        """Execute one statement for each of *rows*."""
        self._connection.executemany(sql, rows)

    def tables(self) -> list[str]:
        """Return the names of all tables: the file is for them alone."""
        return [row[0] for row in self.rows(SQL["all_tables"])]

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table in their order."""
        return tuple(row[0] for row in self.rows(SQL["columns_of"], (table,)))

    def make(self, create: str) -> None:
        """Make a table."""
        self.run(create)

    def put_in_place(self, new: str, name: str) -> None:
        """Put the table *new* in the place of another; readers go on with the snapshot that they have."""
        self.run(SQL["drop_table"].format(table=name))
        self.run(SQL["rename_table"].format(table=new, name=name))


class ReportFile:
    """The file at *path*; an object belongs to one thread (see `projections.report_store.ReportStore`)."""

    dialect = FileUnit.dialect
    schema = SCHEMA
    look_seconds = 0.5
    rest = 0.0  # a process of low priority does all the work, and takes what others leave

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def write(self) -> Iterator[FileUnit]:
        """Begin a transaction that may write: all of it is stored, or nothing.

        Raises:
            StorageUnavailable: The file cannot be used now.

            DamagedReports: It is no intact database.
        """
        with self._translated():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield FileUnit(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self, tables: Sequence[str] = ()) -> Iterator[FileUnit]:
        """Begin a transaction that only reads, all of it of one moment; within one of this object's, that one."""
        with self._translated():
            connection = self._open()
            if connection.in_transaction:
                yield FileUnit(connection)
                return
            connection.execute("BEGIN")
            try:
                yield FileUnit(connection)
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> LedgerError:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return DamagedReports(
                f"{self.path} is no intact database; it holds nothing but views: `projection rebuild` makes it anew"
            )
        return translate(error, self.path)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
            try:
                if self.path == SCRATCH:
                    connection.execute("PRAGMA journal_mode = OFF")
                else:
                    use_write_ahead_log(connection, BUSY_SECONDS)
                # What a power failure takes is folded again.
                connection.execute(f"PRAGMA synchronous = {'NORMAL' if self.path != SCRATCH else 'OFF'}")
            except BaseException:
                connection.close()
                raise
            connection.execute("PRAGMA case_sensitive_like = ON")  # as elsewhere
            connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages: the same ones are met again and again
            connection.execute("PRAGMA cache_size = -65536")  # KiB: a batch meets rows from all over
            self._connection = connection
        return self._connection

    @contextmanager
    def as_schema(self) -> Iterator[FileUnit]:
        """Open the file only to read it, attached as reporting SQL names it."""
        if self.path == ":memory:":
            raise InvalidOption("the reports of a ledger in memory have no schema of their own; use a file")
        with attached(self.path) as unit:
            yield unit

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Hold the lock of those who follow on this machine; False if another process does."""
        try:
            descriptor = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageUnavailable(f"cannot open {self.path}.lock: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_mine = True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                os.close(descriptor)
                raise
            is_mine = False
        try:
            yield is_mine
        finally:
            os.close(descriptor)

    def exists(self) -> bool:
        """Return whether there is a file, or what stands for one."""
        return self.path in (":memory:", SCRATCH) or Path(self.path).exists()

    def close(self) -> None:
        """Close it; the next use opens it again, but for what is in memory, which stays."""
        if self._connection is not None and self.path != ":memory:":
            self._connection.close()
            self._connection = None

    def delete(self) -> None:
        """Delete the file."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)


@contextmanager
def attached(path: str) -> Iterator[FileUnit]:
    """Open the file at *path* only to read it, with its views under the schema `SCHEMA`, as reporting SQL names them.

    Raises:
        StorageUnavailable: It cannot be read, or the SQL of the caller is wrong; the message is the database's.
    """
    file = Path(path)
    connection = sqlite3.connect(":memory:", isolation_level=None, uri=True, timeout=BUSY_SECONDS)
    try:
        connection.execute(f"ATTACH ? AS {SCHEMA}", (f"{file.resolve().as_uri()}?mode=ro",))
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA case_sensitive_like = ON")  # as elsewhere
        yield FileUnit(connection)
    except sqlite3.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()
