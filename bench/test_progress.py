"""What it costs to say how far a task is: a call, and an event beside the outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import support
from bench.test_output import rate
from ledger import Ledger

CALLS = 1_000_000


def test_progress_calls(benchmark: Any, tmp_path: Path) -> None:
    """One task that calls `current().progress` a million times in a worker: time of a call, beside an empty loop."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    task = ledger.task(name="progresses_often")(lambda times: 0.0)
    ours: list[float] = []

    def one() -> None:
        ours.append(task.enqueue(CALLS).result(timeout=60) / CALLS * 1e6)

    with support.workers(ledger.url):
        benchmark.pedantic(one, rounds=5)
    support.say(benchmark, wanted="< 1 µs-class", ours=ours, unit="µs")


def test_progress_of_short_tasks(benchmark: Any, tmp_path: Path) -> None:
    """10,000 tasks that say once how far they are, beside 10,000 that do not, each in one worker."""
    count, ours, silent = 10_000, [], []

    def both() -> None:
        silent.append(rate(tmp_path, f"silent-{len(silent)}", "noop", count))
        ours.append(rate(tmp_path, f"says-{len(ours)}", "progresses", count))

    benchmark.pedantic(both, rounds=3)
    support.say(benchmark, wanted="ratio >= 0.6: three events instead of two", ours=ours, limit=silent, unit="tasks/s")
