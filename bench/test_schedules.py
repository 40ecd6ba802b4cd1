"""What schedules cost: ten thousand that are idle, a thousand due in one second, and a cycle where there are none."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from bench import support
from ledger import Ledger
from ledger.testing import ManualClock
from runner.cycle import Cycle

IDLE = 10_000
DUE = 1_000


def declared(database: Path, count: int, expression: str, clock: ManualClock | None = None) -> Ledger:
    """Return a ledger with so many schedules in its log."""
    ledger = Ledger(f"sqlite:///{database}", clock=clock)
    for number in range(count):
        ledger.schedule(expression, name=f"schedule-{number:05}")(lambda: None)
    ledger.schedules.sync()
    return ledger


def test_idle_schedules(benchmark: Any, tmp_path: Path) -> None:
    """CPU of a worker and its supervisor over ten seconds, with 10,000 schedules of which none is due."""
    far = datetime.now(UTC) + timedelta(days=40)
    started = time.perf_counter()
    ledger = declared(tmp_path / "work.db", IDLE, f"{far.minute} {far.hour} {far.day} {far.month} *")
    declaring = time.perf_counter() - started
    ledger.close()
    shares: list[float] = []
    with support.workers(ledger.url) as process:
        time.sleep(10)  # the first catch-up folds ten thousand declarations
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]

        def idle() -> None:
            before = [one.cpu_times() for one in family]
            time.sleep(10)
            after = [one.cpu_times() for one in family]
            used = sum(b.user + b.system - a.user - a.system for a, b in zip(before, after, strict=True))
            shares.append(100 * used / 10)

        benchmark.pedantic(idle, rounds=3)
    support.say(benchmark, wanted="< 1", ours=shares, unit="% of a core", declared_per_second=round(IDLE / declaring))


def test_due_at_once(benchmark: Any, tmp_path: Path) -> None:
    """1,000 schedules due in the same second: from the first look to the last task queued, and in how many commits."""
    clock = ManualClock()
    ledger = declared(tmp_path / "work.db", DUE, "0 * * * *", clock)
    cycle = Cycle(ledger, "bench")
    ours: list[float] = []
    commits: list[int] = []

    def next_hour() -> None:
        finish_all(ledger, cycle)
        clock.advance_to(clock.now().replace(minute=0, second=0) + timedelta(hours=1))

    def fire() -> None:
        started, turns = time.perf_counter(), 0
        while (turn := cycle.turn([], 0, is_idle=False)).fired or turn.is_behind:
            turns += 1
        ours.append(DUE / (time.perf_counter() - started))
        commits.append(turns)

    benchmark.pedantic(fire, setup=next_hour, rounds=5)
    support.say(benchmark, wanted="commits <= 3", ours=ours, unit="schedules/s", commits=max(commits))


def finish_all(ledger: Ledger, cycle: Cycle) -> None:
    """Run what is queued, so that each schedule is free for its next slot."""
    from runner.execute import execute

    finished: list[Any] = []
    while (turn := cycle.turn(finished, 500, is_idle=True)).claims or finished or turn.is_behind:
        finished = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]


def test_a_cycle_without_schedules(benchmark: Any, tmp_path: Path) -> None:
    """An empty cycle with no schedule and with ten thousand: the look at the next slot is one step in an index."""
    with_none = Cycle(Ledger(f"sqlite:///{tmp_path}/none.db"), "bench")
    with_many = Cycle(declared(tmp_path / "many.db", IDLE, "0 0 1 1 *"), "bench")
    while with_many.turn([], 0, is_idle=True).is_behind:
        pass
    ours: list[float] = []
    limit: list[float] = []

    def turns(cycle: Cycle) -> float:
        started = time.perf_counter()
        for _ in range(500):
            cycle.turn([], 1, is_idle=True)
        return 500 / (time.perf_counter() - started)

    def both() -> None:
        limit.append(turns(with_none))
        ours.append(turns(with_many))

    benchmark.pedantic(both, rounds=5)
    support.say(benchmark, wanted="ratio >= 0.9", ours=ours, limit=limit, unit="cycles/s",
                microseconds=round(1e6 / statistics.median(ours)))  # fmt: skip
