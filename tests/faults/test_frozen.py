"""Workers frozen past their lease: others take over, and what the sleeper says afterwards changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.crashing import POINT
from tests.faults.setup import LEASES, Site, wait_until, workers_of
from tests.processes import Command

CRASHING = "tests.faults.crashing:ledger"
STATES_OF = "SELECT status, attempt FROM queue WHERE name = ?"
STEPS = [("work", (0,))] * 30


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def freeze(pids: list[int], site: Site) -> None:
    """Stop processes, and return when every thread of theirs stands: one that runs meanwhile goes on for a little."""
    send(pids, signal.SIGSTOP)
    wait_until(lambda: all(is_stopped(pid) for pid in pids), "all threads have stopped", site)


def is_stopped(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(one.read_text().rpartition(")")[2].split()[0] == "T" for one in threads)


def frozen_run(site: Site) -> tuple[Command, list[int]]:
    """Start a run that holds one long attempt and claims not begun, and freeze it; return it and its processes."""
    first = site.enqueue(*[("work", (0,))] * 3, priority=2)
    run = site.command("run", "--threads", "1", **LEASES)
    wait_until(lambda: site.count("TaskSucceeded") == len(first), "the first tasks are recorded", site)
    site.enqueue(("hold", ("go",)), *STEPS, priority=1)
    wait_until(lambda: site.begun() > len(first), "the long task has begun", site)
    family = [run.pid, *workers_of(run)]
    freeze(family, site)
    return run, family


@pytest.mark.parametrize("first", ["supervisor", "worker"])
def test_the_result_of_a_worker_that_slept_past_its_lease_is_rejected(each_site: Site, first: str) -> None:
    """A frozen worker's attempts are lost and run elsewhere; awake, it begins nothing old and its result is rejected."""
    site = each_site
    run, family = frozen_run(site)
    (site.directory / "go").touch()
    site.drain(**LEASES)
    assert site.count("AttemptLost") > 1
    assert site.count("LateResultRejected") == 0
    supervisor, worker = family
    send([supervisor if first == "supervisor" else worker], signal.SIGCONT)
    if first == "supervisor":
        looks = psutil.Process(supervisor).num_ctx_switches().voluntary + 5
        wait_until(lambda: psutil.Process(supervisor).num_ctx_switches().voluntary > looks, "it has looked", site)
    send(family, signal.SIGCONT)
    wait_until(lambda: site.count("LateResultRejected"), "the late result is rejected", site)
    run.send_signal(signal.SIGTERM)

    assert site.finish(run) == 0, site.logs()
    assert site.count("LateResultRejected") == 1
    site.check()


def test_a_late_result_does_not_end_the_attempt_that_runs(each_site: Site) -> None:
    """A sleeper that reports while the next attempt runs is refused, its child too; that attempt comes to its own end."""
    site = each_site
    run, family = frozen_run(site)
    other = site.command("run", **LEASES)
    wait_until(lambda: site.rows(STATES_OF, "hold") == [("running", 2)], "another runs it", site)
    (site.directory / "go.1").touch()
    send(family, signal.SIGCONT)
    wait_until(lambda: site.count("LateResultRejected"), "the late result is rejected", site)
    assert site.rows(STATES_OF, "hold") == [("running", 2)]
    queued = site.count("TaskQueued")
    (site.directory / "go.2").touch()
    wait_until(lambda: site.count("TaskSucceeded") == site.count("TaskQueued"), "all is done", site)
    for one in (run, other):
        one.send_signal(signal.SIGTERM)
        assert site.finish(one) == 0, site.logs()

    assert site.count("TaskQueued") == queued + 1 == 3 + 1 + len(STEPS) + 1, "one child, of the attempt that succeeded"
    site.check()


def frozen_in_a_transaction(site: Site, workers: int) -> tuple[Command, int]:
    """Start a run in which all workers hold a long attempt, but for one that stops inside a transaction."""
    site.enqueue(*[("hold", ("go",))] * (workers - 1))
    run = site.command("run", "--workers", str(workers), "--threads", "1", app=CRASHING, **LEASES, **{POINT: "{}"})
    wait_until(lambda: site.begun() == workers - 1, "all but one are busy", site)
    site.enqueue(("freeze", ()))
    mark = site.directory / "frozen"
    wait_until(lambda: mark.exists() and mark.read_text(), "the last one is frozen", site)
    return run, int(mark.read_text())


def beats(site: Site) -> list[int]:
    """How often each worker that is known has shown a heartbeat."""
    return [beats for (beats,) in site.rows("SELECT beats FROM workers ORDER BY beats")]


def test_a_worker_frozen_in_a_transaction_is_ended_by_its_supervisor(site: Site) -> None:
    """The others wait for the lock that it holds, lose nothing of their own, and go on when it is killed."""
    run, _ = frozen_in_a_transaction(site, workers=4)
    wait_until(lambda: site.count("AttemptLost"), "what it had is lost", site)
    before = beats(site)[-1]
    wait_until(lambda: beats(site)[-1] > before + 5, "the others have looked at each other", site)
    (site.directory / "go").touch()
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) in (0, 1), site.logs()
    site.drain(app=CRASHING)

    assert site.count("AttemptLost") == 1, "only the frozen one's"
    assert site.count("LateResultRejected") == 0
    site.check()


def test_a_supervisor_ends_a_frozen_worker_although_it_waits_for_its_lock(site: Site) -> None:
    """Another worker dies while one is frozen in a transaction: its loss can be recorded when that one is killed."""
    run, frozen = frozen_in_a_transaction(site, workers=2)
    [other] = [pid for pid in workers_of(run) if pid != frozen]
    os.kill(other, signal.SIGKILL)
    wait_until(lambda: site.count("AttemptLost") == 2, "what both had is lost", site)
    (site.directory / "go").touch()
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) in (0, 1), site.logs()
    site.drain(app=CRASHING)

    site.check()
