"""Commit from async code: in a thread, with the caller's context, and with no doubt left where the await is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ledger.handle import Task

T = TypeVar("T")


class Gate:
    """What a commit passes at its last moment: until then it can be given up, after that it must be waited for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_passed = self._is_given_up = False

    def enter(self) -> None:
        """Go on, unless it was given up: called before the transaction begins.

        Raises:
            GivenUp: It was.
        """
        if self._is_given_up:
            raise GivenUp

    def leave(self) -> None:
        """Let the transaction be committed: called as the last thing in it.

        Raises:
            GivenUp: It was given up before.
        """
        with self._lock:
            self.enter()
            self._is_passed = True

    def give_up(self) -> bool:
        """Have the transaction rolled back; False if it is being committed already."""
        with self._lock:
            self._is_given_up = not self._is_passed
            return self._is_given_up


class GivenUp(Exception):
    """Rolls back a transaction that nobody waits for any more."""


async def in_thread(commit: Callable[[Gate], T]) -> T:
    """Call *commit* in a thread and return what it returns; it enters and leaves its gate.

    Raises:
        asyncio.CancelledError: The await was cancelled. Nothing was stored, unless it came while the database was
            committing: then that was waited for, and `queued_despite` gives what was returned.
    """
    gate = Gate()
    done = asyncio.get_running_loop().run_in_executor(None, copy_context().run, commit, gate)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if gate.give_up():
            done.add_done_callback(_take_note)
            raise
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:  # once more: it will be raised when the commit has ended
            continue
    error = done.exception()
    if error is not None:
        raise asyncio.CancelledError from error
    raise asyncio.CancelledError(done.result())


def _take_note(done: asyncio.Future[Any]) -> None:
    """Look at what became of a commit that was given up, which asyncio would log as never looked at."""
    if not done.cancelled():
        done.exception()


def queued_despite(cancelled: asyncio.CancelledError) -> list[Task[Any]]:
    """Return the tasks that were queued although the await of `aenqueue` or `aenqueue_many` was cancelled.

    Empty is the rule: nothing was stored then.
    """
    from ledger.handle import Task

    found = cancelled.args[0] if cancelled.args else ()
    tasks = found if isinstance(found, list) else [found]
    return [task for task in tasks if isinstance(task, Task)]
