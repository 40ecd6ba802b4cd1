"""Mint identifiers: time-ordered UUIDs (RFC 9562, version 7) as text."""

from __future__ import annotations

import os
import threading
from datetime import datetime

from ledger.clock import to_us
from ledger.errors import InvalidOption
from ledger.values import shown

TASK_PREFIX = "task:"


def task_stream(task_id: str) -> str:
    """Return the stream of the task with this id, whether there is one or not.

    Raises:
        InvalidOption: No database could hold such an id.
    """
    if not isinstance(task_id, str) or not task_id.isprintable():
        raise InvalidOption(f"a task id is {shown(task_id)}; allowed is the text that enqueue gave")
    return TASK_PREFIX + task_id


class IdMint:
    """Make version 7 UUIDs that increase within this process, also within one millisecond.

    Forty-two bits follow the time as a counter that starts at random (RFC 9562, section 6.2, method 1), the last
    32 are random: index inserts stay local and two processes do not meet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0

    def mint(self, now: datetime) -> str:
        """Return a new id whose time is *now* (aware UTC), or just after the last one made."""
        milliseconds = to_us(now) // 1000
        random = int.from_bytes(os.urandom(10), "big")
        with self._lock:
            if milliseconds > self._milliseconds:
                self._milliseconds = milliseconds
                self._counter = random >> 39  # 41 of 42 bits: room to count up
            else:
                self._counter += 1 + (random >> 72)
                if self._counter >> 42:
                    self._milliseconds += 1
                    self._counter = 0
            milliseconds, counter = self._milliseconds, self._counter
        return _text(milliseconds, counter, random & 0xFFFFFFFF)


def _text(milliseconds: int, counter: int, tail: int) -> str:
    high = (milliseconds << 16) | 0x7000 | (counter >> 30)
    low = (0b10 << 62) | ((counter & 0x3FFFFFFF) << 32) | tail
    digits = f"{high:016x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


mint = IdMint().mint
