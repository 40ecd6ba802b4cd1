"""Copy a ledger's SQLite file while it is written to, and prove the copy before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import Conflict, InvalidOption, StorageFull, StorageUnavailable
from ledger.sqlite import SQL, SqliteStore
from ledger.sqlite_connection import translate

BATCH = 2_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made: where, and what it holds. *sha256* is that of every event in order, as stored."""

    path: str
    events: int
    bytes: int
    sha256: str


def back_up(store: SqliteStore, file: str | Path, *, force: bool = False) -> Backup:
    """Copy the ledger of *store* to *file*, as it is at one moment. Writers go on meanwhile.

    The copy is made beside *file*, checked (its structure, and its log against the ledger's), brought to the disk and
    then renamed: whatever happens, *file* is the old one, a whole new one, or not there.

    Raises:
        InvalidOption: The ledger is in memory, or *file* is the ledger itself.

        Conflict: *file* exists and *force* is not set, or a program has it open as a database.

        StorageUnavailable: It cannot be written, or the copy is not equal to the ledger.
    """
    if store.datastore.in_memory:
        raise InvalidOption("a ledger in memory cannot be backed up")
    target = Path(os.path.abspath(file))
    _refuse(store, target, force=force)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with _translated(partial):
            done = _copy(store, partial)
            _sync(partial)
            if target.exists() and not force:  # it came while the copy was made
                raise Conflict(f"{target} exists; --force replaces it")
            os.replace(partial, target)
            _sync(target.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{partial}{suffix}").unlink(missing_ok=True)
    return Backup(str(target), done[0], target.stat().st_size, done[1])


def _refuse(store: SqliteStore, target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise StorageUnavailable(f"there is no directory {target.parent} to write {target.name} into")
    if target.is_dir():
        raise Conflict(f"{target} is a directory; name a file")
    if target.exists():
        if os.path.samefile(target, store.path):
            raise InvalidOption(f"{target} is the ledger itself; name another file")
        if not force:
            raise Conflict(f"{target} exists; --force replaces it")
    # A write-ahead log that belongs to the old file would be applied to the new one: that is damage.
    if Path(f"{target}-wal").exists():
        raise Conflict(f"{target} is in use as a database, or was not closed ({target.name}-wal lies beside it)")


def _copy(store: SqliteStore, partial: Path) -> tuple[int, str]:
    """Copy one snapshot, and return the count and the digest of its events, which are those of the copy."""
    partial.unlink(missing_ok=True)
    with store.datastore.read() as source:
        events, ours = _digest(source)  # its first look fixes the snapshot; the copy is of the same
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            source.backup(copy)
    # Not opened read-only: SQLite then looks at no row, only at pages (seen with 3.40).
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        said = [row[0] for row in copy.execute(SQL["integrity"])]
        copied, theirs = _digest(copy)
    if said != ["ok"] or (copied, theirs) != (events, ours):
        why = said[0] if said != ["ok"] else f"it has {copied} events, the ledger {events}"
        raise StorageUnavailable(f"the copy is not equal to the ledger and was deleted ({why}); `db check` tells more")
    return events, ours


def _digest(connection: sqlite3.Connection) -> tuple[int, str]:
    """Return how many events the log has, and the SHA-256 of their columns in order."""
    digest, position, count = hashlib.sha256(), 0, 0
    while rows := connection.execute(SQL["events_after"], (position, BATCH)).fetchall():
        for number, stream, version, topic, state in rows:
            digest.update(f"{number}\0{stream}\0{version}\0{topic}\0{len(state)}\0".encode())
            digest.update(state if isinstance(state, bytes) else str(state).encode())
        position, count = rows[-1][0], count + len(rows)
    return count, digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else StorageUnavailable
        raise kind(f"{path}: {error.strerror}") from error
