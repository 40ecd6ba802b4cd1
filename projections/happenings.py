"""Fold events of every kind into the rows of the report views `events` and `operators`. Pure."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ledger import events as e
from ledger import schedule_events as s
from ledger.event import Event
from ledger.hidden import shown_event
from ledger.ledger_events import NoticeRaised
from projections.views import Step, Tables

ENVELOPE = frozenset(("originator_id", "originator_version", "command", "at", "actor", "reason"))
NO_ACTS: tuple[type[Event], ...] = (
    e.TaskQueued,
    e.TaskClaimed,
    e.TaskSucceeded,
    e.TaskFailed,
    e.TaskDelayed,
    e.AttemptLost,
    e.AttemptInterrupted,
    e.LateResultRejected,
    e.TaskProgressed,
    e.KeyReserved,
    e.KeyReleased,
    e.WorkerStarted,
    e.WorkerStopped,
    s.SlotFired,
    s.SlotsMissed,
    NoticeRaised,
)
"""What follows from the work itself, whoever is named in it. Every other event of a ``user:`` is an act of an operator."""


class EventRow(NamedTuple):
    """A row of `events`; what the columns mean says its SQL file."""

    position: int
    stream: str
    version: int
    type: str
    task_id: str | None
    at: str
    actor: str
    reason: str | None
    command: str
    data: str


class OperatorRow(NamedTuple):
    """A row of `operators`."""

    position: int
    at: str
    actor: str
    action: str
    target: str
    name: str | None
    reason: str | None
    command: str
    data: str


def data_of(event: Event) -> str:
    """Return what *event* says beside its envelope, as JSON; hidden arguments are shown as hidden."""
    said = vars(shown_event(event)).items()
    fields = {name: value for name, value in said if name not in ENVELOPE and value is not None}
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z).decode()


def take_event(step: Step, tables: Tables) -> None:
    """Add one event to `events`."""
    event, position = step.event, step.position
    row = EventRow(
        position, event.originator_id, event.originator_version, type(event).__name__, step.task_id, step.at,
        event.actor, event.reason, event.command, data_of(event),
    )  # fmt: skip
    tables["events"].put((position,), row)


def take_act(step: Step, tables: Tables) -> None:
    """Add one event to `operators` if somebody did it by hand."""
    event, position = step.event, step.position
    if not event.actor.startswith("user:"):
        return
    target = event.originator_id
    name = target.partition(":")[2] or None if step.after is None else step.after.state.name
    row = OperatorRow(
        position, step.at, event.actor, type(event).__name__, target, name, event.reason, event.command, data_of(event)
    )
    tables["operators"].put((position,), row)
