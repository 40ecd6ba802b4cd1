"""Turn the crank: one transaction that catches up, records outcomes, plans and claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from ledger import acts
from ledger import commands as c
from ledger.acts import NewTask
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.events import Event, LateResultRejected, TaskClaimed, TaskProgressed
from ledger.ids import mint, task_stream
from ledger.moments import has_come
from ledger.output import Printed, put
from ledger.retry import StoredRetry
from ledger.schedule import is_run_id
from ledger.store import Unit
from ledger.task import ENDED, RUNNING, TaskState, decide, evolve
from projections.control_fold import Mark
from projections.controls import Controls
from projections.controls import read as read_controls
from projections.queue import SQL, VIEW, Row, catch_up, is_prepared, prepare
from runner.candidates import Finder, Takes, earlier
from runner.expiring import expire_due
from runner.firing import ClockWatch, fire_due
from runner.names import present_name


class Begun(NamedTuple):
    """Since when a worker hears what all are told: *run* is the log's head when its run began, *worker* the position
    of its own start. None: it does not hear it."""

    run: int | None = None
    worker: int | None = None


class Claimed(NamedTuple):
    """An attempt that this worker holds: the row's position, the task as claimed, its arguments and retry policy."""

    position: int
    state: TaskState
    args: dict[str, Any]
    retry: StoredRetry

    def __repr__(self) -> str:
        """Leave the arguments out: some may be hidden."""
        return f"Claimed(position={self.position}, state={self.state!r}, retry={self.retry!r})"


class Finished(NamedTuple):
    """What became of a claimed attempt: the command that reports it, children to queue if it succeeds, its output."""

    claimed: Claimed
    command: c.Outcome
    children: Sequence[NewTask] = ()
    printed: Printed | None = None
    progress: c.Progress | None = None
    """The last word on its progress that is not in the log yet."""


@dataclass(slots=True)
class Turn:
    """What one cycle did and saw."""

    claims: list[Claimed] = field(default_factory=list)
    recorded: int = 0
    rejected: int = 0
    is_behind: bool = False
    """The view is not at the head yet: turn again before planning."""
    next_due_us: int | None = None
    waited_seconds: float = 0.0
    """How long the cycle waited for the database's writer lock."""
    held_seconds: float = 0.0
    """How long it held the lock then, its commit left out."""
    next_slot_us: int | None = None
    """When a schedule wants to be looked at next; not later than now if more were due than one turn fires."""
    lost_due: int = 0
    """Due tasks of this worker's whose last attempt was lost, left to a process of their own."""
    running: int = 0
    """Attempts that run anywhere, this worker's included."""
    fired: int = 0
    """Schedules that were looked at because something of them was due."""
    expired: int = 0
    """Tasks cancelled because they had not begun by their expiry."""
    next_expiry_us: int | None = None
    """When the next waiting task expires."""
    is_expiring: bool = False
    """More tasks have expired than one turn cancels: turn again."""
    jump_seconds: float = 0.0
    """How far the clock was set since the last turn, back if negative."""
    stop: Mark | None = None
    """Who told this run to end."""
    recycle: Mark | None = None
    """Who asked for another process in the place of this one."""


class Cycle:
    """The database side of one worker (or of an inline run): stateless but for what it is told."""

    def __init__(
        self,
        ledger: Ledger,
        worker: str,
        queues: Sequence[str] = (),
        takes: Takes = "all",
        *,
        code_version: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._code_version = code_version
        self._worker = worker
        self._actor = "worker:" + worker
        self._queues = frozenset(queues)
        self._takes = takes
        self.is_prepared = False
        """Whether the views are known to be there."""
        self._watch = ClockWatch(ledger)
        self._controls: Controls | None = None
        self._finder = Finder(self._is_ours, takes, present_name(ledger.functions))
        self.begun = Begun()

    def turn(self, finished: Sequence[Finished], free: int, *, is_idle: bool) -> Turn:
        """Run one cycle: record *finished*, claim at most *free* tasks. All of it is durable when this returns.

        Raises:
            StorageUnavailable: Nothing of this cycle was stored; the outcomes are still the caller's.
        """
        turn = Turn()
        clock = self._ledger.clock
        asked = clock.monotonic()
        with self._ledger.store.write() as unit:
            began = clock.monotonic()
            turn.waited_seconds = began - asked
            if not self.is_prepared and not is_prepared(unit):
                prepare(unit)
            if not catch_up(unit):
                turn.is_behind = True
                return turn
            act = c.Act(id=mint(unit.now), at=unit.now, actor=self._actor)
            self._record(unit, finished, act, turn)
            if any(one.children or is_run_id(one.claimed.state.task_id) for one in finished):
                _catch_up_own(unit)
            self._expire(unit, act, turn)
            self.look_at_clock(unit, turn)
            if self.may_begin(unit, turn):
                self._fire(unit, act, turn)
                unit.append(self.plan(unit, free, act, turn, is_idle=is_idle))
            turn.running = unit.rows(SQL["count_running"])[0][0]
            unit.pass_own(VIEW)
            turn.held_seconds = clock.monotonic() - began
        self.is_prepared = True
        return turn

    def _expire(self, unit: Unit, act: c.Act, turn: Turn) -> None:
        expired = expire_due(unit, act)
        turn.expired, turn.next_expiry_us = expired.cancelled, expired.next_us
        turn.is_expiring = has_come(expired.next_us, to_us(unit.now))
        if expired.has_run:
            _catch_up_own(unit)

    def look_at_clock(self, unit: Unit, turn: Turn) -> None:
        """Notice if the clock was set since the last turn."""
        self._watch.look(to_us(unit.now))
        turn.jump_seconds = self._watch.jump_seconds

    @property
    def has_limits(self) -> bool:
        """Whether limits were in force when it was last asked whether claims may be made."""
        return self._controls is not None and not self._controls.limits.is_empty

    def may_begin(self, unit: Unit, turn: Turn) -> bool:
        """Read what governs the claims: the view has all of that, and nobody changes it before this commits."""
        self._controls = controls = read_controls(unit, self._controls)
        run, worker = self.begun
        if controls.stop is not None and run is not None and controls.stop.position > run:
            turn.stop = controls.stop
        if controls.caches is not None and worker is not None and controls.caches.position > worker:
            turn.recycle = controls.caches
        return controls.disabled is None and turn.stop is None and turn.recycle is None

    def _fire(self, unit: Unit, act: c.Act, turn: Turn) -> None:
        enabled = self._controls.enabled if self._controls is not None else None
        turn.fired, turn.next_slot_us = fire_due(unit, act, self._watch, enabled.at_us if enabled is not None else None)
        if turn.fired:
            _catch_up_own(unit)

    def _record(self, unit: Unit, finished: Sequence[Finished], act: c.Act, turn: Turn) -> None:
        plain: list[Finished] = []
        rest: list[Finished] = []
        for one in finished:
            is_plain = isinstance(one.command, c.Succeed) and not one.children and not one.claimed.state.key_held
            (plain if is_plain else rest).append(one)
        if plain and not self._record_plain(unit, plain, act):
            rest = list(finished)
        for one in rest:
            turn.rejected += record_one(unit, one, act)
        put(unit, [(one.claimed.state, one.printed) for one in finished if one.printed])
        turn.recorded += len(finished)

    def _record_plain(self, unit: Unit, finished: Sequence[Finished], act: c.Act) -> bool:
        """Record successes of undisturbed tasks in bulk; False (and nothing done) if any row has moved."""
        unit.run("SAVEPOINT plain")
        rows = [(f.claimed.position, f.claimed.state.version) for f in finished]
        gone = unit.run(SQL["delete_rows_at_versions"], (orjson.dumps(rows).decode(),))
        if gone != len(finished):
            unit.run("ROLLBACK TO plain")
            unit.run("RELEASE plain")
            return False
        unit.run("RELEASE plain")
        events: list[Event] = []
        for one in finished:
            state, said = told(one.claimed.state, one.progress, act)
            events += [*said, *decide(state, one.command, act)]
        unit.append(events)
        return True

    def plan(
        self, unit: Unit, free: int, act: c.Act, turn: Turn, *, is_idle: bool, seen: int | None = None
    ) -> list[Event]:
        """Claim what the plan says, and note when it will say more; return the events, to be appended.

        The view is at *seen*, by default at the head.
        """
        assert self._controls is not None
        limits, now_us = self._controls.limits, to_us(unit.now)
        if self._takes == "fresh":
            lost = self._finder.find_lost(unit, limits, now_us)
            turn.lost_due, turn.next_due_us = len(lost.plan.claims), lost.next_due_us
        if free > 0:
            found = self._finder.find(unit, limits, free, now_us, is_idle=is_idle)
            turn.next_due_us = earlier(turn.next_due_us, found.next_due_us)
            return self._claim(unit, found.plan.claims, act, turn, seen)
        return []

    def _is_ours(self, name: str, queue: str) -> bool:
        is_served = name in self._ledger.functions and (not self._queues or queue in self._queues)
        return is_served and self._controls is not None and self._controls.paused(queue) is None

    def _claim(self, unit: Unit, rows: Sequence[Row], act: c.Act, turn: Turn, seen: int | None) -> list[Event]:
        if not rows:
            return []
        events: list[Event] = []
        seen = unit.head() if seen is None else seen
        claim = c.Claim(worker=self._worker, seen=seen, code_version=self._code_version)
        asked = orjson.dumps([row[0] for row in rows]).decode()
        requests = dict(unit.rows(SQL["requests"], (asked,)))
        for row in rows:
            after, caused = self._claim_one(unit, TaskState._make(row[1:]), claim, act)
            events += caused
            queued = orjson.loads(requests[row[0]])
            turn.claims.append(Claimed(row[0], after, queued.get("args", {}), queued["retry"]))
        unit.run(SQL["claim_rows"], (self._worker, to_us(unit.now), asked))
        return events

    def _claim_one(self, unit: Unit, state: TaskState, claim: c.Claim, act: c.Act) -> tuple[TaskState, list[Event]]:
        if state.key_held and state.unique_until == "start":
            return acts.settle(unit, state, claim, act)
        [event] = decide(state, claim, act)
        return evolve(state, event), [event]


def _catch_up_own(unit: Unit) -> None:
    """Fold what this very transaction appended: new tasks get their rows so, and schedules see how their runs ended.

    What is brought forward already folds to nothing.
    """
    while not catch_up(unit, with_inbox=False):  # the turn has begun with that
        pass


def record_one(unit: Unit, finished: Finished, act: c.Act) -> int:
    """Record one outcome against the task as it is now; return 1 if it came too late and was rejected."""
    state, position = current_state(unit, finished.claimed)
    is_late = (
        state.status != RUNNING or state.attempt != finished.command.attempt or state.worker != finished.command.worker
    )
    if is_late and _is_recorded(unit, finished, act):
        return 0
    state, said = told(state, finished.progress, act)
    after, events = acts.settle(unit, state, finished.command, act)
    unit.append([*said, *events])
    if finished.children and not is_late and isinstance(finished.command, c.Succeed):
        acts.enqueue(unit, finished.children, act, keep_duplicates=True)
    put_row(unit, position, after)
    return int(is_late and bool(events))


def told(state: TaskState, progress: c.Progress | None, act: c.Act) -> tuple[TaskState, list[Event]]:
    """Return the task after what its attempt said last of its progress, and the event of that."""
    events = [] if progress is None else decide(state, progress, act)
    for event in events:
        state = evolve(state, event)
    return state, events


def _is_recorded(unit: Unit, finished: Finished, act: c.Act) -> bool:
    """Return whether this very outcome is in the log: by an earlier commit, whose answer was lost."""
    said = (
        event
        for _, event in unit.stream(task_stream(finished.claimed.state.task_id))
        if event.actor == act.actor and not isinstance(event, TaskClaimed | TaskProgressed | LateResultRejected)
    )
    return any(getattr(event, "attempt", None) == finished.command.attempt for event in said)


def current_state(unit: Unit, claimed: Claimed) -> tuple[TaskState, int]:
    """Return the task from its row, or from its stream if it has ended; and its row's position."""
    found = unit.rows(SQL["row_of_task"], (claimed.state.task_id,))
    if found:
        return TaskState._make(found[0][1:]), found[0][0]
    return acts.load(unit, claimed.state.task_id), claimed.position


def put_row(unit: Unit, position: int, state: TaskState) -> None:
    """Bring the row of one task to *state*: updated while it lives, gone when it has ended."""
    if state.status in ENDED:
        unit.run(SQL["delete_row"], (position,))
    else:
        unit.run(SQL["put_row"], (position, *state))
