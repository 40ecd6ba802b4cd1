"""What a process of its own costs an attempt: attempts a second of one worker, by a warm fork server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from bench import support
from bench.test_output import filled
from bench.test_work import span


def raw_forks(count: int) -> float:
    """Return forks/s of this process, each child gone at once and waited for."""
    started = time.perf_counter()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return count / (time.perf_counter() - started)


@pytest.mark.parametrize("threads", [1, 2])
def test_isolated_attempts(benchmark: Any, tmp_path: Path, threads: int) -> None:
    """500 no-op tasks with isolation="process", one worker on one thread and on two, beside bare forks of this process."""
    count, ours, limit = 500, [], []

    def both() -> None:
        limit.append(raw_forks(count))
        ledger, database = filled(tmp_path, f"isolated-{threads}-{len(ours)}", "isolated", count)
        with support.workers(ledger.url, "--drain", "--threads", str(threads)) as process:
            process.wait()
        ours.append(count / span(database))

    benchmark.pedantic(both, rounds=3)
    support.say(benchmark, wanted=">= 20/s-class per core", ours=ours, limit=limit, unit="attempts/s")
