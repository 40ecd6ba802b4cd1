"""Say what needs a person: which events of a task or schedule raise a notice, and what it says. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import events as e
from ledger.clock import from_us
from ledger.commands import Act
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import NoticeRaised
from ledger.schedule import LEDGER_STREAM, ScheduleState, schedule_stream
from ledger.store import Recorded
from ledger.task import TaskState, retry_delay_seconds

DELAY_AT_CAP = "delay_at_cap"
OUT_OF_ATTEMPTS = "out_of_attempts"
FAILED_AT_ONCE = "failed_at_once"
SCHEDULE_OVERDUE = "schedule_overdue"
KINDS = (DELAY_AT_CAP, OUT_OF_ATTEMPTS, FAILED_AT_ONCE, SCHEDULE_OVERDUE)
MOST_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice as hooks get it: `NoticeRaised` with its position. *about* is a stream, *name* a task's or schedule's."""

    position: int
    at: datetime
    kind: str
    about: str
    name: str
    text: str
    details: dict[str, Any]

    @property
    def subject(self) -> str:
        """One line that names the task or schedule."""
        what = "Schedule overdue" if self.kind == SCHEDULE_OVERDUE else "Task failed"
        return f"{what}: {self.name}"

    def summary(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        names = ("position", "at", "kind", "about", "name", "text", "details")
        return {name: getattr(self, name) for name in names}


Hook = Callable[[Notice], object]
Last = Callable[[], e.Event | None]
"""Gives the newest event of the ledger stream; asked only where there is something to say."""


def notice(recorded: Recorded) -> Notice:
    """Return the notice of a stored `NoticeRaised`."""
    event = recorded.event
    assert isinstance(event, NoticeRaised), "the caller has looked"
    return Notice(
        position=recorded.position,
        at=event.at,
        kind=event.kind,
        about=event.about,
        name=event.name,
        text=event.text,
        details=event.details or {},
    )


def of_task(before: TaskState, event: e.Event, last: Last, act: Act) -> NoticeRaised | None:
    """Return the notice that an event of the task *before* it raises; *last* gives the newest event of its stream.

    Each failure whose retry delay reaches the cap, and each end without success that nobody asked for. A delay that
    the task itself asked for is no failure.
    """
    if not isinstance(event, e.TaskFailed | e.TaskDelayed | e.AttemptLost):
        return None
    used = before.used + 1
    said: dict[str, Any] = {"attempt": event.attempt, "attempts_used": used}
    if event.final:
        is_last = before.max_attempts is not None and used >= before.max_attempts
        kind = OUT_OF_ATTEMPTS if is_last else FAILED_AT_ONCE
        times = f"all {used} attempts are used" if used > 1 else "its one attempt is used"
        why = (
            f"{times}; the last one {_outcome(event)}"
            if is_last
            else f"it is never retried after this: {_error(event)}"
        )
        return _raised(kind, TASK_PREFIX + before.task_id, before.name, f"failed for good: {why}", said, last, act)
    if isinstance(event, e.TaskDelayed) or not is_delay_at_cap(before, used):
        return None
    seconds = retry_delay_seconds(before, used, event.attempt)
    text = f"attempt {event.attempt} {_outcome(event)}; the retry delay has reached its cap, {before.retry_cap:,g} s"
    said["delay_seconds"] = seconds
    return _raised(DELAY_AT_CAP, TASK_PREFIX + before.task_id, before.name, text, said, last, act)


def is_delay_at_cap(state: TaskState, used: int) -> bool:
    """Return whether the delay after *used* attempts is the longest that the policy has; jitter comes on top."""
    plain = state._replace(retry_jitter=0.0)
    return 0 < state.retry_cap <= retry_delay_seconds(plain, used, 0)


def of_schedule(state: ScheduleState, slots: int, last: Last, act: Act) -> NoticeRaised:
    """Return the notice that more than *slots* slots of the schedule passed since its last success."""
    since = from_us(max(state.success_us or 0, state.counted_us))
    if state.success_us is not None and state.success_us >= state.counted_us:
        began = f"it succeeded last at {since:%Y-%m-%d %H:%M} UTC"
    else:
        began = f"it has not succeeded since it was declared, enabled or changed at {since:%Y-%m-%d %H:%M} UTC"
    text = f"{began}, and more than {slots} of its slots have passed"
    said = {"intervals": slots, "since": since.isoformat(), "failures": state.failures, "run": state.run_id}
    return _raised(SCHEDULE_OVERDUE, schedule_stream(state.name), state.name, text, said, last, act)


def _raised(kind: str, about: str, name: str, text: str, details: dict[str, Any], last: Last, act: Act) -> NoticeRaised:
    newest = last()
    return NoticeRaised(
        originator_id=LEDGER_STREAM,
        originator_version=newest.originator_version + 1 if newest else 1,
        command=act.id,
        at=act.at,
        actor=act.actor,
        kind=kind,
        about=about,
        name=name,
        text=text,
        details=details,
    )


def _outcome(event: e.TaskFailed | e.TaskDelayed | e.AttemptLost) -> str:
    match event:
        case e.TaskFailed():
            return f"failed with {_error(event)}"
        case e.TaskDelayed():
            return f"asked to run again in {event.seconds:g} s"
        case e.AttemptLost():
            return f"was lost: {event.cause}"


def _error(event: e.Event) -> str:
    error = event.error if isinstance(event, e.TaskFailed) else {}
    text = f"{error.get('type', 'an error')}: {error.get('message', '')}".rstrip(": ")
    return text if len(text) <= MOST_ERROR else text[: MOST_ERROR - 1] + "…"
