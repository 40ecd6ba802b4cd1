"""Keep an exception that one thread raises in another out of the ledger's transactions, which it would leave half open."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Shield:
    """The threads of this process that must not be disturbed just now."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[int] = set()

    @contextmanager
    def up(self) -> Iterator[None]:
        """Let nothing be raised in this thread by `raise_in` until the end; re-entrant."""
        me = threading.get_ident()
        if me in self._threads:
            yield
            return
        try:
            # What was raised before is met here at the latest: Python looks for it after each call.
            with self._lock:
                self._threads.add(me)
            yield
        finally:
            self._threads.discard(me)

    def is_up(self) -> bool:
        """Return whether this thread must not be disturbed just now."""
        return threading.get_ident() in self._threads

    def raise_in(self, thread: int, kind: type[BaseException]) -> bool:
        """Raise *kind* in a thread at its next instruction, unless it is shielded; return whether that was done."""
        with self._lock:
            if thread in self._threads:
                return False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
            return True


SHIELD = Shield()
"""One for all ledgers, since a thread may use several."""
