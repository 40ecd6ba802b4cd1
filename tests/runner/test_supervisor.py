"""The supervisor: the bounds of a run hold over the deaths of its workers, and hopeless workers are not replaced."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ledger import Call, Ledger, Retry
from tests.databases import insert
from tests.processes import call

JOBS = """
import os, signal
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task
def note(number: int) -> None:
    with open("ran.txt", "a") as file:
        file.write(f"{number}\\n")

@ledger.task
async def leave() -> None:
    raise SystemExit(3)

@ledger.task
async def stay() -> str:
    return "here"

@ledger.task
def die() -> None:
    with open("ran.txt", "a") as file:
        file.write("died\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def here(tmp_path: Path, url: str) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS.replace("sqlite:///work.db", url))
    (tmp_path / "url.txt").write_text(url)
    return tmp_path


def new_ledger(here: Path) -> Ledger:
    ledger = Ledger((here / "url.txt").read_text())
    ledger.task(name="note")(note)
    ledger.task(name="leave", retry=False)(note)
    ledger.task(name="stay", retry=False)(note)
    ledger.task(name="die", retry=Retry(first=0), max_attempts=None)(die)
    return ledger


def note(number: int) -> None: ...


def die() -> None: ...


def run(here: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return call("--app", "jobs:ledger", "run", *options, cwd=here)


def ran(here: Path) -> list[str]:
    return (here / "ran.txt").read_text().split()


def test_max_tasks_holds_over_the_death_of_a_worker(here: Path) -> None:
    """As many attempts are used as --max-tasks says, although workers die and are replaced."""
    ledger: Any = new_ledger(here)
    ledger.functions["die"].using(priority=1).enqueue()
    ledger.enqueue_many([ledger.functions["note"].call(n) for n in range(20)])
    run(here, "--workers", "1", "--max-tasks", "6")
    with ledger.store.read() as snapshot:
        topics = [raw[3] for raw in snapshot.events_after(0, 1_000)]
    ledger.close()
    assert topics.count("TaskSucceeded.v1") + topics.count("AttemptLost.v1") == 6
    assert "died" in ran(here)


def test_max_seconds_is_one_span_for_all_replacements(here: Path) -> None:
    """A worker that dies again and again does not make the run longer than --max-seconds."""
    ledger: Any = new_ledger(here)
    ledger.functions["die"].enqueue()
    started = time.monotonic()
    run(here, "--workers", "1", "--max-seconds", "3")
    took = time.monotonic() - started
    assert len(ran(here)) > 2
    assert took < 30, "a span that begins anew with each replacement never ends"


def test_a_worker_that_cannot_go_on_is_not_replaced(here: Path) -> None:
    """A stored event that cannot be read ends the run with the position of the event, not with endless restarts."""
    ledger: Any = new_ledger(here)
    ledger.functions["note"].enqueue(1)
    ledger.close()
    insert(ledger, 2, "task:x", 1, "TaskQueued.v99")
    done = run(here, "--workers", "2")
    assert done.returncode == 1
    assert "position 2" in done.stdout + done.stderr


def test_a_coroutine_that_exits_takes_no_other_with_it(here: Path) -> None:
    """SystemExit in one async task leaves the worker's event loop to the others."""
    ledger = new_ledger(here)
    left, stayed = (
        ledger.enqueue(Call(ledger.functions[name], {}, ledger.functions[name].options)) for name in ("leave", "stay")
    )
    done = run(here, "--drain")

    assert done.returncode == 1, done.stderr
    assert left.state == "failed" and stayed.result() == "here"
