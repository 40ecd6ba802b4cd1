"""Hear of commits on PostgreSQL: a connection that listens, and shows appenders that somebody rests and wants to be told.

Telling costs every commit that does so a lock of the whole server, so appenders tell only while a worker rests: it holds
a shared advisory lock for that time, over the listening connection, and an appender looks whether there is one. This
is the only thing that rests on the state of a session; where a pooler stands between, there is no watch and workers poll.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from psycopg import Connection

from ledger.errors import StorageUnavailable
from ledger.postgres_address import channel_of
from ledger.postgres_connection import LedgerDatastore, is_lost
from ledger.statements import statements

SQL = statements("ledger", "sql/postgres/events.sql")


class Watch:
    """One process's ear."""

    def __init__(self, datastore: LedgerDatastore, connection: Connection[Any]) -> None:
        self._datastore = datastore
        self._connection = connection
        self._is_resting = False

    @classmethod
    def open(cls, datastore: LedgerDatastore) -> Watch | None:
        """Return a watch, or None where none can be had: the server is away, or a pooler answers for it."""
        try:
            connection = datastore.new_connection()
        except (StorageUnavailable, psycopg.Error):
            return None
        with suppress(StorageUnavailable, psycopg.Error):
            if connection.prepare_threshold is not None:  # else no session is ours for long
                connection.execute(f'LISTEN "{channel_of(datastore.schema)}"')
                return cls(datastore, connection)
        connection.close()
        return None

    @property
    def is_lost(self) -> bool:
        """Whether it will hear nothing any more."""
        return is_lost(self._connection)

    def fileno(self) -> int:
        """Return what becomes readable when there is something to hear."""
        return self._connection.fileno()

    def has_heard(self) -> bool:
        """Return whether somebody has told of a commit since it was last asked; also when the connection is lost."""
        try:
            return bool(list(self._connection.notifies(timeout=0)))
        except psycopg.Error:
            self.close()
            return True

    def rest(self) -> None:
        """Have appenders tell from now on. Who rests looks once more whether there was a commit before it waits."""
        self._say("rest", is_resting=True)

    def rise(self) -> None:
        """Spare appenders the telling."""
        self._say("rise", is_resting=False)

    def _say(self, name: str, *, is_resting: bool) -> None:
        if self.is_lost or self._is_resting is is_resting:
            return
        try:
            self._datastore.ask(self._connection, SQL[name])
            self._is_resting = is_resting
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Stop listening."""
        self._connection.close()
