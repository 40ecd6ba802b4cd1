"""The memory of a worker over many tasks: flat, once it is warm."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.faults.setup import Site, wait_until, workers_of

TASKS, WARM_UP, BATCH = 100_000, 20_000, 1_000


@pytest.mark.soak
def test_the_memory_of_a_worker_stays_flat(site: Site) -> None:
    """Over a hundred thousand tasks a worker's memory stays within ten per cent of what it has when it is warm."""
    run = site.command("run")
    wait_until(lambda: site.count("WorkerStarted"), "the worker runs", site)
    [pid] = workers_of(run)
    worker = psutil.Process(pid)
    ledger = site.ledger()
    sizes = []
    for done in range(BATCH, WARM_UP + TASKS + 1, BATCH):
        ledger.enqueue_many([ledger.functions["nothing"].call()] * BATCH)
        wait_until(lambda done=done: site.last_position() >= 3 * done + 1, "they are done", site)
        sizes.append((done, worker.memory_info().rss))
    ledger.close()
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0

    warm = [size for done, size in sizes if done >= WARM_UP]
    assert max(warm) < 1.1 * warm[0] and min(warm) > 0.9 * warm[0], f"from {warm[0]:,} to {min(warm):,}..{max(warm):,}"
    assert site.count("TaskSucceeded") == WARM_UP + TASKS
