"""Keep the log in a schema of a PostgreSQL database: many processes on many machines, one order of events."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from ledger.clock import Clock
from ledger.codec import EventMapper
from ledger.errors import InvalidOption, StorageUnavailable
from ledger.events import Event
from ledger.open_units import remembered
from ledger.postgres_address import address_of
from ledger.postgres_clock import DatabaseClock
from ledger.postgres_connection import LedgerConnection, LedgerDatastore, translate
from ledger.postgres_order import Order
from ledger.postgres_recorder import LedgerRecorder
from ledger.postgres_transactions import Transactions
from ledger.postgres_unit import PostgresSnapshot, PostgresUnit, Tracking
from ledger.postgres_watch import Watch
from ledger.shield import SHIELD
from ledger.statements import statements

SQL = statements("ledger", "sql/postgres/events.sql")
OUTPUT_SQL = statements("ledger", "sql/postgres/output.sql")
PRUNING_SQL = statements("ledger", "sql/postgres/pruning.sql")
DELIVERIES_SQL = statements("ledger", "sql/postgres/deliveries.sql")
INBOX_SQL = statements("ledger", "sql/postgres/inbox.sql")
SCHEMA_VERSION = 2
_CREATE = (
    "create_sequence",
    "create_events",
    "create_tracking",
    "create_passed",
    "create_refusal",
    "refuse_change",
    "create_readable",
    "create_keys",
    "create_wake",
    "create_append",
    "create_append_one",
    "create_version",
)
_YES = ("1", "y", "yes", "t", "true", "on")


class PostgresStore:
    """A log in one schema of a PostgreSQL database; making one does no I/O.

    Units that read and write take turns, in all processes, by an advisory lock, which those of `share` take together;
    appending alone (`extend`) waits for nobody. *clock* is for tests: without it the database's is asked.
    """

    schema_version = SCHEMA_VERSION
    can_share = True
    is_gapless = False

    def __init__(self, url: str, clock: Clock | None = None, mapper: EventMapper | None = None) -> None:
        if os.environ.get("POSTGRES_ENABLE_DB_FUNCTIONS", "").lower() in _YES:
            raise InvalidOption(
                "POSTGRES_ENABLE_DB_FUNCTIONS is set: the functions it turns on append without the lock by which "
                "readers find out what may still come, so events would be skipped; unset it"
            )
        self.url = url
        self.address = address_of(url)
        self.shown = self.address.shown
        self.clock: Clock = clock or DatabaseClock()
        self.mapper = mapper or EventMapper()
        self.schema = self.address.schema
        self.datastore = LedgerDatastore(self.address)
        self.order = Order(self.datastore)
        self.recorder = LedgerRecorder(self.datastore, self.order)
        self.transactions = Transactions(self.datastore, self.clock, self.mapper)
        self._tracking = Tracking(self.recorder.max_tracking_id_statement, self.recorder.insert_tracking_statement)
        self._is_prepared = self._is_there = False
        self._local = threading.local()

    @property
    def path(self) -> str:
        """Where on this machine files beside the ledger belong, such as copies of the folded log."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workledger"
        cache.mkdir(parents=True, exist_ok=True)
        place = [self.address.parameters.get(name) for name in ("host", "hostaddr", "port", "dbname")]
        digest = hashlib.sha256(repr([*place, self.address.schema]).encode()).hexdigest()
        return str(cache / f"{self.address.schema}-{digest[:16]}.db")

    @remembered
    @contextmanager
    def write(self, wait_seconds: float | None = None) -> Iterator[PostgresUnit]:
        """Begin a transaction that may write, in its turn; makes the log's tables in a new schema."""
        if (unit := self._own_unit()) is not None:
            yield unit
            return
        if not self._is_prepared:
            self.prepare()
        with self._turn(wait_seconds) as script, self._unit(script, is_shared=False) as unit:
            yield unit

    @contextmanager
    def share(self) -> Iterator[PostgresUnit]:
        """Begin a transaction that may write beside others begun so; it waits for none but those of `write`."""
        if not self._is_prepared:
            self.prepare()
        with self._unit(SQL["share"], is_shared=True) as unit:
            yield unit

    @contextmanager
    def catching_up(self) -> Iterator[PostgresUnit | None]:
        """Begin a transaction beside those of `share` that alone catches the views up; None where another one does.

        Its commit does not wait for the disk: what it folds is in the log, and who builds on it waits for both.
        """
        with self.share() as unit:
            if not unit.rows(SQL["catch_up_alone"])[0][0]:
                yield None
                return
            unit.run("SET LOCAL synchronous_commit = off")
            yield unit

    @contextmanager
    def _unit(self, script: str, *, is_shared: bool) -> Iterator[PostgresUnit]:
        with SHIELD.up(), self.transactions.begun("BEGIN", script) as (connection, now):
            unit = PostgresUnit(self.mapper, self._tracking, self.order, connection, now, is_shared=is_shared)
            self._local.unit = unit
            try:
                yield unit
            finally:
                self._local.unit = None
            if unit.lost is not None:  # caught by the caller: a half-done append must not be committed
                raise unit.lost
            self.transactions.commit(connection, unit)

    @contextmanager
    def _turn(self, wait_seconds: float | None) -> Iterator[str]:
        """Wait among the threads of this process; yield what to say to wait among all processes."""
        mutex = self.datastore.turn
        if not mutex.acquire(timeout=-1 if wait_seconds is None else wait_seconds):
            raise StorageUnavailable(f"{self.shown}: other writers of this process held it for {wait_seconds:.3g} s")
        try:
            limit = 0 if wait_seconds is None else max(int(wait_seconds * 1000), 1)
            yield f"SET LOCAL lock_timeout = {limit}; {SQL['turn']}; SET LOCAL lock_timeout = 0"
        finally:
            mutex.release()

    def _own_unit(self) -> PostgresUnit | None:
        unit: PostgresUnit | None = getattr(self._local, "unit", None)
        return unit if unit is not None and unit.pid == os.getpid() else None

    @contextmanager
    def extend(self) -> Iterator[PostgresUnit | Extension]:
        """Begin an append that depends on nothing read: it waits for nobody. Inside a unit of this thread, that one."""
        if (unit := self._own_unit()) is not None:
            yield unit
            return
        if not self._is_prepared:
            self.prepare()
        with SHIELD.up():
            is_known = not isinstance(self.clock, DatabaseClock) or self.clock.is_fresh()
            yield Extension(self.transactions, self.clock.now() if is_known else self.transactions.present())

    @remembered
    @contextmanager
    def read(self) -> Iterator[PostgresUnit | PostgresSnapshot]:
        """Begin a transaction that only reads, with the first question asked; within a unit of this thread, that one.

        Who asks about one stream first cannot read the log as a whole then, and waits for nobody.
        """
        if (unit := self._own_unit()) is not None:
            yield unit
            return
        if not self._is_there:
            self._require()
        begun: list[LedgerConnection] = []

        def begin(settled: bool) -> tuple[LedgerConnection, int | None]:
            head = self.transactions.ask(self.order.settle) if settled else None
            connection, _ = self.transactions.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            begun.append(connection)
            return connection, head

        try:
            with SHIELD.up():
                yield PostgresSnapshot(self.mapper, self._tracking, self.order, begin, self.transactions.present)
        except psycopg.Error as error:
            raise translate(error, self.shown) from error
        finally:
            for connection in begun:
                self.transactions.end(connection)

    def prepare(self) -> None:
        """Make the schema and the log's tables where they are missing; refuse those of a newer version or of others."""
        with SHIELD.up():
            if not self.transactions.ask(lambda connection: self.datastore.ask(connection, SQL["is_made"])[0]):
                self._make()
            version = self.transactions.ask(lambda connection: self.datastore.ask(connection, SQL["schema_version"])[0])
            if version < SCHEMA_VERSION:
                self._upgrade()
        if version > SCHEMA_VERSION:
            raise StorageUnavailable(
                f"{self.shown} has schema {version}; this version of workledger knows up to {SCHEMA_VERSION}"
            )
        self._is_prepared = self._is_there = True

    def _make(self) -> None:
        schema = self.address.schema
        with self.transactions.begun("BEGIN") as (connection, _):
            connection.execute(SQL["prepare_lock"], (schema,))
            tables, is_made = connection.execute(SQL["contents"], (schema,)).fetchone() or (None, False)
            if is_made:  # by another process, while this one waited
                return
            if tables is None:
                connection.execute(f'CREATE SCHEMA "{schema}"')
            elif tables:
                raise StorageUnavailable(
                    f"{self.shown}: schema {schema} has tables of another program; give the ledger one of its own "
                    "(?schema=name)"
                )
            for name in _CREATE:
                connection.execute(SQL[name], prepare=False)
            connection.execute(OUTPUT_SQL["create_output"])
            connection.execute(PRUNING_SQL["create_attempts"])
            connection.execute(DELIVERIES_SQL["create_deliveries"])
            connection.execute(INBOX_SQL["create_inbox"])
            connection.execute(INBOX_SQL["index_inbox"])
            connection.execute("COMMIT")

    def _upgrade(self) -> None:
        """Add what schemas of older versions lack; whoever does it second changes nothing."""
        with self.transactions.begun("BEGIN") as (connection, _):
            connection.execute(SQL["prepare_lock"], (self.address.schema,))
            for statement in (INBOX_SQL["create_inbox"], INBOX_SQL["index_inbox"], SQL["create_version"]):
                connection.execute(statement)
            connection.execute("COMMIT")

    def _require(self) -> None:
        if not self.transactions.ask(lambda connection: self.datastore.ask(connection, SQL["is_made"])[0]):
            with self.transactions.begun("BEGIN READ ONLY") as (connection, _):
                is_closed = _answer(connection, SQL["is_closed"], (self.schema,))
            raise StorageUnavailable(
                f"{self.shown}: the role of the URL may not look into schema {self.schema}; `workledger db grants` says "
                "what a role needs"
                if is_closed
                else f"there is no ledger at {self.shown}; `workledger db init` makes one"
            )
        self._is_there = True

    def data_version(self) -> int:
        """Return a number that differs after events were committed."""
        if not self._is_prepared:
            self.prepare()
        statement = SQL["data_version"].replace('"schema"', f'"{self.schema}"')
        return int(self.transactions.ask(lambda connection: _answer(connection, statement)))

    def watch(self) -> Watch | None:
        """Return what hears of commits, for the caller to close; None where none can be had now."""
        return Watch.open(self.datastore)

    def wal_path(self) -> None:
        """Return None: there is no file to watch."""
        return

    def damage(self) -> list[str]:
        """Return what is wrong with the database beneath the events, as sentences."""
        with self.transactions.begun("BEGIN READ ONLY") as (connection, _):
            is_refused = _answer(connection, SQL["is_change_refused"])
        return [] if is_refused else ["the trigger that refuses changes of events is missing or disabled"]

    def close(self) -> None:
        """Close the connections of this process."""
        self.datastore.close()


class Extension:
    """What may be done in `PostgresStore.extend`: append once."""

    def __init__(self, transactions: Transactions, now: datetime) -> None:
        self._transactions = transactions
        self.now = now

    def append(self, events: Sequence[Event]) -> list[int]:
        """Append *events* atomically and return their positions; all of it is durable then."""
        return self._transactions.append(events) if events else []


def _answer(connection: LedgerConnection, sql: str, parameters: Sequence[object] = ()) -> Any:
    [(answer,)] = connection.execute(sql, parameters).fetchall()
    return answer
