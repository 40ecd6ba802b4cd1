"""Keep the log in one SQLite file: the library's recorder, made append-only, ordered and durable."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteCursor, SQLiteProcessRecorder

from ledger.clock import Clock
from ledger.codec import EventMapper
from ledger.errors import Conflict, InvalidOption, StorageUnavailable
from ledger.events import Event
from ledger.open_units import remembered
from ledger.sqlite_connection import APPLICATION_ID, LedgerDatastore, translate
from ledger.statements import statements
from ledger.store import RawEvent, Recorded
from ledger.values import shown

SQL = statements("ledger", "sql/sqlite/events.sql")
OUTPUT_SQL = statements("ledger", "sql/sqlite/output.sql")
PRUNING_SQL = statements("ledger", "sql/sqlite/pruning.sql")
INBOX_SQL = statements("ledger", "sql/sqlite/inbox.sql")
SCHEMA_VERSION = 4
_ROWS_PER_STEP = (256, 64, 16, 4, 1)
_CREATE = ("create_events", "refuse_update", "refuse_delete", "refuse_replace", "create_readable")


class LedgerRecorder(SQLiteProcessRecorder):
    """The library's recorder with positions in a column of their own and triggers that refuse every change."""

    def __init__(self, datastore: LedgerDatastore) -> None:
        super().__init__(datastore)
        self.insert_events_statement = SQL["insert_event"]

    def construct_create_table_statements(self) -> list[str]:
        """Return our log's statements, then the library's table of checkpoints."""
        tracking = super().construct_create_table_statements()[1:]
        return [
            *(SQL[name] for name in _CREATE),
            OUTPUT_SQL["create_output"],
            PRUNING_SQL["create_attempts"],
            INBOX_SQL["create_inbox"],
            INBOX_SQL["index_inbox"],
            *tracking,
        ]

    def _insert_events(
        self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        c.execute(SQL["head"])
        head = int(c.fetchone()[0])
        positions = range(head + 1, head + 1 + len(rows))
        c.executemany(SQL["insert_event"], [(n, *row) for n, row in zip(positions, rows, strict=True)])
        if (tracking := kwargs.get("tracking")) is not None:
            self._insert_tracking(c, tracking)
        return positions


class SqliteUnit:
    """One open transaction on the log and on the tables beside it (see `ledger.store.Unit`)."""

    def __init__(self, connection: sqlite3.Connection, mapper: EventMapper, recorder: LedgerRecorder, now: datetime):
        self.now = now
        self._connection = connection
        self._mapper = mapper
        self._recorder = recorder
        self._head: int | None = None
        self.lost: Conflict | None = None

    def head(self) -> int:
        """Return the newest position."""
        if self._head is None:
            self._head = int(self._connection.execute(SQL["head"]).fetchone()[0])
        return self._head

    def append(self, events: Sequence[Event]) -> list[int]:
        """Append *events*; see `ledger.store.Unit.append`."""
        head = self.head()
        encode = self._mapper.encode
        rows = [(position, *encode(event)) for position, event in enumerate(events, head + 1)]
        try:
            self.insert_many(SQL["insert_event"], rows)
        except sqlite3.IntegrityError as error:
            return self._read_back(rows, error)
        self._head = head + len(rows)
        return [row[0] for row in rows]

    def _read_back(self, rows: list[tuple[Any, ...]], error: sqlite3.IntegrityError) -> list[int]:
        # A commit whose answer was lost may have stored these very events: the same command and bytes are ours.
        positions = []
        for position, stream, version, _, state in rows:
            stored = self._connection.execute(SQL["event_at"], (stream, version)).fetchone()
            if stored is not None and stored[0] != position:
                if bytes(stored[1]) != state:
                    self.lost = Conflict(f"stream {stream} has a version {version} already; somebody else was first")
                    raise self.lost from error
                positions.append(int(stored[0]))
        if len(positions) < len(rows):  # a part of them is no append that was acknowledged
            self.lost = Conflict(f"{len(positions)} of {len(rows)} events are in the log already")
            raise self.lost from error
        return positions

    def events_after(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events after *position*."""
        return self._connection.execute(SQL["events_after"], (position, limit)).fetchall()

    def events_before(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events before *position*, newest first."""
        return self._connection.execute(SQL["events_before"], (position, limit)).fetchall()

    def stream(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of one stream with their positions."""
        found = self._connection.execute(SQL["stream"], (stream, after)).fetchall()
        return [Recorded(raw[0], self.decode(raw)) for raw in found]

    def last(self, stream: str) -> Event | None:
        """Return the newest event of *stream*."""
        raw = self._connection.execute(SQL["last_of_stream"], (stream,)).fetchone()
        return None if raw is None else self.decode(raw)

    def decode(self, raw: RawEvent) -> Event:
        """Return the event of a stored one."""
        return self._mapper.decode(raw[1], raw[2], raw[3], raw[4], raw[0])

    def checkpoint(self, view: str) -> int:
        """Return the position up to which *view* has folded."""
        found = self._connection.execute(self._recorder.select_max_tracking_id_statement, (view,)).fetchone()
        return int(found[0] or 0)

    def move_checkpoint(self, view: str, position: int) -> None:
        """Record that *view* has folded up to *position*; a position already recorded changes nothing."""
        parameters = {"application_name": view, "notification_id": position}
        self._connection.execute(self._recorder.insert_tracking_statement, parameters).fetchall()

    def passed(self, view: str) -> list[tuple[int, int]]:
        """Return nothing: the checkpoint moves over what is passed."""
        return []

    def unfolded(self, view: str, limit: int) -> tuple[list[RawEvent], int]:
        """Return at most *limit* events after the checkpoint of *view*, and up to where they are all."""
        checkpoint = self.checkpoint(view)
        found = self.events_after(checkpoint, limit)
        return found, found[-1][0] if found else checkpoint

    def pass_own(self, view: str) -> None:
        """Move the checkpoint to the head: nobody else appends in this transaction's time."""
        self.move_checkpoint(view, self.head())

    def unpass(self, view: str) -> None:
        """Do nothing: nothing is passed above a checkpoint."""

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement and return the count of rows touched."""
        return self._connection.execute(sql, parameters).rowcount

    def insert_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute an INSERT of one row for each of *rows*, many rows a step.

        Between two steps the driver lets other threads of this process run, which may take long and holds up all
        writers of the database: a thousand rows take a dozen steps instead of a thousand.
        """
        done = 0
        while done < len(rows):
            size = next(size for size in _ROWS_PER_STEP if size <= len(rows) - done)
            chunk = rows[done : done + size]
            self._connection.execute(_of_many_rows(sql, size), tuple(chain.from_iterable(chunk)))
            done += size


@cache
def _of_many_rows(insert: str, size: int) -> str:
    head, values = insert.rstrip().rstrip(";").split("VALUES")
    return f"{head}VALUES{','.join([values] * size)}"


class SqliteStore:
    """A log in one SQLite file, or in memory (``memory:``) for tests."""

    schema_version = SCHEMA_VERSION
    can_share = False
    is_gapless = True

    def __init__(self, url: str, clock: Clock, mapper: EventMapper | None = None) -> None:
        self.url = self.shown = url
        self.path = path_of(url)
        self.clock = clock
        self.mapper = mapper or EventMapper()
        self.datastore = LedgerDatastore(self.path)
        self.recorder = LedgerRecorder(self.datastore)
        self._is_prepared = False
        self._unit: SqliteUnit | None = None

    @remembered
    @contextmanager
    def write(self, wait_seconds: float | None = None) -> Iterator[SqliteUnit]:
        """Begin a transaction that may write; makes the log's tables in a new file."""
        if self._unit is not None and self.datastore.is_writing():
            yield self._unit
            return
        if not self._is_prepared:
            self.prepare()
        with self.datastore.write(wait_seconds) as connection:
            self._unit = unit = SqliteUnit(connection, self.mapper, self.recorder, self.clock.now())
            try:
                yield unit
            finally:
                self._unit = None
            if unit.lost is not None:  # caught by the caller: a half-done append must not be committed
                raise unit.lost

    @remembered
    @contextmanager
    def read(self) -> Iterator[SqliteUnit]:
        """Begin a transaction that only reads."""
        if self.datastore.in_memory and not self._is_prepared:
            self.prepare()
        with self.datastore.read() as connection:
            yield SqliteUnit(connection, self.mapper, self.recorder, self.clock.now())

    def prepare(self) -> None:
        """Make the log's tables where they are missing, and refuse a log written by a newer version."""
        with self.datastore.write() as connection:
            try:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version > SCHEMA_VERSION:
                    raise StorageUnavailable(
                        f"{self.path} has schema {version}; this version of workledger knows up to {SCHEMA_VERSION}"
                    )
                if version < SCHEMA_VERSION:
                    for statement in self.recorder.create_table_statements:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
        self._is_prepared = True

    extend = share = catching_up = write
    """One writer at a time: whatever is to be written waits for its turn like any other."""

    def data_version(self) -> int:
        """Return a number that differs after another connection has committed."""
        if not self._is_prepared:
            self.prepare()
        return self.datastore.data_version()

    def watch(self) -> None:
        """Return None: who waits watches the file of `wal_path`."""
        return

    def wal_path(self) -> Path | None:
        """Return the file that every commit writes to, or None in memory."""
        return None if self.datastore.in_memory else Path(self.path + "-wal")

    def damage(self) -> list[str]:
        """Return what SQLite's own check of the file finds."""
        with self.read() as snapshot:
            return [row[0] for row in snapshot.rows(SQL["integrity"]) if row[0] != "ok"]

    def close(self) -> None:
        """Close the connections of this process."""
        self.datastore.close()


def path_of(url: str) -> str:
    """Return the file path of an SQLite *url*: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``memory:``.

    Raises:
        InvalidOption: It is no such URL.
    """
    if url == "memory:":
        return ":memory:"
    if isinstance(url, str) and url.isprintable() and url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        # A task may change the working directory; the ledger's file stays where it was.
        return os.path.abspath(url.removeprefix("sqlite:///"))
    raise InvalidOption(
        f"{shown(url)} is no ledger URL; allowed are sqlite:///relative/path.db, sqlite:////absolute/path.db, "
        "postgresql://user@host/database and memory:"
    )
