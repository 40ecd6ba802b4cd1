"""Run the queue here, in the caller's thread, to the end: for tests and scripts; no threads, no sleeping."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ledger.api import Ledger
from ledger.clock import from_us
from runner.cycle import Cycle, Finished
from runner.execute import execute


def run_inline(ledger: Ledger, *, advance: Callable[[datetime], None] | None = None, max_tasks: int = 10_000) -> int:
    """Run every due task, one at a time, until none is due; return how many attempts ran.

    *advance* is called with the next due time when only later ones are left (a manual clock's `advance_to`), and
    running goes on; without it they stay.
    """
    cycle = Cycle(ledger, "inline")
    finished: list[Finished] = []
    ran = 0
    while True:
        turn = cycle.turn(finished, int(ran < max_tasks), is_idle=True)
        if turn.is_behind:
            continue
        finished = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]
        ran += len(finished)
        if finished:
            continue
        if turn.next_due_us is None or advance is None or ran >= max_tasks:
            return ran
        advance(from_us(turn.next_due_us))
