"""Queue tasks of every kind, from a process of its own, and write down which of them were acknowledged.

Called as ``produce.py NAME SEED``: goes on until there is a file ``stop``; acknowledged is in ``NAME.acknowledged``.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.app import append, ledger


def acknowledge(name: str, tasks: Iterable[Any]) -> None:
    """Write down what enqueue returned; it is on disk when this returns."""
    append(f"{name}.acknowledged", *({"id": task.id} for task in tasks))


def produce(name: str, dice: random.Random) -> None:
    """Queue tasks one by one and many at once, with pauses, until told to stop."""
    functions: Any = ledger.functions
    work, parent = functions["work"], functions["parent"]
    while not Path("stop").exists():
        milliseconds = dice.choice((0, 1, 1, 2, 5, 30))
        match dice.randrange(8):
            case 0:
                calls = [work.call(dice.choice((0, 1, 2))) for _ in range(dice.randrange(1, 40))]
                acknowledge(name, ledger.enqueue_many(calls))
            case 1:
                acknowledge(name, [functions["flaky"].enqueue(milliseconds, dice.randrange(3))])
            case 2:
                acknowledge(name, [functions["doomed"].enqueue()])
            case 3:
                acknowledge(name, [functions["work_async"].enqueue(milliseconds)])
            case 4:
                acknowledge(name, [parent.enqueue(milliseconds)])
            case 5:
                until = dice.choice(("end", "start"))
                unique = work.using(unique=f"key {dice.randrange(5)}", unique_until=until, priority=dice.randrange(3))
                acknowledge(name, [unique.enqueue(milliseconds)])
            case _:
                acknowledge(name, [work.enqueue(milliseconds)])
        time.sleep(dice.random() / 50)


if __name__ == "__main__":
    produce(sys.argv[1], random.Random(sys.argv[2]))
