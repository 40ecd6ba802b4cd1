"""The race for a unique key: 32 threads in each of 4 processes, one task."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.faults.setup import Site, wait_until

PROCESSES, THREADS, ROUNDS = 4, 32, 5


def race(site: Site, until: str) -> list[dict[str, Any]]:
    """Let all processes and threads race, and return every answer."""
    racers = [
        site.start("-m", "tests.faults.race", f"racer{number}", str(THREADS), str(ROUNDS), until)
        for number in range(PROCESSES)
    ]
    wait_until(lambda: len(list(site.directory.glob("*.ready"))) == PROCESSES, "all are at the start", site)
    (site.directory / "start").touch()
    assert [site.finish(racer) for racer in racers] == [0] * PROCESSES, site.logs()
    return [json.loads(line) for path in site.directory.glob("*.answers") for line in path.read_text().splitlines()]


def test_one_key_is_one_task(each_site: Site) -> None:
    """All that race for a key are given the same task, one of them as new; so too where the first makes the ledger."""
    site = each_site
    answers = race(site, "end")

    assert len(answers) == PROCESSES * THREADS * ROUNDS
    for number in range(ROUNDS):
        of_round = [answer for answer in answers if answer["round"] == number]
        assert len({answer["id"] for answer in of_round}) == 1
        assert [answer["duplicate"] for answer in of_round].count(False) == 1
    assert site.count("TaskQueued") == site.count("KeyReserved") == ROUNDS
    site.drain()
    site.check()


def test_a_key_that_frees_at_the_start_is_held_by_one_waiting_task(each_site: Site) -> None:
    """While workers claim and so free the keys, each answer is a task in the log, and each new one was queued once."""
    site = each_site
    run = site.command("run", "--workers", "2")
    wait_until(lambda: site.count("WorkerStarted") == 2, "workers run", site)
    answers = race(site, "start")
    wait_until(lambda: site.count("TaskSucceeded") == site.count("TaskQueued"), "all is done", site)
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0, site.logs()

    new = [answer["id"] for answer in answers if not answer["duplicate"]]
    assert len(new) == len(set(new)) == site.count("TaskQueued") > ROUNDS
    assert {answer["id"] for answer in answers} == set(new)
    assert site.count("KeyReserved") == site.count("KeyReleased") == len(new)
    site.check()
