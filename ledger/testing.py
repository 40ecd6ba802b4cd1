"""Help to test code that uses the ledger: a clock to move by hand, a ledger in memory, a queue run to its end.

This module stands outside the flow of the packages: it drives all of them, and none of them imports it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.api import Ledger
from ledger.clock import to_us

DEFAULT_START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
MOST_TASKS = 10_000


class ManualClock:
    """A clock that stands still until it is moved; sleeping moves it."""

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the moment the clock stands at."""
        return self._now

    def now_us(self) -> int:
        """Return the moment the clock stands at, in microseconds since 1970 (UTC)."""
        return to_us(self._now)

    def monotonic(self) -> float:
        """Return the seconds the clock has been moved by."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Move the clock on by *seconds*."""
        self.advance(timedelta(seconds=seconds))

    def advance(self, by: timedelta) -> None:
        """Move the clock on."""
        self._now += by
        self._monotonic += max(by.total_seconds(), 0.0)

    def advance_to(self, moment: datetime) -> None:
        """Move the clock on to *moment*; a moment that has passed changes nothing."""
        if moment > self._now:
            self.advance(moment - self._now)


def memory_ledger(clock: ManualClock | None = None) -> Ledger:
    """Return a ledger in memory, on a manual clock."""
    return Ledger("memory:", clock=clock or ManualClock())


def run_queue(
    ledger: Ledger, *, through_delays: bool = False, until: datetime | None = None, max_tasks: int | None = None
) -> int:
    """Run every due task in this thread, without sleeping, and return how many attempts ran.

    *through_delays* moves the ledger's manual clock on to each next due time, so retries and later tasks run too, and
    the slots of schedules on the way are fired. Slots alone move the clock only with *until*, the moment to stop and
    stand at, or *max_tasks*, by default 10,000: a schedule never ends by itself. *until* implies *through_delays*.
    """
    from runner.inline import run_inline

    clock = ledger.clock
    advance = clock.advance_to if (through_delays or until) and isinstance(clock, ManualClock) else None
    return run_inline(
        ledger,
        advance=advance,
        max_tasks=MOST_TASKS if max_tasks is None else max_tasks,
        until=until,
        through_slots=until is not None or max_tasks is not None,
    )
