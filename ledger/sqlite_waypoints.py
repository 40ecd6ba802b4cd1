"""Keep copies of the folded log beside the ledger, so that a jump into a long log need not begin at its beginning.

A copy is a cache and nothing more: it counts only where this version of the code has folded it, whole by its digest, and made
of this very log; anybody may delete the file, and `db check --deep` folds the log anew to compare.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger import codec, control_rules, limits, moments, retry, schedule, task, world
from ledger.sqlite_files import use_write_ahead_log
from ledger.statements import statements
from ledger.store import Snapshot
from ledger.world import World

SQL = statements("ledger", "sql/sqlite/waypoints.sql")
BUSY_SECONDS = 2.0


class Bound(NamedTuple):
    """How far a jump goes: to a position, and before the first event later than a time (microseconds)."""

    position: int
    at_us: int


def waypoints_path(store_path: str) -> str | None:
    """Return where the copies of the ledger file *store_path* are: ``work.db`` has ``work.travel.db``; None in memory."""
    if store_path == ":memory:":
        return None
    path = Path(store_path)
    return str(path.with_name(f"{path.stem}.travel{path.suffix or '.db'}"))


@cache
def shape() -> str:
    """Return what tells copies that this very code has folded from those of another: a digest of what folds."""
    digest = hashlib.sha256()
    for module in (world, task, retry, schedule, control_rules, limits, moments, codec):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def seal(snapshot: Snapshot, position: int) -> str | None:
    """Return what tells this log from another: the digest of its event at *position*, None where there is none."""
    found = snapshot.events_before(position + 1, 1)
    if not found or found[0][0] != position:
        return None
    return hashlib.sha256(repr((*found[0][:4], bytes(found[0][4]))).encode()).hexdigest()


class Waypoints:
    """The copies of one ledger. Whatever is wrong with the file, there is just no copy then."""

    def __init__(self, store_path: str) -> None:
        self.path = waypoints_path(store_path)

    def best(self, snapshot: Snapshot, bound: Bound) -> World | None:
        """Return the newest copy within *bound* that can be trusted; those that cannot are deleted."""
        upto = bound.position
        while rows := self._rows("newest", (shape(), upto, bound.at_us)):  # one by one: a copy may be large
            position, sealed, digest, body = rows[0]
            found = _checked(position, digest, body) if sealed == seal(snapshot, position) else None
            if found is not None:
                return found
            self._change("delete", (position,))
            upto = position - 1
        return None

    def put(self, snapshot: Snapshot, folded: World) -> None:
        """Keep a copy of *folded*."""
        sealed = seal(snapshot, folded.position)
        if self.path is None or sealed is None:
            return
        body = zlib.compress(orjson.dumps(folded.plain()), 1)
        row = (folded.position, folded.at_us, shape(), sealed, hashlib.sha256(body).hexdigest(), body)
        self._change("put", row)

    def all(self) -> list[tuple[int, World | None]]:
        """Return every copy of this version by position, None for one that is damaged."""
        rows = self._rows("within", (shape(), 2**62, 2**62))
        return sorted((row[0], _checked(row[0], row[2], row[3])) for row in rows)

    def delete(self, position: int) -> None:
        """Delete one copy."""
        self._change("delete", (position,))

    def _rows(self, statement: str, parameters: tuple[object, ...]) -> list[tuple[int, str, str, bytes]]:
        if self.path is None or not Path(self.path).exists():
            return []
        try:
            with self._open() as connection:
                return connection.execute(SQL[statement], parameters).fetchall()
        except sqlite3.Error:
            return []

    def _change(self, statement: str, parameters: tuple[object, ...]) -> None:
        try:
            with self._open() as connection:
                connection.execute(SQL[statement], parameters)
        except (sqlite3.Error, OSError):
            pass  # read-only, full or damaged: the next jump is slow, and right

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        assert self.path is not None
        # Defaults of schedules may have hidden arguments: nobody else reads the file.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)) as connection:
            use_write_ahead_log(connection, BUSY_SECONDS)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(SQL["create"])
            yield connection


def _checked(position: int, digest: str, body: bytes) -> World | None:
    if hashlib.sha256(body).hexdigest() != digest:
        return None
    try:
        found = World.of(orjson.loads(zlib.decompress(body)))
    except (ValueError, TypeError, KeyError, IndexError, zlib.error):
        return None
    return found if found.position == position else None
