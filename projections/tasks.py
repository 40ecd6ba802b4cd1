"""Fold task events into the rows of the report view `tasks`: one row per task that ever was. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from ledger import events as e
from ledger.clock import EPOCH, from_us, to_us
from ledger.hidden import masked
from ledger.progress import Progress
from ledger.task import ENDED, RUNNING, TaskState


class TaskRow(NamedTuple):
    """A row as it is stored, column by column. Times are text of fixed width in UTC; args, labels and result JSON."""

    task_id: str
    name: str = ""
    args: str = "{}"
    queue: str = ""
    priority: int = 0
    state: str = ""
    attempt: int = 0
    attempts_used: int = 0
    max_attempts: int | None = None
    run_as: str = ""
    actor: str = ""
    reason: str | None = None
    unique_key: str | None = None
    labels: str = "[]"
    parent: str | None = None
    queued_at: str = ""
    due_at: str = ""
    started_at: str | None = None
    """Of the newest attempt: the worker's time where it reported one, else the claim."""
    finished_at: str | None = None
    ended_at: str | None = None
    """When the task itself ended; empty while it is waiting or running."""
    wait_ms: float | None = None
    """From due to claimed, of the newest attempt."""
    run_ms: float | None = None
    """From started to finished, of the newest attempt that has ended."""
    worker: str | None = None
    """Of the newest attempt, kept after its end."""
    result: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None
    lost_attempts: int = 0
    late_results: int = 0
    expires_at: str | None = None
    """When it is cancelled if it waits for its first attempt then."""
    first_position: int = 0
    last_position: int = 0
    progress: str | None = None
    """How far the newest attempt said that it is, as JSON."""
    fold: str = ""
    """The `TaskState` that the next event is folded onto, as JSON."""

    @property
    def attempts_left(self) -> int | None:
        """Attempts that may still be used, one that runs included; None: without end."""
        if self.state in ENDED:
            return 0
        return None if self.max_attempts is None else self.max_attempts - self.attempts_used

    def summary(self) -> dict[str, Any]:
        """Return the task as one JSON object with the keys of `ledger.record.TaskRecord.summary`."""
        error = None
        if self.error_type is not None:
            error = {"type": self.error_type, "message": self.error_message}
            if self.error_traceback is not None:
                error["traceback"] = self.error_traceback
        return {
            "id": self.task_id,
            "name": self.name,
            "args": orjson.loads(self.args),
            "queue": self.queue,
            "priority": self.priority,
            "state": self.state,
            "attempt": self.attempt,
            "attempts_used": self.attempts_used,
            "max_attempts": self.max_attempts,
            "attempts_left": self.attempts_left,
            "due_at": self.due_at,
            "expires_at": self.expires_at,
            "queued_at": self.queued_at,
            "ended_at": self.ended_at,
            "run_as": self.run_as,
            "actor": self.actor,
            "reason": self.reason,
            "unique_key": self.unique_key,
            "concurrency_key": TaskState._make(orjson.loads(self.fold)).concurrency_key,
            "labels": orjson.loads(self.labels),
            "parent": self.parent,
            "worker": self.worker if self.state == RUNNING else None,
            "result": None if self.result is None else orjson.loads(self.result),
            "error": error,
            "progress": None if self.progress is None else orjson.loads(self.progress),
        }


_PLACES = {column: place for place, column in enumerate(TaskRow._fields)}
_OF_STATE = tuple(
    _PLACES[column]
    for column in (
        "name", "queue", "priority", "state", "attempt", "attempts_used", "max_attempts", "run_as", "due_at", "expires_at", "fold",
    )
)  # fmt: skip


class Folded(NamedTuple):
    """A task in the midst of folding: its decision state, its row as it was stored, and what is to be changed there."""

    state: TaskState
    row: TaskRow
    changes: dict[str, Any]

    def value(self, column: str) -> Any:
        """Return what the row has in *column* by now; not for those that `finish` takes from the state."""
        return self.changes[column] if column in self.changes else getattr(self.row, column)


@lru_cache(maxsize=1_024)  # the events of one act share their time, and a task's own times are often its events'
def stamp(moment: datetime) -> str:
    """Return an aware *moment* as text that sorts: UTC, always with microseconds and Z."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:26] + "Z"


def load(stored: tuple[Any, ...]) -> Folded:
    """Return a stored row ready for its next event."""
    row = TaskRow._make(stored)
    return Folded(TaskState._make(orjson.loads(row.fold)), row, {})


def finish(folded: Folded) -> TaskRow:
    """Return the row as it is to be stored."""
    state = folded.state
    row: list[Any] = list(folded.row)
    for column, value in folded.changes.items():
        row[_PLACES[column]] = value
    of_state = (
        state.name,
        state.queue,
        state.priority,
        state.status,
        state.attempt,
        state.used,
        state.max_attempts,
        state.run_as,
        stamp(from_us(state.due_us)),
        None if state.expires_us is None else stamp(from_us(state.expires_us)),
        _json(list(state)),
    )
    for place, value in zip(_OF_STATE, of_state, strict=True):
        row[place] = value
    return TaskRow._make(row)


def begin(task_id: str, position: int) -> Folded:
    """Return a task before its first event, which is at *position*."""
    return Folded(TaskState(task_id), TaskRow(task_id, queued_at=stamp(EPOCH), first_position=position), {})


def changes_of(before: Folded, event: e.Event) -> dict[str, Any]:
    """Return what *event* changes in the row of a task, beside what follows from its state."""
    match event:
        case e.TaskQueued():
            return _queued(event)
        case e.TaskClaimed():
            return _claimed(before.state, event)
        case e.TaskSucceeded():
            result = None if event.result is None else _json(event.result)
            return {**_attempt(before, event), **_end(event), "result": result, **_error(None)}
        case e.TaskFailed():
            return {**_attempt(before, event), **_final(event), **_error(event.error)}
        case e.TaskDelayed():
            message = f"asked to run again in {event.seconds:g} s on its last attempt"
            gave_up = _error(e.ErrorDetail(type="Delay", message=message)) if event.final else {}
            return {**_attempt(before, event), **_final(event), **gave_up}
        case e.AttemptLost():
            error = e.ErrorDetail(type="AttemptLost", message=event.cause)
            lost = {"lost_attempts": before.value("lost_attempts") + 1}
            return {**_attempt(before, event), **_final(event), **_error(error), **lost}
        case e.AttemptInterrupted():
            return _attempt(before, event)
        case e.TaskCancelled():
            return {**({} if event.attempt is None else _attempt(before, event)), **_end(event)}
        case e.TaskRetried():
            return {"ended_at": None}
        case e.TaskProgressed():
            said = Progress(done=event.done, total=event.total, message=event.message, at=event.at).summary()
            return {"progress": _json({**said, "at": stamp(event.at)})}
        case e.LateResultRejected():
            return {"late_results": before.value("late_results") + 1}
        case _:
            return {}


def _queued(event: e.TaskQueued) -> dict[str, Any]:
    return {
        "args": _json(masked(event.args, event.hidden) if event.hidden else event.args),
        "actor": event.actor,
        "reason": event.reason,
        "unique_key": event.unique_key,
        "labels": _json(event.labels),
        "parent": event.parent,
        "queued_at": stamp(event.at),
    }


def _claimed(state: TaskState, event: e.TaskClaimed) -> dict[str, Any]:
    due_us = max(state.due_us, state.queued_us)
    wait_ms = max(to_us(event.at) - due_us, 0) / 1000
    return {
        "started_at": stamp(event.at),
        "finished_at": None,
        "wait_ms": wait_ms,
        "worker": event.worker,
        "progress": None,
    }


def _attempt(before: Folded, event: e.Event) -> dict[str, Any]:
    """Return when the attempt that *event* ends ran; without the worker's report, from its claim to the event."""
    state = before.state
    started: datetime | None = getattr(event, "started_at", None)
    if started is None and state.claimed_us is not None:
        started = from_us(state.claimed_us)
    finished: datetime = getattr(event, "finished_at", None) or event.at
    run_ms = None if started is None else max(to_us(finished) - to_us(started), 0) / 1000
    started_at = before.value("started_at") if started is None else stamp(started)
    return {"started_at": started_at, "finished_at": stamp(finished), "run_ms": run_ms}


def _final(event: e.TaskFailed | e.TaskDelayed | e.AttemptLost) -> dict[str, Any]:
    return _end(event) if event.final else {}


def _end(event: e.Event) -> dict[str, Any]:
    return {"ended_at": stamp(event.at)}


def _error(error: e.ErrorDetail | None) -> dict[str, Any]:
    if error is None:
        return {"error_type": None, "error_message": None, "error_traceback": None}
    return {
        "error_type": error.get("type", ""),
        "error_message": error.get("message", ""),
        "error_traceback": error.get("traceback"),
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
