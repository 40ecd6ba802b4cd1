"""A worker that is cut off from the database tells its tasks so before anybody else may be given them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from ledger import Ledger, current
from ledger.clock import to_us
from ledger.testing import memory_ledger, run_queue
from runner.heartbeat import all_of
from tests.processes import Command

JOBS = """
import pathlib, time
from ledger import Ledger, current
ledger = Ledger("URL")

def until_lost(name: str) -> str:
    pathlib.Path(name + ".begun").touch()
    while not current().lost:
        time.sleep(0.01)
    pathlib.Path(name + ".lost").touch()
    return current().token

ledger.task(name="thread")(until_lost)
ledger.task(name="process", isolation="process")(until_lost)
"""


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 40
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_a_task_hears_that_its_worker_is_cut_off_while_nobody_else_may_have_it_yet(tmp_path: Path, url: str) -> None:
    """With no heartbeat getting through, `lost` is set before the lease ends; what returns in time then counts."""
    (tmp_path / "jobs.py").write_text(JOBS.replace("URL", url))
    ledger = Ledger(url)
    names = ("thread", "process")
    tasks = [ledger.task(name=name)(lambda name: None).enqueue(name) for name in names]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "WORKLEDGER_BEAT_SECONDS": "0.3",
        "WORKLEDGER_LEASE_SECONDS": "6",
    }
    words = ["--app", "jobs:ledger", "run", "--workers", "1"]
    with Command(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(*(tmp_path / f"{name}.begun" for name in names))
            assert not [path for path in tmp_path.iterdir() if path.suffix == ".lost"]
            with ledger.store.write() as unit:  # nobody else writes until this ends
                wait_for(*(tmp_path / f"{name}.lost" for name in names))
                [heartbeat] = all_of(unit)
                assert not heartbeat.is_silent(to_us(ledger.clock.now()))
            results = [task.result(timeout=30) for task in tasks]
        finally:
            process.terminate()

    assert results == [f"{task.id}:1" for task in tasks]
    for task in tasks:
        assert [type(event).__name__ for event in task.events] == ["TaskQueued", "TaskClaimed", "TaskSucceeded"]
    ledger.close()


def test_lost_is_false_where_nobody_can_be_given_the_task() -> None:
    """Inline, without a lease, an attempt is never lost."""
    ledger = memory_ledger()
    seen: list[bool] = []

    @ledger.task
    def job() -> None:
        seen.append(current().lost)

    job.enqueue()
    run_queue(ledger)

    assert seen == [False]
