"""A recorded attempt run again: the same function with what it had then, nothing stored, and what differs is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import CapabilityMissing, Conflict, Delay, Ledger, NotFound, NotInTask
from ledger import commands as c
from ledger.acts import act_on
from ledger.current import Current
from ledger.events import TaskQueued
from ledger.ids import mint
from ledger.testing import ManualClock, run_queue
from projections import queue as queue_view
from runner.code_version import code_version
from runner.cycle import Cycle
from runner.replay import replay
from tests import processes
from tests.api.setup import REASON, count_events, names_of

ROOT = Path(__file__).parents[2]
APP = """
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task(max_attempts=1)
def divide(number: int) -> float:
    print("dividing by", number)
    local = number + 0
    return 1 / local
"""


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock."""
    ledger = Ledger(url, clock=ManualClock())
    yield ledger
    ledger.close()


def run(ledger: Ledger) -> None:
    """Run what is due, its output kept as a worker keeps it."""
    from runner.execute import execute
    from runner.recorder import Recorder
    from runner.replay import _caught  # catches streams as a worker does, and gives them back

    cycle = Cycle(ledger, "w1", code_version="v1")
    while claims := cycle.turn([], 1, is_idle=True).claims:
        with _caught():
            finished = [
                execute(ledger, one, lambda: False, open_recorder=lambda: Recorder(10_000, ledger.clock))
                for one in claims
            ]
        cycle.turn(finished, 0, is_idle=True)


def test_a_replay_has_all_that_the_attempt_had_and_stores_nothing(ledger: Ledger) -> None:
    """Time, random numbers, arguments and identity are the same; whatever it would have changed is told and not done."""
    seen: list[Any] = []
    other: Any = ledger.task(name="other")(lambda: None)
    victim = other.using(run_after=timedelta(hours=1), unique="one").enqueue()

    @ledger.task(hide=["secret"], run_as="ann")
    def job(secret: str) -> float:
        current = ledger.current()
        with current.acting_as("bob"):
            with pytest.raises(CapabilityMissing, match="'bob' lacks"):
                current.require_capability("anything")
            seen.append((secret, current.run_as, current.task_run_as, current.attempts_left))
        queued = other.enqueue()
        assert queued.state == "waiting"  # the task sees what it did
        assert other.using(unique="one").enqueue().id == victim.id
        other.using(with_outcome=True).enqueue()
        current.progress(1, 2, "half")
        current.clear_caches(reason=REASON)
        if current.is_replay:
            ledger.cancel(victim.id, reason=REASON)
        current.trace("traced", current.now(), current.random.random())
        return current.random.random()

    task = job.enqueue("s3cret")
    run(ledger)
    before = count_events(ledger)
    ledger.clock.sleep(100)

    found = replay(ledger, task.id)

    assert found.differences == () and found.is_comparable
    assert found.recorded == found.here
    assert found.recorded.output is not None and found.code_version == "v1"
    assert seen[0] == seen[1] == ("s3cret", "bob", "ann", 12)
    assert [type(event).__name__ for event in found.would] == [
        "TaskQueued",
        "CachesCleared",
        "TaskCancelled",
        "KeyReleased",
        "TaskQueued",
    ]
    assert count_events(ledger) == before
    assert victim.state == "waiting"
    assert queue_view.verify(ledger) == []
    other.enqueue()
    assert count_events(ledger) == before + 1


def test_each_attempt_has_a_time_and_random_numbers_of_its_own(ledger: Ledger) -> None:
    """They differ from attempt to attempt, stay the same within one, and come again in a replay of its number."""
    seen: list[Any] = []

    @ledger.task(max_attempts=3)
    def job() -> None:
        current = ledger.current()
        first = current.now()
        ledger.clock.sleep(5)
        seen.append((current.now(), first, current.random.random(), current.random is current.random))
        raise ValueError("no")

    task = job.enqueue()
    run_queue(ledger, through_delays=True)
    assert len(set(seen)) == 3
    assert all(now == first and is_one for now, first, _, is_one in seen)
    assert [one[0] for one in seen] == [attempt.claimed_at for attempt in task.attempts]

    for number in (2, 1, 3):
        assert replay(ledger, task.id, number).differences == ()
    assert seen[3:] == [seen[1], seen[0], seen[2]]


def test_what_differs_is_told(ledger: Ledger) -> None:
    """Another result, another error, an outcome of another kind, another delay, other output, line by line."""
    how = ["succeed"]

    @ledger.task(max_attempts=1)
    def job(number: int) -> Any:
        print("first")
        print("how", how[0])
        match how[0]:
            case "succeed":
                return {"number": number}
            case "delay":
                raise Delay(number)
            case _:
                raise ValueError(how[0])

    def differing(task: Any, now: str) -> dict[str, Any]:
        how[0] = now
        found = replay(ledger, task.id)
        return {one.what: (one.recorded, one.here) for one in found.differences if one.what != "output"} | {
            "diff": [line for line in found.output_diff if line[0] in "+-" and line[1] not in "+-"]
        }

    tasks = {}
    for one in ("succeed", "delay", "broken"):
        how[0], tasks[one] = one, job.enqueue(7)
        run(ledger)

    assert differing(tasks["succeed"], "succeed") == {"diff": []}
    assert differing(tasks["succeed"], "broken") == {
        "outcome": ("succeeded", "failed"),
        "error": (None, "ValueError: broken"),
        "diff": ["-how succeed", "+how broken"],
    }
    assert differing(tasks["broken"], "mended") == {
        "error": ("ValueError: broken", "ValueError: mended"),
        "diff": ["-how broken", "+how mended"],
    }
    assert differing(tasks["delay"], "delay") == {"diff": []}
    assert differing(tasks["delay"], "succeed")["outcome"] == ("delayed", "succeeded")
    job.function.__defaults__ = None
    ledger.functions["job"].function = lambda number: print("first\nhow succeed") or {"number": number + 1}
    assert differing(tasks["succeed"], "") == {"result": ({"number": 7}, {"number": 8}), "diff": []}


def test_an_attempt_without_an_outcome_runs_and_is_compared_with_nothing(ledger: Ledger) -> None:
    """One that was lost, or runs somewhere, has no outcome of its function; an unknown one is not found."""
    task = ledger.task(name="job")(lambda: 5).enqueue()
    with pytest.raises(NotFound, match="has had no attempt yet"):
        replay(ledger, task.id)
    with pytest.raises(NotFound, match="no task"):
        replay(ledger, mint(ledger.clock.now()))
    Cycle(ledger, "w1").turn([], 1, is_idle=True)
    found = replay(ledger, task.id)
    assert (found.recorded.outcome, found.is_comparable, found.here.result) == ("running", False, 5)
    with ledger.store.write() as unit:
        act = c.Act(id=mint(unit.now), at=unit.now, actor="system:test")
        act_on(unit, task.id, c.Lose(attempt=1, worker="w1", cause="died"), act)
    assert replay(ledger, task.id, 1).recorded.outcome == "lost"
    with pytest.raises(NotFound, match="has had 1 attempt; there is no 2"):
        replay(ledger, task.id, 2)


def test_a_task_cannot_get_past_the_shadow(ledger: Ledger) -> None:
    """Statements of its own are refused; the ledger writes again afterwards, however the replay ended."""

    @ledger.task(max_attempts=1)
    def job() -> None:
        with ledger.store.write() as unit:
            if ledger.current().is_replay:
                unit.run("DELETE FROM queue")

    @ledger.task(name="stop", max_attempts=1)
    def stop() -> None:
        if ledger.current().is_replay:
            raise KeyboardInterrupt

    task, other = job.enqueue(), stop.enqueue()
    run_queue(ledger)
    found = replay(ledger, task.id)
    assert isinstance(found.raised, Conflict) and "nothing is written here" in str(found.raised)
    out = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        replay(ledger, other.id)
    assert sys.stdout is out
    before = count_events(ledger)
    assert names_of(job.enqueue()) == ["TaskQueued"]
    assert count_events(ledger) == before + 1


def test_an_attempt_made_by_hand_has_no_time() -> None:
    """`now` is the record's, so that there is none where nothing was claimed."""
    with pytest.raises(NotInTask, match="was not claimed"):
        Current(task_id="t", name="n", attempt=1, run_as="system", worker="w").now()


def git(place: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def test_the_code_version_is_that_of_what_holds_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision of the clone that tracks the file, marked where it is changed; else its package; else none."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "versioned_app.py").write_text("")
    (tmp_path / "beside_app.py").write_text("")
    __import__("versioned_app"), __import__("beside_app")
    assert code_version("versioned_app:ledger") is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "versioned_app.py")
    git(tmp_path, "commit", "-qm", "one")
    revision = "git:" + git(tmp_path, "rev-parse", "HEAD")[:12]
    assert code_version("versioned_app:ledger") == revision
    assert code_version("beside_app:ledger") is None
    (tmp_path / "versioned_app.py").write_text("changed = True\n")
    assert code_version("versioned_app") == revision + "+"
    assert str(code_version("pytest:ledger")).startswith("pytest ")
    assert code_version(None) is code_version("nowhere:ledger") is None


def call(here: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return processes.call("--app", "jobs:ledger", *words, cwd=here, env=environment, stdin=stdin)


def test_the_command_replays_compares_and_stops_in_the_debugger(tmp_path: Path) -> None:
    """What worker and code recorded is told beside what came here; pdb stands in the frame that raised."""
    (tmp_path / "jobs.py").write_text(APP)
    task = call(tmp_path, "enqueue", "divide", "--args", '{"number": 0}').stdout.strip()
    assert call(tmp_path, "run", "--drain", "--code-version", "release 7").returncode == 1

    same = call(tmp_path, "task", "replay", task)
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.splitlines()[0] == "| dividing by 0"
    assert "the code differs: release 7 then, unknown here" in same.stdout

    (tmp_path / "jobs.py").write_text(APP.replace("dividing", "divided"))
    stopped = call(tmp_path, "task", "replay", task, "--debugger", stdin="p 'local is', local\nq\n")
    assert stopped.returncode == 1
    assert "+divided by 0" in stopped.stdout
    assert "-> return 1 / local" in stopped.stdout and "('local is', 0)" in stopped.stdout

    assert call(tmp_path, "task", "replay", task, "--attempt", "2").returncode == 3
    events = call(tmp_path, "task", "events", task, "-o", "jsonl").stdout.splitlines()
    assert len(events) == 3


def test_what_would_be_queued_has_its_arguments(ledger: Ledger) -> None:
    """The events that a replay keeps to itself are whole."""
    other: Any = ledger.task(name="other")(lambda number: None)

    @ledger.task
    async def job() -> None:
        await other.aenqueue(3)
        ledger.enqueue_many(other.call(n) for n in (4, 5))

    task = job.enqueue()
    run_queue(ledger)
    found = replay(ledger, task.id)
    assert found.differences == (), found.raised
    queued = [event for event in found.would if isinstance(event, TaskQueued)]
    assert [(one.args, one.parent) for one in queued] == [({"number": n}, task.id) for n in (3, 4, 5)]
