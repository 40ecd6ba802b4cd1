"""Given events, when a command, then events: the words that the tests of one task are written in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import commands as c
from ledger.commands import Act
from ledger.errors import Conflict
from ledger.events import Event
from ledger.retry import Retry
from ledger.task import TaskState, decide, evolve

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TASK = "019b796d-d600-7687-a304-309d8e87a611"


def queue(**changes: Any) -> c.Queue:
    """Return a plain request to queue a task, with *changes*."""
    fields: dict[str, Any] = {
        "name": "job",
        "args": {},
        "queue": "default",
        "priority": 0,
        "due_at": NOON,
        "run_as": "system",
        "retry": Retry().stored(),
        "max_attempts": 12,
    }
    return c.Queue(**(fields | changes))


class Scenario:
    """One task's history as it grows; its clock starts at noon."""

    def __init__(self, **queued: Any) -> None:
        self.now = NOON
        self.state = TaskState(TASK)
        self.events: list[Event] = []
        self.when(queue(**queued))

    def later(self, seconds: float) -> Scenario:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self

    def when(self, command: c.Command) -> list[Event]:
        """Decide *command*, evolve the task by the events and return them."""
        events = decide(self.state, command, Act(id="act", at=self.now, actor="user:test", reason="because"))
        for event in events:
            self.state = evolve(self.state, event)
        self.events += events
        return events

    def rejects(self, command: c.Command, because: str) -> None:
        """Assert that *command* is refused with a message that says *because*, and that nothing changed."""
        before = self.state
        with pytest.raises(Conflict, match=because):
            self.when(command)

        assert self.state == before

    def claimed(self, worker: str = "w1") -> Scenario:
        """Have *worker* claim the task."""
        self.when(c.Claim(worker=worker, seen=1))
        return self

    def succeed(self, result: Any = None, **changes: Any) -> list[Event]:
        """Report success of the newest attempt."""
        return self.when(c.Succeed(**self._attempt(changes), started_at=self.now, finished_at=self.now, result=result))

    def fail(self, *, forever: bool = False, **changes: Any) -> list[Event]:
        """Report failure of the newest attempt."""
        error = {"type": "ValueError", "message": "no", "traceback": ""}
        times = {"started_at": self.now, "finished_at": self.now}
        return self.when(c.Fail(**self._attempt(changes), **times, error=error, forever=forever))  # type: ignore[typeddict-item]

    def delay(self, seconds: float) -> list[Event]:
        """Report that the newest attempt asked to run again."""
        times = {"started_at": self.now, "finished_at": self.now}
        return self.when(c.Delay(**self._attempt({}), **times, seconds=seconds))

    def lose(self, **changes: Any) -> list[Event]:
        """Report the newest attempt as lost."""
        return self.when(c.Lose(**self._attempt(changes), cause="gone"))

    def interrupt(self) -> list[Event]:
        """Give the newest attempt back."""
        return self.when(c.Interrupt(**self._attempt({}), cause="shutdown"))

    def _attempt(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"attempt": self.state.attempt, "worker": self.state.worker or "w1"} | changes

    def due_in(self) -> float:
        """Return the seconds from now until the task is due."""
        return self.state.due_us / 1e6 - self.now.timestamp()
