"""List the tasks that wait in the inbox as the tasks report will have them, before those that it has."""

from __future__ import annotations

import orjson

from ledger import inbox
from ledger.api import Ledger
from ledger.events import TaskQueued
from ledger.ids import TASK_PREFIX
from ledger.task import WAITING, evolve
from projections.reports import Reports
from projections.tasks import Folded, TaskRow, begin, changes_of, finish

MOST = 10_000
"""Of the inbox, the newest so many are looked at."""


def row_of(event: TaskQueued) -> TaskRow:
    """Return the row of a task that is not in the log; its positions are 0."""
    before = begin(event.originator_id.removeprefix(TASK_PREFIX), 0)
    return finish(Folded(evolve(before.state, event), before.row, changes_of(before, event)))


def page(ledger: Ledger, reports: Reports, having: dict[str, object], limit: int, after: str | None) -> list[TaskRow]:
    """Return at most *limit* tasks of the inbox and of the report that have all of *having*, newest first.

    *having* are the parameters of the report's statements, *after* the id of the last task of the page before. The
    report is caught up first. Text in the filter language asks the report alone.

    Raises:
        NotFound: There is no task *after*.
    """
    position = None if after is None else ledger.get(after).record.queued_position
    rows: list[TaskRow] = []
    if position is None and not having.get("where"):
        with ledger.store.read() as snapshot:
            events = inbox.waiting(snapshot, MOST)
        rows = [row_of(event) for event in events]
        ids = [row.task_id for row in rows]
        rows = [row for row in rows[ids.index(after) + 1 if after in ids else 0 :] if _has(row, having)][:limit]
    reports.catch_up()  # later than the inbox was read: what is taken in meanwhile is in both, and shown once
    known = {row.task_id for row in rows}
    for row in reports.list_tasks(limit=limit, after=position, **having):  # type: ignore[arg-type]
        if row.task_id in known:
            rows = [row if one.task_id == row.task_id else one for one in rows]
        else:
            rows.append(row)
    return rows[:limit]


def _has(row: TaskRow, having: dict[str, object]) -> bool:
    same = all(having.get(name) in (None, getattr(row, name)) for name in ("name", "queue", "run_as", "actor"))
    label = having.get("label")
    is_labelled = label is None or label in orjson.loads(row.labels)
    return same and is_labelled and having.get("state") in (None, WAITING) and not having.get("failed_only")
