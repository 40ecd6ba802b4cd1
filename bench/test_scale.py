"""What grows with the log and the queue: rebuilding a view, claiming from a long queue, a worker's memory."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import psutil

from bench import support
from ledger import Ledger
from projections import queue
from runner.cycle import Cycle, Finished
from runner.execute import execute


def ledger_at(database: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{database}")
    ledger.task(name="noop")(lambda number: None)
    return ledger


def fill(ledger: Ledger, count: int) -> None:
    noop = ledger.functions["noop"]
    for first in range(0, count, 10_000):
        ledger.enqueue_many(noop.call(number=n) for n in range(first, min(first + 10_000, count)))


def work(ledger: Ledger, count: int, batch: int = 1_000) -> None:
    """Work *count* tasks here, in this thread."""
    cycle, finished, left = Cycle(ledger, "bench"), [], count
    while left or finished:
        turn = cycle.turn(finished, min(batch, left), is_idle=True)
        if turn.is_behind:
            continue
        finished = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]
        left -= len(turn.claims)


def fill_and_work(ledger: Ledger, count: int) -> None:
    """Queue *count* tasks, a thousand at a time, and work nine of ten of each thousand."""
    for _ in range(0, count, 1_000):
        fill(ledger, 1_000)
        work(ledger, 900)


def test_rebuild(benchmark: Any, tmp_path: Path) -> None:
    """The queue view from 300,000 events, a tenth of the tasks waiting, beside an ordered read and `orjson.loads`."""
    database = tmp_path / "work.db"
    ledger = ledger_at(database)
    fill(ledger, 110_000)
    work(ledger, 95_000)
    ours, limit = [], []

    def setup() -> None:
        limit.append(support.raw_read(database))

    def rebuild() -> None:
        started = time.perf_counter()
        count = queue.rebuild(ledger)
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(rebuild, setup=setup, rounds=5)
    support.say(benchmark, wanted="ratio >= 0.35", ours=ours, limit=limit, unit="events/s")


def test_claim_from_a_long_queue(benchmark: Any, tmp_path: Path) -> None:
    """A claim with 1,000,000 tasks waiting, beside one with 1,000: the same code on both, in turn."""
    short, long = ledger_at(tmp_path / "short.db"), ledger_at(tmp_path / "long.db")
    fill(short, 1_000)
    fill(long, 1_000_000)
    for ledger in (short, long):
        queue.catch_up_all(ledger)
    cycles = {one: Cycle(one, "bench") for one in (short, long)}
    times: dict[Ledger, list[float]] = {short: [], long: []}

    def both() -> None:
        for ledger, cycle in cycles.items():
            started = time.perf_counter()
            turn = cycle.turn([], 4, is_idle=True)
            times[ledger].append((time.perf_counter() - started) * 1000)
            back: list[Finished] = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]
            cycle.turn(back, 0, is_idle=True)

    benchmark.pedantic(both, rounds=200, warmup_rounds=5)
    support.say(benchmark, wanted="ratio <= 2", ours=times[long], limit=times[short], unit="ms a claim")
    benchmark.extra_info["ratio"] = round(statistics.median(times[long]) / statistics.median(times[short]), 3)


def test_memory(benchmark: Any, tmp_path: Path) -> None:
    """Resident memory of a worker over 100,000 tasks, from its 20,000th on."""
    ledger = ledger_at(tmp_path / "work.db")
    seen: list[float] = []

    def run() -> None:
        with support.workers(ledger.url, "--workers", "1") as process:
            while not (children := psutil.Process(process.pid).children()):
                time.sleep(0.05)
            [worker] = children
            for _ in range(10):
                fill(ledger, 10_000)
                last = ledger.functions["noop"].enqueue(number=0)
                last.result(timeout=120)
                seen.append(worker.memory_info().rss / 2**20)

    benchmark.pedantic(run, rounds=1)
    growth = (max(seen[2:]) / min(seen[2:]) - 1) * 100
    support.say(benchmark, wanted="flat within 10 %", ours=seen[2:], unit="MiB", growth_percent=round(growth, 1))
