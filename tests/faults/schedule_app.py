"""An app of many schedules on a clock that runs faster than the host's and can be set: every process reads one file."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ledger import Ledger, Retry

CLOCK = "WORKLEDGER_FAULTS_CLOCK"
"""Names the environment variable that says where the clock's file is."""
COUNT = "WORKLEDGER_FAULTS_SCHEDULES"
TIMEZONE = "WORKLEDGER_FAULTS_TIMEZONE"
START = datetime(2026, 3, 2, 8, 0, 30, tzinfo=UTC)


class SharedClock:
    """The clock of a host whose time runs *speed* times as fast, from the monotonic *origin* on, set by *offset*."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self, *, speed: float, origin: float, offset: float = 0.0) -> None:
        """Write the clock's file, whole at any moment."""
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps([speed, origin, offset]))
        beside.replace(self.path)

    def _read(self) -> tuple[float, float, float]:
        speed, origin, offset = json.loads(self.path.read_text())
        return speed, origin, offset

    def now(self) -> datetime:
        speed, origin, offset = self._read()
        return START + timedelta(seconds=(time.monotonic() - origin) * speed + offset)

    def monotonic(self) -> float:
        speed, origin, _ = self._read()
        return (time.monotonic() - origin) * speed

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self._read()[0])


def run_once() -> None:
    """Do nothing, quickly."""


def declare(ledger: Ledger, count: int, timezone: str | None) -> Ledger:
    """Declare so many schedules of every minute; a run that is lost is retried at once."""
    for number in range(count):
        name = f"minutely-{number:03}"
        ledger.schedule("* * * * *", name=name, retry=Retry(first=0), timezone=timezone)(run_once)
    return ledger


def make() -> Ledger:
    """Return the ledger of the environment, on the shared clock."""
    clock = SharedClock(Path(os.environ[CLOCK]))
    ledger = Ledger(os.environ["WORKLEDGER_URL"], clock=clock)
    return declare(ledger, int(os.environ[COUNT]), os.environ.get(TIMEZONE))


if CLOCK in os.environ:
    ledger = make()
