"""Be the application whose workers are measured."""

from __future__ import annotations

import time

from ledger import Ledger

ledger = Ledger.from_env()


@ledger.task
def noop(number: int) -> None:
    """Do nothing."""


@ledger.task
def picked_up() -> int:
    """Return when it began, on the host's monotonic clock (nanoseconds)."""
    return time.monotonic_ns()
