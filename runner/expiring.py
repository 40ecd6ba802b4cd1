"""Cancel what has expired: a share of each cycle, inside its transaction, by whichever worker looks first."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ledger import acts
from ledger import commands as c
from ledger.clock import to_us
from ledger.events import Event
from ledger.moments import has_come
from ledger.schedule import is_run_id
from ledger.store import Unit
from ledger.task import TaskState
from projections.queue import SQL

MOST_EXPIRED = 500
"""Tasks cancelled in one cycle, so that a hundred thousand that expire at once hold nobody up for long."""


class Expired(NamedTuple):
    """What a look for expired tasks did and saw."""

    cancelled: int = 0
    has_run: bool = False
    """Whether one of them was a schedule's run, which is news to the schedule."""
    next_us: int | None = None
    """When the next one expires; not later than now if more have than one cycle cancels."""


def expire_due(unit: Unit, act: c.Act) -> Expired:
    """Cancel the tasks that have expired, at most so many; their keys are freed and their rows go."""
    next_us = _next(unit)
    if not has_come(next_us, to_us(act.at)):
        return Expired(next_us=next_us)
    events: list[Event] = []
    rows = unit.rows(SQL["expired_rows"], (to_us(act.at), MOST_EXPIRED))
    states = [TaskState._make(row[1:]) for row in rows]
    for state in states:
        events += acts.settle(unit, state, c.Expire(), act)[1]
    unit.append(events)
    unit.run(SQL["delete_rows"], (orjson.dumps([row[0] for row in rows]).decode(),))
    return Expired(len(rows), any(is_run_id(state.task_id) for state in states), _next(unit))


def _next(unit: Unit) -> int | None:
    found: int | None = unit.rows(SQL["next_expiry"])[0][0]
    return found
