"""One random history on SQLite, on PostgreSQL and in memory: every answer, and every event, is the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger import Delay, Fail, Ledger, Retry, current
from ledger.errors import LedgerError
from ledger.testing import ManualClock, run_queue
from projections import controls, queue, schedules
from projections.listing import tasks
from runner.vitals import gather

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OF_THE_MOMENT = ("seen", "usage")
"""Fields of events that no two runs share: a position, beside which there may be holes, and what the host measured."""
REASON = "the dice"


class World:
    """A ledger on a clock of its own, whose ids are told by when they were first met."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(url, clock=self.clock)
        self.made: list[str] = []
        self._known: dict[str, str] = {}
        declare(self.ledger)
        self.ledger.schedules.register(reason=REASON)

    def told(self, value: object) -> str:
        """Return *value* as text in which each id is its number."""
        text = repr(value)
        return UUID.sub(lambda found: self._known.setdefault(found[0], f"<{len(self._known)}>"), text)

    def answer(self, act: Callable[[World], object]) -> str:
        """Return what *act* gives, or how it was refused."""
        try:
            return self.told(act(self))
        except LedgerError as error:
            return self.told((type(error).__name__, str(error)))

    def log(self) -> list[str]:
        """Every event in its order, without positions, which may have holes."""
        found = []
        with self.ledger.store.read() as snapshot:
            for _, stream, version, topic, state in snapshot.events_after(0, 1_000_000):
                data = orjson.loads(state)
                kept = {name: value for name, value in data.items() if name not in OF_THE_MOMENT}
                found.append(self.told((stream, version, topic, kept)))
        return found


def declare(ledger: Ledger) -> None:
    """Register what the history runs; all of it does the same in every world."""

    @ledger.task(name="work", retry=Retry(first=30), max_attempts=4)
    def work(how: str, number: int = 0) -> int:
        attempt = current()
        attempt.progress(number, 10)
        match how:
            case "fail" if attempt.attempt <= number:
                raise ValueError(f"attempt {attempt.attempt}")
            case "delay" if attempt.attempt <= number:
                raise Delay(90)
            case "doom":
                raise Fail("for good")
            case "parent":
                ledger.functions["child"].using(with_outcome=True, unique=f"child {number}").enqueue()
        return attempt.attempt

    ledger.task(name="child", queue="low")(lambda: None)
    ledger.schedule("*/20 * * * *", name="often")(lambda: None)
    ledger.schedule("7 * * * *", name="hourly", component="mail", misfire="all")(lambda: None)


def options_of(dice: random.Random) -> dict[str, Any]:
    """Options of a call, each now and then."""
    every: dict[str, Callable[[], Any]] = {
        "queue": lambda: dice.choice(["default", "mail", "low"]),
        "priority": lambda: dice.randrange(-3, 4),
        "run_after": lambda: timedelta(minutes=dice.randrange(50)),
        "max_attempts": lambda: dice.choice([1, 2, None]),
        "unique": lambda: dice.choice([True, "a", "b"]),
        "unique_until": lambda: dice.choice(["start", "end"]),
        "on_duplicate": lambda: "reschedule",
        "expires": lambda: timedelta(minutes=dice.randrange(1, 40)),
        "concurrency_key": lambda: dice.choice(["x", "y"]),
        "labels": lambda: ["l", "ö"][: dice.randrange(3)],
        "run_as": lambda: dice.choice(["ann", "bob"]),
        "reason": lambda: "why not",
    }
    return {name: make() for name, make in every.items() if dice.random() < 0.25}


def call_of(dice: random.Random) -> Callable[[World], Any]:
    how, number, options = dice.choice(["ok", "fail", "delay", "doom", "parent"]), dice.randrange(4), options_of(dice)
    return lambda world: world.ledger.functions["work"].using(actor="ann", **options).call(how, number)


def queue_one(dice: random.Random) -> Callable[[World], object]:
    call = call_of(dice)

    def act(world: World) -> object:
        task = world.ledger.enqueue(call(world))
        world.made.append(task.id)
        return task.id, task.answer, task.state

    return act


def queue_many(dice: random.Random) -> Callable[[World], object]:
    calls = [call_of(dice) for _ in range(dice.randrange(1, 12))]

    def act(world: World) -> object:
        made = world.ledger.enqueue_many([call(world) for call in calls], actor="bob", reason=REASON)
        world.made += [task.id for task in made]
        return [(task.id, task.answer) for task in made]

    return act


def act_on_one(dice: random.Random) -> Callable[[World], object]:
    which, what, minutes = dice.random(), dice.choice(["cancel", "retry", "reschedule", "show"]), dice.randrange(90)

    def act(world: World) -> object:
        ledger, task_id = world.ledger, world.made[int(which * len(world.made))] if world.made else "nobody"
        if what == "show":
            return orjson.dumps(ledger.get(task_id).record.summary())
        if what == "reschedule":
            return ledger.reschedule(task_id, timedelta(minutes=minutes), reason=REASON, actor="ann").state
        return getattr(ledger, what)(task_id, reason=REASON, actor="ann").state

    return act


def govern(dice: random.Random) -> Callable[[World], object]:
    scope, most = dice.choice(["ledger", "queue:*", "task:work", "key:*"]), dice.choice([1, 2, None])
    name, what = dice.choice(["often", "hourly"]), dice.randrange(8)

    def act(world: World) -> object:
        of, said = world.ledger, {"reason": REASON, "actor": "ann"}
        match what:
            case 0:
                return of.controls.set_limit(scope, most, **said)
            case 1:
                return of.controls.reset_limit(scope, **said)
            case 2:
                return of.controls.pause("mail", **said)
            case 3:
                return of.controls.resume("mail", **said)
            case 4:
                return of.schedules.disable(name, **said)
            case 5:
                return of.schedules.enable(name, **said)
            case 6:
                return of.schedules.run_now(name, **said)
        return of.controls.limits()

    return act


def run(dice: random.Random) -> Callable[[World], object]:
    most, minutes = dice.randrange(1, 8), dice.randrange(1, 60)
    if dice.random() < 0.5:
        return lambda world: run_queue(world.ledger, until=world.clock.now() + timedelta(minutes=minutes))
    return lambda world: (world.clock.advance(timedelta(minutes=minutes)), run_queue(world.ledger, max_tasks=most))


def look(dice: random.Random) -> Callable[[World], object]:
    every = {"state": "waiting", "queue": "mail", "run_as": "ann", "label": "ö", "failed_only": True, "name": "child"}
    having: Any = {name: value for name, value in every.items() if dice.random() < 0.2}
    limit = dice.randrange(1, 30)

    def act(world: World) -> object:
        vitals = gather(world.ledger)
        found = [
            (one.id, one.state, one.due_at, one.args, one.error) for one in tasks(world.ledger, limit=limit, **having)
        ]
        return found, vitals.waiting, vitals.due, vitals.running, vitals.oldest_due, vitals.longest_delay

    return act


STEPS = [queue_one, queue_one, queue_many, act_on_one, act_on_one, govern, run, run, look]


def live_through(worlds: list[World], seed: str, count: int) -> None:
    """Take *count* steps in all worlds, and compare every answer, then all that is stored."""
    dice = random.Random(seed)
    for number in range(count):
        step = dice.choice(STEPS)
        act = step(dice)
        answers = [world.answer(act) for world in worlds]
        assert answers[1:] == answers[:-1], (seed, number, step.__name__)
    logs = [world.log() for world in worlds]
    for lines in zip(*logs, strict=True):
        assert lines[1:] == lines[:-1]
    kinds = {line.split(", ")[2] for line in logs[0]}
    assert len(kinds) > 8, kinds
    for world in worlds:
        for view in (queue, schedules, controls):
            assert view.verify(world.ledger) == []
        world.ledger.close()


def worlds_at(postgres_url: str, place: Path) -> list[World]:
    return [World(url) for url in ("memory:", f"sqlite:///{place}/work.db", postgres_url)]


@pytest.mark.parametrize("seed", range(3))
def test_every_database_gives_the_same_answers(postgres_url: str, tmp_path: Path, seed: int) -> None:
    """Queueing, outcomes, retries, schedules, limits, pauses, acts, refusals, lists and numbers: 60 steps a history."""
    live_through(worlds_at(postgres_url, tmp_path), f"short {seed}", 60)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_every_database_gives_the_same_answers_for_long(postgres_url: str, tmp_path: Path, seed: int) -> None:
    """The same in 20 histories of 1,000 steps."""
    live_through(worlds_at(postgres_url, tmp_path), f"long {seed}", 1_000)
