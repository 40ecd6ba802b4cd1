"""`workledger task run`: one task in the foreground, against workers that want it too, signals, limits and short leases."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path

from tests.faults.setup import LEASES, Site, wait_until
from tests.processes import Command

REASON = ("--reason", "by hand")


def run(site: Site, task_id: str, *words: str, **environment: str) -> Command:
    return site.command("task", "run", task_id, *words, **environment)


def test_a_worker_and_a_hand_race_for_a_task(each_site: Site) -> None:
    """Six tasks, each wanted by two hands and a worker at once: every one is run by one of them, once, and whoever was
    too late is told who has it or had it."""
    site = each_site
    ids = site.enqueue(*[("work", (30,))] * 6)
    hands = [run(site, task_id) for task_id in ids for _ in range(2)]
    wait_until(lambda: site.count("TaskClaimed"), "the first hand has one", site)
    worker = site.command("run", "--drain")
    codes = [site.finish(hand) for hand in hands]
    assert site.finish(worker) == 0, site.logs()

    assert set(codes) == {0, 4}, site.logs()
    assert site.count("TaskClaimed") == site.count("TaskSucceeded") == len(ids)
    assert codes.count(0) <= len(ids)
    for number, code in enumerate(codes):
        said = (site.directory / f"{number}.log").read_text()
        assert ("is succeeded" in said) == (code == 0)
        assert code == 0 or "is held by worker" in said or "has succeeded" in said
    site.check()


def test_its_output_is_shown_and_kept_and_its_exit_code_tells_the_outcome(site: Site, tmp_path: Path) -> None:
    """What the task prints comes to the terminal and to `task log`; 0 is success, 1 anything else."""
    (tmp_path / "jobs.py").write_text(JOBS)
    site.environment["PYTHONPATH"] += f":{tmp_path}"
    app = "jobs:ledger"
    good, bad = (_queue(site, name) for name in ("good", "bad"))
    assert site.finish(site.command("task", "run", good, app=app)) == 0
    assert site.finish(site.command("task", "run", bad, app=app)) == 1
    assert site.finish(site.command("task", "run", bad, *REASON, "-o", "json", app=app)) == 1
    said = [(site.directory / f"{number}.log").read_text() for number in range(len(site.started))]
    assert "to stdout\nto stderr\n" in said[-3] and f"task {good} is succeeded after attempt 1" in said[-3]
    assert "ValueError: no use" in said[-2] and "is waiting after attempt 1, due " in said[-2]
    summary = json.loads(said[-1].partition("\n")[2])
    assert (summary["state"], summary["attempt"], summary["attempts_left"]) == ("failed", 2, 0)
    site.finish(site.command("task", "log", good, "-o", "json"))
    kept = json.loads(_last_log(site))
    assert [line["text"] for line in kept["lines"]] == ["to stdout", "to stderr"]
    assert site.count("TaskProgressed") == 1, "what it said of its progress is on record too"


JOBS = """
import sys
from ledger import Ledger, Retry
ledger = Ledger.from_env()

@ledger.task
def good() -> None:
    print("to stdout", flush=True)
    ledger.current().progress(1, 2, "half")
    print("to stderr", file=sys.stderr)

@ledger.task(isolation="process", timeout=0.5, kill_after=0.1, max_attempts=1)
def alone(ends: bool) -> None:
    import os, time
    print("in process", os.getpid(), "of", os.getppid(), flush=True)
    end = time.monotonic() + (0 if ends else 60)
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:
            pass

@ledger.task(max_attempts=2, retry=Retry(first=3600))
def bad() -> None:
    print("first line", flush=True)
    raise ValueError("no use")
"""


def test_an_isolated_task_runs_in_a_process_of_its_own(site: Site, tmp_path: Path) -> None:
    """A task that asks for a process has one here too; past its hard limit that one is ended, not the command."""
    (tmp_path / "jobs.py").write_text(JOBS)
    site.environment["PYTHONPATH"] += f":{tmp_path}"
    good, stuck = (_queue(site, "alone", "--args", args) for args in ('{"ends": true}', '{"ends": false}'))
    assert site.finish(site.command("task", "run", good, app="jobs:ledger")) == 0, site.logs()
    assert "in process" in _last_log(site)
    assert site.finish(site.command("task", "run", stuck, app="jobs:ledger")) == 1
    assert f"task {stuck} is failed after attempt 1: TimeLimit" in _last_log(site)
    site.check()


def _queue(site: Site, name: str, *words: str) -> str:
    assert site.finish(site.command("enqueue", name, *words, "-o", "json", app="jobs:ledger")) == 0, site.logs()
    return str(json.loads(_last_log(site))["id"])


def _last_log(site: Site) -> str:
    return (site.directory / f"{len(site.started) - 1}.log").read_text()


def test_it_runs_what_no_worker_may_take_now(site: Site) -> None:
    """Not due, out of attempts, or last lost: by hand it runs at once, through the same claims, and only with a reason."""
    [later] = site.enqueue(("work", (1,)), run_after=timedelta(days=1))
    [doomed] = site.enqueue(("doomed", ()))
    site.drain()
    assert site.finish(run(site, later)) == 2
    assert site.finish(run(site, doomed)) == 2
    assert site.finish(run(site, later, *REASON)) == 0
    assert site.finish(run(site, doomed, *REASON)) == 1
    assert [site.count(topic) for topic in ("TaskRescheduled", "TaskRetried", "TaskFailed")] == [1, 1, 2]
    site.check()


def test_nobody_takes_it_for_lost_while_it_runs(site: Site) -> None:
    """Run for several leases beside a worker that looks for lost ones all the time, it keeps its task to the end."""
    [task_id] = site.enqueue(("hold", ("go",)))
    hand = run(site, task_id, **LEASES)
    wait_until(site.begun, "it has begun", site)
    worker = site.command("run", **LEASES)
    wait_until(lambda: site.count("WorkerStarted") == 2, "a worker looks on", site)
    beats = site.rows("SELECT beats FROM workers WHERE name = 'one task'")[0][0]
    wait_until(lambda: site.rows("SELECT beats FROM workers WHERE name = 'one task'")[0][0] > beats + 25, "beats", site)
    (site.directory / "go").touch()
    assert site.finish(hand) == 0, site.logs()
    worker.send_signal(signal.SIGTERM)
    site.finish(worker)

    assert site.count("AttemptLost") == site.count("LateResultRejected") == 0
    site.drain()
    site.check()


def test_a_hand_that_dies_has_lost_its_attempt(each_site: Site) -> None:
    """Killed, its attempt is recorded as lost by the next worker that looks, which runs the task again."""
    site = each_site
    [task_id] = site.enqueue(("hold", ("go",)))
    hand = run(site, task_id)
    wait_until(site.begun, "it has begun", site)
    hand.send_signal(signal.SIGKILL)
    site.finish(hand)
    (site.directory / "go").touch()
    site.drain(**LEASES)

    assert site.count("AttemptLost") == 1 and site.count("TaskSucceeded") == 2
    site.check()


def test_a_signal_gives_the_task_back(site: Site) -> None:
    """SIGINT and SIGTERM end the command with 130; the attempt is interrupted and costs nothing."""
    [task_id] = site.enqueue(("hold", ("go",)))
    for number, sent in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        hand = run(site, task_id)
        wait_until(lambda number=number: site.begun() == number, "it has begun", site)
        hand.send_signal(sent)
        assert site.finish(hand) == 130, site.logs()
    assert site.count("AttemptInterrupted") == 2
    assert site.states() == {"hold waiting": [task_id]}
    (site.directory / "go").touch()
    site.drain()
    site.check()


def test_its_limits_are_enforced(site: Site) -> None:
    """Past its timeout the attempt fails with TimeLimit; one that goes on is ended with its process, on record."""
    [soft, hard] = [
        site.enqueue(("hold", ("never",)), timeout=0.3, kill_after=kill, max_attempts=1)[0] for kill in (30, 0.1)
    ]
    assert site.finish(run(site, soft)) == 1
    assert "TimeLimit" in _last_log(site)
    stubborn = site.start("-c", STUBBORN, hard)
    assert site.finish(stubborn) == 1, site.logs()
    assert site.states() == {"hold failed": [soft, hard]}
    assert site.count("TaskFailed") == site.count("WorkerStopped") == 2
    site.check()


STUBBORN = """
import sys
from runner.cli import main
from tests.faults import app

def hold(name: str) -> None:
    with app.effects():
        end = app.time.monotonic() + 30
        while app.time.monotonic() < end:
            try:
                app.time.sleep(0.01)
            except BaseException:
                pass

app.ledger.functions["hold"].function = hold
sys.argv = ["workledger", "--app", "tests.faults.app:ledger", "task", "run", sys.argv[1]]
main()
"""


def test_a_request_to_cancel_reaches_it(site: Site) -> None:
    """`task cancel` while it runs in the foreground is seen by the task; what then becomes of it is recorded so."""
    (site.directory / "jobs.py").write_text(CANCELLABLE)
    site.environment["PYTHONPATH"] += f":{site.directory}"
    task_id = _queue(site, "patient")
    hand = site.command("task", "run", task_id, app="jobs:ledger")
    wait_until((site.directory / "begun").exists, "it has begun", site)
    assert site.finish(site.command("task", "cancel", task_id, *REASON, app="jobs:ledger")) == 0
    assert site.finish(hand) == 1, site.logs()
    assert site.count("CancelRequested") == site.count("TaskCancelled") == 1


CANCELLABLE = """
import time
from pathlib import Path
from ledger import Ledger
ledger = Ledger.from_env()

@ledger.task
def patient() -> None:
    Path("begun").touch()
    while not ledger.current().cancelled:
        time.sleep(0.01)
    raise InterruptedError("asked to end")
"""
