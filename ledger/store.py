"""State what a store offers: one transaction at a time over an append-only log, whichever database keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ledger.clock import Clock
from ledger.events import Event

HOT_VIEWS = "queue.v1"
"""Name of the checkpoint of the views beside the log, which are caught up together."""


class Recorded(NamedTuple):
    """An event and its position in the log."""

    position: int
    event: Event


RawEvent = tuple[int, str, int, str, bytes]
"""Position, stream, version, topic, state bytes: an event as it is stored."""


class Snapshot(Protocol):
    """One consistent view of the log and of the tables beside it.

    A statement is of whichever dialect the caller has loaded: the store runs that of its own (`ledger.statements`).
    """

    @property
    def now(self) -> datetime:
        """The store's clock, read once when the transaction began; aware UTC."""

    def head(self) -> int:
        """Return the newest position, 0 for an empty log: nothing that is not seen yet will come below it.

        Where others append meanwhile, a unit stays with what it has read itself, or found when it first asked.
        """

    def events_after(self, position: int, limit: int) -> list[RawEvent]:
        """Return at most *limit* stored events after *position*, in order."""

    def events_before(self, position: int, limit: int) -> list[RawEvent]:
        """Return at most *limit* stored events before *position*, newest first."""

    def stream(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of *stream* after version *after*; an unknown stream is empty."""

    def last(self, stream: str) -> Event | None:
        """Return the newest event of *stream*, or None."""

    def decode(self, raw: RawEvent) -> Event:
        """Return the event of a stored one, or raise `CorruptEvent` with its position."""

    def checkpoint(self, view: str) -> int:
        """Return the position up to which *view* has folded, 0 if never."""

    def passed(self, view: str) -> list[tuple[int, int]]:
        """Return the ranges of positions above the checkpoint of *view* whose events its rows contain already."""

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query on tables beside the log."""


class Appender(Protocol):
    """What only appends."""

    @property
    def now(self) -> datetime:
        """The store's clock; aware UTC."""

    def append(self, events: Sequence[Event]) -> list[int]:
        """Append *events* atomically and return their positions.

        Raises:
            Conflict: A stream has such a version already (the transaction is lost), unless the stored events are
                these very ones: then their positions are returned, since an earlier commit of unknown end succeeded.
        """


class Unit(Snapshot, Appender, Protocol):
    """One transaction that may write: all of it is stored, or nothing."""

    def move_checkpoint(self, view: str, position: int) -> None:
        """Record that *view* has folded up to *position*."""

    def unfolded(self, view: str, limit: int) -> tuple[list[RawEvent], int]:
        """Return at most *limit* events after the checkpoint of *view* that were not passed, and up to where they are all."""

    def pass_own(self, view: str) -> None:
        """Pass what this unit appended and brought forward: nobody who catches *view* up will fold it again."""

    def unpass(self, view: str) -> None:
        """Have what was passed above the checkpoint of *view* folded after all: its rows have been made anew."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement on tables beside the log and return the count of rows touched."""

    def insert_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute an ``INSERT … VALUES (…)`` of one row for each of *rows*, many rows a step."""


class Watch(Protocol):
    """What hears of commits while a worker rests."""

    @property
    def is_lost(self) -> bool:
        """Whether it will hear nothing any more."""

    def fileno(self) -> int:
        """Return what becomes readable when there is something to hear."""

    def has_heard(self) -> bool:
        """Return whether it was told of a commit, or is lost."""

    def rest(self) -> None:
        """Begin to be told: look once more whether there was a commit, then wait."""

    def rise(self) -> None:
        """Be told no more."""

    def close(self) -> None:
        """End it."""


class Store(Protocol):
    """A database that keeps a log."""

    url: str
    """As it was given."""
    shown: str
    """The URL as anybody may see it: without password."""
    clock: Clock
    schema_version: int
    """Of the log's tables, as this version makes them."""
    can_share: bool
    """Whether several may work the queue at the same time: see `share`."""
    is_gapless: bool
    """Whether every position up to the head has an event; else one that was rolled back may be missing."""

    @property
    def path(self) -> str:
        """The file, or where on this machine files beside the ledger belong; ``:memory:`` for none."""

    def prepare(self) -> None:
        """Make the log's tables where they are missing.

        Raises:
            StorageUnavailable: They are of a newer version or of another program.
        """

    def write(self, wait_seconds: float | None = None) -> AbstractContextManager[Unit]:
        """Begin a transaction that may write, waiting for its turn; re-entrant within a thread.

        *wait_seconds* bounds the wait for other processes, one of which may be frozen; None: as long as it takes.

        Raises:
            StorageUnavailable: The database cannot be used now; nothing was stored.
        """

    def share(self) -> AbstractContextManager[Unit]:
        """Begin a transaction that may write beside others begun so, but beside none of `write`.

        Its caller locks the rows that it decides from, and leaves those alone that others have locked.
        """

    def catching_up(self) -> AbstractContextManager[Unit | None]:
        """Begin a transaction beside those of `share` that alone catches the views up; None where another one does."""

    def read(self) -> AbstractContextManager[Snapshot]:
        """Begin a transaction that only reads; never waits for writers."""

    def extend(self) -> AbstractContextManager[Appender]:
        """Begin an append that depends on nothing that was read, so need not wait for a turn where others write too."""

    def data_version(self) -> int:
        """Return a number that differs after another connection has committed."""

    def watch(self) -> Watch | None:
        """Return what hears of commits, for the caller to close; None where there is nothing of the kind now."""

    def wal_path(self) -> Path | None:
        """Return the file that every commit writes to, or None."""

    def damage(self) -> list[str]:
        """Return what is wrong with the database beneath the events, as sentences."""

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
