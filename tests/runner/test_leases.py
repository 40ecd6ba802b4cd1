"""Leases: who is judged gone, and when, by a watcher of heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from ledger import Ledger
from ledger.clock import to_us
from ledger.testing import ManualClock, run_queue
from projections.queue import SQL, prepare
from runner.losses import LeaseWatch

BEAT_SECONDS, LEASE_SECONDS = 5.0, 30.0


class Watched:
    """A watcher on a clock of its own hand, and one other worker, of another host."""

    def __init__(self, make_ledger: Callable[..., Ledger]) -> None:
        self.clock = ManualClock()
        self.ledger = make_ledger(self.clock)
        self.watch = LeaseWatch(self.ledger, beat_seconds=BEAT_SECONDS)
        with self.ledger.store.write() as unit:
            prepare(unit)
            now_us = to_us(unit.now)
            lease_us = int(LEASE_SECONDS * 1e6)
            row = ("other", "w", "far away", "boot", 1, 0.0, now_us, now_us, 0, 4, "[]", lease_us, "[]")
            unit.run(SQL["put_worker"], row)

    def beat(self) -> None:
        with self.ledger.store.write() as unit:
            unit.run(SQL["beat"], (to_us(unit.now), "other"))

    def looks(self, seconds: float) -> bool:
        """Let time pass and look; whether the other one is judged gone."""
        self.clock.advance(timedelta(seconds=seconds))
        with self.ledger.store.write() as unit:
            return "other" in self.watch.gone(unit, "me")


def test_a_worker_silent_for_a_lease_is_gone(make_ledger: Callable[..., Ledger]) -> None:
    """A heartbeat that stands still is judged when the lease is over, not before; one that moves on never."""
    watched = Watched(make_ledger)
    assert [watched.looks(BEAT_SECONDS) for _ in range(7)] == [False] * 6 + [True]
    watched = Watched(make_ledger)
    for _ in range(20):
        watched.beat()
        assert not watched.looks(BEAT_SECONDS)


def test_a_watcher_that_could_not_look_judges_nobody_by_that_time(make_ledger: Callable[..., Ledger]) -> None:
    """After a pause of its own it gives the others two more beats: what stopped it may have stopped them."""
    watched = Watched(make_ledger)
    assert not watched.looks(BEAT_SECONDS)
    assert not watched.looks(10 * LEASE_SECONDS)
    assert not watched.looks(BEAT_SECONDS)
    watched.beat()
    assert not watched.looks(BEAT_SECONDS)
    assert not watched.looks(10 * LEASE_SECONDS)
    assert [watched.looks(BEAT_SECONDS) for _ in range(2)] == [False, True]


def test_a_queue_run_here_is_seen_by_others_for_as_long_as_it_runs(make_ledger: Callable[..., Ledger]) -> None:
    """A process that runs the queue itself shows no heartbeats: it is there until its process is gone."""
    clock = ManualClock()
    ledger = make_ledger(clock)
    watch = LeaseWatch(ledger, beat_seconds=BEAT_SECONDS)
    judged: list[dict[str, str]] = []

    @ledger.task
    def slow() -> None:
        for _ in range(20):
            clock.advance(timedelta(seconds=LEASE_SECONDS))
            with ledger.store.write() as unit:
                judged.append(watch.gone(unit, "me"))

    task = slow.enqueue()
    run_queue(ledger)

    assert judged == [{}] * 20 and task.state == "succeeded"
    with ledger.store.read() as snapshot:
        assert snapshot.rows(SQL["all_workers"]) == []
    assert task.attempts[0].worker != "inline"
