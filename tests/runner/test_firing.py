"""Firing inside the workers' cycle: how many commits it takes, and what several workers at once make of one slot."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import Ledger
from ledger import schedule_events as s
from ledger.events import TaskClaimed, TaskQueued
from ledger.testing import ManualClock, memory_ledger
from projections import queue, schedules
from runner.cycle import Cycle

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def with_schedules(ledger: Ledger, count: int, expression: str = "* * * * *") -> Ledger:
    for number in range(count):
        ledger.schedule(expression, name=f"schedule-{number:04}")(lambda: None)
    ledger.schedules.sync()
    return ledger


def events(ledger: Ledger, *kinds: type[Any]) -> list[Any]:
    with ledger.store.read() as snapshot:
        found = [snapshot.decode(raw) for raw in snapshot.events_after(0, 100_000)]
    return [event for event in found if isinstance(event, kinds)]


def test_a_thousand_slots_of_one_second_take_three_commits() -> None:
    """A thousand schedules due at once are all queued by three turns, each of which is one commit."""
    clock = ManualClock()
    ledger = with_schedules(memory_ledger(clock), 1_000)
    clock.advance(timedelta(minutes=1))
    cycle = Cycle(ledger, "w1")
    turns = 0
    while (turn := cycle.turn([], 0, is_idle=True)).fired or turn.is_behind:
        turns += bool(turn.fired)
    assert turns <= 3
    assert len({event.command for event in events(ledger, s.SlotFired)}) == turns
    assert len(events(ledger, TaskQueued)) == 1_000
    assert schedules.verify(ledger) == []


def test_what_is_fired_is_claimed_in_the_same_turn() -> None:
    """A worker with a free thread claims the run it has just queued, in the same commit."""
    clock = ManualClock()
    ledger = with_schedules(memory_ledger(clock), 1)
    cycle = Cycle(ledger, "w1")
    cycle.turn([], 1, is_idle=True)
    clock.advance(timedelta(minutes=1))
    assert len(cycle.turn([], 1, is_idle=True).claims) == 1
    [fired], [claimed] = events(ledger, s.SlotFired), events(ledger, TaskClaimed)
    assert fired.command == claimed.command
    assert (fired.actor, claimed.worker) == ("worker:w1", "w1")


def test_a_worker_of_other_tasks_fires_too_and_leaves_the_run() -> None:
    """Every worker fires every schedule; only one whose code has the task runs it."""
    clock = ManualClock()
    ledger = with_schedules(memory_ledger(clock), 1)
    clock.advance(timedelta(minutes=1))
    other = Ledger("memory:", clock=clock)
    other.store = ledger.store
    assert Cycle(other, "w2").turn([], 1, is_idle=True).claims == []
    assert len(Cycle(ledger, "w1").turn([], 1, is_idle=True).claims) == 1
    assert len(events(ledger, s.SlotFired)) == 1


def test_the_turn_tells_when_to_look_next() -> None:
    """An idle worker rests until the next slot, and no longer than while nothing can be fired."""
    clock = ManualClock()
    ledger = with_schedules(memory_ledger(clock), 2, "0 * * * *")
    cycle = Cycle(ledger, "w1")
    while (turn := cycle.turn([], 0, is_idle=True)).is_behind:
        pass
    assert turn.next_slot_us == (NOON + timedelta(hours=1)).timestamp() * 1e6
    for name in ledger.schedules.names():
        ledger.schedules.disable(name, reason="test")
    assert cycle.turn([], 0, is_idle=True).next_slot_us is None


def test_workers_at_once_fire_a_slot_once(url: str) -> None:
    """Four workers with connections of their own look at the same slots at the same time: each is fired once."""
    clock = ManualClock()
    with_schedules(Ledger(url, clock=clock), 60).close()
    begin = threading.Barrier(4)

    def look(number: int) -> None:
        ledger = Ledger(url, clock=clock)
        cycle = Cycle(ledger, f"w{number}")
        for _ in range(5):
            begin.wait(30)
            if number == 0:
                clock.advance(timedelta(minutes=1))
            cycle.turn([], 0, is_idle=True)
        cycle.turn([], 0, is_idle=True)
        ledger.close()

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ledger = Ledger(url, clock=clock)
    fired = Counter(event.originator_id for event in events(ledger, s.SlotFired))
    assert fired == {f"schedule:schedule-{number:04}": 1 for number in range(60)}
    assert queue.verify(ledger) == []
    assert schedules.verify(ledger) == []
    ledger.close()
