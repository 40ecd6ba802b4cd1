"""Run one task in the foreground for the command line: its output shown and kept, its limits enforced, its lease held."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, replace

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import StorageUnavailable
from ledger.task import CANCEL_GRACE_SECONDS
from projections.queue import SQL
from runner.board import Board
from runner.cycle import Finished
from runner.echo import Echo
from runner.inline import give_back
from runner.isolation import Isolation
from runner.losses import end_worker, timed_out
from runner.news import store_news
from runner.options import RunOptions
from runner.output import catch_output
from runner.single import Taken, dismiss, record, take
from runner.threads import Held, Pool

ECHO_SECONDS = 1.0
"""How long a terminal that takes nothing is waited for at the end."""
LOOK_SECONDS = 0.1
STORE_SECONDS = 1.0
"""Between two looks for a request to end, with what was printed and said stored."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a task that was run: *is_late* means that it was taken from this process and the result rejected."""

    attempt: int
    is_late: bool = False


def run_in_foreground(
    ledger: Ledger, task_id: str, run: RunOptions, *, reason: str | None = None, actor: str | None = None
) -> Ran:
    """Claim the task (see `runner.single.take`), run it on a thread of this process, and record its outcome.

    Called once, by a process that ends afterwards: what tasks print is caught for good, and a hard limit ends it with
    exit code 1. SIGINT and SIGTERM give the attempt back.

    Raises:
        KeyboardInterrupt: A signal came; the attempt was given back.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    taken = take(
        ledger, task_id, reason=reason, actor=actor, lease_seconds=run.lease_seconds, code_version=run.code_version
    )
    isolation = Isolation.if_needed(ledger, run.output_limit)  # before the first thread
    echo = Echo({"stdout": sys.stdout, "stderr": sys.stderr})
    catch_output(run.output_limit, echo.put)
    finished = _Attendance(ledger, taken, replace(run, threads=1), echo, isolation).attend()
    if isolation is not None:
        isolation.close()
    is_late = _kept_trying(ledger, taken, finished)
    dismiss(ledger, taken)
    echo.close(ECHO_SECONDS)
    if isinstance(finished.command, c.Interrupt):
        raise KeyboardInterrupt
    return Ran(taken.claimed.state.attempt, is_late)


class _Attendance:
    """What goes on beside the one attempt, on the main thread."""

    def __init__(
        self, ledger: Ledger, taken: Taken, run: RunOptions, echo: Echo, isolation: Isolation | None = None
    ) -> None:
        self._ledger = ledger
        self._taken = taken
        self._beat_seconds = run.beat_seconds
        self._is_done = threading.Event()
        board = Board()
        state = taken.claimed.state
        now = ledger.clock.monotonic()
        self._echo = echo
        self._pool = Pool(ledger, board, run, self._is_done.set, float("inf"), echo.put, isolation=isolation)
        self._held = Held(taken.claimed, board.claim(state.task_id, state.attempt), now)
        self._next_look = now + STORE_SECONDS
        self._next_beat = now + run.beat_seconds

    def attend(self) -> Finished:
        """Begin the attempt and return how it finished."""
        self._pool.put([self._held])
        try:
            while not self._pool.done:
                self._is_done.wait(min(LOOK_SECONDS, self._beat_seconds))
                self._enforce(self._ledger.clock.monotonic())
                self._look(self._ledger.clock.monotonic())
        except KeyboardInterrupt:
            state = self._taken.claimed.state
            nothing = c.Interrupt(attempt=state.attempt, worker=self._taken.worker, cause="")
            return give_back(Finished(self._taken.claimed, nothing))
        [(held, finished)] = self._pool.take_done()
        return held.progress.last_word(held.claimed, finished)

    def _enforce(self, now: float) -> None:
        """Enforce the limits of the attempt: the soft one inside it, the hard one by ending this process."""
        held = self._held
        if held.soft_deadline and now >= held.soft_deadline:
            self._pool.raise_time_limit(held)
        if held.is_isolated or not held.is_begun or not 0 < held.deadline < now or self._pool.done:
            return  # an attempt in a process of its own is ended alone, by who watches it
        cause = "an attempt went on past its hard timeout"
        actor = "worker:" + self._taken.worker
        end_worker(self._ledger, self._taken.worker, cause, lambda state: timed_out(state, state.timeout), actor=actor)
        self._echo.close(ECHO_SECONDS)
        print(f"error: {cause}; this process ends", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    def _look(self, now: float) -> None:
        """Show a heartbeat, store what was printed, and see whether somebody asked for the task to end."""
        try:
            if now >= self._next_beat:
                self._next_beat = now + self._beat_seconds
                with self._ledger.store.write() as unit:
                    unit.run(SQL["beat"], (to_us(unit.now), self._taken.worker))
            if now >= self._next_look:
                self._next_look = now + STORE_SECONDS
                self._look_for_cancel(now)
                store_news(self._ledger, [self._held], now, "worker:" + self._taken.worker)
        except StorageUnavailable as error:  # the lease is longer than most of these
            print(f"warning: {error}", file=sys.stderr)

    def _look_for_cancel(self, now: float) -> None:
        with self._ledger.store.read() as snapshot:  # its stream: nobody may be about who catches the view up
            state = acts.load(snapshot, self._taken.claimed.state.task_id)
        if state.cancel_us is not None and not self._held.is_cancelled:
            self._held.is_cancelled = True
            self._pool.end_by(self._held, now + CANCEL_GRACE_SECONDS)


def _kept_trying(ledger: Ledger, taken: Taken, finished: Finished) -> bool:
    """Record the outcome, however long the database cannot be used; return whether it was rejected."""
    pause = 0.1
    while True:
        try:
            return record(ledger, taken, finished)
        except StorageUnavailable as error:
            print(f"warning: {error}; trying again in {pause:g} s", file=sys.stderr)
            ledger.clock.sleep(pause)
            pause = min(pause * 2, 5.0)
