"""Be one worker process: the loop that turns the cycle, hands out claims and waits; a supervisor's child."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import Conflict, StorageUnavailable
from ledger.events import WorkerStarted
from ledger.retry import Retry
from ledger.store import Unit
from ledger.task import CANCEL_GRACE_SECONDS, TaskState
from projections.queue import SQL, is_prepared, prepare
from runner.beside import cycle_of
from runner.board import DONE, Board
from runner.cycle import Begun, Claimed, Finished, Turn
from runner.echo import Echo
from runner.heartbeat import host_name, show
from runner.hygiene import Hygiene
from runner.isolation import Isolation
from runner.leaving import Leave, bloated, spent, told, unfit
from runner.logs import Log
from runner.losses import LeaseWatch, end_worker, lost
from runner.news import store_news
from runner.notices import Notices
from runner.options import WorkerOptions
from runner.output import catch_output
from runner.threads import GIVE_BACK_SECONDS, Held, Pool, give_back
from runner.wake import Wake

BEGIN_WITHIN_SECONDS = 0.1
RECORD_WITHIN_SECONDS = 0.05
MOST_HELD = 1_000
HOLD_ALONE_SECONDS = 0.03
"""How long a cycle may hold the writer lock while nobody else wants it."""
HOLD_SHARED_SECONDS = 0.006
"""And while others do: with four workers each has its turn within 50 ms."""
QUEUED_SECONDS = 0.001
"""A wait for the lock that tells of others who want it; they are remembered for a second."""
REMEMBER_SECONDS = 1.0
WATCH_SECONDS = 0.1
LOOK_SECONDS = 1.0
LOST_AFTER = 0.75
"""Of a lease without a heartbeat: then attempts are told that they may be another's soon."""
ECHO_SECONDS = 2.0
"""A worker that ends waits so long for whoever reads what its tasks printed."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
NO_RETRY = Retry().stored()
_ATTEMPT = 1 + TaskState._fields.index("attempt")
SWITCH_SECONDS = 0.0005
"""Between Python threads. A cycle meets busy tasks at each statement while all writers of the database wait for it."""


class Worker:
    """One incarnation of a worker process."""

    def __init__(self, ledger: Ledger, options: WorkerOptions, board: Board) -> None:
        self._ledger = ledger
        self._options = options
        self._board = board
        self._log = Log(options.run.log_format, worker=options.worker)
        self._cycle = cycle_of(
            ledger, options.worker, options.run.queues, options.takes, code_version=options.run.code_version
        )
        self._notices = Notices(ledger, options.run, options.worker, self._log)
        self._leases = LeaseWatch(ledger, beat_seconds=options.run.beat_seconds)
        # Within half a lease nobody else can have been given what this worker has claimed.
        self._give_back_seconds = min(GIVE_BACK_SECONDS, options.run.lease_seconds / 2)
        self._held: dict[tuple[str, int], Held] = {}
        self._finished: list[tuple[Held, Finished]] = []
        self._strays: list[Finished] = []
        self._is_registered = False
        self._is_stopping = False
        self._leave: Leave | None = None
        self._has_claimed = False
        self._most_a_cycle = MOST_HELD
        self._queued_at = -REMEMBER_SECONDS
        self._is_alone = False
        self._next_beat = 0.0
        self._next_look = 0.0
        self._lost_at = math.inf
        """Without another heartbeat others may soon be given what this worker holds."""
        self._started = time.monotonic()
        self._wake = Wake(ledger.store, ledger.store.wal_path())

    def run(self) -> int:
        """Work until told to stop or nothing is left to do; every outcome is recorded when this returns.

        Returns how it left, as its board shall show it.

        Raises:
            StorageUnavailable: It was told to stop and holds nothing, but its end could not be recorded.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.setswitchinterval(SWITCH_SECONDS)
        run = self._options.run
        isolation = Isolation.if_needed(self._ledger, run.output_limit)  # before the first thread
        echo = Echo({"stdout": sys.stdout, "stderr": sys.stderr}) if run.output_echo else None
        put = echo.put if echo else None
        catch_output(run.output_limit, put)
        gc.freeze()  # what is imported by now stays: no collection looks at it again
        threading.Thread(target=self._watch, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the supervisor blocked them before the fork
        self._pool = Pool(self._ledger, self._board, run, self._wake.nudge, self._give_back_seconds, put,
                          isolation=isolation, hygiene=Hygiene(self._say_left))  # fmt: skip
        pause = 0.1
        while True:
            try:
                turn = self._turn()
                if self._is_over(turn):
                    break
                self._rest(turn)
                pause = 0.1
            except (StorageUnavailable, Conflict) as error:
                if self._is_stopping and not self._held:
                    raise
                self._log.warning("storage_unavailable", error=str(error), again_in_seconds=pause)
                self._leases.forget()
                self._next_look = self._next_beat = 0.0  # its commit may have been stored all the same
                self._wake.wait(pause, for_commits=False)
                pause = min(pause * 2, self._options.run.beat_seconds)  # others wait two beats for this one's
        self._notices.finish()
        leave = self._leave or Leave("stopped", DONE)
        end_worker(self._ledger, self._options.worker, leave.cause, lost("its worker stopped"), actor=self._actor)
        if echo is not None:
            echo.close(ECHO_SECONDS)
        self._log.info("worker_stopped", cause=leave.cause)
        if isolation is not None:
            isolation.close()
        return leave.left

    def _say_left(self, task_id: str, what: list[str]) -> None:
        self._log.warning("left_behind", task=task_id, what=what)

    @property
    def _actor(self) -> str:
        return "worker:" + self._options.worker

    @property
    def _taken(self) -> int:
        return self._board.head().taken

    def _stop(self, *_: object) -> None:
        self._is_stopping = True
        self._wake.nudge()

    def _register(self) -> None:
        options, began = self._options, time.monotonic()
        with self._ledger.store.write() as unit:
            if not is_prepared(unit):
                prepare(unit)
            act = self._ledger.act(unit, self._actor)
            started = WorkerStarted(
                originator_id="worker:" + options.worker,
                originator_version=1,
                command=act.id,
                at=act.at,
                actor=act.actor,
                name=options.name,
                host=host_name(),
                pid=os.getpid(),
                app=options.run.app,
                threads=options.run.threads,
                queues=list(options.run.queues),
            )
            if unit.last(started.originator_id) is None:  # else an earlier commit of unknown end has stored it
                unit.append([started])
            self._notices.register(unit)
            position = unit.stream(started.originator_id)[0].position
            self._cycle.begun = Begun(options.begun, position)
            self._put_heartbeat(unit)
        self._is_registered = True
        self._lost_at = began + LOST_AFTER * self._options.run.lease_seconds
        self._log.info("worker_started", pid=os.getpid(), threads=options.run.threads)

    def _put_heartbeat(self, unit: Unit) -> None:
        options, run = self._options, self._options.run
        show(unit, options.worker, options.name, threads=run.threads, queues=run.queues,
             lease_seconds=run.lease_seconds, names=self._ledger.functions)  # fmt: skip

    def _turn(self) -> Turn:
        """Run one cycle and hand out what it claimed."""
        if not self._is_registered:
            self._register()
        self._collect()
        self._leave_for(bloated(self._options.run, self._taken) or unfit(self._pool.unfit))
        self._wake.forget_commits()
        self._beat()
        outcomes = [held.progress.last_word(held.claimed, finished) for held, finished in self._finished]
        outcomes += self._strays
        turn = self._cycle.turn(outcomes, self._room(), is_idle=not self._held_running())
        if turn.is_behind:
            return turn
        self._strays.clear()
        for held, finished in self._finished:
            self._release(held, finished)
        self._finished.clear()
        if turn.rejected:
            self._log.warning("result_rejected", count=turn.rejected)
        if turn.jump_seconds:
            self._log.warning("clock_jumped", seconds=turn.jump_seconds)
        self._hold(turn.claims, time.monotonic())
        self._board.ask_for_loner(turn.lost_due > 0)
        self._learn(turn)
        self._leave_for(told(turn.stop, turn.recycle))
        return turn

    def _leave_for(self, why: Leave | None) -> None:
        """Begin to leave, if there is a reason: no thread begins what is left to begin."""
        if why is not None and self._leave is None:
            self._leave = why
            self._collect()

    def _learn(self, turn: Turn) -> None:
        """Find how many claims and outcomes a cycle may have, from how long this one took."""
        now = time.monotonic()
        if turn.waited_seconds > QUEUED_SECONDS:
            self._queued_at = now
        hold = HOLD_SHARED_SECONDS if now - self._queued_at < REMEMBER_SECONDS else HOLD_ALONE_SECONDS
        count = len(turn.claims) + turn.recorded
        if count >= self._options.run.threads and turn.held_seconds > 0:
            fitting = int(count * hold / turn.held_seconds / 2)  # a task is claimed and reported
            self._most_a_cycle = max(min((self._most_a_cycle + fitting) // 2, MOST_HELD), self._options.run.threads)

    def _held_running(self) -> int:
        return len(self._held) - len(self._finished)

    def _collect(self) -> None:
        self._finished += self._pool.take_done()
        since = time.monotonic() if self._leave is not None else time.monotonic() - self._give_back_seconds
        for held in self._pool.take_back(since) if self._held else ():
            self._finished.append((held, give_back(held, self._leave.cause if self._leave else None)))

    def _hold(self, claims: Sequence[Claimed], now: float) -> None:
        attempts = []
        # Counted before any of them can end this process: a bound of the run is for the next one too.
        self._board.count(taken=len(claims))
        if claims:
            self._is_alone = bool(claims[0].state.lost)  # `plan` gives nothing beside such a one
        for claimed in claims:
            state = claimed.state
            held = Held(claimed, self._board.claim(state.task_id, state.attempt), now)
            self._held[state.task_id, state.attempt] = held
            attempts.append(held)
        # Said before the threads begin: they nudge once when so many have ended.
        self._pool.enough = max(1, len(self._held) // 2)
        self._pool.put(attempts)

    def _release(self, held: Held, finished: Finished) -> None:
        state = held.claimed.state
        self._held.pop((state.task_id, state.attempt), None)
        self._board.release(held.slot)
        if isinstance(finished.command, c.Interrupt):
            self._board.count(taken=-1)
        if isinstance(finished.command, c.Lose):
            self._board.count(raised=1)
            self._log.warning("attempt_lost", task=state.task_id, name=state.name, attempt=state.attempt,
                              cause=finished.command.cause)  # fmt: skip
        if isinstance(finished.command, c.Fail):
            self._board.count(raised=1)
            error = finished.command.error
            self._log.info("attempt_failed", task=state.task_id, name=state.name, attempt=state.attempt,
                           error=error["type"], message=error["message"][:200])  # fmt: skip

    def _room(self) -> int:
        """Return how many tasks may be claimed now: what the threads will begin within about 100 ms."""
        options = self._options
        if self._is_stopping or self._leave is not None or (options.run.once and self._has_claimed):
            return 0
        if options.max_seconds is not None and time.monotonic() - self._started >= options.max_seconds:
            return 0
        if self._is_alone and self._held_running():
            return 0
        if options.takes == "lost":
            return 1
        each = self._pool.seconds_per_task
        wanted = options.run.threads if each <= 0 else int(options.run.threads * BEGIN_WITHIN_SECONDS / each)
        room = min(max(wanted, options.run.threads), self._most_a_cycle, self._board.room) - self._held_running()
        for most in (options.max_tasks, options.run.max_tasks_per_worker):
            if most is not None:
                room = min(room, most - self._taken)
        return max(room, 0)

    def _beat(self) -> None:
        """Show that this worker lives, find those that do not, and see which own tasks are to be cancelled."""
        now = time.monotonic()
        if now >= self._next_look and (self._held or now >= self._next_beat):
            self._next_look = now + LOOK_SECONDS
            self._look_at_own(now)
            store_news(self._ledger, self._held.values(), now, self._actor)
        if now < self._next_beat:
            return
        self._next_beat = now + self._options.run.beat_seconds
        with self._ledger.store.write() as unit:
            if not unit.run(SQL["beat"], (to_us(unit.now), self._options.worker)):
                self._put_heartbeat(unit)
            gone = self._leases.gone(unit, self._options.worker)
        self._lost_at = now + LOST_AFTER * self._options.run.lease_seconds
        for worker, cause in gone.items():
            ended = end_worker(self._ledger, worker, cause, lost(cause), actor=self._actor)
            self._log.warning("attempts_ended", of=worker, cause=cause, count=len(ended))
        self._notices.look()

    def _look_at_own(self, now: float) -> None:
        """Compare what the log gives this worker with what it holds, and see requests to cancel.

        A commit of unknown end may have claimed what this worker does not know of: it is given back.
        """
        with self._ledger.store.read() as snapshot:
            rows = snapshot.rows(SQL["rows_of_worker"], (self._options.worker,)) if is_prepared(snapshot) else []
        own = {(row[1], row[_ATTEMPT]) for row in rows}
        for key, mine in self._held.items():
            mine.is_lost = mine.is_lost or (key not in own and mine.taken_at < now)
        for row in rows:
            state = TaskState._make(row[1:])
            held = self._held.get((state.task_id, state.attempt))
            if held is None:
                back = c.Interrupt(attempt=state.attempt, worker=self._options.worker, cause="its claim was not seen")
                self._strays.append(Finished(Claimed(row[0], state, {}, NO_RETRY), back))
            elif state.cancel_us is not None and not held.is_cancelled:
                held.is_cancelled = True
                if held.is_begun:
                    self._pool.end_by(held, now + CANCEL_GRACE_SECONDS)

    def _is_over(self, turn: Turn) -> bool:
        options = self._options
        if turn.is_behind or turn.is_expiring:
            return False
        if self._held:
            self._has_claimed = self._has_claimed or bool(turn.claims)
            return False
        if self._is_stopping or options.run.once:
            return True
        self._leave = self._leave or spent(options.run, self._taken)
        if self._leave is not None:
            return True
        if options.max_tasks is not None and self._taken >= options.max_tasks:
            return True
        if options.max_seconds is not None and time.monotonic() - self._started >= options.max_seconds:
            return True
        if options.takes == "lost":
            return not turn.claims
        return options.run.drain and not turn.claims and not turn.running and not turn.lost_due

    def _rest(self, turn: Turn) -> None:
        """Wait for outcomes, a commit, a due time or the next beat, whichever is first."""
        if turn.is_behind or turn.is_expiring or self._finished or self._pool.is_due():
            return
        now = time.monotonic()
        if self._held:
            self._await_outcomes(now, min(self._seconds_to(turn.next_slot_us), self._seconds_to(turn.next_expiry_us)))
            return
        moments = (turn.next_due_us, turn.next_slot_us, turn.next_expiry_us)
        seconds = min(self._next_beat - now, *map(self._seconds_to, moments))
        if self._options.run.drain:
            seconds = min(seconds, 0.2)
        if self._options.max_seconds is not None:
            seconds = min(seconds, self._started + self._options.max_seconds - now)
        self._wake.wait(max(seconds, 0.001), for_commits=True)

    def _seconds_to(self, moment_us: int | None) -> float:
        return math.inf if moment_us is None else (moment_us - to_us(self._ledger.clock.now())) / 1e6

    def _await_outcomes(self, now: float, to_slot: float) -> None:
        """Return when enough outcomes wait, or the first of them for 50 ms, or something else wants a turn."""
        until = min(self._next_beat, self._next_look, now + self._give_back_seconds, now + to_slot)
        is_seen = False
        while not self._pool.is_due_or_will_nudge():
            if self._pool.done and not is_seen:
                is_seen, until = True, min(until, time.monotonic() + RECORD_WITHIN_SECONDS)
            if (left := until - time.monotonic()) <= 0:
                return
            # With work for every thread at hand, a commit of somebody else's is met when an outcome is due.
            has_idle_thread = self._held_running() < self._options.run.threads
            if self._wake.wait(left, for_commits=has_idle_thread and self._room() > 0):
                return

    def _watch(self) -> None:
        """Beat on the board, raise soft timeouts, and leave when the supervisor is gone: independent of the database."""
        while True:
            now = time.monotonic()
            self._board.beat(now)
            if os.getppid() != self._options.supervisor:
                os._exit(4)
            for held in list(self._held.values()):
                held.is_lost = held.is_lost or now >= self._lost_at
                if held.soft_deadline and now >= held.soft_deadline:
                    self._pool.raise_time_limit(held)
            time.sleep(WATCH_SECONDS)
