"""How fast tasks are queued, durable when the call returns, beside plain inserts on the same disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench import support
from ledger import Ledger


def new_ledger(directory: Path, number: int) -> Any:
    ledger = Ledger(f"sqlite:///{directory}/work-{number}.db")

    @ledger.task
    def noop(number: int) -> None: ...

    noop.enqueue(0)
    return noop


def test_enqueue_one_at_a_time(benchmark: Any, tmp_path: Path) -> None:
    """`enqueue`, one commit each, beside single-row commits."""
    count, ours, limit = 500, [], []

    def setup() -> tuple[tuple[Any], dict[str, Any]]:
        limit.append(support.raw_single_commits(tmp_path, count))
        return (new_ledger(tmp_path, len(limit)),), {}

    def enqueue(task: Any) -> None:
        started = time.perf_counter()
        for number in range(count):
            task.enqueue(number)
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(enqueue, setup=setup, rounds=9)
    support.say(benchmark, wanted="ratio >= 0.5", ours=ours, limit=limit, unit="tasks/s")


def test_enqueue_many(benchmark: Any, tmp_path: Path) -> None:
    """`enqueue_many` of 1,000 in one commit, beside 1,000 rows by executemany in one commit."""
    count, ours, limit = 1_000, [], []

    def setup() -> tuple[tuple[Any], dict[str, Any]]:
        limit.append(support.raw_batch_inserts(tmp_path, count))
        return (new_ledger(tmp_path, len(limit)),), {}

    def enqueue(task: Any) -> None:
        started = time.perf_counter()
        task.ledger.enqueue_many(task.call(number) for number in range(count))
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(enqueue, setup=setup, rounds=15)
    support.say(benchmark, wanted="ratio >= 0.15, 30,000/s-class", ours=ours, limit=limit, unit="tasks/s")
