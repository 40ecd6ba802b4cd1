"""Run one task by its id, here and now: brought to be due and claimed in one transaction, whatever its queue does."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import from_us, to_us
from ledger.errors import Conflict
from ledger.events import TaskQueued, WorkerStarted
from ledger.ids import mint, task_stream
from ledger.store import Unit
from ledger.task import CANCELLED, FAILED, RUNNING, SUCCEEDED, WAITING, TaskState
from ledger.values import require_reason
from projections.queue import SQL, catch_up, catch_up_all
from runner.cycle import Claimed, Cycle, Finished
from runner.execute import execute
from runner.heartbeat import all_of, host_name, show
from runner.inline import give_back, is_interrupt
from runner.losses import end_worker, lost
from runner.names import present_name, renamed

NAME = "one task"
"""Name of the worker in events."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed task and the worker, made for it alone, that holds it."""

    worker: str
    claimed: Claimed


def take(
    ledger: Ledger,
    task_id: str,
    *,
    reason: str | None = None,
    actor: str | None = None,
    lease_seconds: float = 0.0,
    code_version: str | None = None,
) -> Taken:
    """Claim the task for a new worker of this process; all in one transaction, so that nobody else gets it before.

    A failed or cancelled task is retried, one that is not due is rescheduled to now; both need a *reason*. Its worker
    has a heartbeat row from the start; with *lease_seconds* 0 it counts as alive as long as this process is there.

    Raises:
        NotFound: The ledger has no such task.

        NotRegistered: This process has no function for it.

        Conflict: It is running (the message says where), has succeeded or expired, or another task holds its key.
    """
    ledger.function(ledger.get(task_id).record.state.name)
    catch_up_all(ledger)
    with ledger.store.write() as unit:
        _catch_up(unit)
        act = ledger.act(unit, actor, reason)
        state = _made_due(unit, acts.load(unit, task_id), act)
        worker = mint(unit.now)
        own = c.Act(id=mint(unit.now), at=unit.now, actor="worker:" + worker)
        unit.append([_started(worker, ledger.name, own)])
        show(unit, worker, NAME, threads=1, queues=(), lease_seconds=lease_seconds, names=ledger.functions)
        claim = c.Claim(worker=worker, seen=unit.head(), code_version=code_version)
        _, events = acts.settle(unit, state, claim, own)
        unit.append(events)
        _catch_up(unit)
        return Taken(worker, _claimed(ledger, unit, task_id))


def _catch_up(unit: Unit) -> None:
    while not catch_up(unit):
        pass


def _made_due(unit: Unit, state: TaskState, act: c.Act) -> TaskState:
    """Return the task waiting and due, by the events that this takes."""
    if state.status == RUNNING:
        raise Conflict(f"task {state.task_id} is running already: {_holder(unit, state)}")
    if state.status == SUCCEEDED:
        raise Conflict(f"task {state.task_id} has succeeded; what has waited, failed or been cancelled can be run")
    if state.status in (FAILED, CANCELLED):
        require_reason(act.reason, f"running a task that is {state.status} retries it, which")
        return acts.retry(unit, state.task_id, act)
    if state.status == WAITING and state.due_us > to_us(act.at):
        require_reason(act.reason, f"running a task before it is due, at {from_us(state.due_us).isoformat()},")
        return acts.act_on(unit, state.task_id, c.Reschedule(due_at=act.at), act)
    return state


def _holder(unit: Unit, state: TaskState) -> str:
    row = next((row for row in all_of(unit) if row.worker_id == state.worker), None)
    where = f" ({row.name}, host {row.host}, pid {row.pid})" if row is not None else ", which has no heartbeat"
    return f"attempt {state.attempt} is held by worker {state.worker}{where}"


def _started(worker: str, app: str, act: c.Act) -> WorkerStarted:
    return WorkerStarted(
        originator_id="worker:" + worker,
        originator_version=1,
        command=act.id,
        at=act.at,
        actor=act.actor,
        name=NAME,
        host=host_name(),
        pid=os.getpid(),
        app=app,
        threads=1,
        queues=[],
    )


def _claimed(ledger: Ledger, unit: Unit, task_id: str) -> Claimed:
    row = renamed(unit.rows(SQL["row_of_task"], (task_id,))[0], present_name(ledger.functions))
    queued = unit.stream(task_stream(task_id))[0].event
    assert isinstance(queued, TaskQueued), "a row is of a task that was queued"
    return Claimed(row[0], TaskState._make(row[1:]), queued.args, queued.retry)


def record(ledger: Ledger, taken: Taken, finished: Finished) -> bool:
    """Record the outcome; return whether it came too late and was rejected."""
    cycle = Cycle(ledger, taken.worker)
    while (turn := cycle.turn([finished], 0, is_idle=True)).is_behind:
        pass
    return bool(turn.rejected)


def dismiss(ledger: Ledger, taken: Taken) -> None:
    """Record that the worker made for this task is gone."""
    end_worker(ledger, taken.worker, "stopped", lost("its worker stopped"), actor="worker:" + taken.worker)


def run_one(ledger: Ledger, task_id: str, *, reason: str | None = None, actor: str | None = None) -> str:
    """Run one task in the caller's thread, as `take` claims it, and return its state then.

    As with `run_inline` nothing runs beside it: no time limit of a plain function is enforced.

    Raises:
        Conflict: It cannot be claimed, or it was taken from this worker while it ran.
    """
    taken = take(ledger, task_id, reason=reason, actor=actor)
    try:
        finished = execute(ledger, taken.claimed, lambda: False)
        if is_interrupt(finished):
            record(ledger, taken, give_back(finished))
            raise KeyboardInterrupt
        if record(ledger, taken, finished):
            raise Conflict(f"task {task_id} was taken from this worker while it ran; its result was rejected")
    finally:
        dismiss(ledger, taken)
    return ledger.get(task_id).state
