"""Run claimed attempts on threads, in claim order, with soft timeouts raised inside them."""

from __future__ import annotations

import asyncio
import ctypes
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ledger import commands as c
from ledger.api import Ledger
from ledger.shield import SHIELD
from ledger.signals import TimeLimit
from ledger.task import CANCEL_GRACE_SECONDS
from runner.board import Board
from runner.cycle import Claimed, Finished
from runner.execute import describe, execute, within
from runner.hygiene import Hygiene
from runner.isolation import SERVER_GONE, Bounds, Isolation
from runner.options import RunOptions
from runner.output import Echo
from runner.progress import Latest
from runner.recorder import Recorder

GIVE_BACK_SECONDS = 1.0
"""A claim not begun for so long is given back."""


@dataclass(slots=True)
class Held:
    """One attempt this process holds, from its claim to its recorded outcome."""

    claimed: Claimed
    slot: int
    taken_at: float
    is_begun: bool = False
    is_cancelled: bool = False
    is_lost: bool = False
    """Another worker may be given the task."""
    soft_deadline: float = 0.0
    thread: int = 0
    deadline: float = 0.0
    """When its process is ended, monotonic; 0: never."""
    recorder: Recorder | None = None
    """What it prints, once it has printed."""
    progress: Latest = field(default_factory=Latest)
    is_isolated: bool = False
    """It runs in a process of its own, which alone is ended at its deadline."""


def give_back(held: Held, why: str | None = None) -> Finished:
    """Return the outcome of a claim that was not begun: not in time, or because its worker leaves and *why*."""
    state = held.claimed.state
    cause = "it was not begun in time" if why is None else f"its worker left: {why}"
    return Finished(held.claimed, c.Interrupt(attempt=state.attempt, worker=state.worker or "", cause=cause))


class Pool:
    """Threads that execute held attempts. *nudge* is called when an outcome should be recorded soon.

    A claim older than *give_back_seconds* is not begun but given back. What attempts print is also given to *echo*.
    Those that need processes of their own get them by *isolation*; *hygiene* sees that the others leave nothing behind.
    """

    def __init__(
        self,
        ledger: Ledger,
        board: Board,
        run: RunOptions,
        nudge: Callable[[], None],
        give_back_seconds: float,
        echo: Echo | None = None,
        *,
        isolation: Isolation | None = None,
        hygiene: Hygiene | None = None,
    ) -> None:
        self._echo = echo
        self._isolation = isolation
        self._hygiene = hygiene
        self.unfit: str | None = None
        """Why this process should begin no more attempts: they are given back."""
        self._options = run
        self._give_back_seconds = give_back_seconds
        self._ledger = ledger
        self._board = board
        self._nudge = nudge
        self._todo: deque[Held] = deque()
        self._more: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.done: deque[tuple[Held, Finished]] = deque()
        self.enough = 1
        self._is_announced = self._is_nudged = False
        self.seconds_per_task = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(run.threads)]
        for thread in self._threads:
            thread.start()

    def put(self, attempts: Sequence[Held]) -> None:
        """Hand *attempts* to the threads, to be begun in this order."""
        self._todo.extend(attempts)
        for _ in range(min(len(attempts), len(self._threads) - self._more.qsize())):
            self._more.put(None)

    def is_due(self) -> bool:
        """Return whether the outcomes at hand should be recorded now rather than wait for more."""
        return bool(self.done) and (len(self.done) >= self.enough or not self._todo)

    def take_back(self, older_than: float) -> list[Held]:
        """Return the attempts not begun that were claimed before the monotonic time *older_than*; the rest stay."""
        back: list[Held] = []
        while self._todo and self._todo[0].taken_at < older_than:  # claimed in order: the oldest is first
            try:
                held = self._todo.popleft()
            except IndexError:
                break  # a thread took the last one
            if held.taken_at >= older_than:  # a thread took the one that was looked at
                self._todo.appendleft(held)
                break
            back.append(held)
        return back

    def _work(self) -> None:
        while True:
            try:
                held = self._todo.popleft()
            except IndexError:
                self._more.get()
                continue
            started = time.monotonic()
            if self.unfit is not None:
                self.done.append((held, give_back(held, f"to be replaced: {self.unfit}")))
                self._announce()
                continue
            if held.taken_at < started - self._give_back_seconds:  # this process slept: it may be another's by now
                self.done.append((held, give_back(held)))
                self._announce()
                continue
            finished = self._run(held, started)
            took = time.monotonic() - started
            self.seconds_per_task += (took - self.seconds_per_task) * (0.2 if took < self.seconds_per_task else 0.5)
            self.done.append((held, finished))
            self._announce()

    def _announce(self) -> None:
        """Nudge at the first outcome since the last `take_done`, and once more when enough wait."""
        is_due = not self._is_nudged and self.is_due()
        if is_due or not self._is_announced:
            self._is_announced, self._is_nudged = True, is_due
            self._nudge()

    def is_due_or_will_nudge(self) -> bool:
        """Return as `is_due` does; if not, there will be a nudge at the first outcome, and one when enough wait."""
        self._is_announced, self._is_nudged = bool(self.done), False
        return self.is_due()

    def take_done(self) -> list[tuple[Held, Finished]]:
        """Return the outcomes at hand, which are the caller's from then on."""
        return [self.done.popleft() for _ in range(len(self.done))]

    def _run(self, held: Held, started: float) -> Finished:
        state = held.claimed.state
        function = self._ledger.functions[state.name]
        if function.traits.isolation == "process" and self._isolation is not None:
            return self._run_isolated(held, started, self._isolation)
        if state.timeout is not None and not function.is_async:
            held.thread = threading.get_ident()
            held.soft_deadline = started + state.timeout
        self._begin(held, started)
        if self._hygiene is None:
            return self._run_here(held)
        self._hygiene.begin(state.task_id)
        finished = self._run_here(held)
        self.unfit = self._hygiene.end(state.task_id, time.monotonic()) or self.unfit
        return finished

    def _begin(self, held: Held, started: float) -> None:
        state = held.claimed.state
        hard = 0.0 if state.timeout is None else started + state.timeout + state.kill_after
        held.deadline = hard
        held.is_begun = True
        self._board.begin(held.slot, 0.0 if held.is_isolated else hard)
        if held.is_cancelled:
            self.end_by(held, started + CANCEL_GRACE_SECONDS)

    def _run_isolated(self, held: Held, started: float, isolation: Isolation) -> Finished:
        """Run it in a process of its own. The limits of its time are kept from here, and no business of the supervisor's."""
        state = held.claimed.state
        held.is_isolated = True
        self._begin(held, started)
        is_async = self._ledger.functions[state.name].is_async
        soft = 0.0 if state.timeout is None or is_async else started + state.timeout
        bounds = Bounds(lambda: held.is_cancelled, lambda: held.deadline, soft, lambda: held.is_lost)
        finished = execute(
            self._ledger,
            held.claimed,
            bounds.is_cancelled,
            open_recorder=lambda: self._open_recorder(held),
            mode=self._options.output,
            tell=held.progress.tell,
            run=partial(isolation.run, bounds=bounds),
            is_lost=bounds.is_lost,
        )
        if isolation.is_broken:
            self.unfit = SERVER_GONE
        return finished

    def _run_here(self, held: Held) -> Finished:
        try:
            finished = execute(
                self._ledger,
                held.claimed,
                lambda: held.is_cancelled,
                self._run_async,
                open_recorder=lambda: self._open_recorder(held),
                mode=self._options.output,
                tell=held.progress.tell,
                is_lost=lambda: held.is_lost,
            )
            self._disarm(held)
        except TimeLimit:  # it met the few instructions around the task: the attempt is over its time all the same
            finished = self._limit_met(held)
        return finished

    def end_by(self, held: Held, deadline: float) -> None:
        """Have the process of a begun attempt ended at *deadline*, if it is not to be ended before."""
        held.deadline = min(held.deadline or deadline, deadline)
        if not held.is_isolated:
            self._board.begin(held.slot, held.deadline)

    def _open_recorder(self, held: Held) -> Recorder:
        held.recorder = Recorder(self._options.output_keep, self._ledger.clock, self._echo)
        return held.recorder

    def _limit_met(self, held: Held) -> Finished:
        state, now = held.claimed.state, self._ledger.clock.now()
        error = describe(TimeLimit(f"the task ran longer than its timeout of {state.timeout} s"))
        command = c.Fail(attempt=state.attempt, worker=state.worker or "", started_at=now, finished_at=now, error=error)
        return Finished(held.claimed, command)

    def _disarm(self, held: Held) -> None:
        """Make sure that no `TimeLimit` meant for this attempt is raised after it."""
        if not held.thread:
            return
        with self._lock:
            held.soft_deadline = 0.0
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(held.thread), None)

    def raise_time_limit(self, held: Held) -> None:
        """Raise `TimeLimit` in the thread that runs *held*, if it still does; inside a transaction it is put off."""
        with self._lock:
            if held.soft_deadline and SHIELD.raise_in(held.thread, TimeLimit):
                held.soft_deadline = 0.0

    def _run_async(self, coroutine: Any, timeout: float | None) -> Any:
        with self._loop_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(within(coroutine, timeout), self._loop).result()
