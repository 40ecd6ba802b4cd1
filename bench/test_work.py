"""How fast workers work a queue, how soon an idle one picks a task up, and how evenly several share."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import support
from ledger import Ledger


def filled(directory: Path, name: str, count: int) -> tuple[Ledger, Path]:
    database = directory / f"{name}.db"
    ledger = Ledger(f"sqlite:///{database}")
    noop = ledger.task(name="noop")(lambda number: None)
    for first in range(0, count, 1_000):
        ledger.enqueue_many(noop.call(number=number) for number in range(first, first + 1_000))
    ledger.close()
    return ledger, database


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def span(database: Path) -> float:
    """Seconds from the first claim's transaction to the last completion's."""
    first = support.log_of(database, "TaskClaimed.v1")[0][1]["at"]
    last = support.log_of(database, "TaskSucceeded.v1")[-1][1]["at"]
    return seconds_of(last) - seconds_of(first)


def test_end_to_end(benchmark: Any, tmp_path: Path) -> None:
    """10,000 queued no-op tasks, one worker process, claim and completion recorded, beside the raw batches of 100."""
    count, ours, limit, commits = 10_000, [], [], []

    def setup() -> tuple[tuple[Ledger, Path], dict[str, Any]]:
        limit.append(support.raw_batch_100(tmp_path, count))
        return filled(tmp_path, f"work-{len(limit)}", count), {}

    def drain(ledger: Ledger, database: Path) -> None:
        with support.workers(ledger.url, "--drain") as process:
            process.wait()
        ours.append(count / span(database))
        acts = {data["command"] for topic in ("TaskClaimed.v1", "TaskSucceeded.v1")
                for _, data in support.log_of(database, topic)}  # fmt: skip
        commits.append(len(acts))

    benchmark.pedantic(drain, setup=setup, rounds=7)
    support.say(benchmark, wanted="ratio >= 0.2", ours=ours, limit=limit, unit="tasks/s",
                commits=statistics.median(commits))  # fmt: skip


def test_pickup(benchmark: Any, tmp_path: Path) -> None:
    """From the return of `enqueue` to the first line of the task in an idle worker's process, at odd moments."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    task = ledger.task(name="picked_up")(lambda: 0)
    after: list[float] = []
    with support.workers(ledger.url):
        task.enqueue().result(timeout=30)

        def one() -> None:
            called = time.monotonic_ns()
            handle = task.enqueue()
            returned = time.monotonic_ns()
            began = handle.result(timeout=30)
            after.append((began - returned) / 1e6)
            from_call.append((began - called) / 1e6)
            time.sleep(0.005 + len(after) % 17 / 1000)

        from_call: list[float] = []
        benchmark.pedantic(one, rounds=500)
    cut, whole = statistics.quantiles(after, n=100), statistics.quantiles(from_call, n=100)
    support.say(benchmark, wanted="p50 <= 5 ms, p99 <= 20 ms", ours=after, unit="ms", p50=round(cut[49], 2),
                p99=round(cut[98], 2), p50_from_call=round(whole[49], 2), p99_from_call=round(whole[98], 2))  # fmt: skip


def test_idle(benchmark: Any, tmp_path: Path) -> None:
    """CPU of a waiting worker and of its supervisor over ten seconds, with a future task in the queue."""
    ledger, _ = filled(tmp_path, "work", 0)
    task = ledger.functions["noop"]
    task.using(run_after=timedelta(days=1)).enqueue(number=0)
    shares = []
    with support.workers(ledger.url, "--workers", "1") as process:
        supervisor = psutil.Process(process.pid)
        deadline = time.monotonic() + 20
        while not supervisor.children() and time.monotonic() < deadline:
            time.sleep(0.1)
        [worker] = supervisor.children()
        time.sleep(2)

        def rest() -> None:
            before = [sum(one.cpu_times()[:2]) for one in (worker, supervisor)]
            started = time.monotonic()
            time.sleep(10)
            took = time.monotonic() - started
            used = [sum(one.cpu_times()[:2]) for one in (worker, supervisor)]
            shares.append([(b - a) / took * 100 for a, b in zip(before, used, strict=True)])

        benchmark.pedantic(rest, rounds=2)
    support.say(benchmark, wanted="worker < 1 %", ours=[share[0] for share in shares], unit="% of a core",
                supervisor=round(statistics.median(share[1] for share in shares), 3))  # fmt: skip


@pytest.mark.parametrize("count", [2, 4])
def test_sharing(benchmark: Any, tmp_path: Path, count: int) -> None:
    """Workers on one file: the share of each, its longest cycle, and its longest time between two claims.

    A cycle is one transaction, from asking for the database to the commit; between two claims it also runs its tasks.
    """
    tasks, shares, worst, between, ours = 20_000, [], [], [], []

    def setup() -> tuple[tuple[Ledger, Path], dict[str, Any]]:
        return filled(tmp_path, f"work-{len(shares)}", tasks), {}

    def drain(ledger: Ledger, database: Path) -> None:
        probe = tmp_path / f"cycles-{len(shares)}"
        probe.mkdir()
        options = ("--drain", "--workers", str(count))
        with support.workers(ledger.url, *options, module="bench.probe", PROBE=str(probe)) as process:
            process.wait()
        cycles = [float(line) for path in probe.iterdir() for line in path.read_text().split()]
        worst.append(max(cycles) * 1000)
        claims = support.log_of(database, "TaskClaimed.v1")
        ours.append(tasks / span(database))
        began = max(
            min(seconds_of(d["at"]) for _, d in claims if d["worker"] == w) for w in {d["worker"] for _, d in claims}
        )
        over = min(
            max(seconds_of(d["at"]) for _, d in claims if d["worker"] == w) for w in {d["worker"] for _, d in claims}
        )
        together = [d for _, d in claims if began <= seconds_of(d["at"]) <= over]
        each = Counter(data["worker"] for data in together)
        shares.append(max(abs(n - len(together) / count) for n in each.values()) / (len(together) / count) * 100)
        between.append(max(longest_gap([d for d in together if d["worker"] == w]) for w in each))

    benchmark.pedantic(drain, setup=setup, rounds=3)
    support.say(benchmark, wanted="within 20 % of even, worst cycle < 50 ms", ours=ours, unit="tasks/s",
                most_uneven_percent=round(statistics.median(shares), 1), worst_cycle_ms=round(statistics.median(worst), 1),
                longest_between_claims_ms=round(statistics.median(between), 1))  # fmt: skip


def longest_gap(claims: list[dict[str, Any]]) -> float:
    """Milliseconds between two claims of one worker that follow each other."""
    moments = sorted({seconds_of(data["at"]) for data in claims})
    return max((b - a for a, b in pairwise(moments)), default=0.0) * 1000
