"""Choose what to claim: due rows, running counts, limits and free slots in, an order of claims out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.limits import LEDGER, TASK, Full, Limits, Running, fulls
from ledger.task import TaskState
from projections.queue import Row

_FIELD = {name: index for index, name in enumerate(("position", *TaskState._fields))}
PRIORITY, DUE, NAME, QUEUE, LOST = (_FIELD[name] for name in ("priority", "due_us", "name", "queue", "lost"))
CONCURRENCY_KEY, POSITION = _FIELD["concurrency_key"], _FIELD["position"]
EXPIRES = _FIELD["expires_us"]
DUE_THEN_POSITION = itemgetter(DUE, POSITION)
NO_LIMITS = Limits()


class Plan(NamedTuple):
    """What to claim, in the order to begin it, and why not the rest."""

    claims: list[Row]
    passed: list[tuple[Row, Full]]
    """The rows that a full limit passed over, the first of each that the limit met; the claims of the plan counted."""
    wanted: list[Row]
    """Of the rows that stand for more behind them: those that it came to with slots left, so that more should be read."""


class _More(tuple[Any, ...]):
    """A row that stands for those behind it, which are not at hand."""


def plan(
    candidates: Sequence[Row],
    running: Running,
    free: int,
    *,
    is_idle: bool,
    limits: Limits = NO_LIMITS,
    more: Iterable[Row] = (),
) -> Plan:
    """Return the rows to claim, at most *free* and none beyond its limits.

    Priority first, higher first; between names of one priority the name with the fewest running (claims of this plan
    counted) goes first; within a name due time, then position. A task whose last attempt was lost is claimed alone:
    only by an idle worker, and with nothing beside it; while one waits at the head, nothing more is claimed. *more* are
    rows, each of which stands for others that are not at hand: of its name, queue and priority, not due before it. A
    plan that wants none of them is the plan of all rows.
    """
    chosen = Plan([], [], [])
    counts = running.copy()
    rows_and_more = [*candidates, *map(_More, more)]
    for priority in sorted({row[PRIORITY] for row in rows_and_more}, reverse=True):
        waiting = _by_name(row for row in rows_and_more if row[PRIORITY] == priority)
        heads = [(counts.of.get((TASK, name), 0), rows[0][DUE], rows[0][0], name) for name, rows in waiting.items()]
        heapify(heads)
        while heads and len(chosen.claims) < free:
            name = heads[0][3]
            rows = waiting[name]
            row = rows[0]
            is_more = isinstance(row, _More)
            full = None if limits.is_empty else _full(limits, counts, row, None if is_more else row[CONCURRENCY_KEY])
            if is_more:
                if full is None:
                    chosen.wanted.append(row)
            elif full is not None:
                chosen.passed.append((row, full))
            elif row[LOST]:
                return chosen._replace(claims=[row]) if is_idle and not chosen.claims else chosen
            else:
                chosen.claims.append(row)
                counts.add(row[NAME], row[QUEUE], row[CONCURRENCY_KEY])
            if full is not None and full.limit.kind == LEDGER:
                return chosen
            _pass(rows, full)
            if rows:
                heapreplace(heads, (counts.of.get((TASK, name), 0), rows[0][DUE], rows[0][0], name))
            else:
                heappop(heads)
    return chosen


def _full(limits: Limits, counts: Running, row: Row, key: str | None) -> Full | None:
    found = fulls(limits, counts, row[NAME], row[QUEUE], key)
    return found[0] if found else None


def _pass(rows: deque[Row], full: Full | None) -> None:
    """Leave the first row, and with a limit of its name all others of that name."""
    if full is not None and full.limit.kind == TASK:
        rows.clear()
    else:
        rows.popleft()


def _by_name(rows: Iterable[Row]) -> dict[str, deque[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[NAME], []).append(row)
    return {name: deque(sorted(found, key=DUE_THEN_POSITION)) for name, found in grouped.items()}
