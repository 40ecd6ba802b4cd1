"""Be the application whose workers are measured."""

from __future__ import annotations

import sys
import time

from ledger import Ledger, current

ledger = Ledger.from_env()


@ledger.task
def noop(number: int) -> None:
    """Do nothing."""


@ledger.task
def picked_up() -> int:
    """Return when it began, on the host's monotonic clock (nanoseconds)."""
    return time.monotonic_ns()


@ledger.task
def says(number: int) -> None:
    """Print one line."""
    print("number", number)


@ledger.task
def says_much(megabytes: int) -> float:
    """Print lines of 100 characters, a hundred at a time; return the seconds that it took."""
    text = "".join(f"{number:099}\n" for number in range(100))
    started = time.perf_counter()
    for _ in range(megabytes * 100):
        sys.stdout.write(text)
    return time.perf_counter() - started


@ledger.task
def progresses(number: int) -> None:
    """Say once how far it is."""
    current().progress(number, 10_000)


@ledger.task
def progresses_often(times: int) -> float:
    """Say it so many times; return the seconds that it took beyond an empty loop."""
    started = time.perf_counter()
    for _ in range(times):
        pass
    empty = time.perf_counter() - started
    started = time.perf_counter()
    for number in range(times):
        current().progress(number, times)
    return time.perf_counter() - started - empty


@ledger.task(isolation="process")
def isolated(number: int) -> None:
    """Do nothing, in a process of its own."""
