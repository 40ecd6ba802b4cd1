"""Measure what an attempt takes of the machine."""

from __future__ import annotations

import resource
import sys
import time

from ledger.events import Usage

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kibibytes elsewhere


class Meter:
    """The CPU of the thread that makes it, from then on; of an async attempt, which shares its thread, none is known."""

    def __init__(self, *, is_async: bool) -> None:
        self._started = None if is_async else time.thread_time()

    def read(self) -> Usage:
        """Return what was used until now."""
        usage = Usage(peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT)
        if self._started is not None:
            usage["cpu_seconds"] = round(time.thread_time() - self._started, 6)
        return usage
