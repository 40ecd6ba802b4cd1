"""Own the connections to one PostgreSQL database: checked, pooled, made again when lost, never shared over a fork."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, cast

import psycopg
from eventsourcing.postgres import PostgresDatastore
from psycopg import Connection, Cursor, RawCursor, pq
from psycopg import errors as pg
from psycopg.rows import DictRow, TupleRow, dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from ledger.clock import SystemClock
from ledger.errors import Conflict, LedgerError, StorageFull, StorageUnavailable
from ledger.postgres_address import Address
from ledger.postgres_arrays import teach
from ledger.statements import statements

SQL = statements("ledger", "sql/postgres/events.sql")
CLOCK = SystemClock()
MOST_CONNECTIONS = 16
"""Of one process: its threads beyond these wait for each other."""
PATIENCE_SECONDS = 10.0
"""For a connection, while the server is away or all connections are in use."""
IDLE_SECONDS = 10.0
"""A transaction in which its process does nothing for so long is ended: a frozen one must not hold up the others."""
OLDEST_SERVER = 140_000
Row = tuple[Any, ...]


def translate(error: psycopg.Error, shown: str) -> LedgerError:
    """Return the ledger's error for a driver's *error*; what was not committed is not stored."""
    said = " ".join(str(error).split()) or type(error).__name__
    match error:
        case pg.UndefinedTable() | pg.InvalidSchemaName() | pg.UndefinedFunction():
            return StorageUnavailable(f"there is no ledger at {shown}; `workledger db init` makes one ({said})")
        case pg.DiskFull():
            return StorageFull(f"{shown}: the disk is full; nothing was stored, free some space and try again")
        case pg.LockNotAvailable():
            return StorageUnavailable(f"{shown}: other writers held the ledger for too long")
        case pg.DeadlockDetected() | pg.SerializationFailure():
            return StorageUnavailable(f"{shown}: gave way to another transaction; nothing was stored, try again")
        case pg.ReadOnlySqlTransaction():
            return StorageUnavailable(f"{shown}: this server only reads (a standby, or default_transaction_read_only)")
        case pg.InsufficientPrivilege():
            return StorageUnavailable(f"{shown}: the role of the URL lacks a right: {said}")
        case pg.UniqueViolation() if error.diag.message_primary and error.diag.table_name is None:
            return Conflict(error.diag.message_primary)  # of `append_events`
        case pg.IntegrityError():
            return Conflict(f"{shown}: {said}")
    return StorageUnavailable(f"{shown}: {said}")


def is_lost(connection: Connection[Any]) -> bool:
    """Return whether nothing can be said or heard over *connection* any more."""
    return connection.closed or connection.pgconn.status != pq.ConnStatus.OK


class LedgerConnection(Connection[TupleRow]):
    """A connection that remembers whether it was checked."""

    is_checked = False


class LedgerDatastore(PostgresDatastore):
    """The library's datastore over a pool of our own making, opened at first use.

    Nothing rests on the state of a session: a pooler between may give each transaction another one.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.shown = address.shown
        self.schema = address.schema
        self.single_row_tracking = True
        self.originator_id_type: Literal["text"] = "text"
        self.lock_timeout = 0
        self.enable_db_functions = False
        self.db_type_names: set[str] = set()
        self.psycopg_type_adapters = {}
        self.psycopg_python_types = {}
        self._reset()
        _ALL.add(self)

    def register_type_adapters(self) -> None:
        """Do nothing: appending takes arrays, no composite type of the database's."""

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self.turn = threading.Lock()
        """Held by the thread of this process that waits for its turn among all processes, or has it."""
        self._pool: ConnectionPool[LedgerConnection] | None = None
        self._trouble = ""

    def abandon(self) -> None:
        """Forget the parent's connections after a fork, for ever: to end one here would end the parent's."""
        if self._pool is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pool))
        self._reset()

    def checkout(self, patience: float = PATIENCE_SECONDS) -> LedgerConnection:
        """Return a connection for the caller alone, until `give_back`.

        Raises:
            StorageUnavailable: There is none within *patience* seconds, or the server does not keep what it promises.
        """
        pool = self._opened()
        deadline = CLOCK.monotonic() + patience
        while True:
            try:
                connection = pool.getconn(timeout=patience)
            except PoolTimeout:
                cause = self._trouble or f"all {MOST_CONNECTIONS} connections of this process were in use"
                raise StorageUnavailable(f"{self.shown}: no connection within {patience:g} s: {cause}") from None
            if connection.is_checked:
                return connection
            try:
                self._check(connection)
                return connection
            except BaseException as error:
                # The server may have ended it before its first use; then others in the pool are worth a try.
                is_over = isinstance(error, StorageUnavailable) and is_lost(connection)
                self.give_back(connection)
                if not is_over or CLOCK.monotonic() > deadline:
                    raise
            CLOCK.sleep(0.01)

    def give_back(self, connection: LedgerConnection) -> None:
        """Return a connection that was checked out; one that is lost is replaced."""
        pool: Any = connection._pool  # by now it may be closed
        if pool is not None and not pool.closed:
            pool.putconn(connection)
        else:
            connection.close()

    def _opened(self) -> ConnectionPool[LedgerConnection]:
        with self._mutex:
            if self._pool is None:
                # The first one is made here, so that what is wrong with the URL is said at once.
                try:
                    with self._connect(**self.address.parameters) as first:
                        self._check(first)
                except psycopg.Error as error:
                    raise translate(error, self.shown) from error
                self._pool = self._make_pool()
            return self._pool

    def new_connection(self) -> LedgerConnection:
        """Return a connection beside the pool, checked; the caller closes it.

        Raises:
            StorageUnavailable: There is none.
        """
        try:
            connection: LedgerConnection = self._connect(**self.address.parameters)
        except psycopg.Error as error:
            raise translate(error, self.shown) from error
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_pool(self) -> ConnectionPool[LedgerConnection]:
        datastore = weakref.proxy(self)

        class Reporting(LedgerConnection):
            @classmethod
            def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
                return cast(Self, datastore._connect(conninfo, cls=cls, **kwargs))

        return ConnectionPool(
            connection_class=Reporting,
            kwargs=self.address.parameters,
            min_size=0,
            max_size=MOST_CONNECTIONS,
            max_idle=60.0,
            num_workers=1,
            open=True,
            name=f"workledger-{self.schema}",
        )

    def _connect(self, conninfo: str = "", cls: type[LedgerConnection] = LedgerConnection, **options: Any) -> Any:
        try:
            connection = super(LedgerConnection, cls).connect(
                conninfo, autocommit=True, cursor_factory=RawCursor, **options
            )
        except psycopg.Error as error:
            self._trouble = " ".join(str(error).split())
            raise
        self._trouble = ""
        teach(connection)
        return connection

    def _check(self, connection: LedgerConnection) -> None:
        """Assert what durability rests on, and find out whether a pooler stands between."""
        try:
            found = connection.execute(SQL["server"]).fetchone()
        except psycopg.Error as error:
            raise translate(error, self.shown) from error
        assert found is not None
        fsync, full_page_writes, synchronous_commit, version, pid, encoding = found
        if version < OLDEST_SERVER:
            raise StorageUnavailable(f"{self.shown}: PostgreSQL {version // 10_000} is too old; 14 and newer will do")
        if encoding != "UTF8":
            encoding = encoding.decode() if isinstance(encoding, bytes) else encoding  # as such a database gives text
            raise StorageUnavailable(f"{self.shown}: the database's encoding is {encoding}; a ledger needs UTF8")
        if (fsync, full_page_writes) != ("on", "on") or synchronous_commit == "off":
            raise StorageUnavailable(
                f"{self.shown}: fsync is {fsync}, full_page_writes {full_page_writes}, synchronous_commit "
                f"{synchronous_commit}; an acknowledged task needs the first two on and the third not off"
            )
        if pid != connection.info.backend_pid:  # a pooler answers: its next transaction may be in another session
            connection.prepare_threshold = None
        connection.is_checked = True

    @contextmanager
    def get_connection(self) -> Iterator[Connection[DictRow]]:
        """Yield a connection outside any transaction, with cursors as the library's recorders expect them."""
        connection = cast(Any, self.checkout())
        connection.cursor_factory, connection.row_factory = Cursor, dict_row
        try:
            yield connection
        except psycopg.Error as error:
            raise translate(error, self.shown) from error
        finally:
            connection.cursor_factory, connection.row_factory = RawCursor, tuple_row
            self.give_back(connection)

    def ask(self, connection: Connection[Any], sql: str) -> Row:
        """Return the one row of a query on the ledger's tables, also outside a transaction, in one step."""
        cursor = RawCursor(connection, row_factory=tuple_row).execute(f"{self.preamble}; {sql}", prepare=False)
        while cursor.nextset():
            pass
        [row] = cursor.fetchall()
        return row

    @contextmanager
    def transaction(self, *, commit: bool = False) -> Iterator[Cursor[DictRow]]:
        """Open a transaction in the ledger's schema and yield its cursor."""
        with self.get_connection() as connection, connection.transaction(force_rollback=not commit):
            connection.execute(self.preamble, prepare=False)
            yield connection.cursor()

    @property
    def preamble(self) -> str:
        """What each transaction sets for itself."""
        return f'SET LOCAL search_path = "{self.schema}", pg_temp; ' + (
            f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000:.0f}"
        )

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        pool = getattr(self, "_pool", None)
        if pool is None or self._pid != os.getpid():
            return
        pool.close()
        self._reset()


_ALL: weakref.WeakSet[LedgerDatastore] = weakref.WeakSet()


def _abandon_all() -> None:
    for datastore in list(_ALL):
        datastore.abandon()


os.register_at_fork(after_in_child=_abandon_all)
