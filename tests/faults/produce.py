"""Queue tasks of every kind, from a process of its own, and write down which of them were acknowledged.

Called as ``produce.py NAME SEED``: goes on until there is a file ``stop``; acknowledged is in ``NAME.acknowledged``.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger.errors import StorageUnavailable
from tests.faults.app import append, ledger


def acknowledge(name: str, tasks: Iterable[Any]) -> None:
    """Write down what enqueue returned; it is on disk when this returns."""
    append(f"{name}.acknowledged", *({"id": task.id} for task in tasks))


def produce(name: str, dice: random.Random) -> None:
    """Queue tasks one by one and many at once, with pauses, until told to stop.

    What is refused because the database cannot be used is not acknowledged, and not queued again.
    """
    while not Path("stop").exists():
        with suppress(StorageUnavailable):
            acknowledge(name, queue(dice))
        time.sleep(dice.random() / 50)


def queue(dice: random.Random) -> list[Any]:
    """Queue something, and return what the ledger gave for it."""
    functions: Any = ledger.functions
    work, parent = functions["work"], functions["parent"]
    milliseconds = dice.choice((0, 1, 1, 2, 5, 30))
    match dice.randrange(8):
        case 0:
            return list(ledger.enqueue_many(work.call(dice.choice((0, 1, 2))) for _ in range(dice.randrange(1, 40))))
        case 1:
            return [functions["flaky"].enqueue(milliseconds, dice.randrange(3))]
        case 2:
            return [functions["doomed"].enqueue()]
        case 3:
            return [functions["work_async"].enqueue(milliseconds)]
        case 4:
            return [parent.enqueue(milliseconds)]
        case 5:
            until = dice.choice(("end", "start"))
            unique = work.using(unique=f"key {dice.randrange(5)}", unique_until=until, priority=dice.randrange(3))
            return [unique.enqueue(milliseconds)]
    return [work.enqueue(milliseconds)]


if __name__ == "__main__":
    produce(sys.argv[1], random.Random(sys.argv[2]))
