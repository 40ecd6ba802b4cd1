"""Fold one task's stream into what people ask of it: its data, its attempts, its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger import events as e
from ledger.clock import from_us
from ledger.hidden import masked
from ledger.progress import Progress
from ledger.store import Recorded
from ledger.task import ENDED, TaskState, evolve


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. *outcome* is ``running`` until it has ended, then ``succeeded``, ``failed``, ``delayed``, ``lost``,
    ``interrupted`` or ``cancelled``; *started_at* and *finished_at* are the worker's times, where it could report them.
    """

    number: int
    worker: str
    claimed_at: datetime
    code_version: str | None = None
    """Of the code that ran it, where its worker could tell."""
    outcome: str = "running"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ended_at: datetime | None = None
    error: e.ErrorDetail | None = None
    cause: str | None = None
    output: e.OutputDigest | None = None
    """What is said of its output, once it has ended; the text is in `Task.output`."""
    usage: e.Usage | None = None
    progress: Progress | None = None
    """The last that was stored of what it said of its progress."""
    acted_as: tuple[str, ...] = ()
    """The identities that it took on beside the one it ran as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task as its stream tells it: the decision state, the request, the attempts and the last result or error."""

    state: TaskState
    queued: e.TaskQueued
    """The request; hidden arguments are shown as hidden."""
    queued_position: int | None
    """None while it waits in the inbox: no process has taken it into the log yet."""
    attempts: tuple[AttemptRecord, ...] = ()
    result: Any = None
    error: e.ErrorDetail | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    """The actor of the event that ended the task."""
    end_reason: str | None = None
    rescheduled_at: datetime | None = None
    """When somebody moved the due time that now holds."""
    late_results: int = 0
    duplicate_of: str | None = None
    """The task that held its unique key when it came, which is why it was cancelled."""

    @property
    def progress(self) -> Progress | None:
        """How far the newest attempt said that it is; None where it said nothing."""
        return self.attempts[-1].progress if self.attempts else None

    def summary(self) -> dict[str, Any]:
        """Return the task as one JSON object, as ``task show -o json`` and lists have it."""
        state, queued = self.state, self.queued
        return {
            "id": state.task_id,
            "name": queued.name,
            "args": queued.args,
            "queue": state.queue,
            "priority": state.priority,
            "state": state.status,
            "attempt": state.attempt,
            "attempts_used": state.used,
            "max_attempts": state.max_attempts,
            "attempts_left": 0 if state.status in ENDED else state.attempts_left,
            "due_at": from_us(state.due_us),
            "expires_at": None if state.expires_us is None else from_us(state.expires_us),
            "queued_at": queued.at,
            "ended_at": self.ended_at,
            "run_as": state.run_as,
            "actor": queued.actor,
            "reason": queued.reason,
            "unique_key": queued.unique_key,
            "concurrency_key": state.concurrency_key,
            "labels": list(queued.labels),
            "parent": queued.parent,
            "worker": state.worker,
            "result": self.result,
            "error": self.error,
            "progress": None if self.progress is None else self.progress.summary(),
        }


def fold_record(task_id: str, recorded: Iterable[Recorded]) -> TaskRecord | None:
    """Return the record of a task from its whole stream, or None if there is no such task."""
    return fold_on(None, task_id, recorded)


def fold_on(record: TaskRecord | None, task_id: str, recorded: Iterable[Recorded]) -> TaskRecord | None:
    """Return the record with the events that its stream had after it folded in."""
    for position, event in recorded:
        if record is not None:
            record = _fold(record, event)
        elif isinstance(event, e.TaskQueued):
            state = evolve(TaskState(task_id), event)
            shown = replace(event, args=masked(event.args, event.hidden)) if event.hidden else event
            record = TaskRecord(state=state, queued=shown, queued_position=position)
    return record


def _fold(record: TaskRecord, event: e.Event) -> TaskRecord:
    is_moved = isinstance(event, e.TaskFailed | e.TaskDelayed | e.AttemptLost)
    record = replace(
        record,
        state=evolve(record.state, event),
        rescheduled_at=None if is_moved else record.rescheduled_at,
    )
    match event:
        case e.TaskClaimed():
            attempt = AttemptRecord(
                number=event.attempt, worker=event.worker, claimed_at=event.at, code_version=event.code_version
            )
            return replace(record, attempts=(*record.attempts, attempt))
        case e.TaskSucceeded():
            return _end(_attempt(record, event, "succeeded"), event, result=event.result, error=None)
        case e.TaskFailed():
            record = replace(_attempt(record, event, "failed", error=event.error), error=event.error)
            return _end(record, event) if event.final else record
        case e.TaskDelayed():
            cause = f"asked to run again in {event.seconds:g} s"
            record = _attempt(record, event, "delayed", cause=cause)
            error = e.ErrorDetail(type="Delay", message=f"{cause} on its last attempt")
            return _end(record, event, error=error) if event.final else record
        case e.AttemptLost():
            error = e.ErrorDetail(type="AttemptLost", message=event.cause)
            record = replace(_attempt(record, event, "lost", cause=event.cause), error=error)
            return _end(record, event) if event.final else record
        case e.AttemptInterrupted():
            return _attempt(record, event, "interrupted", cause=event.cause)
        case e.TaskCancelled():
            if event.attempt is not None:
                record = _attempt(record, event, "cancelled", error=event.error, cause=event.ended)
            return _end(record, event, duplicate_of=event.duplicate_of)
        case e.TaskRetried():
            again = replace(record, ended_at=None, ended_by=None, end_reason=None, rescheduled_at=None)
            return replace(again, duplicate_of=None)
        case _:
            return _fold_aside(record, event)


def _fold_aside(record: TaskRecord, event: e.Event) -> TaskRecord:
    """Fold an event that ends neither the task nor an attempt."""
    match event:
        case e.TaskProgressed():
            return _progressed(record, event)
        case e.TaskRescheduled():
            return replace(record, rescheduled_at=event.at)
        case e.LateResultRejected():
            return replace(record, late_results=record.late_results + 1)
        case _:
            return record


def _progressed(record: TaskRecord, event: e.TaskProgressed) -> TaskRecord:
    said = Progress(done=event.done, total=event.total, message=event.message, at=event.at)
    attempts = (replace(one, progress=said) if one.number == event.attempt else one for one in record.attempts)
    return replace(record, attempts=tuple(attempts))


def _end(record: TaskRecord, event: e.Event, **changes: Any) -> TaskRecord:
    return replace(record, ended_at=event.at, ended_by=event.actor, end_reason=event.reason, **changes)


def _attempt(record: TaskRecord, event: Any, outcome: str, **changes: Any) -> TaskRecord:
    """Return the record with the attempt that *event* ends filled in."""
    attempts = tuple(
        replace(
            attempt,
            outcome=outcome,
            ended_at=event.at,
            started_at=getattr(event, "started_at", None),
            finished_at=getattr(event, "finished_at", None),
            output=getattr(event, "output", None),
            usage=getattr(event, "usage", None),
            acted_as=tuple(getattr(event, "acted_as", None) or ()),
            **changes,
        )
        if attempt.number == event.attempt
        else attempt
        for attempt in record.attempts
    )
    return replace(record, attempts=attempts)
