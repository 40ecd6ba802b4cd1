"""See that no attempt leaves its worker's process changed for the next one: restore it, or call the worker unfit.

Directory, umask, environment, locale and timers belong to the whole process, so attempts on other threads see a change
at once. What an attempt leaves changed at its end is restored then, if it was the last to change it. That is known
from Python's own functions, which take note of their caller; what was changed past them is found by looking.
"""

from __future__ import annotations

import faulthandler
import locale
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from ledger.current import current_or_none

LOOK_SECONDS = 0.005
"""How long attempts may end without a look for changes made past Python's functions."""
LOOK_AT_SIGNALS_SECONDS = 0.1
_SIGNALS = ~(0b11 << 31)
"""All but 32 and 33, which the C library keeps for itself and sets when it needs them."""


class Facet(NamedTuple):
    """Something that belongs to the whole process."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was deleted


def _timer() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def _environment() -> dict[Any, Any]:
    copy: dict[Any, Any] = os.environ._data.copy()  # type: ignore[attr-defined]  # by keys it would take 30 times as long
    return copy


def _restore_environment(before: dict[Any, Any]) -> None:
    now = _environment()
    for name in now.keys() - before.keys():
        os.environb.pop(name, None)
    for name, value in before.items():
        if now.get(name) != value:
            os.environb[name] = value


def _signal_handlers() -> tuple[int, ...]:
    """Return which signals are ignored and which are caught, whoever has set that, as the kernel knows it (proc(5))."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
    return tuple(int(line.split()[1], 16) & _SIGNALS for line in lines if line.startswith(("SigIgn:", "SigCgt:")))


_set_umask, _set_directory = os.umask, os.chdir
_FACETS = (
    Facet("directory", _directory, _set_directory),
    Facet("environment", _environment, _restore_environment),
    Facet("locale", lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Facet("timer", _timer, lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)),
)
_CHANGED_BY: dict[str, tuple[tuple[Any, str], ...]] = {
    "directory": ((os, "chdir"), (os, "fchdir")),
    "umask": ((os, "umask"),),
    "environment": ((os, "putenv"), (os, "unsetenv")),
    "locale": ((locale, "setlocale"),),
    "timer": ((signal, "alarm"), (signal, "setitimer")),
    "signal mask": ((signal, "pthread_sigmask"),),
    "signal handlers": ((faulthandler, "register"), (faulthandler, "unregister")),
}


class Notes:
    """Which tasks have changed something of the process, last. Its functions take note for all who have them then."""

    def __init__(self) -> None:
        self.touched: dict[str, str] = {}
        self._is_taken = False

    def take(self) -> None:
        """Have Python's functions take note of the attempts that call them; the sooner, the fewer call past it."""
        if self._is_taken:
            return
        self._is_taken = True
        for name, functions in _CHANGED_BY.items():
            for module, function in functions:
                setattr(module, function, self._noting(name, getattr(module, function)))

    def _noting(self, name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(change)
        def noting(*args: Any, **kwargs: Any) -> Any:
            if (running := current_or_none()) is not None:
                self.touched[name] = running.id
            return change(*args, **kwargs)

        return noting


NOTES = Notes()
"""One for the process, as what it watches is."""


class Hygiene:
    """The process as it was before any attempt, and as it shall be after each. One in a process.

    *say* is called with a task's id and the names of what was restored after it.
    """

    def __init__(self, say: Callable[[str, list[str]], None]) -> None:
        self._say = say
        self._before = {facet.name: facet.read() for facet in _FACETS}
        self._umask = _set_umask(0o077)
        _set_umask(self._umask)
        self._streams = sys.stdout, sys.stderr
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = _signal_handlers()
        self._running: set[str] = set()
        self._touched = NOTES.touched
        self._next_look = self._next_look_at_signals = 0.0
        self._lock = threading.Lock()
        NOTES.take()

    def begin(self, task_id: str) -> None:
        """Take note that an attempt of this task begins in this thread."""
        self._running.add(task_id)

    def end(self, task_id: str, now: float) -> str | None:
        """Restore what the attempt left changed; return why this process should run no other, where that cannot be done.

        *now* is the host's monotonic time. Called in the thread of the attempt, outside of it.
        """
        self._running.discard(task_id)
        if not self._touched and now < self._next_look and self._streams == (sys.stdout, sys.stderr):
            return None
        with self._lock:
            self._next_look = now + LOOK_SECONDS
            left: list[str] = []
            unfit = self._look(task_id, now, left)
        if left:
            self._say(task_id, left)
        return unfit

    def _look(self, task_id: str, now: float, left: list[str]) -> str | None:
        unfit = None
        for facet in _FACETS:
            who = self._touched.get(facet.name)
            if who in self._running:
                continue  # it is that attempt's, and restored at its end
            self._touched.pop(facet.name, None)
            before = self._before[facet.name]
            if facet.read() == before:
                continue
            if who is None and self._running:
                unfit = f"its {facet.name} was changed, and by which of several attempts is not known"
                continue
            facet.restore(before)
            left.append(facet.name)
        self._look_at_umask(left)
        self._look_at_thread(task_id, left)
        if not self._running and self._streams != (sys.stdout, sys.stderr):  # several may redirect it for their time
            sys.stdout, sys.stderr = self._streams
            left.append("standard streams")
        return unfit or self._look_at_signals(now)

    def _look_at_umask(self, left: list[str]) -> None:
        if self._touched.get("umask") in self._running:
            return
        self._touched.pop("umask", None)
        if _set_umask(self._umask) != self._umask:  # there is no way to look but to set it
            left.append("umask")

    def _look_at_thread(self, task_id: str, left: list[str]) -> None:
        who = self._touched.get("signal mask")
        if who is None or (who != task_id and who in self._running):
            return
        self._touched.pop("signal mask", None)
        # Each thread has its own.
        if who == task_id and signal.pthread_sigmask(signal.SIG_SETMASK, self._mask) != self._mask:
            left.append("signal mask")

    def _look_at_signals(self, now: float) -> str | None:
        """Only the main thread could restore a handler, and it runs no attempts."""
        if self._touched.pop("signal handlers", None) is None and now < self._next_look_at_signals:
            return None
        self._next_look_at_signals = now + LOOK_AT_SIGNALS_SECONDS
        return None if _signal_handlers() == self._handlers else "how it handles signals was changed"
