"""Be the library's recorder over the ledger's log on PostgreSQL: appending and following go the ledger's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import IntegrityError, Notification, StoredEvent, Subscription, Tracking
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresProcessRecorder
from psycopg import RawCursor
from psycopg.rows import tuple_row

from ledger.postgres_arrays import columns
from ledger.postgres_connection import LedgerDatastore
from ledger.postgres_order import Order
from ledger.statements import statements
from ledger.store import RawEvent

SQL = statements("ledger", "sql/postgres/events.sql")


class LedgerRecorder(PostgresProcessRecorder):
    """The library's recorder with an append that makes nobody wait, and readers that skip nothing all the same."""

    def __init__(self, datastore: LedgerDatastore, order: Order) -> None:
        super().__init__(datastore)
        self._order = order

    def create_table(self) -> None:
        """Do nothing: the store makes the tables."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append and return the positions, together with the checkpoint of *tracking* if that is given."""
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        tracking: Tracking | None = kwargs.get("tracking")
        with self.datastore.transaction(commit=True) as cursor:
            positions: list[int] | None = None
            if rows:
                raw = RawCursor(cursor.connection, row_factory=tuple_row).execute(SQL["append"], columns(rows))
                [(positions, _, _)] = raw.fetchall()
                if positions is None or len(positions) < len(rows):
                    raise IntegrityError("a stream has such a version already")
            if tracking is not None:
                self._insert_tracking(cursor, tracking=tracking)
        return positions

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return notifications in order, none left out that may still come."""
        after = (start or 0) - (1 if start is not None and inclusive_of_start else 0)
        found: list[Notification] = []
        with self.datastore.transaction() as cursor:
            connection = cursor.connection
            while len(found) < limit:
                raws = self._read(connection, after, limit)
                for raw in raws:
                    if (stop is None or raw[0] <= stop) and (not topics or raw[3] in topics) and len(found) < limit:
                        found.append(Notification(raw[1], raw[2], raw[3], bytes(raw[4]), raw[0]))
                if len(raws) < limit or (stop is not None and raws[-1][0] >= stop):
                    break
                after = raws[-1][0]
        return found

    def _read(self, connection: Any, after: int, limit: int) -> list[RawEvent]:
        def between(after: int, upto: int, limit: int) -> list[RawEvent]:
            cursor = RawCursor(connection, row_factory=tuple_row)
            return cursor.execute(SQL["events_between"], (after, upto, limit), binary=True).fetchall()

        return self._order.events_after(connection, after, limit, between)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[PostgresApplicationRecorder]:
        """Refuse: appending sends no notification; pull with `select_notifications`."""
        raise NotImplementedError("the ledger's recorder is pulled: select_notifications")
