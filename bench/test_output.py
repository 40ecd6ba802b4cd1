"""What it costs to keep what tasks print: one line each, very much at once, and to show it again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import support
from bench.test_work import span
from ledger import Ledger


def filled(directory: Path, name: str, task: str, count: int) -> tuple[Ledger, Path]:
    database = directory / f"{name}.db"
    ledger = Ledger(f"sqlite:///{database}")
    function = ledger.task(name=task)(lambda number: None)
    for first in range(0, count, 1_000):
        ledger.enqueue_many(function.call(number=number) for number in range(first, first + 1_000))
    ledger.close()
    return ledger, database


def rate(directory: Path, name: str, task: str, count: int) -> float:
    ledger, database = filled(directory, name, task, count)
    with support.workers(ledger.url, "--drain") as process:
        process.wait()
    return count / span(database)


def test_one_line_each(benchmark: Any, tmp_path: Path) -> None:
    """10,000 tasks that print one line, beside 10,000 that print nothing, each kept by one worker."""
    count, ours, silent = 10_000, [], []

    def both() -> None:
        silent.append(rate(tmp_path, f"silent-{len(silent)}", "noop", count))
        ours.append(rate(tmp_path, f"says-{len(ours)}", "says", count))

    benchmark.pedantic(both, rounds=5)
    support.say(benchmark, wanted="ratio >= 0.8", ours=ours, limit=silent, unit="tasks/s")


def test_much_output(benchmark: Any, tmp_path: Path) -> None:
    """One task that prints 200 MB, of which 8 MiB are kept; then `task log` shows them."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    says = ledger.task(name="says_much")(lambda megabytes: 0.0)
    ours, opened = [], []

    def one() -> None:
        task = says.enqueue(megabytes=200)
        ours.append(200 / task.result(timeout=120))
        environment = {**os.environ, "WORKLEDGER_URL": ledger.url, "PYTHONPATH": str(support.HERE.parent)}
        command = [sys.executable, "-m", "runner.cli", "task", "log", task.id]
        started = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        opened.append(time.perf_counter() - started)

    with support.workers(ledger.url):
        benchmark.pedantic(one, rounds=3)
    support.say(benchmark, wanted=">= 50 MB/s; task log < 0.5 s-class", ours=ours, unit="MB/s",
                task_log_seconds=round(min(opened), 2))  # fmt: skip
