"""Measure what an attempt takes of the machine."""

from __future__ import annotations

import resource
import sys
import time

from ledger.events import Usage

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kibibytes elsewhere


_THREAD = getattr(resource, "RUSAGE_THREAD", None)
"""Linux tells both of a thread in one call: its CPU to the microsecond, and the peak memory of its process."""


class Meter:
    """The CPU of the thread that makes it, from then on; of an async attempt, which shares its thread, none is known."""

    def __init__(self, *, is_async: bool) -> None:
        self._started = None if is_async else _used()[0]

    def read(self) -> Usage:
        """Return what was used until now."""
        cpu_seconds, peak_rss = _used()
        usage = Usage(peak_rss_bytes=peak_rss * RSS_UNIT)
        if self._started is not None:
            usage["cpu_seconds"] = round(cpu_seconds - self._started, 6)
        return usage


def _used() -> tuple[float, int]:
    if _THREAD is None:
        return time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = resource.getrusage(_THREAD)
    return used.ru_utime + used.ru_stime, used.ru_maxrss
