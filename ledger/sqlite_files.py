"""Keep order around one SQLite file: the writers' queue beside it, and the refusal of network file systems."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from ledger.clock import SystemClock
from ledger.errors import StorageFull, StorageUnavailable

CLOCK = SystemClock()
POLL_SECONDS = 0.005
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "gfs2",
        "ocfs2",
        "davfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.davfs2",
        "fuse.rclone",
        "fuse.gcsfuse",
        "virtiofs",
    ]
)


class WriterLock:
    """A blocking file lock that writers queue on before BEGIN IMMEDIATE.

    SQLite's own busy handler polls and is unfair between processes; the kernel's lock queue is not. It is only a
    courtesy: SQLite's lock stays the guarantee. The descriptor is opened after a fork, since a lock belongs to the
    open file and a child would hold its parent's.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self, wait_seconds: float | None = None) -> None:
        """Wait until no other process holds the lock, then hold it; at most *wait_seconds* if given.

        Raises:
            StorageUnavailable: It cannot be opened, or was held by others all that time.
        """
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageUnavailable
                raise kind(f"cannot open the writers' lock {self.path}: {error.strerror}") from error
        if wait_seconds is None:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        else:
            self._poll(self._descriptor, wait_seconds)

    def _poll(self, descriptor: int, wait_seconds: float) -> None:
        deadline = CLOCK.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if CLOCK.monotonic() >= deadline:
                    raise StorageUnavailable(f"other writers held {self.path} for {wait_seconds:.3g} s") from None
                CLOCK.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Let the next writer go on."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def forget(self) -> None:
        """Close the descriptor without unlocking: what a child must do with its parent's lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def use_write_ahead_log(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Give a file its write-ahead log if it has none: of several that make a file at once, one does.

    Raises:
        sqlite3.OperationalError: It is locked by others for all of *wait_seconds*, or cannot be written.
    """
    deadline = CLOCK.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # of two that want the file for themselves SQLite lets neither wait
            if error.sqlite_errorname != "SQLITE_BUSY" or CLOCK.monotonic() >= deadline:
                raise
            CLOCK.sleep(POLL_SECONDS)


def file_system_of(path: Path, mounts: str) -> tuple[str, str]:
    """Return (mount point, type) of the file system that holds *path*, by *mounts* in the form of /proc/mounts."""
    best = ("/", "unknown")
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ")
        holds_path = path == Path(point) or Path(point) in path.parents or point == "/"
        # Later mounts cover earlier ones, and a longer mount point lies nearer to the file.
        if holds_path and len(point) >= len(best[0]):
            best = (point, words[2])
    return best


def refuse_network_file_system(path: Path, mounts: str | None = None) -> None:
    """Raise `StorageUnavailable` if *path* lies on a file system that is shared over a network.

    WAL needs shared memory and locks that work between all users of the file; over a network neither holds.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:  # no /proc on this system: nothing to tell from
            return
    point, kind = file_system_of(path.resolve(), mounts)
    if kind.lower() in NETWORK_FILE_SYSTEMS:
        raise StorageUnavailable(
            f"{path} lies on {point}, a network file system ({kind}): SQLite's write-ahead log and locks are not "
            "safe there; put the ledger on a local disk, or use one machine's file and PostgreSQL for many"
        )
