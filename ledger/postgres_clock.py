"""Tell the time of the database: read at each transaction, carried on by this host's monotonic clock between."""

from __future__ import annotations

from datetime import datetime

from ledger.clock import SystemClock, from_us

FRESH_SECONDS = 60.0


class DatabaseClock(SystemClock):
    """The database's clock, as far as this process has heard of it; before the first contact this host's."""

    def __init__(self) -> None:
        self._offset_us: int | None = None
        self._learned = 0.0

    def learn(self, now_us: int) -> None:
        """Take in what the database's clock has just shown, in microseconds since 1970."""
        self._offset_us = now_us - self._monotonic_us()
        self._learned = self.monotonic()

    def is_fresh(self) -> bool:
        """Return whether so little time has passed since then that the two clocks cannot have parted."""
        return self._offset_us is not None and self.monotonic() - self._learned < FRESH_SECONDS

    def now(self) -> datetime:
        """Return the database's present in UTC."""
        return super().now() if self._offset_us is None else from_us(self._monotonic_us() + self._offset_us)

    def _monotonic_us(self) -> int:
        return int(self.monotonic() * 1_000_000)
