"""Queueing in callers' transactions under faults: exactly what was committed runs, and each of it once."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.faults.crashing import POINT, describe
from tests.faults.setup import Site, wait_until

CRASHING = "tests.faults.crashing:ledger"
PROCESSES, THREADS = 4, 4


def ids_in(site: Site, pattern: str) -> set[str]:
    lines = [line for path in site.directory.glob(pattern) for line in path.read_text().splitlines()]
    return {json.loads(line)["id"] for line in lines}


def call_at_random(site: Site, rounds: int, seed: str) -> None:
    """Let 16 callers commit, roll back and be killed while two workers run, and look at what became of it."""
    ledger = site.ledger()
    ledger.store.prepare()
    ledger.close()
    run = site.command("run", "--workers", "2")
    words = ("-m", "tests.faults.calling")
    callers = [site.start(*words, f"caller{n}", f"{seed}{n}", str(THREADS), str(rounds)) for n in range(PROCESSES)]
    assert [site.finish(caller) for caller in callers] == [-signal.SIGKILL] * PROCESSES, site.logs()
    kept, undone = ids_in(site, "*.acknowledged"), ids_in(site, "*.undone")
    wait_until(lambda: site.count("TaskQueued") >= len(kept), "all is taken in", site)
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0, site.logs()
    site.drain()

    queued = {stream.removeprefix("task:") for (stream,) in site.rows(
        "SELECT originator_id FROM stored_events WHERE topic = 'TaskQueued.v1'"
    )}  # fmt: skip
    assert len(kept) > 4 * rounds and len(undone) > rounds
    assert queued == kept
    assert site.rows("SELECT count(*) FROM inbox") == [(0,)]
    site.check()


def test_exactly_what_callers_commit_runs(each_site: Site) -> None:
    """16 callers commit and roll back at random, with and without keys, and die amid transactions; 2 workers run."""
    call_at_random(each_site, 6, "short")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_exactly_what_callers_commit_runs_for_long(each_site: Site, seed: int) -> None:
    """The same for 16 times as long."""
    call_at_random(each_site, 100, f"long{seed}")


POINTS = [
    *(f"{when} take in" for when in ("before", "after")),
    *(f"{when} {what} TaskQueued" for what in ("append", "commit") for when in ("before", "after")),
]


def test_a_worker_killed_while_it_takes_the_inbox_in_loses_and_doubles_nothing(site: Site) -> None:
    """Before and after the rows are deleted, the events appended, and both committed: a row is in one place, once."""
    made = 0
    for point in POINTS:
        made += fill(site)
        site.drain(app=CRASHING, **{POINT: describe((point, 1))})
        (site.directory / "0.met").unlink()  # it is there: the point was met

    assert site.count("TaskQueued") == made
    assert site.rows("SELECT count(*) FROM inbox") == [(0,)]
    site.check()


def fill(site: Site) -> int:
    """Queue tasks in a transaction of a caller's and return how many."""
    ledger = site.ledger()
    ledger.store.prepare()
    step = ledger.functions["step"]
    calls = [step.using(unique=key).call() for key in (None, "a", "a", None, "b")]
    with closing(sqlite3.connect(site.database)) as connection:
        made = ledger.enqueue_many(calls, connection=connection)
        connection.commit()
    ledger.close()
    with (site.directory / "fill.acknowledged").open("a") as file:
        file.writelines(json.dumps({"id": task.id}) + "\n" for task in made)
    return len(made)
