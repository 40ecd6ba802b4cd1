"""Read the time: the only module that does, and the only one of this package that sleeps."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Return the microseconds since 1970 (UTC) of an aware *moment*."""
    return (moment - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the aware UTC moment of *microseconds* since 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


class Clock(Protocol):
    """What the ledger asks of a source of time."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""

    def now_us(self) -> int:
        """Return the present in microseconds since 1970 (UTC)."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back."""

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""


class SystemClock:
    """The clock of this host."""

    def now(self) -> datetime:
        """Return the host's present in UTC."""
        return datetime.now(UTC)

    def now_us(self) -> int:
        """Return the host's present; several times cheaper than by way of a datetime."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Return the host's monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for *seconds*."""
        time.sleep(seconds)
