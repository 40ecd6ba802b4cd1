"""Signals and deaths that meet a supervisor or a worker at the moment when it is made."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

from tests.faults.crashing import ORPHAN, POINT, describe
from tests.faults.setup import Site, wait_until

APP = "tests.faults.crashing:ledger"


@pytest.mark.parametrize(
    ("point", "process", "nth"), [("before fork", "main", 1), ("before fork", "main", 2), ("after fork", "worker", 1)]
)
def test_a_signal_to_stop_is_heard_by_workers_in_the_making(site: Site, point: str, process: str, nth: int) -> None:
    """SIGTERM that comes while a worker is made ends the run, whether it meets the supervisor or the new process."""
    variable = describe((point, nth), process=process, number=signal.SIGTERM)
    workers = "2" if process == "main" else "1"
    code = site.finish(site.command("run", "--workers", workers, app=APP, **{POINT: variable}))

    assert code == 0, site.logs()
    assert site.count("WorkerStarted") == site.count("WorkerStopped")


def test_a_worker_whose_supervisor_died_as_it_was_made_leaves(site: Site) -> None:
    """A worker that never saw its supervisor alive does not stay behind."""
    run = site.command("run", app=APP, **{POINT: ORPHAN})
    assert site.finish(run) == -signal.SIGKILL
    orphan = int((site.directory / "orphan.met").read_text())

    try:
        wait_until(lambda: not psutil.pid_exists(orphan), "the orphan has left", site)
    finally:
        with suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
