"""A week of a real Moodle installation under the manual clock, every firing compared with the oracle's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.clock import from_us
from ledger.events import TaskSucceeded
from ledger.schedule_events import ScheduleDeclared, SlotFired, SlotsMissed
from ledger.testing import ManualClock, memory_ledger
from runner.cycle import Cycle, Finished
from runner.execute import execute
from runner.imports import moodle
from runner.imports.declare import carry_out
from tests.ledger.cron_oracle import BOUNDS, Schedule, firings

TASKS = json.loads((Path(__file__).parent / "data" / "moodle_core_schedules.json").read_text(encoding="utf-8"))["tasks"]
ZONE = "Africa/Cairo"
START = datetime(2026, 4, 20, 11, 59, 30, tzinfo=UTC)
"""A Monday; midnight, at which the installation has a task, is skipped on the Friday after it."""
AWAY = (START + timedelta(days=2, hours=11), START + timedelta(days=2, hours=16, minutes=7))
"""No worker runs."""
END = START + timedelta(days=7)


def values(field: str, text: str) -> frozenset[int]:
    """What the few forms that this installation uses mean."""
    low, high = BOUNDS[field]
    if text.isdigit():
        return frozenset({int(text)})
    star, _, step = text.partition("/")
    assert star == "*"
    return frozenset(range(low, high + 1, int(step or 1)))


def oracle(texts: list[str]) -> Schedule:
    minute, hour, day, month, weekday = texts
    assert (day, month) == ("*", "*")
    return Schedule(
        (minute, hour, day, month, weekday),
        values("minute", minute),
        values("hour", hour),
        None,
        frozenset(range(1, 13)),
        None if weekday == "*" else values("dayofweek", weekday),
        names_times=hour.isdigit(),
    )


def run_until(ledger: Ledger, clock: ManualClock, end: datetime) -> int:
    """Be a worker until *end*: turn, run what was claimed, and else move the clock to what comes next."""
    cycle = Cycle(ledger, "worker")
    finished: list[Finished] = []
    ran = 0
    while True:
        turn = cycle.turn(finished, 50, is_idle=True)
        finished = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]
        ran += len(finished)
        if finished or turn.fired or turn.is_behind:
            continue
        next_us = min(us for us in (turn.next_due_us, turn.next_slot_us) if us is not None)
        if from_us(next_us) > end:
            clock.advance_to(end)
            return ran
        clock.advance_to(from_us(next_us))


@pytest.mark.parametrize(
    ("tasks", "least"),
    [
        pytest.param([task for task in TASKS if task["minute"] != "*"], 3_500, id="the less often"),
        pytest.param(TASKS, 120_000, id="all", marks=pytest.mark.soak),
    ],
)
def test_a_week_of_a_real_installation(tasks: list[dict[str, Any]], least: int) -> None:
    """Every slot of its schedules over a change of the clock, a restart and an outage is fired once or told missed."""
    clock = ManualClock(START)
    ledger = memory_ledger(clock)
    for task in tasks:
        ledger.task(name=task["name"])(lambda: None)
    carry_out(ledger, moodle.read(json.dumps(tasks)), app="moodle", timezone=ZONE, reason="the week begins")

    ran = run_until(ledger, clock, AWAY[0])
    clock.advance_to(AWAY[1])
    ran += run_until(ledger, clock, START + timedelta(days=4))
    ran += run_until(ledger, clock, END)

    total = 0
    with ledger.store.read() as snapshot:
        streams = {task["name"]: [one.event for one in snapshot.stream(f"schedule:{task['name']}")] for task in tasks}
        expected = dict(zip(streams, oracle_of(tasks, streams), strict=True))
        for name, events in streams.items():
            fired = [event for event in events if isinstance(event, SlotFired)]
            missed = [event for event in events if isinstance(event, SlotsMissed)]
            away = [slot for slot in expected[name] if AWAY[0] < slot <= AWAY[1]]
            assert [event.slot for event in fired] == [
                slot for slot in expected[name] if not away or slot == away[-1] or slot not in away
            ], name
            assert [(event.first, event.last, event.count) for event in missed] == (
                [(away[0], away[-2], len(away) - 1)] if len(away) > 1 else []
            ), name
            assert all(event.cause == "no worker ran; one run stands for all" for event in missed)
            total += len(fired)
        assert ran == total
        for event in fired[-20:]:
            assert isinstance(snapshot.stream(f"task:{event.task}")[-1].event, TaskSucceeded)
    assert total > least


def oracle_of(tasks: list[dict[str, Any]], streams: dict[str, list[object]]) -> list[list[datetime]]:
    """The slots that the oracle finds for the fields as they were settled when they were declared."""
    settled = []
    for task, events in zip(tasks, streams.values(), strict=True):
        [declared] = [event for event in events if isinstance(event, ScheduleDeclared)]
        for field, written, drawn in zip(BOUNDS, declared.fields, declared.resolved, strict=True):
            assert written == task[field]
            assert drawn == written if written != "R" else int(drawn) <= BOUNDS[field][1]
        settled.append(oracle(list(declared.resolved)))
    return firings(settled, ZONE, START + timedelta(seconds=30), END)
