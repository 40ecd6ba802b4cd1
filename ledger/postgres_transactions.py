"""Begin and end transactions on PostgreSQL, through lost connections: nothing is doubled, no end stays unknown for long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from random import uniform
from typing import TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import pq

from ledger.clock import Clock, from_us
from ledger.codec import EventMapper
from ledger.errors import StorageUnavailable
from ledger.events import Event
from ledger.postgres_arrays import columns
from ledger.postgres_clock import DatabaseClock
from ledger.postgres_connection import CLOCK, PATIENCE_SECONDS, LedgerConnection, LedgerDatastore, is_lost, translate
from ledger.postgres_unit import PostgresUnit, Row, encoded, positions_of, versions
from ledger.statements import statements

SQL = statements("ledger", "sql/postgres/events.sql")
DOUBT_SECONDS = 30.0
"""How long it is tried to find out what became of a commit whose answer was lost."""
MOST_TRIES = 5
"""Of an append that has to give way to other transactions."""
LOG = logging.getLogger("workledger")
T = TypeVar("T")


class Transactions:
    """Begin, commit and end, on connections of one datastore."""

    def __init__(self, datastore: LedgerDatastore, clock: Clock, mapper: EventMapper) -> None:
        self._datastore = datastore
        self._clock = clock
        self._mapper = mapper

    @contextmanager
    def begun(self, begin: str, script: str = "") -> Iterator[tuple[LedgerConnection, datetime]]:
        """Begin a transaction and roll back at the end what has not been committed; the driver's errors become ours."""
        connection, now = self.begin(begin, script)
        try:
            yield connection, now
        except psycopg.Error as error:
            raise translate(error, self._datastore.shown) from error
        finally:
            self.end(connection)

    def begin(self, begin: str, script: str = "") -> tuple[LedgerConnection, datetime]:
        """Begin a transaction in one step, over another connection if one turns out to be lost.

        The time is read last of all, so after whatever *script* waits for.
        """
        steps = "; ".join(part for part in (begin, self._datastore.preamble, script, SQL["present"]) if part)

        def say(connection: LedgerConnection) -> int:
            cursor = connection.execute(steps, prepare=False)
            while cursor.nextset():
                pass
            [(now_us,)] = cursor.fetchall()
            return int(now_us)

        connection, now_us = self._until_heard(say, PATIENCE_SECONDS)
        return connection, self._heard(now_us)

    def end(self, connection: LedgerConnection) -> None:
        """Roll back what is open, and give the connection back."""
        try:
            if connection.info.transaction_status != pq.TransactionStatus.IDLE and not is_lost(connection):
                connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
        finally:
            self._datastore.give_back(connection)

    def ask(self, question: Callable[[LedgerConnection], T]) -> T:
        """Return the answer to a *question* asked outside any transaction, again if the connection is lost."""
        connection, answer = self._until_heard(question, PATIENCE_SECONDS)
        self._datastore.give_back(connection)
        return answer

    def present(self) -> datetime:
        """Return what the store's clock shows now."""
        if not isinstance(self._clock, DatabaseClock):
            return self._clock.now()
        return self._heard(self.ask(lambda connection: int(self._datastore.ask(connection, SQL["present"])[0])))

    def _heard(self, now_us: int) -> datetime:
        if not isinstance(self._clock, DatabaseClock):
            return self._clock.now()
        self._clock.learn(now_us)
        return from_us(now_us)

    def _until_heard(self, say: Callable[[LedgerConnection], T], seconds: float) -> tuple[LedgerConnection, T]:
        """Return a connection and its answer; what is said must do no harm if it is said twice.

        Raises:
            StorageUnavailable: No answer within *seconds*.
        """
        deadline = CLOCK.monotonic() + seconds
        pause, tries = 0.01, 0
        while True:
            connection = self._datastore.checkout()
            try:
                return connection, say(connection)
            except psycopg.Error as error:
                gave_way = isinstance(error, pg.DeadlockDetected | pg.SerializationFailure)
                tries += gave_way
                is_hopeless = tries >= MOST_TRIES if gave_way else not is_lost(connection)
                if is_hopeless or CLOCK.monotonic() > deadline:
                    self.end(connection)
                    raise translate(error, self._datastore.shown) from error
                LOG.warning("trying again: %s", translate(error, self._datastore.shown))
                self.end(connection)
            except BaseException:
                self.end(connection)
                raise
            CLOCK.sleep(uniform(pause / 2, pause))
            pause = min(pause * 2, 1.0)

    def commit(self, connection: LedgerConnection, unit: PostgresUnit) -> None:
        """Commit *unit*; if the answer is lost, return only when it is known to be stored.

        Raises:
            StorageUnavailable: It is not stored; or nobody can say, which the message does.
        """
        try:
            tag = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if not is_lost(connection) or unit.transaction is None or unit.first is None:
                raise
            if not self._is_stored(unit.transaction, unit.first):
                raise translate(error, self._datastore.shown) from error
            return
        if tag != "COMMIT":
            raise StorageUnavailable(f"{self._datastore.shown}: an error was passed over inside; nothing was stored")

    def _is_stored(self, transaction: int, first: Event) -> bool:
        """Return whether a transaction whose end was not heard of has stored its *first* event."""
        row = self._mapper.encode(first)
        deadline = CLOCK.monotonic() + DOUBT_SECONDS
        pause = 0.01
        while CLOCK.monotonic() < deadline:
            try:
                if not self.ask(lambda connection: _goes_on(connection, transaction)):
                    with self.begun("BEGIN READ ONLY") as (connection, _):
                        found = connection.execute(SQL["events_at"], versions([row]), binary=True).fetchall()
                    return bool(found) and found[0][3] == row[3]
            except StorageUnavailable as error:
                LOG.warning("still to be found out what became of a commit: %s", error)
            CLOCK.sleep(uniform(pause / 2, pause))
            pause = min(pause * 2, 1.0)
        raise StorageUnavailable(
            f"{self._datastore.shown}: the connection was lost while {row[0]} version {row[1]} was committed, and for "
            f"{DOUBT_SECONDS:.0f} s nobody could be asked: it may be stored or not"
        )

    def append(self, events: Sequence[Event]) -> list[int]:
        """Append *events* in a transaction of their own, in one step, and return their positions.

        Lost connections do no harm: said twice, the second finds the first's events stored.

        Raises:
            Conflict: A stream has such a version already; nothing was stored.
        """
        rows = encoded(self._mapper, events)
        say = self._alone(rows[0]) if len(rows) == 1 else self._together(rows)
        connection, (stored, now_us) = self._until_heard(say, DOUBT_SECONDS)
        self._datastore.give_back(connection)
        if stored is not None:
            self._heard(now_us)
            return list(stored)
        with self.begun("BEGIN READ ONLY") as (connection, _):
            return positions_of(rows, connection.execute(SQL["events_at"], versions(rows), binary=True).fetchall())

    def _together(self, rows: Sequence[Row]) -> Callable[[LedgerConnection], tuple[list[int] | None, int]]:
        statement, parameters = self._here(SQL["append"].replace("FROM ", 'FROM "schema".')), columns(rows)

        def say(connection: LedgerConnection) -> tuple[list[int] | None, int]:
            [(stored, _, now_us)] = connection.execute(statement, parameters, binary=True).fetchall()
            return stored, now_us

        return say

    def _alone(self, row: Row) -> Callable[[LedgerConnection], tuple[list[int] | None, int]]:
        statement = self._here(SQL["append_alone"])

        def say(connection: LedgerConnection) -> tuple[list[int] | None, int]:
            try:
                [(position, now_us, _)] = connection.execute(statement, row, binary=True).fetchall()
            except pg.UniqueViolation:
                return None, 0
            return [position], now_us

        return say

    def _here(self, statement: str) -> str:
        return statement.replace('"schema"', f'"{self._datastore.schema}"')


def _goes_on(connection: LedgerConnection, transaction: int) -> bool:
    try:
        [(status,)] = connection.execute(SQL["transaction_status"], (str(transaction),)).fetchall()
    except pg.InvalidParameterValue:  # it is of the future: the server came back without ever having heard of it
        return False
    return bool(status == "in progress")
