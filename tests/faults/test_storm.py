"""The storm: processes killed at random under load; what was acknowledged ends once, and the log tells the truth."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from contextlib import suppress

import pytest

from tests.faults.setup import Site, wait_until, workers_of
from tests.processes import Command


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def storm(site: Site, seed: str, kills: int, producers: int, *, supervisors_too: bool) -> None:
    """Kill at random while tasks are queued and run, then work the queue to its end and check the history."""
    dice = random.Random(seed)
    site.environment["WORKLEDGER_REPORTS"] = "true"
    runs = [site.command("run", "--workers", "2", "--name", f"run{number}") for number in range(2)]
    wait_until(lambda: all(workers_of(run) for run in runs), "workers run", site)
    queueing = [
        site.start("-m", "tests.faults.produce", f"producer{number}", f"{seed}-{number}") for number in range(producers)
    ]
    between = 40 if site.url.startswith("sqlite:") else 15
    for number in range(kills):
        # However slow the machine is just now: there is something to be killed in.
        least = site.begun() + between
        wait_until(lambda least=least: site.begun() >= least, "work goes on", site)
        time.sleep(dice.uniform(0.05, 0.4))  # the storm itself, no wait for anything
        victim = dice.randrange(len(runs))
        if supervisors_too and dice.random() < 0.1:
            kill(runs[victim].pid)
            runs[victim].wait()
            runs[victim] = site.command("run", "--workers", "2", "--name", f"again{number}")
        elif pids := workers_of(runs[victim]):
            kill(dice.choice(pids))
    (site.directory / "stop").touch()
    for process in queueing:
        assert site.finish(process) == 0, site.logs()
    stop(site, runs)
    site.drain("--workers", "2")
    site.check()


def stop(site: Site, runs: list[Command]) -> None:
    """End the runs as an operator does."""
    for run in runs:
        run.send_signal(signal.SIGTERM)
    for run in runs:
        assert site.finish(run) in (0, 1), site.logs()


def test_what_was_acknowledged_ends_once_whichever_workers_are_killed(each_site: Site) -> None:
    """Twenty workers killed under load: every acknowledged task ends once, no two attempts of one overlap."""
    site, seed = each_site, secrets.token_hex(4)
    print("seed", seed)
    storm(site, seed, kills=20, producers=2, supervisors_too=False)

    assert site.count("AttemptLost") > 0, "the storm met nothing that ran"
    assert site.count("TaskSucceeded") > (800 if site.url.startswith("sqlite:") else 20)


@pytest.mark.soak
def test_what_was_acknowledged_ends_once_whichever_processes_are_killed(each_site: Site) -> None:
    """The long storm: two hundred workers and supervisors killed under load."""
    site, seed = each_site, secrets.token_hex(4)
    print("seed", seed)
    storm(site, seed, kills=200, producers=3, supervisors_too=True)

    assert site.count("AttemptLost") > 20
    assert site.count("TaskSucceeded") > 15_000
