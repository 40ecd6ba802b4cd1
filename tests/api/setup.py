"""What the tests of the API share: a ledger on a manual clock, and how to look into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ledger as api
from ledger import Ledger
from ledger.events import TaskQueued
from ledger.testing import ManualClock, memory_ledger

REASON = "because the test says so"
FIRST_DELAYS = [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440]

make: Callable[[ManualClock], Ledger] = memory_ledger
"""How a ledger is made: `each_database` changes it."""


def new_ledger() -> tuple[Ledger, ManualClock]:
    clock = ManualClock()
    return make(clock), clock


def count_events(ledger: Ledger) -> int:
    """How many events the log has: the position of the newest."""
    with ledger.store.read() as snapshot:
        return snapshot.head()


def queued(task: api.Task[Any]) -> TaskQueued:
    first = task.events[0]
    assert isinstance(first, TaskQueued)
    return first


def names_of(task: api.Task[Any]) -> list[str]:
    return [type(event).__name__ for event in task.events]
