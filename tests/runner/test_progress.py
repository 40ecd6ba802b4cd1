"""Progress in real workers: visible while they run, about once a second, and in nobody's way."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, Task, current
from ledger import commands as c
from ledger.acts import act_on
from ledger.clock import SystemClock
from ledger.events import TaskProgressed
from ledger.testing import ManualClock, memory_ledger
from projections import queue
from projections.reports import Reports
from runner.cycle import Cycle
from runner.execute import execute
from runner.progress import Latest, due, store_progress
from runner.running import COLUMNS, running_rows, table_rows
from runner.threads import Held
from tests.faults.setup import workers_of
from tests.processes import Command, call

ROOT = Path(__file__).parents[2]


class Place:
    """A ledger in a directory of its own, and the real command to work it."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        self.ledger = Ledger(url or f"sqlite:///{directory}/work.db")
        self.environment = {**os.environ, "WORKLEDGER_URL": self.ledger.url, "PYTHONPATH": str(ROOT)}
        self.go = str(directory / "go")

    def command(self, *words: str) -> list[str]:
        return ["--app", "tests.runner.progressing:ledger", *words]

    def call(self, *words: str) -> str:
        """Run the command to its end and return what it printed."""
        done = call(*self.command(*words), cwd=self.directory, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def queue(self, name: str) -> Task[Any]:
        found = json.loads(self.call("enqueue", name, "--args", json.dumps({"go": self.go}), "-o", "json"))
        return self.ledger.get(found["id"])

    @contextmanager
    def running(self) -> Iterator[Command]:
        """Run a worker until the block ends."""
        with Command(
            self.command("run"),
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                yield process
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # its tasks may wait for what will not come
                raise
            finally:
                process.terminate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.ledger.close()


@pytest.fixture
def each_place(tmp_path: Path, url: str) -> Iterator[Place]:
    """A place on each kind of database: for what rests on the store."""
    found = Place(tmp_path, url)
    yield found
    found.ledger.close()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for another process to bring something about."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline, "it did not come about"
        clock.sleep(0.02)


def progressed(task: Task[Any]) -> list[TaskProgressed]:
    return [event for event in task.events if isinstance(event, TaskProgressed)]


def test_it_is_seen_while_the_attempt_runs(each_place: Place) -> None:
    """From a plain function, a thread and a coroutine: in the handle, in `now` and in `task show`; then the last word."""
    plain, threaded, coroutine = (each_place.queue(name) for name in ("plain", "threaded", "asynchronous"))
    with each_place.running():
        until(lambda: plain.progress and threaded.progress and coroutine.progress)
        now = {row["task"]: row["progress"] for row in json.loads(each_place.call("now", "-o", "json"))}
        table = each_place.call("now")
        shown = each_place.call("task", "show", plain.id)
        Path(each_place.go).touch()
        until(lambda: all(task.state == "succeeded" for task in (plain, threaded, coroutine)))

    assert now[plain.id] == {"text": "25 % (1 of 4)", "percent": 25, "done": 1, "total": 4} | {
        key: now[plain.id][key] for key in ("message", "at")
    }
    assert now[threaded.id]["text"] == "2" and now[threaded.id]["message"] == "in a thread"
    assert now[coroutine.id]["percent"] == 60
    assert "25 % (1 of 4)" in table and "waiting" in table and "\x1b" not in table
    assert "25 % (1 of 4) waiting" in shown and "\x1b" not in shown
    assert [task.progress and task.progress.done for task in (plain, threaded, coroutine)] == [4, 2, 5]
    assert queue.verify(each_place.ledger) == [] and Reports(each_place.ledger).verify() == []


def test_who_says_it_all_the_time_is_stored_once_a_second(place: Place) -> None:
    """A tight loop makes at most one event a second, beside the last word; each is further than the one before."""
    task = place.queue("busy")
    with place.running():
        until(lambda: len(progressed(task)) >= 3)
        Path(place.go).touch()
        until(lambda: task.state == "succeeded")
    said = progressed(task)
    first = task.record.attempts[0].claimed_at

    # Looks are a second apart. Two of their words may be less: each has the time of the commit, which may be held up.
    assert len(said) <= (said[-1].at - first) / timedelta(seconds=0.9) + 2
    assert all(earlier.done < later.done for earlier, later in pairwise(said))
    assert said[-1].done > 10_000


def test_what_was_stored_outlives_the_worker(each_place: Place) -> None:
    """A worker killed amid an attempt leaves what it had said; the loss is recorded, and the next attempt says anew."""
    task = each_place.queue("plain")
    with each_place.running() as supervisor:
        until(lambda: task.progress)
        [worker] = workers_of(supervisor)
        os.kill(worker, signal.SIGKILL)
        until(lambda: task.attempts[0].outcome == "lost")

    assert task.attempts[0].progress is not None and task.attempts[0].progress.percent == 25
    assert queue.verify(each_place.ledger) == []


def test_a_timeout_meets_who_says_it(place: Place) -> None:
    """An attempt that does nothing but say how far it is ends at its timeout, with its last word."""
    task = place.queue("overdue")
    call(*place.command("run", "--drain"), cwd=place.directory, env=place.environment)

    assert task.state == "failed" and task.record.error is not None and task.record.error["type"] == "TimeLimit"
    assert task.progress is not None and task.progress.done > 1_000


def test_a_follower_sees_a_bar(place: Place) -> None:
    """`task log -f` on a terminal draws how far the attempt is, and takes the bar away at its end."""
    task = place.queue("plain")
    ours, theirs = pty.openpty()
    with place.running():
        until(lambda: task.progress)
        follower = Command(
            place.command("task", "log", task.id, "-f"),
            cwd=place.directory,
            env={**place.environment, "TERM": "xterm", "COLUMNS": "120"},
            stdin=theirs,
            stdout=theirs,
        )
        os.close(theirs)
        drawn = b""
        while b"25 % (1 of 4)" not in drawn or "━".encode() not in drawn:
            drawn += os.read(ours, 4096)
        Path(place.go).touch()
        while b"succeeded" not in drawn:
            drawn += os.read(ours, 4096)
        assert follower.wait(30) == 0
    os.close(ours)

    assert b"waiting" in drawn and b"\x1b[2J" not in drawn
    assert b"succeeded, after" in drawn and b"progress 100 % (4 of 4) done" in drawn
    assert "\x1b" not in place.call("task", "log", task.id, "-f"), "nothing is drawn to a pipe"


@pytest.mark.parametrize(
    ("age_seconds", "since_last_seconds", "is_due"),
    [
        (0.5, None, True),
        (5, 0.99, False),
        (5, 1, True),
        (1_000, 1, True),
        (3_600, 3.5, False),
        (3_600, 3.7, True),
        (86_400, 59.9, False),
        (86_400, 60, True),
    ],
)
def test_how_often_it_is_stored(age_seconds: float, since_last_seconds: float | None, is_due: bool) -> None:
    """The first word at once; then a thousandth of the run apart, at least a second and at most a minute."""
    latest = Latest()
    began, now = 1_000.0, 1_000.0 + age_seconds
    if since_last_seconds is not None:
        latest.tell(1, None, None)
        latest.note((1, None, None), now - since_last_seconds)
    latest.tell(2, None, None)

    assert (latest.word(now, began) is not None) is is_due
    latest.note((2, None, None), now)
    latest.tell(2, None, None)
    assert latest.word(now + 3_600, began) is None, "the same again is no news"


def claimed(ledger: Ledger, count: int) -> tuple[Cycle, list[Held]]:
    """Queue tasks, claim them as worker w1 and return what it holds."""
    ledger.enqueue_many(ledger.functions["job"].call() for _ in range(count))
    cycle = Cycle(ledger, "w1")
    turn = cycle.turn([], count, is_idle=True)
    return cycle, [Held(one, slot, 0.0) for slot, one in enumerate(turn.claims)]


def store(ledger: Ledger, held: list[Held], now: float) -> None:
    """Store what is said, as a worker does."""
    with ledger.store.write() as unit:
        told = store_progress(unit, due(held, now), ledger.act(unit, "worker:w1"))
    for one, state, word in told:
        one.claimed = one.claimed._replace(state=state)
        one.progress.note(word, now)


def test_a_row_brought_forward_spoils_no_batch() -> None:
    """Outcomes of tasks that have progressed are recorded in bulk with the others: no row is looked up one by one."""
    ledger = memory_ledger()
    ledger.task(name="job")(lambda: current().progress(9))
    cycle, held = claimed(ledger, 20)
    begun = [one.claimed for one in held]
    for one in held[::2]:
        one.progress.tell(1, 3, None)
    store(ledger, held, 1.0)
    for one in held[::4]:
        one.progress.tell(2, 3, None)
    finished = [execute(ledger, claim, bool, tell=one.progress.tell) for claim, one in zip(begun, held, strict=True)]
    finished = [one.progress.last_word(one.claimed, outcome) for one, outcome in zip(held, finished, strict=True)]
    statements: list[str] = []
    ledger.store.datastore._open_writer().set_trace_callback(statements.append)
    turn = cycle.turn(finished, 0, is_idle=True)

    assert turn.recorded == 20 and turn.rejected == 0
    assert not [one for one in statements if "FROM queue WHERE task_id" in one]
    tasks = [ledger.get(one.claimed.state.task_id) for one in held]
    assert [len(progressed(task)) for task in tasks] == [2, 1] * 10
    assert all(task.state == "succeeded" for task in tasks)
    assert queue.verify(ledger) == []


def test_words_meet_what_others_do_to_the_task() -> None:
    """A request to cancel comes between two words, an attempt taken away in between is told no more of."""
    ledger = memory_ledger()
    ledger.task(name="job")(lambda: None)
    _, held = claimed(ledger, 2)
    asked, taken = held
    for one in held:
        one.progress.tell(1, 2, None)
    ledger.cancel(asked.claimed.state.task_id, reason="test")
    with ledger.store.write() as unit:
        gone = c.Lose(attempt=1, worker="w1", cause="gone")
        act_on(unit, taken.claimed.state.task_id, gone, ledger.act(unit, "system:test"))
    store(ledger, held, 1.0)

    assert [type(e).__name__ for e in ledger.get(asked.claimed.state.task_id).events][2:] == [
        "CancelRequested",
        "TaskProgressed",
    ]
    assert progressed(ledger.get(taken.claimed.state.task_id)) == []
    assert due(held, 3_600.0) == [], "nothing is left to say"
    assert queue.verify(ledger) == []


def test_a_late_result_of_who_progressed_is_rejected_not_lost() -> None:
    """A worker that said how far it is and lost its attempt has its result kept as rejected, as any other's."""
    ledger = memory_ledger()
    ledger.task(name="job")(lambda: current().progress(9))
    cycle, [held] = claimed(ledger, 1)
    held.progress.tell(1, 3, None)
    store(ledger, [held], 1.0)
    task = ledger.get(held.claimed.state.task_id)
    with ledger.store.write() as unit:
        act_on(unit, task.id, c.Lose(attempt=1, worker="w1", cause="gone"), ledger.act(unit, "system:test"))
    outcome = execute(ledger, held.claimed, bool, tell=held.progress.tell)
    turn = cycle.turn([held.progress.last_word(held.claimed, outcome)], 0, is_idle=True)

    assert turn.rejected == 1
    assert [type(e).__name__ for e in task.events][2:] == ["TaskProgressed", "AttemptLost", "LateResultRejected"]
    assert task.record.late_results == 1
    assert queue.verify(ledger) == []


@pytest.mark.parametrize(
    ("hours", "slow"), [(0, None), (11.9, None), (12, None), (12.1, "warning"), (24, "warning"), (24.1, "critical")]
)
def test_what_runs_long_is_marked(hours: float, slow: str | None) -> None:
    """`now` marks an attempt that runs for more than 12 hours with a warning, for more than 24 as critical."""
    clock = ManualClock()
    ledger = memory_ledger(clock)
    ledger.task(name="job")(lambda: None)
    claimed(ledger, 1)
    clock.advance(timedelta(hours=hours))
    with ledger.store.read() as snapshot:
        [row] = running_rows(snapshot, 43_200, 86_400)
    [shown], columns = table_rows([row])

    assert row["slow"] == slow and row["seconds"] == hours * 3600
    assert isinstance(row["since"], datetime) and row.keys() == set(COLUMNS)
    assert ("slow" in columns) is (slow is not None) and "progress" not in columns and shown["task"] == row["task"]
