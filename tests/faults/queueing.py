"""Queue a few tasks one by one and many at once, from a process that may be killed at a point (see `crashing`).

Called as ``python -m tests.faults.queueing NAME``; what was acknowledged is in ``NAME.acknowledged``.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.crashing import ledger
from tests.faults.produce import acknowledge


def queue_some(name: str) -> None:
    """Queue tasks, some with keys, and acknowledge each act."""
    step: Any = ledger.functions["step"]
    for number in range(12):
        acknowledge(name, [step.enqueue()])
        acknowledge(name, [step.using(unique=f"{name} {number}").enqueue()])
        acknowledge(name, ledger.enqueue_many(step.using(unique=f"{name} {number} {n}").call() for n in range(3)))


if __name__ == "__main__":
    queue_some(sys.argv[1])
