"""Hold the rules of one task: which events a command causes and what an event changes. Pure and total.

`decide` and `evolve` take all they need as arguments: no clock, no database, no configuration. A live task's
`TaskState` is also, field by field, its row in the queue view.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from ledger import commands as c
from ledger import events as e
from ledger import moments
from ledger.clock import from_us, to_us
from ledger.errors import Conflict
from ledger.retry import delay_seconds

NONE, WAITING, RUNNING = "none", "waiting", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
STATES = (WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED)
ENDED = frozenset((SUCCEEDED, FAILED, CANCELLED))
CANCEL_GRACE_SECONDS = 30
"""A task that goes on so long after CancelRequested is ended like one past its hard timeout (DESIGN 4)."""


class TaskState(NamedTuple):
    """What decisions about a task rest on. Times are microseconds since 1970 (UTC), delays seconds."""

    task_id: str
    version: int = 0
    status: str = NONE
    name: str = ""
    queue: str = ""
    priority: int = 0
    due_us: int = 0
    queued_us: int = 0
    run_as: str = ""
    attempt: int = 0
    """Number of the newest attempt: the fencing token."""
    used: int = 0
    """Attempts used in this round: failed, lost or delayed."""
    max_attempts: int | None = None
    retry_first: float = 0.0
    retry_factor: float = 1.0
    retry_cap: float = 0.0
    retry_jitter: float = 0.0
    timeout: float | None = None
    kill_after: float = 30.0
    key_stream: str | None = None
    unique_until: str = "end"
    key_held: int = 0
    worker: str | None = None
    claimed_us: int | None = None
    cancel_us: int | None = None
    lost: int = 0
    """1 after a lost attempt: the next one runs alone in its process."""
    concurrency_key: str | None = None
    expires_us: int | None = None
    """When the task is cancelled if it waits then; None once an attempt was used."""

    @property
    def attempts_left(self) -> int | None:
        """Attempts that may still be used in this round, one that runs included; None: without end."""
        return None if self.max_attempts is None else self.max_attempts - self.used


def decide(state: TaskState, command: c.Command, act: c.Act) -> list[e.Event]:
    """Return the events that *command* causes for the task in *state*; an empty list when nothing is left to do.

    Raises:
        Conflict: The state does not allow the command; the message says which states do.
    """
    match command:
        case c.Succeed() | c.Fail() | c.Delay() | c.Lose() | c.Interrupt():
            return _outcome(state, command, act)
        case c.Claim():
            return [_claim(state, command, act)]
        case c.Queue():
            return [_queue(state, command, act)]
        case c.Progress():
            return _progress(state, command, act)
        case c.Cancel():
            return _cancel(state, command, act)
        case c.Reschedule():
            return [_reschedule(state, command, act)]
        case c.Expire():
            return _expire(state, act)
        case c.RetryNow(queued=queued):
            return [_retry(state, queued, act)]


def _envelope(state: TaskState, act: c.Act) -> dict[str, Any]:
    return {
        "originator_id": "task:" + state.task_id,
        "originator_version": state.version + 1,
        "command": act.id,
        "at": act.at,
        "actor": act.actor,
        "reason": act.reason,
    }


def _require(state: TaskState, verb: str, *allowed: str) -> None:
    if state.status not in allowed:
        found = "does not exist" if state.status == NONE else f"is {state.status}"
        raise Conflict(f"task {state.task_id} {found}; {verb} is possible while it is {' or '.join(allowed)}")


def _queue(state: TaskState, command: c.Queue, act: c.Act) -> e.TaskQueued:
    if state.status != NONE:
        raise Conflict(f"task {state.task_id} is already {state.status}; an id is queued once")
    fields = _envelope(state, act)
    fields.update(vars(command))
    fields.update(moments.of(command, act.at))
    for name in c.NOT_STORED:
        del fields[name]
    return e.TaskQueued.of(fields)


def _claim(state: TaskState, command: c.Claim, act: c.Act) -> e.TaskClaimed:
    _require(state, "claim", WAITING)
    if state.due_us > to_us(act.at):
        raise Conflict(f"task {state.task_id} is not due until {from_us(state.due_us).isoformat()}")
    moments.require_before(state.task_id, state.expires_us, act.at)
    return e.TaskClaimed.of(
        {
            "originator_id": "task:" + state.task_id,
            "originator_version": state.version + 1,
            "command": act.id,
            "at": act.at,
            "actor": act.actor,
            "attempt": state.attempt + 1,
            "worker": command.worker,
            "seen": command.seen,
            "code_version": command.code_version,
        }
    )


def _holds(state: TaskState, command: c.Outcome | c.Progress) -> bool:
    return state.status == RUNNING and state.attempt == command.attempt and state.worker == command.worker


def _outcome(state: TaskState, command: c.Outcome, act: c.Act) -> list[e.Event]:
    if not _holds(state, command):
        return _late(state, command, act)
    if isinstance(command, c.Succeed):
        return [_succeeded(state, command, act)]
    if state.cancel_us is not None:
        return [_cancelled(state, command, act)]
    return [_unsuccessful(state, command, act)]


def _succeeded(state: TaskState, command: c.Succeed, act: c.Act) -> e.TaskSucceeded:
    return e.TaskSucceeded.of(
        {
            "originator_id": "task:" + state.task_id,
            "originator_version": state.version + 1,
            "command": act.id,
            "at": act.at,
            "actor": act.actor,
            "attempt": command.attempt,
            "started_at": command.started_at,
            "finished_at": command.finished_at,
            "result": command.result,
            "output": command.output,
            "usage": command.usage,
            "acted_as": command.acted_as,
        }
    )


def _unsuccessful(state: TaskState, command: c.Fail | c.Delay | c.Lose | c.Interrupt, act: c.Act) -> e.Event:
    last = state.max_attempts is not None and state.used + 1 >= state.max_attempts
    envelope = _envelope(state, act)
    match command:
        case c.Fail():
            is_final = command.forever or last
            failed = e.TaskFailed(**envelope, **_reported(command), error=command.error, final=is_final)
            return _with_retry(state, failed)
        case c.Delay():
            return e.TaskDelayed(**envelope, **_reported(command), seconds=command.seconds, final=last)
        case c.Lose():
            lost = e.AttemptLost(
                **envelope, attempt=command.attempt, worker=command.worker, cause=command.cause, final=last
            )
            return _with_retry(state, lost)
        case c.Interrupt():
            return e.AttemptInterrupted(**envelope, attempt=command.attempt, worker=command.worker, cause=command.cause)


def _reported(command: c.Fail | c.Delay) -> dict[str, Any]:
    names = ("attempt", "started_at", "finished_at", "output", "usage", "acted_as")
    return {name: getattr(command, name) for name in names}


def _with_retry(state: TaskState, event: e.TaskFailed | e.AttemptLost) -> e.TaskFailed | e.AttemptLost:
    """Return the event with when the task runs again by it, for whoever compares that with other rules."""
    return event if event.final else replace(event, retry_at=from_us(evolve(state, event).due_us))


def _late(state: TaskState, command: c.Outcome, act: c.Act) -> list[e.Event]:
    """A loss or interruption of an attempt that is over says nothing new; a result does, and is kept as rejected."""
    if isinstance(command, c.Lose | c.Interrupt):
        return []
    _require(state, "report", *STATES)
    names = {c.Succeed: "succeeded", c.Fail: "failed", c.Delay: "delayed"}
    return [
        e.LateResultRejected(
            **_envelope(state, act),
            attempt=command.attempt,
            worker=command.worker,
            outcome=names[type(command)],
            result=command.result if isinstance(command, c.Succeed) else None,
            error=command.error if isinstance(command, c.Fail) else None,
            output=command.output,
        )
    ]


def _cancelled(state: TaskState, command: c.Fail | c.Delay | c.Lose | c.Interrupt, act: c.Act) -> e.TaskCancelled:
    names = {c.Fail: "failed", c.Delay: "delayed", c.Lose: "lost", c.Interrupt: "interrupted"}
    return e.TaskCancelled(
        **_envelope(state, act),
        attempt=command.attempt,
        ended=names[type(command)],
        error=command.error if isinstance(command, c.Fail) else None,
        output=command.output if isinstance(command, c.Fail | c.Delay) else None,
        usage=command.usage if isinstance(command, c.Fail | c.Delay) else None,
        acted_as=command.acted_as if isinstance(command, c.Fail | c.Delay) else None,
    )


def _progress(state: TaskState, command: c.Progress, act: c.Act) -> list[e.Event]:
    """What an attempt that is over says of its progress is no news."""
    if not _holds(state, command):
        return []
    return [
        e.TaskProgressed(
            **_envelope(state, act),
            attempt=command.attempt,
            done=command.done,
            total=command.total,
            message=command.message,
        )
    ]


def _cancel(state: TaskState, command: c.Cancel, act: c.Act) -> list[e.Event]:
    _require(state, "cancel", WAITING, RUNNING)
    if state.status == WAITING:
        return [e.TaskCancelled(**_envelope(state, act), duplicate_of=command.duplicate_of)]
    if state.cancel_us is not None:
        return []
    return [e.CancelRequested(**_envelope(state, act))]


def _reschedule(state: TaskState, command: c.Reschedule, act: c.Act) -> e.TaskRescheduled:
    _require(state, "reschedule", WAITING)
    expires_at = None if state.used else command.expires_at
    moments.require_before(state.task_id, moments.moved(state.expires_us, expires_at), command.due_at)
    return e.TaskRescheduled(**_envelope(state, act), due_at=command.due_at, expires_at=expires_at)


def _expire(state: TaskState, act: c.Act) -> list[e.Event]:
    """What has begun, ended or moved its expiry in the meantime does not expire."""
    if state.status != WAITING or not moments.has_come(state.expires_us, to_us(act.at)):
        return []
    return [e.TaskCancelled(**_envelope(state, act) | {"reason": moments.told(state.expires_us or 0, state.attempt)})]


def _retry(state: TaskState, queued: c.Queue, act: c.Act) -> e.TaskRetried:
    _require(state, "retry", FAILED, CANCELLED)
    return e.TaskRetried(
        **_envelope(state, act),
        name=queued.name,
        queue=queued.queue,
        priority=queued.priority,
        due_at=act.at,
        run_as=queued.run_as,
        retry=queued.retry,
        max_attempts=queued.max_attempts,
        timeout=queued.timeout,
        kill_after=queued.kill_after,
        key_stream=queued.key_stream,
        unique_until=queued.unique_until,
        concurrency_key=queued.concurrency_key,
    )


def ends(event: e.Event) -> bool:
    """Return whether the task has ended after *event*, whatever its state was."""
    match event:
        case e.TaskSucceeded() | e.TaskCancelled():
            return True
        case e.TaskFailed() | e.TaskDelayed() | e.AttemptLost():
            return event.final
        case _:
            return False


def evolve(state: TaskState, event: e.Event) -> TaskState:
    """Return the task as it is after *event*. Never fails, whatever the order of events."""
    version = event.originator_version
    match event:
        case e.TaskQueued():
            return _waiting_anew(state.task_id, event, event.at, attempt=0)
        case e.TaskRetried():
            queued_at = from_us(state.queued_us) if state.queued_us else event.at
            return _waiting_anew(state.task_id, event, queued_at, attempt=state.attempt)
        case e.TaskClaimed():
            held = 0 if state.unique_until == "start" else state.key_held
            return state._replace(
                version=version,
                status=RUNNING,
                attempt=event.attempt,
                worker=event.worker,
                claimed_us=to_us(event.at),
                key_held=held,
            )
        case e.TaskSucceeded():
            return _ended(state, version, SUCCEEDED)
        case e.TaskCancelled():
            return _ended(state, version, CANCELLED)
        case e.TaskFailed() | e.TaskDelayed() | e.AttemptLost():
            return _attempt_used(state, event)
        case e.AttemptInterrupted():
            return state._replace(version=version, status=WAITING, worker=None, claimed_us=None)
        case e.TaskRescheduled():
            expires_us = moments.moved(state.expires_us, event.expires_at)
            return state._replace(version=version, due_us=to_us(event.due_at), expires_us=expires_us)
        case e.CancelRequested():
            return state._replace(version=version, cancel_us=to_us(event.at))
        case _:
            return state._replace(version=version)


def _waiting_anew(task_id: str, event: e.TaskQueued | e.TaskRetried, queued_at: datetime, attempt: int) -> TaskState:
    retry = event.retry
    return TaskState(
        task_id,
        event.originator_version,
        WAITING,
        event.name,
        event.queue,
        event.priority,
        to_us(event.due_at),
        to_us(queued_at),
        event.run_as,
        attempt,
        0,
        event.max_attempts,
        retry["first"],
        retry["factor"],
        retry["cap"],
        retry["jitter"],
        event.timeout,
        event.kill_after,
        event.key_stream,
        event.unique_until,
        1 if event.key_stream else 0,
        concurrency_key=event.concurrency_key,
        expires_us=to_us(event.expires_at) if isinstance(event, e.TaskQueued) and event.expires_at else None,
    )


def _ended(state: TaskState, version: int, status: str) -> TaskState:
    return state._replace(version=version, status=status, worker=None, claimed_us=None, cancel_us=None, key_held=0)


def _attempt_used(state: TaskState, event: e.TaskFailed | e.TaskDelayed | e.AttemptLost) -> TaskState:
    used = state.used + 1
    lost = 1 if isinstance(event, e.AttemptLost) else 0
    if event.final:
        return _ended(state, event.originator_version, FAILED)._replace(used=used)
    seconds = event.seconds if isinstance(event, e.TaskDelayed) else retry_delay_seconds(state, used, event.attempt)
    return state._replace(
        version=event.originator_version,
        status=WAITING,
        due_us=to_us(event.at) + round(seconds * 1_000_000),
        used=used,
        worker=None,
        claimed_us=None,
        lost=lost,
        expires_us=None,
    )


def retry_delay_seconds(state: TaskState, used: int, attempt: int) -> float:
    """Return the seconds to wait after attempt number *attempt*, the *used*-th of this round, by the stored policy."""
    return delay_seconds(
        state.retry_first, state.retry_factor, state.retry_cap, state.retry_jitter, used, state.task_id, attempt
    )
