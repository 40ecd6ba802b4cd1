"""Expiry beside claims, on real workers: each task begins in time or expires, and nobody waits too long to say so."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.setup import LEASES, Site, wait_until

FAR_APART = {"WORKLEDGER_BEAT_SECONDS": "300", "WORKLEDGER_LEASE_SECONDS": "1200"}
"""Heartbeats so rare that an idle worker has nothing else to wake up for."""


def enqueue(site: Site, seconds: list[float], name: str = "work", *args: Any, key: bool = False) -> list[str]:
    """Queue a task for each of *seconds*, to expire so long from now."""
    ledger = site.ledger()
    now = datetime.now(UTC)
    calls = [
        ledger.functions[name].using(expires=now + timedelta(seconds=s), unique=f"key {n}" if key else None).call(*args)
        for n, s in enumerate(seconds)
    ]
    ids = [task.id for task in ledger.enqueue_many(calls)]
    ledger.close()
    return ids


def test_each_task_begins_in_time_or_expires(each_site: Site) -> None:
    """Four workers take tasks that expire while they work: the history keeps its rules, keys and views included."""
    site = each_site
    spread = [n / 400 for n in range(800)]
    ids = enqueue(site, spread, "work", 3, key=True)
    kept = enqueue(site, [3_600.0] * 4, "work", 1)
    assert site.drain("--workers", "4", "--threads", "2", **LEASES) == 0, site.logs()
    states = site.states()

    assert sorted(one for found in states.values() for one in found) == sorted([*ids, *kept])
    assert states.keys() == {"work succeeded", "work cancelled"}, "some were too late, and some were not"
    assert set(kept) <= set(states["work succeeded"])
    told = "SELECT count(*) FROM events WHERE topic = ? AND data LIKE ?"
    [(expired,)] = site.rows(told, "TaskCancelled.v1", '%"reason":"it expired at %')
    assert expired == len(states["work cancelled"]) == site.count("KeyReleased") - len(states["work succeeded"]) + 4
    site.check()


def test_an_idle_worker_wakes_for_the_next_expiry(each_site: Site) -> None:
    """A worker with nothing to do cancels a task at its expiry, although no commit and no heartbeat wakes it then."""
    site = each_site
    run = site.command("run", **FAR_APART)
    wait_until(lambda: site.count("WorkerStarted"), "a worker rests", site)
    ledger = site.ledger()
    task = (
        ledger.functions["work"]
        .using(run_after=timedelta(days=1), expires=datetime.now(UTC) + timedelta(seconds=1.5))
        .enqueue(1)
    )
    ledger.close()
    wait_until(lambda: site.count("TaskCancelled"), "it has expired", site)
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0, site.logs()

    record = site.ledger().get(task.id).record
    assert record.state.status == "cancelled" and record.ended_by.startswith("worker:")
    assert record.ended_at is not None and record.ended_at >= record.queued.expires_at
    site.check()


def test_a_busy_worker_cancels_what_expires_meanwhile(site: Site) -> None:
    """While its one thread is taken for long, the worker still cancels the task behind it at its expiry."""
    [held] = site.enqueue(("hold", ("go",)))
    run = site.command("run", "--threads", "1", **FAR_APART)
    wait_until(site.begun, "the first task has begun", site)
    [behind] = enqueue(site, [1.0], "work", 1)
    wait_until(lambda: site.count("TaskCancelled"), "the second has expired", site)
    assert site.states() == {"hold running": [held], "work cancelled": [behind]}
    (site.directory / "go").touch()
    wait_until(lambda: site.count("TaskSucceeded") == 2, "the first is done", site)
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0, site.logs()
    site.check()
