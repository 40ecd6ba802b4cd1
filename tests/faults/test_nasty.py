"""Tasks that harm their process: each ends as failed, with its attempts used, and its neighbours succeed."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from ledger import Ledger
from tests.faults.nasty import ATTEMPTS, ENDS_ITS_PROCESS, GOES_ON, UNLIMITED, declare_nasty
from tests.faults.setup import LEASES, Site, wait_until

APP = "tests.faults.nasty:ledger"
NEIGHBOURS = 30


def names(functions: tuple[Any, ...]) -> list[str]:
    return [function.__name__ for function in functions]


def run_beside(
    site: Site, name: str, neighbours: int = NEIGHBOURS, workers: int = 2, **options: Any
) -> tuple[Any, list[Any]]:
    """Queue one nasty task among others, work the queue to its end, and return their records."""
    ledger = declare_nasty(Ledger(f"sqlite:///{site.database}"))
    functions = ledger.functions
    calls = [functions["work"].call(n % 5) for n in range(neighbours)]
    calls.insert(neighbours // 10, functions[name].using(**options).call())
    tasks = ledger.enqueue_many(calls)
    (site.directory / "test.acknowledged").write_text("".join(f'{{"id": "{task.id}"}}\n' for task in tasks))
    ledger.close()
    assert site.drain("--workers", str(workers), app=APP, **LEASES) in (0, 1), site.logs()
    records = [task.record for task in tasks]
    ledger.close()
    return records.pop(neighbours // 10), records


def ends(records: list[Any]) -> set[str]:
    return {record.state.status for record in records}


def test_a_poison_task_fails_alone_among_two_hundred(site: Site) -> None:
    """A task that kills its process each time uses its attempts and fails; all two hundred others succeed."""
    poison, neighbours = run_beside(site, "leave_with_code", neighbours=200, max_attempts=4)

    assert (poison.state.status, poison.state.used) == ("failed", 4)
    assert [attempt.outcome for attempt in poison.attempts] == ["lost"] * 4
    assert len(neighbours) == 200 and ends(neighbours) == {"succeeded"}
    site.check()


@pytest.mark.parametrize("name", names(ENDS_ITS_PROCESS))
def test_a_task_that_ends_its_process_fails(site: Site, name: str) -> None:
    """Whatever way the process ends, also with exit code 0, the attempt is lost, and the last one ends the task."""
    nasty, neighbours = run_beside(site, name, workers=1)  # so that nobody but its supervisor can see the death

    assert (nasty.state.status, nasty.state.used) == ("failed", ATTEMPTS)
    assert {attempt.outcome for attempt in nasty.attempts} == {"lost"}
    assert ends(neighbours) == {"succeeded"}
    site.check()


@pytest.mark.parametrize("name", [*names(GOES_ON), UNLIMITED])
def test_a_task_that_will_not_end_fails(site: Site, name: str) -> None:
    """A task that goes on past its limits, or lets nothing else run in its process, is ended with its process."""
    nasty, neighbours = run_beside(site, name)

    assert (nasty.state.status, nasty.state.used) == ("failed", ATTEMPTS)
    assert ends(neighbours) == {"succeeded"}
    site.check()


def test_a_limit_that_meets_a_transaction_waits_for_its_end(site: Site) -> None:
    """`TimeLimit` falls due while the task's own enqueue waits for the database: what it queued is whole, all goes on."""
    ledger = declare_nasty(Ledger(f"sqlite:///{site.database}"))
    slow, *others = ledger.enqueue_many(
        ledger.functions[name].call(*args) for name, args in [("queue_when_locked", ()), *[("work", (0,))] * 10]
    )
    run = site.command("run", "--drain", app=APP)
    wait_until(lambda: site.count("TaskSucceeded") == len(others), "the others are done", site)
    with closing(sqlite3.connect(site.database, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        (site.directory / "locked").touch()
        time.sleep(1.5)  # longer than the task may run: its limit falls due inside its transaction
        intruder.execute("ROLLBACK")
    site.finish(run)

    assert (slow.state, slow.record.error["type"]) == ("failed", "TimeLimit")
    assert (site.directory / "child.acknowledged").exists(), "the limit came after the transaction"
    ledger.close()
    site.check()


def test_a_gigabyte_of_output_takes_no_memory(site: Site) -> None:
    """A task that prints a gigabyte fails at its limit; the process that ran it has not grown by what it printed."""
    ledger = declare_nasty(Ledger(f"sqlite:///{site.database}"))
    functions = ledger.functions
    before, *neighbours, flood, after = ledger.enqueue_many(
        [
            functions["peak_kilobytes"].using(priority=2).call(),
            *(functions["work"].call(1) for _ in range(NEIGHBOURS)),
            functions["flood"].call(),
            functions["peak_kilobytes"].using(priority=-1).call(),
        ]
    )
    site.drain("--threads", "1", app=APP, WORKLEDGER_OUTPUT_LIMIT=str(64 * 1024 * 1024))

    assert (flood.state, flood.record.error["type"]) == ("failed", "OutputLimit")
    assert {task.state for task in neighbours} == {"succeeded"}
    assert after.result() - before.result() < 32 * 1024
    assert (site.directory / "0.log").stat().st_size < 2 * ATTEMPTS * 64 * 1024 * 1024
    ledger.close()
    site.check()
