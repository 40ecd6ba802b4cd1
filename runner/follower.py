"""Keep the report views beside a run: a process of low priority that takes no part in work; of all, one at a time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from ledger.api import Ledger
from ledger.errors import LedgerError
from projections.reports import Reports
from runner.logs import Log

BATCH = 2_000
STANDBY_SECONDS = 2.0
"""Between two tries to become the one that follows."""
AGAIN_SECONDS = 5.0
"""After an error."""
NICENESS = 10
"""It gets what the workers leave of the processors."""
START_SECONDS = 1.0
"""A run that is over sooner leaves the reports to the next one, or to whoever reads them."""


def follow(ledger: Ledger, is_over: Callable[[], bool], log: Log | None = None) -> None:
    """Keep the report views at the head until *is_over*; of several processes one does so at a time.

    What it cannot read or write now it tries again; the error is said once.
    """
    said = ""
    clock = ledger.clock
    while not is_over():
        reports = Reports(ledger)
        try:
            with reports.file.turn() as is_mine:
                if is_mine:
                    _follow(ledger, reports, is_over)
                else:
                    clock.sleep(STANDBY_SECONDS)
        except LedgerError as error:
            if log is not None and str(error) != said:
                log.warning("reports_stand_still", error=str(error), again_in_seconds=AGAIN_SECONDS)
            said = str(error)
            clock.sleep(AGAIN_SECONDS)
        finally:
            reports.close()


def _follow(ledger: Ledger, reports: Reports, is_over: Callable[[], bool]) -> None:
    clock, seen = ledger.clock, None
    while not is_over():
        version = ledger.store.data_version()
        if version != seen:
            seen = version  # read before the fold: what is committed meanwhile is looked at again
            began = clock.monotonic()
            while not reports.step(BATCH):
                if is_over():
                    return
                if reports.file.rest and ledger.store.data_version() != version:
                    clock.sleep((clock.monotonic() - began) * reports.file.rest)
                    version = ledger.store.data_version()
                began = clock.monotonic()
        clock.sleep(reports.file.look_seconds)


class FollowerProcess:
    """The process that follows, as the supervisor of a run sees it: started, looked after, ended."""

    def __init__(self, ledger: Ledger, log: Log) -> None:
        self._ledger = ledger
        self._log = log
        self._pid: int | None = None
        self._again = ledger.clock.monotonic() + START_SECONDS

    def tick(self) -> None:
        """Start it if it is not there; one that has died is started again after a while."""
        now = self._ledger.clock.monotonic()
        if self._pid is not None and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid, self._again = None, now + AGAIN_SECONDS
        if self._pid is None and now >= self._again:
            self._start()

    def _start(self) -> None:
        self._ledger.close()  # nothing open may be shared over the fork
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_follower(self._ledger, self._log, supervisor)
        self._pid = pid

    def stop(self) -> None:
        """End it: whatever it was at is rolled back, and done by whoever follows next."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None


def _be_follower(ledger: Ledger, log: Log, supervisor: int) -> None:
    """Be the child process until the supervisor is gone; never returns."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the supervisor ends it, after its workers
        os.nice(NICENESS)
        follow(ledger, lambda: os.getppid() != supervisor, log)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
