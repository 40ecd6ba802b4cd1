"""Keep N worker processes running, record the attempts of those that die, and stop them gracefully."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass

from ledger import commands as c
from ledger.api import Ledger
from ledger.errors import LedgerError, StorageUnavailable
from ledger.ids import mint
from ledger.limits import configured
from ledger.task import TaskState
from runner.board import REPLACED, STOPPED, Board
from runner.candidates import Takes
from runner.follower import FollowerProcess
from runner.leaving import check_memory
from runner.logs import Log
from runner.losses import Verdict, end_worker, timed_out
from runner.options import RunOptions, WorkerOptions
from runner.worker import STOP_SIGNALS, Worker

TICK_SECONDS = 0.05
RESTART_PAUSE_SECONDS = 0.2
LONER = -1
"""The number of the one worker that takes tasks whose last attempt was lost, alone."""


@dataclass(slots=True)
class Child:
    """One worker process as its supervisor sees it."""

    number: int
    worker: str
    pid: int
    board: Board
    started: float
    limit: str | None = None
    """Why the supervisor ended it."""
    is_overdue: bool = False
    """Ended because of one attempt past its hard timeout: no fault of the others."""
    told: int = 0
    """How many of the signals to stop were passed on to it."""


def run(ledger: Ledger, options: RunOptions) -> int:
    """Run workers until they are done or a signal stops them; return the exit code: 1 if an attempt raised.

    A worker that cannot go on (a damaged event) is not replaced; the exit code is then its error's.
    """
    return Supervisor(ledger, options).run()


class Supervisor:
    """The parent of the worker processes. Single-threaded, since it forks."""

    def __init__(self, ledger: Ledger, options: RunOptions) -> None:
        self._ledger = ledger
        self._options = options
        self._log = Log(options.log_format, supervisor=os.getpid())
        self._children: dict[int, Child] = {}
        self._follower = FollowerProcess(ledger, self._log) if options.reports else None
        self._signals = self._said = 0
        self._raised = 0
        self._exit_code = 0
        self._begun = 0
        self._is_stopped = False
        self._to_record: list[tuple[Child, str]] = []
        self._left: dict[int, int | None] = {}
        self._patience = min(RESTART_PAUSE_SECONDS, options.lease_seconds / 8)
        self._ticked = self._awake_since = time.monotonic()
        seconds = options.max_seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def run(self) -> int:
        """See `run`."""
        check_memory(self._options)
        with self._ledger.store.write() as unit:  # a database that cannot be used is said before any process is made
            self._begun = unit.head()
        self._register_schedules()
        self._register_limits()
        before = {number: signal.signal(number, self._signal) for number in STOP_SIGNALS}
        try:
            for number in range(self._options.workers):
                self._left[number] = self._share(number)
                self._start(number)
            while self._children or (self._to_record and self._signals < 2):
                self._tick()
        finally:
            if self._follower is not None:
                self._follower.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._to_record:
            return StorageUnavailable.exit_code
        return self._exit_code or (1 if self._raised and not self._is_stopped else 0)

    def _register_schedules(self) -> None:
        """Bring the log to the schedules of this code, once: a worker started again later may run older code by then."""
        options = self._options
        for problem in self._ledger.legacy.problems:
            self._log.warning("legacy_left_out", of=problem.name, why=problem.why)
        if not self._ledger.schedules.declarations and not options.schedule_overrides:
            return
        done = self._ledger.schedules.register(
            app=options.app,
            timezone=options.timezone,
            overrides=options.schedule_overrides,
            actor=f"system:supervisor:{os.getpid()}",
        )
        changed = {kind: len(getattr(done, kind)) for kind in ("declared", "updated", "back", "overridden")}
        if any(changed.values()):
            self._log.info("schedules_registered", **changed)
        for name, why in (done.left_alone or {}).items():
            self._log.info("schedule_left_alone", schedule=name, why=why)

    def _register_limits(self) -> None:
        """Bring the log to the limits of this code and of the configuration, once, as with schedules."""
        changed = self._ledger.controls.register(
            app=self._options.app,
            configuration=configured(self._options.limits),
            actor=f"system:supervisor:{os.getpid()}",
        )
        if changed:
            self._log.info("limits_registered", scopes=changed)

    def _share(self, number: int) -> int | None:
        most = self._options.max_tasks
        if most is None:
            return None
        return most // self._options.workers + (number < most % self._options.workers)

    def _signal(self, *_: object) -> None:
        self._signals += 1  # passed on by the next tick: a worker may be in the making just now

    def _pass_on_signals(self) -> None:
        if self._signals > self._said:
            self._said = self._signals
            self._log.info("stopping" if self._signals == 1 else "stopping_now", workers=len(self._children))
        for child in self._children.values():
            if child.told < self._signals:
                child.told = self._signals
                os.kill(child.pid, signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    @property
    def _takes(self) -> Takes:
        """What the workers take. Where a run is bounded by tasks, each takes its share of everything."""
        return "all" if self._options.once or self._options.max_tasks is not None else "fresh"

    def _start(self, number: int) -> None:
        options = self._options
        worker_id = mint(self._ledger.clock.now())
        worker = WorkerOptions(
            run=options,
            worker=worker_id,
            supervisor=os.getpid(),
            begun=self._begun,
            name=f"{options.name}-alone" if number == LONER else f"{options.name}-{number + 1}",
            max_tasks=self._left.get(number),
            takes="lost" if number == LONER else self._takes,
            max_seconds=None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0),
        )
        board = Board()
        board.beat(time.monotonic())
        self._ledger.close()  # nothing open may be shared over the fork
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that meets the child before it has its own handlers waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid == 0:
            _be_worker(self._ledger, worker, board)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._children[pid] = Child(number, worker_id, pid, board, time.monotonic())

    def _tick(self) -> None:
        for child in list(self._children.values()):
            # The dead process stays until its attempts are recorded: no other worker finds it gone before.
            if end := os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                del self._children[child.pid]
                self._ended(child, end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)
        self._pass_on_signals()
        if self._to_record:
            self._record()
        self._look()
        self._start_loner()
        if self._follower is not None:
            self._follower.tick()
        time.sleep(TICK_SECONDS)

    def _start_loner(self) -> None:
        """Give tasks whose last attempt was lost a worker of their own: one that kills its process kills nothing else."""
        children = self._children.values()
        has_loner = any(child.number == LONER for child in children)
        if self._goes_on and not has_loner and any(child.board.head().asks_for_loner for child in children):
            self._start(LONER)

    def _look(self) -> None:
        """Check each worker. Silence counts only from when this process itself has been awake."""
        now = time.monotonic()
        if now - self._ticked > self._options.lease_seconds / 2:
            self._awake_since = now
        self._ticked = now
        for child in self._children.values():
            self._check(child, now)

    def _check(self, child: Child, now: float) -> None:
        """End a worker that is silent for a lease or hosts an attempt past its hard timeout."""
        overdue = [shown for shown in child.board.shown() if shown.is_begun and 0 < shown.deadline < now]
        if overdue and child.limit is None:
            child.limit, child.is_overdue = "an attempt went on past its hard timeout", True
        elif now - max(child.board.head().beat, self._awake_since) > self._options.lease_seconds and not child.limit:
            child.limit = f"silent for {self._options.lease_seconds:.0f} s"
        else:
            return
        self._log.warning("worker_killed", worker=child.worker, cause=child.limit)
        os.kill(child.pid, signal.SIGKILL)

    def _ended(self, child: Child, code: int) -> None:
        head = child.board.head()
        self._raised += head.raised
        left = self._left.get(child.number)
        if left is not None:
            given_back = sum(not shown.is_begun for shown in child.board.shown())
            self._left[child.number] = left - head.taken + given_back
        if head.left:
            os.waitpid(child.pid, 0)
            self._is_stopped = self._is_stopped or head.left == STOPPED
            if head.left == REPLACED:
                self._replace(child)
            return
        how = f"ended by signal {-code}" if code < 0 else f"exited with {code}"
        cause = f"the worker's process {how}" + (f" ({child.limit})" if child.limit else "")
        self._log.warning("worker_died", worker=child.worker, pid=child.pid, cause=cause)
        self._to_record.append((child, cause))
        self._record()
        if head.exit_code:
            self._exit_code = head.exit_code
        elif not self._options.once and child.number != LONER:
            if time.monotonic() - child.started < RESTART_PAUSE_SECONDS:
                time.sleep(RESTART_PAUSE_SECONDS)
            self._replace(child)

    @property
    def _goes_on(self) -> bool:
        return self._signals == 0 and not self._is_stopped

    def _replace(self, child: Child) -> None:
        """Start another worker in the place of one that is gone, where the run goes on and has a share left for it."""
        has_share = self._left.get(child.number) is None or self._left[child.number]
        if self._goes_on and has_share and not self._options.once and child.number != LONER:
            self._start(child.number)

    def _record(self) -> None:
        """Record the attempts of dead workers; what cannot be stored now is tried again."""
        while self._to_record:
            child, cause = self._to_record[0]
            try:
                outcomes = end_worker(
                    self._ledger,
                    child.worker,
                    cause,
                    self._verdict(child, cause),
                    actor=f"system:supervisor:{os.getpid()}",
                    wait_seconds=self._patience,  # the writer waited for may be a frozen worker of this one's
                )
            except StorageUnavailable as error:
                self._log.warning("storage_unavailable", error=str(error))
                time.sleep(self._patience)
                return
            self._to_record.pop(0)
            os.waitpid(child.pid, 0)
            self._raised += sum(isinstance(outcome, c.Fail | c.Lose) for outcome in outcomes)
            self._log.warning("attempts_ended", of=child.worker, cause=cause, count=len(outcomes))

    def _verdict(self, child: Child, cause: str) -> Verdict:
        shown = {(one.task_id, one.attempt): one for one in child.board.shown()}
        now = time.monotonic()
        is_interrupted = self._signals > 1

        def verdict(state: TaskState) -> c.Outcome:
            one = shown.get((state.task_id, state.attempt))
            if one is not None and one.is_begun and 0 < one.deadline < now:
                return timed_out(state, state.timeout)
            if one is None or not one.is_begun or is_interrupted or child.is_overdue:
                return c.Interrupt(attempt=state.attempt, worker=child.worker, cause=cause)
            return c.Lose(attempt=state.attempt, worker=child.worker, cause=cause)

        return verdict


def _be_worker(ledger: Ledger, options: WorkerOptions, board: Board) -> None:
    """Be the child process; never returns. `os._exit` leaves no chance to touch what belongs to the parent."""
    code = 1
    try:
        board.leave(Worker(ledger, options, board).run())
        code = 0
    except StorageUnavailable as error:  # the next one may be luckier
        Log(options.run.log_format, worker=options.worker).warning("storage_unavailable", error=str(error))
        code = error.exit_code
    except LedgerError as error:
        Log(options.run.log_format, worker=options.worker).warning("view_stopped", error=str(error))
        code = error.exit_code
        board.give_up(code)
    except BaseException:
        traceback.print_exc()
    finally:
        board.beat(time.monotonic())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
