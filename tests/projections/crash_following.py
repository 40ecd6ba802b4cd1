"""Follow or rebuild the reports of a ledger in processes in a row: the n-th is killed at its n-th row or statement.

``python crash_following.py URL [VIEW]`` prints how many died before one came to the end; with VIEW it is built anew.
The points are met from outside, by a connection of `sqlite3` or a cursor of `psycopg` that counts.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import psycopg

if TYPE_CHECKING:
    from ledger import Ledger
    from projections.reports import Reports

left = 0


def count() -> None:
    """Pass one point; die at the last."""
    global left  # noqa: PLW0603
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class Connection(sqlite3.Connection):
    """Passes a point at each row and statement that writes."""

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:  # type: ignore[override]
        """Execute as the base class does."""
        if not sql.lstrip().startswith(("SELECT", "PRAGMA", "BEGIN", "ROLLBACK", "--")):
            count()
        return super().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:  # type: ignore[override]
        """Execute as the base class does."""
        return super().executemany(sql, self._counted(rows))

    def _counted(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            count()
            yield row


class ServerCursor(psycopg.RawCursor[Any]):
    """Passes a point at each statement that writes, the COMMIT too."""

    def execute(self, query: Any, *rest: Any, **options: Any) -> Self:
        """Execute as the base class does."""
        if not str(query).lstrip().startswith(("SELECT", "BEGIN", "ROLLBACK", "SET", "--")):
            count()
        return super().execute(query, *rest, **options)


def main(ledger: Ledger, names: list[str]) -> None:
    """Do it in steps of a few events; never returns."""
    code = 1
    try:
        for keeper in Reports(ledger).keepers:
            keeper.start(names)
            while not keeper.step(limit=7, build_limit=7):
                pass
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    sqlite3.connect = partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]
    psycopg.RawCursor = ServerCursor  # type: ignore[misc]
    from ledger import Ledger
    from projections.reports import Reports

    number = 0
    while True:
        number += 1
        left = number
        pid = os.fork()
        if pid == 0:
            main(Ledger(sys.argv[1]), sys.argv[2:])
        _, status = os.waitpid(pid, 0)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    print(number - 1)
