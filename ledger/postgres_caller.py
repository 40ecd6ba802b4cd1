"""Queue in the caller's transaction on PostgreSQL: over its own connection, once it is known to lead to the ledger."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from ledger.callers import Caller, positional, refused
from ledger.errors import InvalidOption, StorageUnavailable
from ledger.postgres import PostgresStore
from ledger.postgres_clock import DatabaseClock
from ledger.statements import statements

SQL = statements("ledger", "sql/postgres/caller.sql")
MOST_CHANNEL = 63
Step = tuple[str, Mapping[str, Any]]
Rows = list[tuple[Any, ...]]


class Place(NamedTuple):
    """Where a connection leads to: start of the server in microseconds, the database and the inbox by their numbers."""

    started_us: int
    database: int
    inbox: int | None


_KNOWN: WeakKeyDictionary[Any, dict[str, Place]] = WeakKeyDictionary()
"""Drivers' connections → where they led to, by schema; a connection leads to one database as long as it lives."""


class PsycopgCaller:
    """A connection of psycopg 3."""

    dialect = "postgres"

    def __init__(self, connection: Any) -> None:
        self._connection: psycopg.Connection[Any] = connection
        require_usable(connection)

    @property
    def driver(self) -> object:
        """The connection itself."""
        return self._connection

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Execute a statement; see `ledger.callers.Caller`."""
        try:
            cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
            return cursor.execute(*positional(sql, parameters or {})).fetchall()
        except psycopg.Error as error:
            raise refused(error) from error


def require_usable(connection: Any) -> None:
    """Return if something can be said over a connection of psycopg.

    Raises:
        StorageUnavailable: It is closed, or its transaction has failed.
    """
    if connection.closed:
        raise StorageUnavailable("nothing was queued: the given connection is closed")
    if connection.info.transaction_status == pq.TransactionStatus.INERROR:
        raise StorageUnavailable("nothing was queued: the transaction of the given connection has failed; roll it back")


def checking(store: PostgresStore, driver: object) -> Generator[Step, Rows, None]:
    """Yield what to ask over the caller's connection, until it is known to lead to the ledger; its clock is learnt.

    Raises:
        InvalidOption: It leads elsewhere.
    """
    clock = store.clock
    places = _KNOWN.setdefault(driver, {}) if hasattr(driver, "__weakref__") else {}
    is_fresh = not isinstance(clock, DatabaseClock) or clock.is_fresh()
    found = places.get(store.schema)
    if found is not None and is_fresh:
        return
    own = _own_place(store)
    [(*place, now_us)] = yield SQL["place"].replace('"schema"', f'"{store.schema}"'), {}
    found = Place(*place)
    if found != own:
        what = (
            f"the database has no ledger in schema {store.schema}" if found.inbox is None else "it is another database"
        )
        raise InvalidOption(f"connection does not lead to this ledger, {store.shown}: {what}")
    places[store.schema] = found
    if isinstance(clock, DatabaseClock):
        clock.learn(int(now_us))


def _own_place(store: PostgresStore) -> Place:
    store.prepare()
    asked = SQL["place"].replace('"schema"', f'"{store.schema}"')
    row = store.transactions.ask(lambda connection: store.datastore.ask(connection, asked))
    return Place(*row[:3])


def step_to_put(store: PostgresStore, rows: str) -> Step:
    """Return what puts *rows* into the inbox and wakes the workers at the caller's commit."""
    statement = SQL["put"].replace('"schema"', f'"{store.schema}"').replace("'channel'", f"'{channel(store.schema)}'")
    return statement, {"rows": rows}


def channel(schema: str) -> str:
    """Return the channel on which the workers of a ledger in *schema* listen."""
    return f"workledger_{schema}"[:MOST_CHANNEL]


def check(store: PostgresStore, caller: Caller) -> None:
    """Return if *caller* leads to the ledger.

    Raises:
        InvalidOption: It leads elsewhere.
    """
    if caller.dialect != "postgres":
        raise InvalidOption(f"connection is not one to PostgreSQL, where this ledger is: {store.shown}")
    steps = checking(store, caller.driver)
    try:
        step = next(steps)
        while True:
            step = steps.send(caller.execute(*step))
    except StopIteration:
        return


def put(store: PostgresStore, caller: Caller, rows: str) -> None:
    """Write *rows* in the caller's transaction."""
    caller.execute(*step_to_put(store, rows))


async def acheck(store: PostgresStore, connection: Any) -> None:
    """Do as `check` does, over an AsyncConnection of psycopg."""
    require_usable(connection)
    steps = checking(store, connection)
    try:
        step = next(steps)
        while True:
            step = steps.send(await _aexecute(connection, step))
    except StopIteration:
        return


async def aput(store: PostgresStore, connection: Any, rows: str) -> None:
    """Write *rows* in the transaction of an AsyncConnection of psycopg."""
    await _aexecute(connection, step_to_put(store, rows))


async def _aexecute(connection: Any, step: Step) -> Rows:
    try:
        cursor: psycopg.AsyncCursor[Any] = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        return await (await cursor.execute(*positional(*step))).fetchall()
    except psycopg.Error as error:
        raise refused(error) from error
