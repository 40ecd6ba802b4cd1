"""Choose the store by the URL of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.clock import Clock, SystemClock
from ledger.errors import InvalidOption
from ledger.sqlite import SqliteStore

if TYPE_CHECKING:
    from ledger.postgres import PostgresStore

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


def open_store(url: str, clock: Clock | None = None) -> SqliteStore | PostgresStore:
    """Return the store of *url*, which does no I/O; without *clock* its own tells the time.

    Raises:
        InvalidOption: It is no URL of a ledger, or the driver for it is not installed.
    """
    if not isinstance(url, str) or not url.startswith(POSTGRES_SCHEMES):
        return SqliteStore(url, clock or SystemClock())
    try:
        from ledger.postgres import PostgresStore  # its driver is an extra
    except ImportError as error:
        raise InvalidOption(f"a ledger on PostgreSQL needs `pip install workledger[postgres]` ({error})") from error
    return PostgresStore(url, clock)
