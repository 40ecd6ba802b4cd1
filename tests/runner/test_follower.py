"""The process that keeps the reports beside a run: one at a time, replaced when it dies, gone with its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from ledger import Ledger
from projections.reports import Reports
from runner.follower import NICENESS
from tests.processes import Command

ROOT = Path(__file__).parents[2]
APP = "from ledger import Ledger\nledger = Ledger.from_env()\nledger.task(name='noop')(lambda number: number)\n"
PATIENCE_SECONDS = 60.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ledger(url: str, place: Path) -> Iterator[Ledger]:
    """A ledger on each kind of database, and the app that works it."""
    (place / "follow_app.py").write_text(APP)
    ledger = Ledger(url)
    ledger.task(name="noop")(lambda number: number)
    enqueue(ledger)
    yield ledger
    ledger.close()


def enqueue(ledger: Ledger) -> None:
    ledger.enqueue(ledger.functions["noop"].call(number=1))


@contextmanager
def run(ledger: Ledger, *words: str) -> Iterator[psutil.Process]:
    """A run of that app; it and what it left behind are ended."""
    directory = Path.cwd()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{directory}", "WORKLEDGER_URL": ledger.url}
    words = ("--app", "follow_app:ledger", *words)
    process = Command(words, env=environment, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def follower_of(run: psutil.Process) -> psutil.Process | None:
    for child in run.children():
        with suppress(psutil.NoSuchProcess):  # it may go while it is looked at
            if child.status() != psutil.STATUS_ZOMBIE and child.nice() >= psutil.Process().nice() + NICENESS:
                return child
    return None


def is_kept(ledger: Ledger) -> bool:
    """Whether the reports stand at the head of the log; nobody here moves them."""
    reports = Reports(ledger)
    with ledger.store.read() as snapshot:
        head = snapshot.head()
    try:
        return reports.checkpoint() == head
    finally:
        reports.close()


def test_a_run_keeps_the_reports_and_replaces_a_follower_that_dies(ledger: Ledger) -> None:
    """Without anybody reading, the reports come to the head, again after the process that kept them was killed."""
    with run(ledger, "run") as supervisor:
        until(lambda: follower_of(supervisor) and is_kept(ledger))
        first = follower_of(supervisor)
        assert first is not None
        first.kill()
        enqueue(ledger)
        until(lambda: (again := follower_of(supervisor)) and again.pid != first.pid and is_kept(ledger))
    assert Reports(ledger).verify() == []


def test_of_two_runs_one_follows_and_the_other_takes_over(ledger: Ledger) -> None:
    """Both have such a process; when the run of the one that follows ends, the other's goes on."""
    with ExitStack() as stack:
        one = ExitStack()
        first = one.enter_context(run(ledger, "run"))
        until(lambda: follower_of(first) and is_kept(ledger))
        second = stack.enter_context(run(ledger, "run"))
        until(lambda: follower_of(second))
        one.close()
        enqueue(ledger)
        until(lambda: is_kept(ledger))
    assert Reports(ledger).verify() == []


def test_a_follower_leaves_with_its_supervisor(ledger: Ledger) -> None:
    """When the supervisor is killed, nobody is left who follows."""
    with run(ledger, "run") as supervisor:
        until(lambda: follower_of(supervisor))
        follower = follower_of(supervisor)
        assert follower is not None
        supervisor.send_signal(signal.SIGKILL)
        until(lambda: not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE)


def test_reports_can_be_left_to_their_readers(ledger: Ledger, place: Path) -> None:
    """With the setting `reports` off, a run has no such process; `projection follow` keeps them by itself."""
    (place / "workledger.toml").write_text("reports = false\n")
    with run(ledger, "run", "--max-seconds", "3") as supervisor:
        seen = []
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            while supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE:
                seen.append(follower_of(supervisor))
                time.sleep(0.05)
        assert seen and not any(seen)
    assert not is_kept(ledger)
    with run(ledger, "projection", "follow"):
        until(lambda: is_kept(ledger))
        enqueue(ledger)
        until(lambda: is_kept(ledger))
