"""Given events, when a command, then events: the words that the tests of one schedule are written in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import events as e
from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger.clock import from_us
from ledger.commands import Act
from ledger.errors import Conflict
from ledger.events import Event
from ledger.retry import Retry
from ledger.schedule import ScheduleState, evolve
from ledger.schedule_rules import decide
from ledger.slots import next_us

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAME = "nightly"
HOURLY = ("0", "*", "*", "*", "*")


def at(clock: str) -> datetime:
    """Return that time of the first day, or with ``2 `` before it of the second."""
    day, _, time = clock.rpartition(" ")
    return datetime.fromisoformat(f"2026-01-0{day or 1}T{time}:00+00:00")


def definition(**changes: Any) -> sc.Definition:
    """Return an hourly schedule in UTC, with *changes*."""
    values: dict[str, Any] = {"task": NAME, "fields": HOURLY, "timezone": "UTC", "retry": Retry().stored()}
    return sc.Definition(**(values | changes))


def declare(*, app: str = "app", is_sync: bool = False, resolved: tuple[str, ...] = (), **changes: Any) -> sc.Declare:
    """Return the command that declares it."""
    defined = definition(**changes)
    return sc.Declare(app=app, definition=defined, resolved=resolved or defined.fields, croniter="7", is_sync=is_sync)


class ScheduleScenario:
    """One schedule's history as it grows; its clock starts at noon, when it is declared."""

    def __init__(self, **changes: Any) -> None:
        self.now = NOON
        self.state = ScheduleState(NAME)
        self.events: list[Event] = []
        self.when(declare(**changes))

    def at(self, clock: str) -> ScheduleScenario:
        """Go to a time of the day, forward or back."""
        self.now = at(clock)
        return self

    def later(self, **by: float) -> ScheduleScenario:
        """Let time pass."""
        self.now += timedelta(**by)
        return self

    def act(self) -> Act:
        return Act(id="act", at=self.now, actor="user:test", reason="because")

    def when(self, command: sc.ScheduleCommand) -> list[Event]:
        """Decide *command*, evolve the schedule by the events and return them."""
        events = decide(self.state, command, self.act())
        for event in events:
            self.state = evolve(self.state, event)
        self.events += events
        return events

    def fire(self) -> list[str]:
        """Let a worker look; return what it decided: the slots fired and missed, as text."""
        return [told(event) for event in self.when(sc.Fire(away="away"))]

    def rejects(self, command: sc.ScheduleCommand, because: str) -> None:
        """Assert that *command* is refused with a message that says *because*, and that nothing changed."""
        before = self.state
        with pytest.raises(Conflict, match=because):
            self.when(command)

        assert self.state == before

    def run(self, kind: type[Event], **values: Any) -> ScheduleScenario:
        """Let something happen to the newest run."""
        defaults: dict[type[Event], dict[str, Any]] = {
            e.TaskSucceeded: {"attempt": 1, "started_at": self.now, "finished_at": self.now},
            e.TaskFailed: {"attempt": 1, "error": {"type": "OSError"}, "final": False},
            e.AttemptLost: {"attempt": 1, "worker": "w", "cause": "gone", "final": False},
            e.TaskDelayed: {
                "attempt": 1, "started_at": self.now, "finished_at": self.now, "seconds": 5.0, "final": False
            },
        }  # fmt: skip
        event = kind(
            originator_id=f"task:{self.state.run_id}",
            originator_version=self.state.run_version + 2,
            command="act",
            at=self.now,
            actor="worker:w",
            **(defaults.get(kind, {}) | values),
        )
        self.state = evolve(self.state, event)
        self.events.append(event)
        return self

    def succeed(self) -> ScheduleScenario:
        """Let the newest run succeed."""
        return self.run(e.TaskSucceeded)

    def next(self) -> datetime | None:
        """Return when the schedule wants to be looked at next."""
        when = next_us(self.state)
        return None if when is None else from_us(when)


def told(event: Event) -> str:
    """Return in short what an event decides about slots."""
    match event:
        case s.SlotFired():
            return f"{'asked' if event.asked else 'fired'} {event.slot:%H:%M}"
        case s.SlotsMissed():
            return f"missed {event.count} {event.first:%H:%M}-{event.last:%H:%M}: {event.cause}"
        case _:
            return type(event).__name__
