"""Tell the history of one schedule from its stream: who changed what, when, why, from what to what. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import schedule_events as s
from ledger.events import Event
from ledger.hidden import masked
from ledger.schedule import ScheduleState, definition_of, evolve, in_force
from ledger.store import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event of a schedule. *changes* has each value that it changed in what is in force: (from, to)."""

    position: int
    version: int
    what: str
    at: datetime
    actor: str
    reason: str | None
    changes: dict[str, tuple[Any, Any]]
    details: dict[str, Any]
    """What the event says beside that: the slot and task fired, the slots missed and their cause."""


def history_of(name: str, recorded: Iterable[Recorded]) -> list[Change]:
    """Return the events of a schedule's stream, oldest first, each with what it changed."""
    state = ScheduleState(name)
    found = []
    for position, event in recorded:
        after = evolve(state, event)
        found.append(
            Change(
                position=position,
                version=event.originator_version,
                what=type(event).__name__,
                at=event.at,
                actor=event.actor,
                reason=event.reason,
                changes=_changes(state, after),
                details=_details(event),
            )
        )
        state = after
    return found


def _changes(before: ScheduleState, after: ScheduleState) -> dict[str, tuple[Any, Any]]:
    old, new = _shown(before), _shown(after)
    return {key: (old.get(key), new.get(key)) for key in new if old.get(key) != new.get(key)}


def _shown(state: ScheduleState) -> dict[str, Any]:
    if state.status == "none":
        return {}
    force = in_force(state)
    definition = definition_of(state)
    options = {name: getattr(definition, name) for name in _OPTIONS}
    options["args"] = masked(definition.args, definition.hidden)
    return {
        "status": state.status,
        "schedule": " ".join(force.fields),
        "resolved": " ".join(force.resolved),
        "timezone": force.timezone,
        "enabled": force.enabled,
        "app": state.app,
        **options,
    }


_OPTIONS = (
    "task",
    "args",
    "queue",
    "priority",
    "run_as",
    "max_attempts",
    "timeout",
    "kill_after",
    "retry",
    "labels",
    "expires_us",
    "concurrency_key",
    "jitter",
    "misfire",
    "component",
    "always",
)


def _details(event: Event) -> dict[str, Any]:
    match event:
        case s.SlotFired():
            return {"slot": event.slot, "task": event.task, "asked": event.asked}
        case s.SlotsMissed():
            return {"first": event.first, "last": event.last, "count": event.count, "cause": event.cause}
        case s.RunRequested() | s.FailDelayCleared():
            return {"task": event.task}
        case s.ScheduleCustomised(override=str(pattern)):
            return {"override": pattern}
        case _:
            return {}
