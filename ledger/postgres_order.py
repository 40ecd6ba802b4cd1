"""Read the log in the order of positions and skip none, though appenders do not wait for each other.

A position is drawn before its event is committed, so a reader may find 7 while 6 is still to come. Whoever appends holds
a shared advisory lock from before the draw to the end of the transaction. A reader that meets a gap below the highest
position it saw asks who holds that lock, waits until those transactions have ended, and reads again up to there: what
is missing then was drawn by a transaction that has failed, and stays missing. New appenders and transactions of other
programs hold nobody up. (PostgreSQL makes a commit visible before it lets go of the locks.)
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from typing import Any

from psycopg import Connection

from ledger.clock import SystemClock
from ledger.errors import StorageUnavailable
from ledger.postgres_connection import LedgerDatastore
from ledger.postgres_ranges import NEWEST
from ledger.statements import statements
from ledger.store import RawEvent

SQL = statements("ledger", "sql/postgres/events.sql")
CLOCK = SystemClock()
FIRST_PAUSE_SECONDS = 0.0005
LONGEST_PAUSE_SECONDS = 0.02


class Order:
    """What one store knows of the order: up to *settled* whatever is missing stays missing."""

    def __init__(self, datastore: LedgerDatastore) -> None:
        self._datastore = datastore
        self.settled = 0

    def settle(self, connection: Connection[Any]) -> int:
        """Return the newest position, once nothing can come below it any more.

        The connection must not be inside a snapshot: each statement has to see what was committed before it.

        Raises:
            StorageUnavailable: It is a standby, where the appenders' locks cannot be seen.
        """
        head, holders = self._probe(connection)
        pause = FIRST_PAUSE_SECONDS
        while holders and head > self.settled:
            CLOCK.sleep(uniform(pause / 2, pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            # By transaction, not by session: a session that goes on with another transaction draws higher positions.
            holders &= self._probe(connection)[1]
        self.settled = max(self.settled, head)
        return head

    def events_after(
        self,
        connection: Connection[Any],
        position: int,
        limit: int,
        between: Callable[[int, int, int], list[RawEvent]],
    ) -> list[RawEvent]:
        """Return at most *limit* events after *position*, read by *between* (after, up to, limit), none left out."""
        settled = self.settled  # before reading: what another thread finds settled later may be missing here
        found = between(position, NEWEST, limit)
        if not found or found[-1][0] - position == len(found) or found[-1][0] <= settled:
            return found
        top = found[-1][0]
        self.settle(connection)
        return between(position, top, limit)

    def _probe(self, connection: Connection[Any]) -> tuple[int, set[str]]:
        # One statement: its snapshot, in which the head is found, is taken before it looks at the locks.
        is_standby, head, holders = self._datastore.ask(connection, SQL["probe"])
        if is_standby:
            raise StorageUnavailable(
                f"{self._datastore.shown} is a standby, which does not show who is about to append: nobody can follow the log "
                "there without loss; follow it on the primary"
            )
        return head, set(holders)
