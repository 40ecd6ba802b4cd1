"""Tell a running task about its own attempt: what `ledger.current()` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from ledger.acts import NewTask
from ledger.clock import from_us
from ledger.errors import NotInTask
from ledger.identities import Principals
from ledger.progress import MOST, Tell, checked
from ledger.signals import DEFAULT_DELAY_SECONDS, Delay

if TYPE_CHECKING:
    from ledger.open_units import OpenUnit

MOST_ACTED_AS = 100
_NO_PRINCIPALS = Principals(None, "system")


class Sink(Protocol):
    """What keeps the text that an attempt prints."""

    def write(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        """Take *text* printed to *stream*."""


class Current:
    """The attempt that runs here: its task, number, identity and what it may ask of its runner."""

    acted_as: Collection[str] = ()
    """The identities that it has taken on by `acting_as`, each once, in order; the first hundred are kept."""
    open_units: Sequence[OpenUnit[Any]] = ()
    """Transactions of the ledger that the attempt has begun and not ended."""
    feeds: Sequence[Callable[[], None]] = ()
    """What brings in, when called, that which child processes have printed by now."""
    is_isolated: bool
    """Whether the attempt has a process of its own."""
    ledger: object
    """The ledger that the attempt runs for."""
    attempts_left: int | None
    """Attempts that may still be used, this one included: 1 is the last; None: without end."""
    printed: int
    """Characters written to standard output and error by this attempt so far."""
    is_replay: bool
    """Whether this repeats an attempt that was recorded before: nothing of it is stored, see `runner.replay`."""

    def __init__(
        self,
        *,
        task_id: str,
        name: str,
        attempt: int,
        run_as: str,
        worker: str,
        attempts_left: int | None = None,
        ledger: object = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        is_lost: Callable[[], bool] = lambda: False,
        open_sink: Callable[[], Sink] | None = None,
        tell: Tell | None = None,
        principals: Principals = _NO_PRINCIPALS,
        is_isolated: bool = False,
        claimed_us: int | None = None,
        is_replay: bool = False,
    ) -> None:
        self.id = task_id
        self.name = name
        self.attempt = attempt
        self.task_run_as = run_as
        """The identity that the task was queued to run as."""
        self.worker = worker
        self.principals = principals
        self.is_isolated, self.is_replay = is_isolated, is_replay
        self._claimed_us = claimed_us
        self.attempts_left = attempts_left
        self.ledger = ledger
        self._is_cancelled, self._is_lost = is_cancelled, is_lost
        self._open_sink = open_sink
        self.opened: Sink | None = None
        """The sink, once this attempt has printed."""
        self._tell = tell
        self._ends: list[Callable[[], None]] = []
        self.printed = 0
        self.children: list[NewTask] = []
        """Tasks enqueued `with_outcome=True`: appended with this attempt's success, and only then."""

    @property
    def run_as(self) -> str:
        """The identity that acts here: that of the innermost `acting_as`, else the task's."""
        acting = _acting.get()
        return acting[1] if acting is not None and acting[0] is self else self.task_run_as

    @property
    def is_acting(self) -> bool:
        """Whether another identity than the task's was taken on here, by `acting_as`."""
        acting = _acting.get()
        return acting is not None and acting[0] is self

    def acting_as(self, user: str) -> AbstractContextManager[None]:
        """Act as *user* until the block is left; see `ledger.acting_as`."""
        return _acting_as(self, user)

    def require_capability(self, name: str, user: str | None = None) -> None:
        """Return if the identity that acts here, or *user*, has the capability *name*.

        Raises:
            CapabilityMissing: It has not.
        """
        self.principals.require(name, self.run_as if user is None else user)

    @property
    def token(self) -> str:
        """The fencing token ``<task id>:<attempt>``; attempts of a task only ever count up."""
        return f"{self.id}:{self.attempt}"

    def now(self) -> datetime:
        """Return when the attempt was claimed, aware UTC: the same however often it is asked, and in a replay.

        For what shall be a function of the record; `Ledger.clock` goes on.

        Raises:
            NotInTask: Nobody has claimed it: it was made by hand, for a test.
        """
        if self._claimed_us is None:
            raise NotInTask("this attempt was not claimed, so that it has no time of its own")
        return from_us(self._claimed_us)

    @property
    def random(self) -> Random:
        """Random numbers that are the same in a replay: seeded by the task's id and the attempt's number."""
        made: Random | None = self.__dict__.get("_random")
        if made is None:  # of its threads one makes it
            made = self.__dict__.setdefault("_random", Random(self.token))
        return made

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this task to end; 30 s later its process is ended."""
        return self._is_cancelled()

    @property
    def lost(self) -> bool:
        """Whether the task may soon be another worker's: it was cut off from the database, or its attempt was ended.

        Set when three quarters of the lease have gone by without a heartbeat, and from then on. A task that looks stops
        before another attempt begins.
        """
        return self._is_lost()

    def sink(self) -> Sink | None:
        """Return where what this attempt prints is kept, opened at the first call; None where it is not kept."""
        if self.opened is None and self._open_sink is not None:
            self.opened = self._open_sink()
        return self.opened

    def use_sink(self, sink: Sink) -> None:
        """Keep what is printed from now on in *sink*."""
        self.opened = sink

    def at_end(self, call: Callable[[], None]) -> None:
        """Have *call* called when the function has returned or raised, before the outcome is made."""
        self._ends.append(call)

    def end(self) -> None:
        """Call what `at_end` was given."""
        for call in self._ends:
            call()

    def delay(self, seconds: float = DEFAULT_DELAY_SECONDS) -> NoReturn:
        """End this attempt and run the task again in *seconds*: the same as ``raise Delay(seconds)``."""
        raise Delay(seconds)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far this attempt is: *done* of *total*, where the total is known.

        As cheap as it is called often: the newest word is kept, stored about once a second and with the outcome.

        Raises:
            InvalidValue: A number is below 0 or none, or *message* is no text.
        """
        if not (
            (type(done) is int or type(done) is float)
            and 0 <= done <= MOST
            and (total is None or ((type(total) is int or type(total) is float) and 0 <= total <= MOST))
            and (message is None or type(message) is str)
        ):
            done, total, message = checked(done, total, message)
        if self._tell is not None:
            self._tell(done, total, message)

    def clear_caches(self, *, reason: str) -> None:
        """Have every worker that has started by now replaced by a new process, this one too: when this attempt ends.

        See `ledger.controls.Controls.clear_caches`.
        """
        ledger: Any = self.ledger
        ledger.controls.clear_caches(reason=reason)

    def trace(self, *values: object) -> None:
        """Write a line to the task's output."""
        print(*values, file=sys.stdout, flush=True)


_current: ContextVar[Current | None] = ContextVar("workledger_current", default=None)
_acting: ContextVar[tuple[Current, str] | None] = ContextVar("workledger_acting", default=None)


def current() -> Current:
    """Return the attempt that runs in this context.

    Raises:
        NotInTask: No task runs here.
    """
    found = _current.get()
    if found is None:
        raise NotInTask("no task runs here; current() is for use inside a task's function")
    return found


current_or_none = _current.get
"""Return the attempt that runs in this context, or None."""


def acting_as(user: str) -> AbstractContextManager[None]:
    """Act as *user* until the block is left, however it is left; in this context and in threads begun inside it.

    Raises:
        NotInTask: No task runs here.

        IdentityNotFound: There is no such identity, or it is not active.
    """
    return current().acting_as(user)


@contextmanager
def _acting_as(running: Current, user: str) -> Iterator[None]:
    running.principals.check(user)
    token = _acting.set((running, user))
    try:
        with running.principals.activate(user):
            taken: dict[str, None] = running.__dict__.setdefault("acted_as", {})  # of its threads one makes it
            if len(taken) < MOST_ACTED_AS:
                taken[user] = None
            yield
    finally:
        _acting.reset(token)


def require_capability(name: str, user: str | None = None) -> None:
    """Return if the identity that acts here, or *user*, has the capability *name*; inside a task.

    Raises:
        NotInTask: No task runs here, so that no ledger's identities can be meant; `Ledger.require_capability` is for there.

        CapabilityMissing: It has not.
    """
    running = _current.get()
    if running is None:
        raise NotInTask("no task runs here; outside a task ask a ledger: ledger.require_capability(name, user=…)")
    running.require_capability(name, user)


set_current = _current.set
reset_current = _current.reset
