"""Be a store that reads another one and keeps to itself what is written: what would happen, without its happening."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger.errors import Conflict
from ledger.events import Event
from ledger.store import RawEvent, Recorded, Snapshot, Store, Unit, Watch


class ShadowUnit:
    """A transaction on the log as it is, with *events* after it that are in no log (see `ledger.store.Unit`)."""

    def __init__(self, snapshot: Snapshot, events: list[Event]) -> None:
        snapshot.head()  # asked first: what a snapshot is asked first decides what it can be asked
        self._snapshot = snapshot
        self.events = events

    @property
    def now(self) -> datetime:
        """The clock of the store that is read."""
        return self._snapshot.now

    def head(self) -> int:
        """Return the newest position of the log that is read."""
        return self._snapshot.head()

    def append(self, events: Sequence[Event]) -> list[int]:
        """Keep *events* and return the positions that they would have if nobody else appended.

        Raises:
            Conflict: A stream has such a version already, or would be left with a gap.
        """
        positions = []
        for event in events:
            last = self.last(event.originator_id)
            if event.originator_version != (last.originator_version if last else 0) + 1:
                raise Conflict(f"stream {event.originator_id} has a version {event.originator_version} already")
            self.events.append(event)
            positions.append(self.head() + len(self.events))
        return positions

    def events_after(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events after *position*; what is kept here is not stored."""
        return self._snapshot.events_after(position, limit)

    def events_before(self, position: int, limit: int) -> list[RawEvent]:
        """Return stored events before *position*, newest first."""
        return self._snapshot.events_before(position, limit)

    def stream(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of one stream, those that are kept here too."""
        kept = [
            Recorded(self.head() + number, event)
            for number, event in enumerate(self.events, 1)
            if event.originator_id == stream and event.originator_version > after
        ]
        return [*self._snapshot.stream(stream, after), *kept]

    def last(self, stream: str) -> Event | None:
        """Return the newest event of *stream*."""
        kept = next((event for event in reversed(self.events) if event.originator_id == stream), None)
        return kept or self._snapshot.last(stream)

    def decode(self, raw: RawEvent) -> Event:
        """Return the event of a stored one."""
        return self._snapshot.decode(raw)

    def checkpoint(self, view: str) -> int:
        """Return the position up to which *view* has folded."""
        return self._snapshot.checkpoint(view)

    def passed(self, view: str) -> list[tuple[int, int]]:
        """Return the ranges of positions above the checkpoint of *view* whose events its rows contain already."""
        return self._snapshot.passed(view)

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query on tables beside the log."""
        return self._snapshot.rows(sql, parameters)

    def move_checkpoint(self, view: str, position: int) -> None:
        """Refuse to."""
        raise _refused(f"move the checkpoint of {view} to {position}")

    def unfolded(self, view: str, limit: int) -> tuple[list[RawEvent], int]:
        """Refuse to."""
        raise _refused(f"catch {view} up by {limit} events")

    def pass_own(self, view: str) -> None:
        """Refuse to."""
        raise _refused(f"move the checkpoint of {view}")

    def unpass(self, view: str) -> None:
        """Refuse to."""
        raise _refused(f"make {view} anew")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Refuse to."""
        raise _refused(f"execute a statement with {len(parameters)} values")

    def insert_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Refuse to."""
        raise _refused(f"insert {len(rows)} rows")


def _refused(what: str) -> Conflict:
    return Conflict(f"nothing is written here beside the log: this is a replay, which may not {what}")


class ShadowStore:
    """The store that a replay has in the place of *store*: what is appended is in `events` and nowhere else."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self.events: list[Event] = []
        """What would have been appended, in order."""
        self.url, self.shown, self.clock = store.url, store.shown, store.clock
        self.schema_version, self.is_gapless = store.schema_version, store.is_gapless
        self.can_share = False

    @property
    def beneath(self) -> Store:
        """The store that is read."""
        return self._store

    @property
    def path(self) -> str:
        """The file of the store that is read."""
        return self._store.path

    def prepare(self) -> None:
        """Do nothing: what is read is there."""

    @contextmanager
    def write(self, wait_seconds: float | None = None) -> Iterator[ShadowUnit]:
        """Begin a transaction; what it appends is kept here if it ends well."""
        with self._lock, self._store.read() as snapshot:
            unit = ShadowUnit(snapshot, list(self.events))
            yield unit
            self.events = unit.events

    extend = share = write

    def catching_up(self) -> AbstractContextManager[Unit | None]:
        """Refuse to."""
        raise _refused("catch views up")

    @contextmanager
    def read(self) -> Iterator[ShadowUnit]:
        """Begin a transaction that only reads."""
        with self._store.read() as snapshot:
            yield ShadowUnit(snapshot, list(self.events))

    def data_version(self) -> int:
        """Return a number that differs after another connection has committed."""
        return self._store.data_version()

    def watch(self) -> Watch | None:
        """Hear nothing: nothing is committed here."""
        return None

    def wal_path(self) -> Path | None:
        """Return the file that every commit writes to."""
        return self._store.wal_path()

    def damage(self) -> list[str]:
        """Return what is wrong with the database beneath the events."""
        return self._store.damage()

    def close(self) -> None:
        """Close nothing: the store that is read goes on."""
