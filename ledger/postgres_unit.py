"""Speak to PostgreSQL inside one transaction: read the log and the tables beside it, append, bring rows forward."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from psycopg import Cursor
from psycopg.errors import UniqueViolation

from ledger.codec import EventMapper
from ledger.errors import Conflict
from ledger.events import Event
from ledger.postgres_arrays import columns
from ledger.postgres_connection import LedgerConnection
from ledger.postgres_order import Order
from ledger.postgres_ranges import NEWEST, Range, between, is_whole, ranges_of
from ledger.statements import Statement, statements
from ledger.store import RawEvent, Recorded

SQL = statements("ledger", "sql/postgres/events.sql")
DIALECT = "postgres"
Row = tuple[Any, ...]


class Tracking(NamedTuple):
    """The library's statements on checkpoints."""

    read: Any
    move: Any


class PostgresReader(ABC):
    """What snapshots and units share: reading over one connection (see `ledger.store.Snapshot`)."""

    def __init__(self, mapper: EventMapper, tracking: Tracking, order: Order) -> None:
        self._mapper = mapper
        self._tracking = tracking
        self._order = order

    @property
    @abstractmethod
    def _connection(self) -> LedgerConnection: ...

    def _query(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return self._connection.execute(sql, parameters, binary=True).fetchall()

    def events_before(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events before *position*, newest first; *position* is at most one past the head."""
        return self._query(SQL["events_before"], (position, limit))

    def _between(self, after: int, upto: int, limit: int) -> list[RawEvent]:
        return self._query(SQL["events_between"], (after, upto, limit))

    def stream(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of one stream with their positions."""
        return [Recorded(raw[0], self.decode(raw)) for raw in self._query(SQL["stream"], (stream, after))]

    def last(self, stream: str) -> Event | None:
        """Return the newest event of *stream*."""
        found = self._query(SQL["last_of_stream"], (stream,))
        return self.decode(found[0]) if found else None

    def decode(self, raw: RawEvent) -> Event:
        """Return the event of a stored one."""
        return self._mapper.decode(raw[1], raw[2], raw[3], raw[4], raw[0])

    def checkpoint(self, view: str) -> int:
        """Return the position up to which *view* has folded."""
        [(found,)] = Cursor(self._connection).execute(self._tracking.read, (view,)).fetchall()
        return int(found or 0)

    def passed(self, view: str) -> list[Range]:
        """Return the ranges above the checkpoint of *view* that its rows contain already."""
        return self._passed(view, self.checkpoint(view))

    def _passed(self, view: str, checkpoint: int) -> list[Range]:
        return [(first, last) for first, last in self._query(SQL["passed"], (view, checkpoint))]

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        return self._query(*adapted(sql, parameters))


class PostgresSnapshot(PostgresReader):
    """One consistent view, begun by the first question.

    What is asked first decides how: after a question about one stream the log as a whole cannot be read; anything else
    first waits until nothing can come below the newest position.
    """

    def __init__(
        self,
        mapper: EventMapper,
        tracking: Tracking,
        order: Order,
        begin: Callable[[bool], tuple[LedgerConnection, int | None]],
        ask_time: Callable[[], datetime],
    ) -> None:
        super().__init__(mapper, tracking, order)
        self._begin = begin
        self._ask_time = ask_time
        self._now: datetime | None = None
        self._open: LedgerConnection | None = None
        self._horizon: int | None = None

    @property
    def now(self) -> datetime:
        """The database's clock, read once."""
        if self._now is None:
            self._now = self._ask_time()
        return self._now

    @property
    def _connection(self) -> LedgerConnection:
        if self._open is None:
            self._open, _ = self._begin(False)
        return self._open

    def passed(self, view: str) -> list[Range]:
        """Return the ranges above the checkpoint of *view* that its rows contain already: those can be read too."""
        found = super().passed(view)
        self._horizon = max([self._settled(), *(last for _, last in found)])
        return found

    def _settled(self) -> int:
        if self._open is None:
            self._open, self._horizon = self._begin(True)
        if self._horizon is None:
            raise RuntimeError("this snapshot began with one stream; ask it for the head first to read the log too")
        return self._horizon

    def head(self) -> int:
        """Return the newest position below which nothing is missing that may still come."""
        return self._settled()

    def checkpoint(self, view: str) -> int:
        """Return the position up to which *view* has folded."""
        if self._open is None:
            self._settled()
        return super().checkpoint(view)

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return all rows of a query."""
        if self._open is None:  # what is asked of views is often asked of what they have not folded yet, too
            self._settled()
        return super().rows(sql, parameters)

    def events_after(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events after *position*."""
        return self._between(position, self._settled(), limit)

    def events_before(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events before *position*, newest first."""
        return super().events_before(min(position, self._settled() + 1), limit)


class PostgresUnit(PostgresReader):
    """One open transaction that may write (see `ledger.store.Unit`)."""

    def __init__(
        self,
        mapper: EventMapper,
        tracking: Tracking,
        order: Order,
        connection: LedgerConnection,
        now: datetime,
        *,
        is_shared: bool = False,
    ) -> None:
        super().__init__(mapper, tracking, order)
        self._open = connection
        self._is_shared = is_shared
        self.now = now
        self.pid = os.getpid()
        self.lost: Conflict | None = None
        self.transaction: int | None = None
        """Its id, once it has appended."""
        self.first: Event | None = None
        """The first event it has appended."""
        self._head: int | None = None
        self._read = 0
        self._own: list[int] = []

    @property
    def _connection(self) -> LedgerConnection:
        return self._open

    def head(self) -> int:
        """Return the newest position that this unit knows of, though others append meanwhile.

        That is its own, else how far it has read, else what is found when it asks the first time.
        """
        if self._own:
            return self._own[-1]
        if self._head is None:
            self._head = self._order.settle(self._open)
        return self._head

    def events_after(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events after *position*; at a gap, wait for whoever may still fill it."""
        found = self._order.events_after(self._open, position, limit, self._between)
        self._read = max(self._read, found[-1][0] if found else position)
        if self._head is None and len(found) < limit:
            self._head = found[-1][0] if found else position
        return found

    def append(self, events: Sequence[Event]) -> list[int]:
        """Append *events*; see `ledger.store.Unit.append`."""
        if not events:
            return []
        rows = encoded(self._mapper, events)
        try:
            [(stored, self.transaction, _)] = self._query(*appending(rows))
            if stored is None:
                return positions_of(rows, self._query(SQL["events_at"], versions(rows)))
        except UniqueViolation as error:
            self.lost = Conflict(error.diag.message_primary or str(error))
            raise self.lost from error
        except Conflict as conflict:
            self.lost = conflict
            raise
        self.first = self.first or events[0]
        self._own += stored
        return list(stored)

    def move_checkpoint(self, view: str, position: int) -> None:
        """Record that *view* has folded up to *position*; a position already recorded changes nothing."""
        if self._own and self._own[0] <= position > self._read:
            raise RuntimeError("others may have appended among a unit's own events: read them, or `pass_own`")
        self._move(view, position)

    def _move(self, view: str, position: int) -> None:
        Cursor(self._open).execute(self._tracking.move, {"application_name": view, "notification_id": position})
        self.run(SQL["forget_passed"], (view, position))

    def unfolded(self, view: str, limit: int) -> tuple[list[RawEvent], int]:
        """Return events after the checkpoint of *view* that were not passed; at a gap, wait for whoever may fill it."""
        checkpoint = self.checkpoint(view)
        settled = self._order.settled  # before reading: what another thread finds settled later may be missing here
        passed = self._passed(view, checkpoint)
        found = self._in_ranges(between(passed, checkpoint), limit)
        upto = self._reached(checkpoint, passed, found, limit)
        if upto > settled and not is_whole(passed, [raw[0] for raw in found], checkpoint, upto):
            self._order.settle(self._open)
            passed = self._passed(view, checkpoint)
            found = self._in_ranges(between(passed, checkpoint, upto), limit)
            upto = found[-1][0] if len(found) == limit else upto
        self._read = max(self._read, upto)
        return found, upto

    def _reached(self, checkpoint: int, passed: list[Range], found: list[RawEvent], limit: int) -> int:
        if len(found) == limit:
            return found[-1][0]
        return max([checkpoint, *(last for _, last in passed), *(raw[0] for raw in found[-1:])])

    def _in_ranges(self, ranges: list[Range], limit: int) -> list[RawEvent]:
        return self._query(SQL["events_in_ranges"], (*columns(ranges), limit)) if ranges else []

    def pass_own(self, view: str) -> None:
        """Pass own events: the checkpoint moves over those that follow it at once, others are noted as ranges."""
        if not self._own:
            return
        checkpoint = self.checkpoint(view)
        ranges = ranges_of(position for position in self._own if position > checkpoint)
        if ranges and ranges[0][0] == checkpoint + 1 and not self._is_shared:
            self._move(view, ranges.pop(0)[1])
        if ranges:
            self._open.execute(SQL["pass"], (view, *columns(ranges)))

    def unpass(self, view: str) -> None:
        """Have all that was passed folded after all."""
        self.run(SQL["forget_passed"], (view, NEWEST))

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement and return the count of rows touched."""
        return self._open.execute(*adapted(sql, parameters)).rowcount

    def insert_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute an INSERT over ``unnest`` for all *rows* in one step: its parameters are the columns."""
        if rows:
            self._open.execute(native(sql), columns(rows))


def encoded(mapper: EventMapper, events: Sequence[Event]) -> list[Row]:
    """Return (stream, version, topic, state) of each event."""
    return [mapper.encode(event) for event in events]


def appending(rows: list[Row]) -> tuple[Statement, Sequence[Any]]:
    """Return the statement that appends *rows*, and its parameters."""
    return (SQL["append_one"], rows[0]) if len(rows) == 1 else (SQL["append"], columns(rows))


def versions(rows: Sequence[Row]) -> Sequence[Any]:
    """Return the columns that `events_at` is asked for *rows*."""
    return columns([row[:2] for row in rows])


def positions_of(rows: list[Row], found: list[Row]) -> list[int]:
    """Return where *rows*, which could not all be stored now, are stored: by an earlier commit of unknown end.

    *found* is what is stored at their streams and versions.

    Raises:
        Conflict: It is not all of *rows*, to the byte.
    """
    stored = {(stream, version): (position, state) for stream, version, position, state in found}
    for stream, version, _, state in rows:
        if stored.get((stream, version), (0, state))[1] != state:
            raise Conflict(f"stream {stream} has a version {version} already; somebody else was first")
    if len(stored) < len(rows):  # a part of them is no append that was acknowledged
        raise Conflict(f"{len(stored)} of {len(rows)} events are in the log already")
    return [stored[row[0], row[1]][0] for row in rows]


_NAMED = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
_NATIVE: dict[tuple[str, str, str], Statement] = {}


def native(sql: str) -> str:
    """Return the statement of this dialect for a named one; in SQL of one's own, ``?`` becomes ``$1``, ``$2``, …"""
    if not isinstance(sql, Statement):
        return _numbered(sql)
    key = (sql.package, sql.path, sql.name)
    if (found := _NATIVE.get(key)) is None:
        found = _NATIVE[key] = sql.in_dialect(DIALECT)
    return found


@cache
def _numbered(sql: str) -> str:
    numbers = count(1)
    first, *rest = sql.split("?")
    return first + "".join(f"${next(numbers)}{part}" for part in rest)


def adapted(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Return *sql* in this dialect and *parameters* as the driver takes them.

    Truth becomes 0 and 1, a row the columns where the statement takes columns, ``:name`` a number.
    """
    text = native(sql)
    if isinstance(parameters, Mapping):
        text, names = _by_number(text)
        parameters = [parameters[name] for name in names]
    values = [int(one) if one is True or one is False else one for one in parameters]
    return text, columns([values]) if "FROM unnest(" in text else values


@cache
def _by_number(sql: str) -> tuple[str, tuple[str, ...]]:
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = _NAMED.sub(number, sql)
    return text, tuple(names)
