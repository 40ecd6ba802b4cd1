"""Let many threads queue a task under the same key at once.

Called as ``python -m tests.faults.race NAME THREADS ROUNDS UNTIL``: each thread queues one task per round, all of a
round with one key. It makes ``NAME.ready`` and begins when there is a file ``start``. The answers are in ``NAME.answers``.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.app import append, ledger


def race(name: str, threads: int, rounds: int, until: str) -> None:
    """Queue under one key per round, all threads at the same moment, and write down what each was answered."""
    work: Any = ledger.functions["work"]
    barrier = threading.Barrier(threads)
    answers: list[dict[str, Any]] = []

    def enqueue() -> None:
        for number in range(rounds):
            unique = work.using(unique=f"round {number}", unique_until=until)
            barrier.wait()
            task = unique.enqueue(1)
            answers.append({"round": number, "id": task.id, "duplicate": task.duplicate})

    racers = [threading.Thread(target=enqueue) for _ in range(threads)]
    Path(f"{name}.ready").touch()
    while not Path("start").exists():
        time.sleep(0.001)
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    append(f"{name}.answers", *answers)
    append(f"{name}.acknowledged", *({"id": one} for one in dict.fromkeys(answer["id"] for answer in answers)))


if __name__ == "__main__":
    race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
