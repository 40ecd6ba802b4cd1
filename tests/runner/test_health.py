"""`health` on real ledgers: it sees what is there, whatever no worker has folded yet, and touches nothing."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Delay, Fail, Ledger, Retry, current
from ledger.clock import SystemClock
from ledger.health import Named, judge
from ledger.settings import Settings
from ledger.testing import ManualClock, memory_ledger, run_queue
from projections import queue
from runner.cli_health import thresholds
from runner.vitals import gather
from tests import processes
from tests.projections.test_queue import STEPS, carry_out, declared

ROOT = Path(__file__).parents[2]
JOBS = """
from ledger import Ledger, current
import time
ledger = Ledger.from_env()

@ledger.task
def wait():
    while not current().cancelled:
        time.sleep(0.01)
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "jobs.py").write_text(JOBS)
    yield tmp_path


@pytest.fixture
def each_here(here: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Here, with a ledger on each kind of database."""
    monkeypatch.setenv("WORKLEDGER_URL", url)
    return here


def call(here: Path, *words: str, **variables: str) -> tuple[int, str]:
    """Run the command and return its exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{here}", "WORKLEDGER_URL": url_of(here)}
    done = processes.call(*words, cwd=here, env={**environment, **variables})
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def checks(here: Path, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run `health -o json` and return its exit code and the checks by name."""
    code, out = call(here, "health", "-o", "json", **variables)
    found = json.loads(out)
    assert found["exit_code"] == code
    return code, {one["check"]: one for one in found["checks"]}


def url_of(here: Path) -> str:
    return os.environ.get("WORKLEDGER_URL") or f"sqlite:///{here}/work.db"


def file_ledger(here: Path) -> Ledger:
    ledger = Ledger(url_of(here))
    ledger.task(name="wait")(lambda: None)
    return ledger


def digests(here: Path) -> str:
    """The SHA-256 of the database and its log, by a process of its own: closing a file here would drop SQLite's locks."""
    files = [str(path) for path in (here / "work.db", here / "work.db-wal")]
    script = "import hashlib, sys; print(*(hashlib.sha256(open(one, 'rb').read()).hexdigest() for one in sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True).stdout


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline, "it did not come about"
        clock.sleep(0.02)


def test_a_ledger_that_does_not_exist_is_critical(here: Path) -> None:
    """Exit code 2, one clear line that says where it should be, and nothing is made."""
    code, out = call(here, "health")
    assert code == 2 and out.count("\n") == 1
    assert f"there is no ledger at {here}/work.db; `workledger db init` makes one" in out
    assert checks(here)[1]["ledger"]["state"] == "critical"
    assert sorted(path.name for path in here.iterdir()) == ["jobs.py"]


def test_a_damaged_ledger_is_critical(here: Path) -> None:
    """A file that is no database, and an event that cannot be read, are said by the one check there is."""
    ledger = file_ledger(here)
    ledger.functions["wait"].enqueue()
    ledger.close()
    with closing(sqlite3.connect(here / "work.db")) as database, database:
        database.execute(
            "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)"
            " VALUES (2, 'task:x', 1, 'TaskQueued.v99', CAST('{}' AS BLOB))"
        )
    code, found = checks(here)
    assert code == 2 and "position 2" in found["ledger"]["text"]
    (here / "work.db").write_bytes(b"no database" * 1_000)
    code, found = checks(here)
    assert code == 2 and "not an intact SQLite database" in found["ledger"]["text"]


def test_work_that_no_worker_has_seen_counts(each_here: Path) -> None:
    """A task queued where no worker ever ran is due: critical, since nobody would ever take it."""
    ledger = file_ledger(each_here)
    ledger.store.prepare()
    ledger.close()
    code, found = checks(each_here)
    assert code == 1 and found["runners"]["state"] == found["heartbeat"]["state"] == "warning"
    assert found["oldest due"]["state"] == "ok"
    ledger.functions["wait"].enqueue()
    ledger.close()
    code, found = checks(each_here)

    assert code == 2 and found["runners"]["text"] == "no worker has a fresh heartbeat, and 1 task is due"
    assert found["oldest due"]["state"] == "info" and found["views"]["value"] == 1


def test_it_follows_a_worker_through_its_life(each_here: Path) -> None:
    """Alive and running, then killed: the process of this host is seen to be gone at once, before any lease is over."""
    ledger = file_ledger(each_here)
    task = ledger.functions["wait"].enqueue()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{each_here}", "WORKLEDGER_URL": ledger.url}
    words = ["--app", "jobs:ledger", "run"]
    with processes.Command(words, cwd=each_here, env=environment, stderr=subprocess.DEVNULL) as process:
        until(lambda: task.state == "running")
        code, found = checks(each_here)
        slow = checks(each_here, WORKLEDGER_HEALTH_RUNNING_WARNING="0.001")
        workers = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGSTOP)  # it records no death of its worker
        for one in workers:
            one.kill()
        until(lambda: all(one.status() == psutil.STATUS_ZOMBIE for one in workers))
        process.kill()
    ledger.close()
    assert code == 0, found
    assert found["runners"]["value"] == 1 and found["heartbeat"]["value"] < 30
    assert found["long running"]["text"].startswith("1 running, the oldest for")
    assert slow[0] == 1 and f"wait ({task.id}) for" in slow[1]["long running"]["text"]
    code, found = checks(each_here)
    assert code == 1 and found["runners"]["text"] == "no worker has a fresh heartbeat; 1 worker is silent"


def test_it_waits_for_no_writer_and_changes_nothing(here: Path) -> None:
    """With the database locked by a writer, and the writers' queue held, it answers, and no byte of it is changed."""
    ledger = file_ledger(here)
    ledger.functions["wait"].enqueue()
    with ledger.store.read() as reader, closing(sqlite3.connect(here / "work.db", isolation_level=None)) as writer:
        assert reader.head() == 1  # an open connection: the last one to close would move the log into the database
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE half_done (x)")
        with (here / "work.db.lock").open("w") as queue_lock:
            fcntl.flock(queue_lock, fcntl.LOCK_EX)
            before = digests(here)
            code, found = checks(here)
            after = digests(here)
        writer.execute("ROLLBACK")
    ledger.close()

    assert code == 2 and found["oldest due"]["value"] >= 0
    assert before == after


def test_thresholds_are_settings(here: Path) -> None:
    """Each bound can be set; a warning beyond its alarm is refused as a setting is."""
    file_ledger(here).functions["wait"].enqueue()
    assert checks(here, WORKLEDGER_HEALTH_DISK_WARNING=str(10**18))[1]["disk"]["state"] == "warning"
    assert checks(here, WORKLEDGER_HEALTH_LAG_WARNING="0")[1]["views"]["state"] == "warning"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKLEDGER_HEALTH_DUE_WARNING": "1e9"}
    refused = processes.call("health", cwd=here, env=environment)
    assert refused.returncode == 2
    assert "health_due_warning is 1e+09 and health_due_critical 14400; the warning comes first" in refused.stderr


def test_a_line_a_check(here: Path) -> None:
    """The text has the state, the check, what is wrong and what to do, one line each; jsonl has one object each."""
    file_ledger(here).functions["wait"].enqueue()
    code, out = call(here, "health")
    lines = out.splitlines()

    assert code == 2 and len(lines) == 12
    assert lines[0].startswith("critical  runners          no worker has") and " -> start one: " in lines[0]
    assert [json.loads(line)["check"] for line in call(here, "health", "-o", "jsonl")[1].splitlines()] == [
        line[10:27].strip() for line in lines
    ]


def told_by_the_log(ledger: Ledger) -> tuple[int, int]:
    """(waiting, running) by the stored JSON and rules of its own."""
    with ledger.store.read() as snapshot:
        found = snapshot.rows("SELECT originator_id, topic, state FROM stored_events ORDER BY rowid")
    status: dict[str, str] = {}
    for stream, topic, state in found:
        kind = topic.removesuffix(".v1")
        if kind in ("TaskQueued", "TaskRetried", "AttemptInterrupted"):
            status[stream] = "waiting"
        elif kind == "TaskClaimed":
            status[stream] = "running"
        elif kind in ("TaskSucceeded", "TaskCancelled"):
            status.pop(stream)
        elif kind in ("TaskFailed", "AttemptLost"):
            status[stream] = "waiting"
            if json.loads(state)["final"]:
                status.pop(stream)
    return sum(one == "waiting" for one in status.values()), sum(one == "running" for one in status.values())


@given(STEPS, st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_no_view_has_folded_counts_all_the_same(steps: list[tuple[str, int]], is_prepared: bool) -> None:
    """After any history, folded as far as it may be, the numbers are those of the log, and catching up changes none."""
    ledger = declared(memory_ledger())
    tasks: list[str] = []
    if is_prepared:
        queue.catch_up_all(ledger)
    for verb, number in steps:
        carry_out(ledger, tasks, verb, number)
    before = gather(ledger)
    assert (before.waiting, before.running) == told_by_the_log(ledger)
    queue.catch_up_all(ledger)
    after = gather(ledger)

    assert after.lag == 0 and (before.oldest_due is None) == (after.oldest_due is None)
    assert before.oldest_due is None or after.oldest_due is None or before.oldest_due[0] == after.oldest_due[0]
    assert replace(before, lag=0, oldest_due=after.oldest_due) == after, "of several that are equally old, any is named"


def test_the_oldest_due_task_is_found() -> None:
    """Among folded and unfolded ones, of any name and priority: the one that is due for longest."""
    clock = ManualClock()
    ledger = memory_ledger(clock)
    job = ledger.task(name="job")(lambda number: None)
    oldest = job.using(run_after=timedelta(seconds=5), priority=-3).enqueue(0)
    job.using(run_after=timedelta(seconds=9)).enqueue(1)
    queue.catch_up_all(ledger)
    job.using(run_after=timedelta(seconds=7)).enqueue(2)
    job.using(run_after=timedelta(days=1)).enqueue(3)
    assert (gather(ledger).waiting, gather(ledger).due, gather(ledger).oldest_due) == (4, 0, None)
    clock.advance(timedelta(seconds=1_805))

    vitals = gather(ledger)
    assert (vitals.waiting, vitals.due) == (4, 3)
    assert vitals.oldest_due == Named(1_800.0, oldest.id, "job")


@pytest.mark.parametrize("is_folded", [True, False])
def test_what_is_due_in_a_paused_queue_alarms_nobody(url: str, is_folded: bool) -> None:
    """It is told beside the rest with the queue's name, however long it is due; resumed, it counts again."""
    ledger = Ledger(url, clock=ManualClock())
    job = ledger.task(name="job")(lambda: None)
    if is_folded:
        queue.catch_up_all(ledger)
    for key in (None, "k"):
        job.using(queue="mail", concurrency_key=key).enqueue()
    ledger.clock.sleep(10)
    other = job.enqueue()
    ledger.controls.pause("mail", reason="their server is down")
    ledger.clock.sleep(86_400)
    if is_folded:
        queue.catch_up_all(ledger)
    found = gather(ledger)
    assert (found.waiting, found.due, found.held, found.paused) == (3, 1, 2, ["mail"])
    assert found.oldest_due == Named(86_400.0, other.id, "job")
    ledger.cancel(other.id, reason="a test")
    [check] = [one for one in judge(gather(ledger), thresholds(Settings())) if one.check == "oldest due"]
    assert (check.state, check.text) == ("info", "nothing is due; 2 tasks due in paused queues (mail)")
    ledger.controls.resume("mail", reason="it is back")
    found = gather(ledger)
    assert (found.due, found.held, found.paused) == (2, 0, [])
    assert found.oldest_due is not None and found.oldest_due.seconds == 86_410.0
    ledger.close()


def test_what_is_out_of_attempts_is_nobodys_delay() -> None:
    """A task that failed for good is in no queue: no due task, no retry delay."""
    ledger = memory_ledger()

    @ledger.task(max_attempts=1)
    def bad() -> None:
        raise ValueError("no")

    bad.enqueue()
    assert gather(ledger).due == 1
    run_queue(ledger)
    ledger.clock.sleep(86_400)

    vitals = gather(ledger)
    assert (vitals.waiting, vitals.due, vitals.longest_delay) == (0, 0, None)


@pytest.mark.parametrize("is_folded", [True, False])
def test_the_longest_retry_delay_is_one_after_a_failure(is_folded: bool) -> None:
    """Of tasks that failed the one with the longest delay, also when it is over; asking for a delay is no failure."""
    clock = ManualClock()
    ledger = memory_ledger(clock)

    @ledger.task(retry=Retry(first=60, factor=10, cap=3_600, jitter=1))
    def flaky(failures: int) -> None:
        if current().attempt <= failures:
            raise ConnectionError("down")

    @ledger.task(retry=Retry(first=86_400))
    def polite() -> None:
        raise Delay(5)

    @ledger.task(retry=Retry(first=86_400))
    def broken() -> None:
        raise Fail("no")

    flaky.enqueue(1)
    twice = flaky.enqueue(2)
    polite.enqueue()
    broken.enqueue()
    run_queue(ledger)
    clock.advance(timedelta(seconds=120))
    run_queue(ledger)
    clock.advance(timedelta(days=1))
    if not is_folded:
        with ledger.store.write() as unit:
            unit.run("DROP TABLE queue")

    assert gather(ledger).longest_delay == Named(600.0, twice.id, "flaky")


def test_runs_of_disabled_schedules_are_left_out() -> None:
    """A run that failed after its schedule was disabled waits for its retry, and is nobody's trouble."""
    clock = ManualClock()
    ledger = memory_ledger(clock)

    @ledger.schedule("* * * * *", retry=Retry(first=7_200))
    def tick() -> None:
        if current().attempt == 1:
            ledger.schedules.disable("tick", reason="test")
        raise ConnectionError("down")

    run_queue(ledger, until=clock.now() + timedelta(minutes=1))
    vitals = gather(ledger)
    assert vitals.waiting == 1 and vitals.longest_delay is None
    ledger.schedules.enable("tick", reason="test")
    queue.catch_up_all(ledger)
    delay = gather(ledger).longest_delay
    assert delay is not None and delay.seconds == 7_200


def test_overdue_schedules_and_failing_hooks_are_told() -> None:
    """What a notice was raised of, until it has succeeded again; and the hooks that fail."""
    clock = ManualClock()
    ledger = memory_ledger(clock)
    fails = [True]

    @ledger.schedule("0 * * * *", retry=Retry(first=60, factor=1))
    def hourly() -> None:
        if fails[0]:
            raise ConnectionError("down")

    @ledger.on_notice
    def pager(notice: object) -> None:
        raise OSError("no line")

    for _ in range(5 * 4):
        run_queue(ledger, until=clock.now() + timedelta(minutes=15))
    vitals = gather(ledger)
    assert list(vitals.overdue_schedules) == ["hourly"]
    assert [error for name, error in vitals.failing_hooks.items() if name.endswith("pager")] == ["OSError: no line"]
    fails[0] = False
    ledger.notice_hooks.clear()
    run_queue(ledger, until=clock.now() + timedelta(hours=3))
    vitals = gather(ledger)
    assert list(vitals.overdue_schedules) == [] and vitals.failing_hooks == {}, "a hook that is gone fails no more"
