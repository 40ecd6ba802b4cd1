"""Queue in transactions of one's own, from a process of its own, and commit or roll back at random.

Called as ``calling.py NAME SEED THREADS ROUNDS``. Each thread has a connection of its own. What was committed is in
``NAME.acknowledged``, what was not in ``NAME.undone``; in the end the process is killed amid transactions.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from typing import Any

import psycopg

from ledger.postgres_address import address_of
from ledger.sqlite import path_of
from tests.faults.app import append, ledger


def connect(url: str) -> Any:
    """A connection of an application's own to the database of a ledger."""
    if url.startswith("sqlite"):
        return sqlite3.connect(path_of(url), timeout=60)
    return psycopg.connect(**address_of(url).parameters)


def call(name: str, dice: random.Random, rounds: int, barrier: threading.Barrier) -> None:
    """Queue one task or a few, alone or with a unique key, and decide then."""
    work: Any = ledger.functions["work"]
    connection = connect(ledger.url)
    for last in [*[False] * rounds, True]:
        if last:
            barrier.wait(60)
        unique = f"key {dice.randrange(4)}" if dice.random() < 0.3 else None
        calls = [work.using(unique=unique).call(0) for _ in range(dice.choice((1, 1, 3)))]
        if dice.random() < 0.5:
            made = ledger.enqueue_many(calls, connection=connection)
        else:
            made = [work.using(unique=unique, connection=connection).enqueue(0) for _ in calls]
        if ledger.url.startswith("postgresql"):  # on a file everybody else would wait meanwhile
            time.sleep(dice.random() / 100)
        is_kept = dice.random() < 0.6 and not last
        if not is_kept:
            append(f"{name}.undone", *({"id": task.id} for task in made))
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.commit() if is_kept else connection.rollback()
        if is_kept:
            append(f"{name}.acknowledged", *({"id": task.id} for task in made))


def main(name: str, seed: str, threads: int, rounds: int) -> None:
    """Let the threads call until one of them kills all."""
    barrier = threading.Barrier(threads)
    callers = [
        threading.Thread(target=call, args=(name, random.Random(f"{seed} {number}"), rounds, barrier))
        for number in range(threads)
    ]
    for caller in callers:
        caller.start()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
