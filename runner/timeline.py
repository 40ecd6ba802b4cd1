"""Fold the stream of one task into what its timeline draws: waits, retry delays, attempts, and who did what. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from ledger import events as e
from ledger.clock import from_us, to_us
from ledger.store import Recorded
from ledger.task import RUNNING, WAITING, TaskState, evolve

ENDS = {
    e.TaskSucceeded: "succeeded",
    e.TaskFailed: "failed",
    e.TaskDelayed: "delayed",
    e.AttemptLost: "lost",
    e.AttemptInterrupted: "interrupted",
}
ACTS = {
    e.TaskRescheduled: "rescheduled",
    e.TaskRetried: "retried",
    e.CancelRequested: "cancel requested",
    e.TaskCancelled: "cancelled",
    e.LateResultRejected: "late result",
}
NOT_DUE, DUE, RUNS, POINT = "·", "░", "█", "◆"


class Span(NamedTuple):
    """A part of a task's life, or a moment of it where *begin* and *end* are one."""

    begin: datetime
    end: datetime
    what: str
    """``queued``, ``not due``, ``due``, ``attempt 2``, ``retried`` and so on."""
    said: str
    """Who, why, and how it ended."""
    mark: str
    """What it is drawn with."""


def spans(task_id: str, recorded: Iterable[Recorded], now: datetime) -> list[Span]:
    """Return the parts of a task's life in order; one that lives goes on until *now*."""
    state = TaskState(task_id)
    since: datetime | None = None
    found: list[Span] = []
    for _, event in recorded:
        after = evolve(state, event)
        if since is not None and (after.status != state.status or isinstance(event, e.TaskRescheduled)):
            found += _stretch(state, since, event.at, event)
        if isinstance(event, e.TaskQueued):
            found.append(Span(event.at, event.at, "queued", _by(event), POINT))
        elif (what := ACTS.get(type(event))) is not None:
            found.append(Span(event.at, event.at, what, _by(event), POINT))
        if after.status != state.status or isinstance(event, e.TaskRescheduled):
            since = event.at
        state = after
    if since is not None:
        found += _stretch(state, since, max(now, since), None)
    return found


def _stretch(state: TaskState, begin: datetime, end: datetime, event: e.Event | None) -> list[Span]:
    """Return what a task did from *begin* to *end*, where *event* ended it."""
    if state.status == RUNNING:
        return [Span(begin, end, f"attempt {state.attempt}", _outcome(state, event), RUNS)]
    if state.status != WAITING or to_us(end) <= to_us(begin):
        return []
    due = min(max(from_us(state.due_us), begin), end)
    parts = [Span(begin, due, "not due", "", NOT_DUE), Span(due, end, "due", "", DUE)]
    return [part for part in parts if part.begin < part.end]


def _outcome(state: TaskState, event: e.Event | None) -> str:
    if event is None:
        return f"running on {state.worker}"
    error = getattr(event, "error", None) or {}
    raised = f"{error.get('type')}: {error.get('message')}" if error else getattr(event, "cause", None)
    outcome = ENDS.get(type(event), "cancelled")
    return ", ".join(filter(None, (outcome, raised, f"worker {state.worker}")))


def _by(event: e.Event) -> str:
    return f"by {event.actor}" + (f": {event.reason}" if event.reason else "")
