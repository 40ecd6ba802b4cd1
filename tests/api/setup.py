"""What the tests of the API share: a ledger on a manual clock, and how to look into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ledger as api
from ledger import Ledger
from ledger.clock import Clock
from ledger.events import TaskQueued
from ledger.testing import ManualClock
from tests.databases import in_memory

REASON = "because the test says so"
FIRST_DELAYS = [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440]


make: Callable[..., Ledger] = in_memory
"""How a ledger is made: `each_database` changes it."""


def open_ledger(clock: Clock | None = None, **options: Any) -> Ledger:
    """A ledger on a manual clock, with *options* of its own."""
    return make(clock, **options)


def new_ledger(**options: Any) -> tuple[Ledger, ManualClock]:
    clock = ManualClock()
    return make(clock, **options), clock


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
