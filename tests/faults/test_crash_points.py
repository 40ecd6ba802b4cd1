"""Processes killed at named points: before and after appends, commits, effects and their outcomes."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from ledger import Ledger
from tests.faults import crashing
from tests.faults.crashing import POINT, describe
from tests.faults.setup import Site

APP = "tests.faults.crashing:ledger"
KINDS = ("TaskClaimed", "TaskSucceeded", "TaskFailed", "KeyReleased", "WorkerStarted")
EFFECTS = ("before effect", "amid effect", "after effect")


def around(*kinds: str) -> list[str]:
    """The points before and after the append and the commit of each kind of event."""
    return [f"{when} {what} {kind}" for kind in kinds for what in ("append", "commit") for when in ("before", "after")]


def fill(site: Site, deaths: int = 0) -> None:
    """Queue tasks of every kind and acknowledge them; one of them ends its process so many times."""
    ledger: Any = crashing.declare_more(Ledger(f"sqlite:///{site.database}"))
    functions = ledger.functions
    # A first short one lets a worker claim many at once: the death meets claims that have not begun.
    calls = [functions["step"].using(priority=1).call()]
    calls += [functions["die"].call(deaths)] if deaths else []
    calls += [functions["step"].call() for _ in range(24)]
    calls += [functions["flaky"].call(0, 1) for _ in range(9)]
    calls += [functions["parent"].call(0) for _ in range(3)]
    calls += [functions["doomed"].call() for _ in range(9)]
    for until in ("end", "start"):
        calls += [functions["step"].using(unique=f"{until} {n}", unique_until=until).call() for n in range(6)]
    acknowledged = [json.dumps({"id": task.id}) + "\n" for task in ledger.enqueue_many(calls)]
    ledger.close()
    with (site.directory / "fill.acknowledged").open("a") as file:
        file.writelines(acknowledged)


def count_met(site: Site) -> int:
    """How many processes met their point."""
    return len(list(site.directory.glob("*.met")))


@pytest.mark.parametrize("points", [*([*around(kind)] for kind in KINDS), EFFECTS], ids=[*KINDS, "effect"])
def test_a_worker_killed_at_any_point_loses_nothing(site: Site, points: list[str]) -> None:
    """Workers in a row are killed at the points, early and later; they are replaced, and every task ends once."""
    times = (1, 1) if "WorkerStarted" in points[0] else (1, 2)
    plan = [(point, nth) for nth in times for point in points]
    for _ in range(10):  # how many acts one filling makes depends on how many outcomes stand in one
        fill(site)
        site.drain(app=APP, **{POINT: describe(*plan)})
        if count_met(site) == len(plan):
            break

    assert count_met(site) == len(plan), site.logs()
    site.check()


@pytest.mark.parametrize("kind", ["AttemptLost", "AttemptInterrupted", "WorkerStopped"])
def test_a_supervisor_killed_at_any_point_loses_nothing(site: Site, kind: str) -> None:
    """Supervisors are killed as they record what a dead worker had; the next run does it, and every task ends once."""
    plan = describe(*((point, 1) for point in around(kind)), process="main")
    codes = []
    while count_met(site) < 4 or codes[-1] == -signal.SIGKILL:
        fill(site, deaths=1)
        codes.append(site.drain("--threads", "1", app=APP, **{POINT: plan}))
        assert len(codes) < 20, site.logs()

    assert codes.count(-signal.SIGKILL) == 4 and set(codes) == {-signal.SIGKILL, 1}, site.logs()
    site.check()


@pytest.mark.parametrize("kind", ["TaskQueued", "KeyReserved"])
def test_a_producer_killed_at_any_point_leaves_what_it_was_told_of(site: Site, kind: str) -> None:
    """A producer killed as it queues tasks: what was acknowledged is there and runs, the rest is whole or not at all."""
    plan = [(point, nth) for nth in (1, 9) for point in around(kind)]
    producers = [f"p{number}" for number in range(len(plan) + 1)]
    codes = [
        site.finish(site.start("-m", "tests.faults.queueing", name, **{POINT: describe(*plan, process="main")}))
        for name in producers
    ]
    assert codes == [-signal.SIGKILL] * len(plan) + [0]
    site.drain(app=APP)

    site.check()
    acknowledged = sum(len(path.read_text().splitlines()) for path in site.directory.glob("*.acknowledged"))
    assert 0 < site.count("TaskQueued") - acknowledged <= 3 * len(plan), (
        "an act each may be stored and not acknowledged"
    )


def test_a_commit_whose_answer_is_lost_is_no_loss(site: Site) -> None:
    """A worker is told of an error after commits that are on disk: it gives back or knows again what they did."""
    kinds = ("WorkerStarted", "TaskClaimed", "TaskSucceeded", "TaskFailed", "KeyReleased", "TaskClaimed")
    plan = describe(*((f"after commit {kind}", 1) for kind in kinds), number=0)
    runs = 0
    while count_met(site) < len(kinds) and runs < 10:
        fill(site)
        assert site.drain(app=APP, **{POINT: plan}) == 1, site.logs()
        runs += 1

    assert count_met(site) == len(kinds)
    assert site.count("WorkerStarted") == runs
    assert site.count("AttemptLost") == site.count("LateResultRejected") == 0
    assert site.count("AttemptInterrupted") > 0, "what was claimed in doubt was given back"
    site.check()
