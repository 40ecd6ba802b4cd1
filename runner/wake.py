"""Wait without working: until a time, a commit by somebody else, or a nudge from this process."""

from __future__ import annotations

import math
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from ledger.store import Store, Watch

POLL_SECONDS = 0.25
LISTENING_POLL_SECONDS = 2.0
"""Between looks of one who is told of commits, in case that a word was lost."""
LOOK_AGAIN_SECONDS = (0.01, 0.05, 0.25)
"""After it has begun to rest: a commit that looked for those who rest before may still be under way."""
LISTEN_AGAIN_SECONDS = 5.0
CONFIRM_SECONDS = 0.008
CONFIRM_STEP_SECONDS = 0.0005
DOUBT_SECONDS = 5.0
"""How long a write that the watch has told of is asked after: on a busy disk its commit takes longer than the above."""


class Wake:
    """An interruptible wait for one worker.

    A file watch on the write-ahead log tells of commits; `PRAGMA data_version` confirms them, asked again for a few
    milliseconds because the watch fires before the fsync. A store that tells of commits itself is listened to. Where
    there is neither the version is polled. Making one does no I/O on the database.
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
        self._ear: Watch | None = None
        self._listen_at = 0.0

    def nudge(self) -> None:
        """End the wait of the other thread now, or its next one at once. Safe in signal handlers."""
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            pass  # nudged often enough already

    def close(self) -> None:
        """Close what it waits on; it cannot be used any more."""
        for descriptor in (self._read, self._write):
            os.close(descriptor)
        for watch in (self._watch, self._ear):
            if watch is not None:
                watch.close()

    def wait(self, seconds: float, *, for_commits: bool) -> bool:
        """Return after *seconds*, a nudge or, if *for_commits*, somebody else's commit: whether it was that."""
        if self._ear is not None and self._ear.is_lost:
            self._ear = None  # it is polled until there is another
        if for_commits and self._ear is not None:
            return self._listen(self._ear, time.monotonic() + seconds)
        deadline = time.monotonic() + seconds
        waited = [self._read]
        if for_commits and self._watch is not None:
            waited.append(self._watch.fileno())
        while (left := deadline - time.monotonic()) > 0:
            is_polling = for_commits and (self._watch is None or time.monotonic() < self._doubtful_until)
            ready = _readable(waited, min(left, POLL_SECONDS) if is_polling else left)
            if self._read in ready:
                self._drain()
                return False
            if for_commits and (ready or is_polling) and self._has_committed(is_written=bool(ready)):
                return True
        return False

    def _listen(self, ear: Watch, deadline: float) -> bool:
        """Wait as `wait` does, told of commits by *ear*."""
        ear.rest()
        began = time.monotonic()
        looks = [began + seconds for seconds in (0.0, *LOOK_AGAIN_SECONDS)]
        try:
            while not ear.is_lost and (now := time.monotonic()) < deadline:
                if now >= looks[0]:
                    looks = looks[1:] or [now + LISTENING_POLL_SECONDS]
                    if self._store.data_version() != self._version:
                        return True
                    continue
                ready = _readable([self._read, ear.fileno()], min(deadline, looks[0]) - now)
                if self._read in ready:
                    self._drain()
                    return False
                if ready and ear.has_heard():
                    return True
        finally:
            ear.rise()
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
        if self._ear is not None:
            self._ear.has_heard()
        elif time.monotonic() >= self._listen_at:
            self._listen_at = time.monotonic() + LISTEN_AGAIN_SECONDS
            self._ear = self._store.watch()
        self._version = self._store.data_version()
        if self._watch is not None:
            self._watch.read(timeout=0)


def _readable(waited: list[int], seconds: float) -> list[int]:
    """Return those of *waited* that can be read, at the latest after *seconds*; their numbers may be of any size."""
    poll = select.poll()
    for descriptor in waited:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(math.ceil(seconds * 1000))]


def _watch(wal: Path | None) -> Any:
    if wal is None or not sys.platform.startswith("linux") or not wal.exists():
        return None
    from inotify_simple import INotify, flags

    watch = INotify()
    watch.add_watch(str(wal), flags.MODIFY)
    return watch
