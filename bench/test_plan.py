"""What a cycle's plan costs with many names, long queues and limits: finding candidates, planning, and both together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import support
from ledger import Ledger
from ledger.clock import to_us
from ledger.limits import Limits, Running
from projections import queue
from projections.controls import read
from runner.candidates import Finder
from runner.cycle import Cycle, Finished
from runner.execute import execute
from runner.plan import DUE_THEN_POSITION, plan

NAMES, EACH = 200, 5_000
LIMITS = {"ledger": 150, "queue:default": 140, "task:*": 10, "task:name 7": 1, "key:*": 2}


def filled(database: Path, *, keyed: bool = False) -> Ledger:
    """A ledger with 5,000 due tasks of each of 200 names, a tenth of each with a key where *keyed*."""
    ledger = Ledger(f"sqlite:///{database}")
    for number in range(NAMES):
        task: Any = ledger.task(name=f"name {number}")(lambda: None)
        calls = [
            task.using(concurrency_key=f"key {n % 5}").call() if keyed and n % 10 == 0 else task.call()
            for n in range(EACH)
        ]
        ledger.enqueue_many(calls)
    queue.catch_up_all(ledger)
    return ledger


def milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


@pytest.mark.parametrize("kind", ["plain", "limits", "limits and keys"])
def test_plan_of_many_names(benchmark: Any, tmp_path: Path, kind: str) -> None:
    """Candidates and plan for 16 free slots from 200 names of 5,000 due tasks each; a whole turn with claims beside it."""
    ledger = filled(tmp_path / "work.db", keyed=kind == "limits and keys")
    if kind != "plain":
        for scope, most in LIMITS.items():
            ledger.controls.set_limit(scope, most, reason="bench")
    busy = Cycle(ledger, "busy")
    while busy.turn([], 60, is_idle=True).is_behind:
        pass
    cycle, free = Cycle(ledger, "bench"), 16
    finder = Finder(lambda name, in_queue: True, "all")
    ours: list[float] = []
    turns: list[float] = []
    with ledger.store.read() as snapshot:
        limits = read(snapshot).limits  # a cycle keeps them until one changes

    def once() -> None:
        with ledger.store.write() as unit:
            now_us = to_us(unit.now)
            ours.append(milliseconds(lambda: finder.find(unit, limits, free, now_us, is_idle=True)))
        started = time.perf_counter()
        turn = cycle.turn([], free, is_idle=True)
        turns.append((time.perf_counter() - started) * 1000)
        back = [Finished(one, execute(ledger, one, bool).command) for one in turn.claims]
        cycle.turn(back, 0, is_idle=True)

    benchmark.pedantic(once, rounds=60, warmup_rounds=5)
    support.say(benchmark, wanted="<= 5 ms", ours=ours, unit="ms a plan", turn_ms=round(statistics.median(turns), 2))


def test_pure_plan(benchmark: Any) -> None:
    """The plan alone, of 200 names × 50 rows at hand and limits, 1,000 slots free, beside one sort of the same rows."""
    from ledger.limits import Limit
    from ledger.task import TaskState

    rows = [
        (n * NAMES + name, *TaskState(f"{n}-{name}", name=f"name {name}", queue="default", due_us=n * 7919 % 1000))
        for name in range(NAMES)
        for n in range(50)
    ]
    limits = Limits(Limit(scope, most if scope == "task:*" else 2_000, "hand") for scope, most in LIMITS.items())
    running = Running((f"name {name}", "default", None, name % 4) for name in range(NAMES))
    ours: list[float] = []
    limit: list[float] = []

    def both() -> None:
        limit.append(milliseconds(lambda: sorted(rows, key=DUE_THEN_POSITION)))
        ours.append(milliseconds(lambda: plan(rows, running, 1_000, is_idle=False, limits=limits)))

    benchmark.pedantic(both, rounds=60, warmup_rounds=5)
    support.say(benchmark, wanted="<= 5 ms-class", ours=ours, limit=limit, unit="ms a plan")


def test_a_full_key_before_others(benchmark: Any, tmp_path: Path) -> None:
    """A turn for 16 slots where the first 100,000 due tasks share one full key, beside one without that key's limit."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    task: Any = ledger.task(name="work")(lambda: None)
    for first in range(0, 100_000, 10_000):
        ledger.enqueue_many(task.using(concurrency_key="full").call() for _ in range(first, first + 10_000))
    ledger.enqueue_many(task.using(concurrency_key=f"key {n % 100}").call() for n in range(1_000))
    queue.catch_up_all(ledger)
    Cycle(ledger, "busy").turn([], 1, is_idle=True)
    ledger.controls.set_limit("key:*", 1, reason="bench")
    queue.catch_up_all(ledger)
    ours: list[float] = []
    limit: list[float] = []

    def both() -> None:
        with ledger.store.write() as unit:
            limits, now_us = read(unit).limits, to_us(unit.now)
            for times, said in ((limit, Limits()), (ours, limits)):
                finder = Finder(lambda name, in_queue: True, "all")
                times.append(milliseconds(lambda f=finder, s=said: f.find(unit, s, 16, now_us, is_idle=True)))  # type: ignore[misc]

    benchmark.pedantic(both, rounds=60, warmup_rounds=5)
    support.say(benchmark, wanted="<= 5 ms", ours=ours, limit=limit, unit="ms a plan")
