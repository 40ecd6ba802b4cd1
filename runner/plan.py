"""Choose what to claim: due rows, running counts and free slots in, an order of claims out. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from operator import itemgetter

from ledger.task import TaskState
from projections.queue import Row

_FIELD = {name: index for index, name in enumerate(("position", *TaskState._fields))}
PRIORITY, DUE, NAME, QUEUE, LOST = (_FIELD[name] for name in ("priority", "due_us", "name", "queue", "lost"))
_DUE_THEN_POSITION = itemgetter(DUE, _FIELD["position"])


def plan(candidates: Sequence[Row], running: Mapping[str, int], free: int, *, is_idle: bool) -> list[Row]:
    """Return the rows to claim, at most *free*, in the order to begin them.

    Priority first, higher first; between names of one priority the name with the fewest running (claims of this plan
    counted) goes first; within a name due time, then position. A task whose last attempt was lost is claimed alone:
    only by an idle worker, and with nothing beside it; while one waits at the head, nothing more is claimed.
    """
    claims: list[Row] = []
    for priority in sorted({row[PRIORITY] for row in candidates}, reverse=True):
        waiting = _by_name(row for row in candidates if row[PRIORITY] == priority)
        counts = Counter(running) + Counter(row[NAME] for row in claims)
        heads = [(counts[name], rows[0][DUE], rows[0][0], name) for name, rows in waiting.items()]
        heapify(heads)
        while heads and len(claims) < free:
            count, _, _, name = heads[0]
            rows = waiting[name]
            if rows[0][LOST]:
                return [rows[0]] if is_idle and not claims else claims
            claims.append(rows.popleft())
            if rows:
                heapreplace(heads, (count + 1, rows[0][DUE], rows[0][0], name))
            else:
                heappop(heads)
    return claims


def _by_name(rows: Iterable[Row]) -> dict[str, deque[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[NAME], []).append(row)
    return {name: deque(sorted(found, key=_DUE_THEN_POSITION)) for name, found in grouped.items()}
