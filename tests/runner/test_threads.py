"""The threads of a worker: what they begin, and what they leave to others."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ledger import commands as c
from ledger.testing import memory_ledger
from runner.board import Board
from runner.cycle import Cycle
from runner.options import RunOptions
from runner.threads import Held, Pool

DEADLINE_SECONDS = 30.0


@pytest.mark.parametrize(("age_seconds", "outcome", "ran"), [(0.0, c.Succeed, 1), (10.0, c.Interrupt, 0)])
def test_a_claim_that_waited_too_long_is_not_begun(age_seconds: float, outcome: type[Any], ran: int) -> None:
    """A thread that comes to an old claim, as after its process was frozen, gives it back: it may be another's by now."""
    ledger, board = memory_ledger(), Board()
    calls: list[int] = []

    @ledger.task
    def job() -> None:
        calls.append(1)

    job.enqueue()
    [claimed] = Cycle(ledger, "w").turn([], 1, is_idle=True).claims
    held = Held(claimed, board.claim(claimed.state.task_id, 1), time.monotonic() - age_seconds)
    pool = Pool(ledger, board, RunOptions(threads=1), lambda: None, give_back_seconds=5.0)
    pool.put([held])
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not pool.done and time.monotonic() < deadline:
        time.sleep(0.001)
    [(given, finished)] = pool.take_done()

    assert given is held
    assert isinstance(finished.command, outcome)
    assert len(calls) == ran
    assert [shown.is_begun for shown in board.shown()] == [bool(ran)]
