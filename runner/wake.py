"""Wait without working: until a time, a commit by somebody else, or a nudge from this process."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from ledger.store import Store

POLL_SECONDS = 0.25
CONFIRM_SECONDS = 0.008
CONFIRM_STEP_SECONDS = 0.0005
DOUBT_SECONDS = 5.0
"""How long a write that the watch has told of is asked after: on a busy disk its commit takes longer than the above."""


class Wake:
    """An interruptible wait for one worker.

    A file watch on the write-ahead log tells of commits; `PRAGMA data_version` confirms them, asked again for a few
    milliseconds because the watch fires before the fsync. Where there is no inotify the version is polled. Making one
    does no I/O on the database.
    """

    def __init__(self, store: Store, wal: Path | None) -> None:
        self._store = store
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._version = 0
        self._wal = wal
        self._watch: Any = None
        self._doubtful_until = 0.0
        """Until then what was written may still become a commit."""

    def nudge(self) -> None:
        """End the wait of the other thread now, or its next one at once. Safe in signal handlers."""
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            pass  # nudged often enough already

    def wait(self, seconds: float, *, for_commits: bool) -> bool:
        """Return after *seconds*, a nudge or, if *for_commits*, somebody else's commit: whether it was that."""
        deadline = time.monotonic() + seconds
        descriptors = [self._read]
        if for_commits and self._watch is not None:
            descriptors.append(self._watch.fileno())
        while (left := deadline - time.monotonic()) > 0:
            is_polling = for_commits and (self._watch is None or time.monotonic() < self._doubtful_until)
            ready, _, _ = select.select(descriptors, [], [], min(left, POLL_SECONDS) if is_polling else left)
            if self._read in ready:
                self._drain()
                return False
            if for_commits and (ready or is_polling) and self._has_committed(is_written=bool(ready)):
                return True
        return False

    def _drain(self) -> None:
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass

    def _has_committed(self, *, is_written: bool) -> bool:
        end = time.monotonic() + CONFIRM_SECONDS
        if self._watch is not None:
            self._watch.read(timeout=0)
        while (version := self._store.data_version()) == self._version:
            if not is_written:
                return False
            if time.monotonic() >= end:
                self._doubtful_until = end + DOUBT_SECONDS
                return False
            time.sleep(CONFIRM_STEP_SECONDS)
        self._version, self._doubtful_until = version, 0.0
        return True

    def forget_commits(self) -> None:
        """Take what has been committed so far as known: call it before looking at the database.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        if self._watch is None:
            self._watch = _watch(self._wal)
        self._version = self._store.data_version()
        if self._watch is not None:
            self._watch.read(timeout=0)


def _watch(wal: Path | None) -> Any:
    if wal is None or not sys.platform.startswith("linux") or not wal.exists():
        return None
    from inotify_simple import INotify, flags

    watch = INotify()
    watch.add_watch(str(wal), flags.MODIFY)
    return watch
