"""Pass what attempts print on to the worker's own streams: in batches, from a thread of its own, so that no task waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import TextIO

from ledger.output import Stream

GATHER_SECONDS = 0.01
"""From the first line to the write that takes along what has come since: a system call a line would cost more than most
tasks do."""
MOST_LINES = 1_000
MOST_CHARACTERS = 128 * 1024
"""That may wait for a reader slower than the tasks, beside as many being written; whoever prints more waits too."""


class Echo:
    """Whole lines of attempts, in the order in which they were complete."""

    def __init__(self, streams: Mapping[Stream, TextIO]) -> None:
        self._streams = streams
        self._lines: deque[tuple[Stream, str]] = deque()
        self._is_closing = False
        self._has_some, self._is_pressing = threading.Event(), threading.Event()
        self._taken = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, stream: Stream, text: str) -> None:
        """Have *text* written soon; waits while too much waits already."""
        self._lines.append((stream, text))  # without a lock: tasks on other threads would wait for it
        if not self._has_some.is_set():
            self._has_some.set()
        # What waits is taken to be like this text: a count that several threads keep would need a lock.
        most = min(MOST_LINES, MOST_CHARACTERS // (len(text) + 1))
        if len(self._lines) > most:
            self._wait_until(most // 2)

    def _wait_until(self, lines: int) -> None:
        self._is_pressing.set()
        with self._taken:
            self._taken.wait_for(lambda: len(self._lines) <= lines)

    def close(self, within_seconds: float) -> None:
        """Write what waits; a reader that takes nothing is given up after *within_seconds*."""
        self._is_closing = True
        self._is_pressing.set()
        self._has_some.set()
        self._thread.join(within_seconds)

    def _work(self) -> None:
        while True:
            self._has_some.wait()
            self._is_pressing.wait(GATHER_SECONDS)
            is_last = self._is_closing
            self._has_some.clear()
            self._is_pressing.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            with self._taken:
                self._taken.notify_all()
            for stream, run in groupby(lines, key=itemgetter(0)):
                _write(self._streams[stream], "".join([text for _, text in run]))
            if is_last:
                return


def _write(stream: TextIO, text: str) -> None:
    """Write *text*. That nobody can take it is no failure of a task."""
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except (OSError, ValueError):
        pass
