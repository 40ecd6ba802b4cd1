"""What pruning costs, and how long it keeps others from writing; what a deep check and a backup of the same file take."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from bench import support
from ledger import Ledger
from ledger.ids import mint
from ledger.output import Chunk, Printed, put
from ledger.sqlite_backup import back_up
from ledger.task import TaskState
from runner.prune import Rules, prune, would_prune

ATTEMPTS, NAMES = 100_000, 20
LINE = "a line of output as many tasks print it, of eighty characters or about so many\n"


def filled(directory: Path, number: int) -> Ledger:
    """A ledger with output of 100,000 attempts of 20 names, three lines each."""
    ledger = Ledger(f"sqlite:///{directory}/work-{number}.db")
    printed = Printed(None, [Chunk(1, [(0, "stdout", LINE)] * 3)])
    now = ledger.clock.now()
    for first in range(0, ATTEMPTS, 10_000):
        with ledger.store.write() as unit:
            put(unit, [
                (TaskState(mint(now), name=f"name-{n % NAMES}", attempt=1, claimed_us=n), printed)
                for n in range(first, first + 10_000)
            ])  # fmt: skip
    return ledger


def test_prune(benchmark: Any, tmp_path: Path) -> None:
    """All but 20 attempts of each name, while another thread queues a task every few milliseconds."""
    ours, waits, looks = [], [], []

    def one() -> None:
        ledger = filled(tmp_path, len(ours))
        noop = ledger.task(name="noop")(lambda: None)
        is_over = threading.Event()

        def queue() -> None:
            while not is_over.wait(0.005):
                started = time.perf_counter()
                noop.enqueue()
                waits.append(time.perf_counter() - started)

        other = threading.Thread(target=queue)
        other.start()
        started = time.perf_counter()
        prune(ledger, Rules(runs=20), reason="bench")
        ours.append((ATTEMPTS - 20 * NAMES) / (time.perf_counter() - started))
        is_over.set()
        other.join()
        started = time.perf_counter()
        assert would_prune(ledger, Rules(days=28, runs=20)) != []  # those left are of 1970
        looks.append(time.perf_counter() - started)
        ledger.close()

    benchmark.pedantic(one, rounds=3)
    support.say(benchmark, wanted="another writer waits < 100 ms-class", ours=ours, unit="attempts/s",
                longest_wait_ms=round(max(waits) * 1000, 1), look_ms=round(min(looks) * 1000, 2))  # fmt: skip


def test_backup(benchmark: Any, tmp_path: Path) -> None:
    """A verified copy of a file with the output of 100,000 attempts and as many events."""
    ledger = filled(tmp_path, 0)
    noop = ledger.task(name="noop")(lambda number: None)
    for first in range(0, ATTEMPTS, 10_000):
        ledger.enqueue_many(noop.call(number=n) for n in range(first, first + 10_000))
    ours = []

    def one() -> None:
        started = time.perf_counter()
        done = back_up(ledger.store, tmp_path / "copy.db", force=True)
        ours.append(done.bytes / 1e6 / (time.perf_counter() - started))

    benchmark.pedantic(one, rounds=3)
    ledger.close()
    support.say(benchmark, wanted="no wait of writers", ours=ours, unit="MB/s")
