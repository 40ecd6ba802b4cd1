"""Remember the transactions that an attempt begins, so that one which its task leaves open does not outlive it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from ledger.current import Current, current_or_none
from ledger.errors import TransactionLeftOpen

P = ParamSpec("P")
T = TypeVar("T")


class OpenUnit(AbstractContextManager[T]):
    """A transaction of the attempt *running*: on its list for as long as it is open."""

    def __init__(self, running: Current, inner: AbstractContextManager[T]) -> None:
        self._running = running
        self._inner = inner
        self._thread = 0

    def __enter__(self) -> T:
        unit = self._inner.__enter__()
        self._thread = threading.get_ident()
        self._running.__dict__.setdefault("open_units", []).append(self)  # of threads that are first, one makes it
        return unit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        self._running.__dict__["open_units"].remove(self)
        return self._inner.__exit__(kind, error, trace)

    def roll_back(self, error: TransactionLeftOpen) -> bool:
        """Undo what was not committed; False if another thread has begun it, which alone can end it."""
        if self._thread != threading.get_ident():
            return False
        self.__exit__(type(error), error, error.__traceback__)
        return True


def remembered(begin: Callable[P, AbstractContextManager[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Have a store's method that begins transactions note those of attempts; others pass untouched."""

    @wraps(begin)
    def noting(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        running = current_or_none()
        inner = begin(*args, **kwargs)
        return inner if running is None else OpenUnit(running, inner)

    return noting


def roll_back_open(running: Current) -> TransactionLeftOpen | None:
    """Undo the transactions that *running* has left open in this thread; return what to say of it, if there were any."""
    if not running.open_units:
        return None
    error = TransactionLeftOpen(
        "the task ended inside a transaction of the ledger that it had begun; it was rolled back, and the attempt has failed"
    )
    # Of transactions one inside the other the innermost was begun last.
    found = [unit.roll_back(error) for unit in reversed(running.open_units)]
    return error if any(found) else None
