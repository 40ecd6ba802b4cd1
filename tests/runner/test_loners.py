"""What a worker must not do in company, and what the log gives it that it does not know of."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger import Ledger, Retry
from ledger import commands as c
from ledger.acts import act_on
from ledger.clock import SystemClock
from ledger.ids import mint
from projections.queue import catch_up_all
from tests.processes import Command

JOBS = """
import os, pathlib, time
from ledger import Ledger, current
ledger = Ledger("sqlite:///work.db")

@ledger.task
def dies_once() -> int:
    if current().attempt == 1:
        os._exit(1)
    return os.getpid()

@ledger.task
def waits(path: str) -> int:
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return os.getpid()

@ledger.task
def note() -> None:
    pass
"""


@pytest.fixture
def ledger(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    (tmp_path / "jobs.py").write_text(JOBS.replace("sqlite:///work.db", url))
    monkeypatch.chdir(tmp_path)
    found = Ledger(url)
    found.task(name="dies_once", retry=Retry(first=0.5))(lambda: None)
    found.task(name="waits")(lambda path: None)
    found.task(name="note")(lambda: None)
    yield found
    found.close()


@contextmanager
def running(ledger: Ledger, *options: str) -> Iterator[Command]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "WORKLEDGER_BEAT_SECONDS": "0.2",
        "WORKLEDGER_LEASE_SECONDS": "20",
    }
    words = ["--app", "jobs:ledger", "run", *options]
    with Command(words, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        SystemClock().sleep(0.02)


def test_an_attempt_after_a_loss_runs_in_a_process_of_its_own_and_holds_up_nobody(
    ledger: Ledger, tmp_path: Path
) -> None:
    """While a long task runs, others are worked beside it, and the lost one alone in another process."""
    lost = ledger.functions["dies_once"].enqueue()
    with running(ledger, "--threads", "3"):
        until(lambda: [attempt.outcome for attempt in lost.attempts] == ["lost"])
        long = ledger.functions["waits"].enqueue(path=str(tmp_path / "go"))
        until(lambda: long.state == "running")
        notes = [ledger.functions["note"].enqueue() for _ in range(20)]
        until(lambda: {task.state for task in (lost, *notes)} == {"succeeded"})
        assert long.state == "running"
        (tmp_path / "go").touch()
        until(lambda: long.state == "succeeded")

    assert len(lost.attempts) == 2 and lost.attempts[1].worker not in {note.attempts[0].worker for note in notes}
    assert lost.result() != long.result(), "other processes"


def test_a_run_ends_when_lost_tasks_have_been_run_too(ledger: Ledger) -> None:
    """`--drain` waits for tasks that are due and left to a process of their own."""
    ledger.functions["dies_once"].options = ledger.functions["dies_once"].options.merged({"retry": Retry(first=0)})
    tasks = [ledger.functions["dies_once"].enqueue() for _ in range(3)]
    with running(ledger, "--drain") as process:
        assert process.wait(timeout=60) == 1

    assert [task.state for task in tasks] == ["succeeded"] * 3


def test_a_claim_that_its_worker_never_saw_is_given_back(ledger: Ledger, tmp_path: Path) -> None:
    """What the log gives a worker after a commit of unknown end waits again, at no cost, and runs."""
    holding = ledger.functions["waits"].enqueue(path=str(tmp_path / "go"))
    stray = ledger.functions["note"].using(queue="elsewhere").enqueue()
    with running(ledger, "--queue", "default"):
        until(lambda: holding.state == "running")
        worker = holding.attempts[0].worker
        with ledger.store.write() as unit:
            act = c.Act(id=mint(unit.now), at=unit.now, actor="worker:" + worker)
            act_on(unit, stray.id, c.Claim(worker=worker, seen=0), act)
        catch_up_all(ledger)
        until(lambda: stray.state == "waiting")
        (tmp_path / "go").touch()
        until(lambda: holding.state == "succeeded")

    [attempt] = stray.attempts
    assert (attempt.outcome, attempt.cause, stray.record.state.used) == ("interrupted", "its claim was not seen", 0)
