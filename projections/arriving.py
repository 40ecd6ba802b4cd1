"""List the tasks that wait in the inbox as the tasks report will have them, before those that it has."""

from __future__ import annotations

from datetime import datetime

import orjson

from ledger import inbox
from ledger.api import Ledger
from ledger.events import TaskQueued
from ledger.ids import TASK_PREFIX
from ledger.statements import statements
from ledger.task import WAITING, evolve
from projections.filters import where
from projections.report_file import SCRATCH, ReportFile
from projections.reports import Reports
from projections.tasks import Folded, TaskRow, begin, changes_of, finish

SQL = statements("projections", "sql/sqlite/report/filters.sql")
MOST = 10_000
"""Of the inbox, the newest so many are looked at."""


def row_of(event: TaskQueued) -> TaskRow:
    """Return the row of a task that is not in the log; its positions are 0."""
    before = begin(event.originator_id.removeprefix(TASK_PREFIX), 0)
    return finish(Folded(evolve(before.state, event), before.row, changes_of(before, event)))


def page(ledger: Ledger, reports: Reports, having: dict[str, object], limit: int, after: str | None) -> list[TaskRow]:
    """Return at most *limit* tasks of the inbox and of the report that have all of *having*, newest first.

    *having* are the parameters of the report's statements, *after* the id of the last task of the page before. The
    report is caught up first.

    Raises:
        NotFound: There is no task *after*.
    """
    position = None if after is None else ledger.get(after).record.queued_position
    rows: list[TaskRow] = []
    if position is None:
        with ledger.store.read() as snapshot:
            events, now = inbox.waiting(snapshot, MOST), snapshot.now
        rows = [row_of(event) for event in events]
        ids = [row.task_id for row in rows]
        rows = [row for row in rows[ids.index(after) + 1 if after in ids else 0 :] if _has(row, having)]
        rows = _that_fit(rows, str(having.get("where") or ""), now)[:limit]
    reports.catch_up()  # later than the inbox was read: what is taken in meanwhile is in both, and shown once
    known = {row.task_id for row in rows}
    for row in reports.list_tasks(limit=limit, after=position, **having):  # type: ignore[arg-type]
        if row.task_id in known:
            rows = [row if one.task_id == row.task_id else one for one in rows]
        else:
            rows.append(row)
    return rows[:limit]


def _that_fit(rows: list[TaskRow], text: str, now: datetime) -> list[TaskRow]:
    """Return those of *rows* that *text* in the filter language asks for, by the very condition that asks the report."""
    if not rows or not text:
        return rows
    condition, values = where(text, "tasks", now).named()
    columns = ", ".join(f"json_extract(value, '$[{number}]') AS {name}" for number, name in enumerate(TaskRow._fields))
    scratch = ReportFile(SCRATCH)
    try:
        with scratch.read() as unit:
            sql = SQL["arriving"].format(columns=columns, where=condition)
            fit = {
                task_id
                for (task_id,) in unit.rows(sql, {"rows": orjson.dumps([list(row) for row in rows]).decode(), **values})
            }
    finally:
        scratch.close()
    return [row for row in rows if row.task_id in fit]


def _has(row: TaskRow, having: dict[str, object]) -> bool:
    same = all(having.get(name) in (None, getattr(row, name)) for name in ("name", "queue", "run_as", "actor"))
    label = having.get("label")
    is_labelled = label is None or label in orjson.loads(row.labels)
    return same and is_labelled and having.get("state") in (None, WAITING) and not having.get("failed_only")
