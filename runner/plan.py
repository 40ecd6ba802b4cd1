"""Choose what to claim: due rows, running counts and free slots in, an order of claims out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ledger.task import TaskState
from projections.queue import Row

_FIELD = {name: index for index, name in enumerate(("position", *TaskState._fields))}
PRIORITY, DUE, NAME, LOST = _FIELD["priority"], _FIELD["due_us"], _FIELD["name"], _FIELD["lost"]


def plan(candidates: Sequence[Row], running: Mapping[str, int], free: int, *, is_idle: bool) -> list[Row]:
    """Return the rows to claim, at most *free*, in the order to begin them.

    Priority first, higher first; between names of one priority the name with the fewest running (claims of this plan
    counted) goes first; within a name due time, then position. A task whose last attempt was lost is claimed alone:
    only by an idle worker, and with nothing beside it; while one waits at the head, nothing more is claimed.
    """
    counts = dict(running)
    claims: list[Row] = []
    for priority in sorted({row[PRIORITY] for row in candidates}, reverse=True):
        waiting = _by_name(row for row in candidates if row[PRIORITY] == priority)
        while waiting and len(claims) < free:
            name = min(waiting, key=lambda n: (counts.get(n, 0), waiting[n][0][DUE], waiting[n][0][0]))
            row = waiting[name][0]
            if row[LOST]:
                return [row] if is_idle and not claims else claims
            waiting[name].popleft()
            if not waiting[name]:
                del waiting[name]
            claims.append(row)
            counts[name] = counts.get(name, 0) + 1
    return claims


def _by_name(rows: object) -> dict[str, deque[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:  # type: ignore[attr-defined]
        grouped.setdefault(row[NAME], []).append(row)
    return {name: deque(sorted(found, key=lambda row: (row[DUE], row[0]))) for name, found in grouped.items()}
