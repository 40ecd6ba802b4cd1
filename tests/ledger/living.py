"""Let a ledger live through all that its views tell of."""

from __future__ import annotations

import random
from typing import Any

from ledger import Conflict, Delay, Ledger, Retry
from ledger.testing import run_queue
from runner.cycle import Cycle
from tests.api.setup import REASON


def live(ledger: Ledger, seed: int = 1, acts: int = 150) -> None:
    """Let a ledger live through all that a view tells of: ends of every kind, retries, schedules, limits, pauses."""
    chance = random.Random(seed)
    ledger.schedule("*/20 * * * *", name="often", component="mail")(lambda: None)

    @ledger.task(max_attempts=2, retry=Retry(first=30))
    def job(way: int) -> None:
        if way == 1:
            raise ValueError("no")
        if way == 2 and ledger.current().attempt == 1:
            raise Delay(30)

    tasks: list[Any] = []
    ledger.schedules.sync(reason=REASON)
    for _ in range(acts):
        match chance.randrange(9):
            case 0 | 1 | 2:
                using = job.using(queue=chance.choice(["a", "b"]), unique=chance.choice([None, "k"]))
                tasks.append(using.enqueue(chance.randrange(4)))
            case 3:
                run_queue(ledger, max_tasks=3)
            case 4:
                ledger.clock.sleep(chance.choice([0, 25, 1500]))
            case 5 if tasks:
                for act in (ledger.cancel, ledger.retry):
                    try:
                        act(chance.choice(tasks).id, reason=REASON)
                    except Conflict:
                        continue
            case 6:
                ledger.controls.set_limit(f"task:{chance.choice('xy')}", chance.choice([3, None]), reason=REASON)
            case 7:
                chance.choice([ledger.controls.pause, ledger.controls.resume])(chance.choice("ab"), reason=REASON)
            case 8:
                name = chance.choice(["enable_component", "disable_component"])
                getattr(ledger.schedules, name)("mail", reason=REASON)
    Cycle(ledger, "w1").turn([], 2, is_idle=True)
