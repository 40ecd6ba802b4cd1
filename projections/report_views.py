"""List the report views: their versions, tables and folds. Columns are a contract: they are only ever added."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ledger import events as e
from ledger import schedule_events as s
from ledger.control_events import QueuePaused, QueueResumed
from ledger.ledger_events import OutputPruned
from ledger.statements import statements
from projections import attempts as a
from projections import happenings, hourly
from projections import schedule_reports as schedules
from projections.tasks import TaskRow, finish, load
from projections.views import Row, Table, View

PATH = "sql/sqlite/report/"
META_COLUMNS = "meta"
_OF_TASKS = (
    e.TaskQueued,
    e.TaskClaimed,
    e.TaskSucceeded,
    e.TaskFailed,
    e.TaskDelayed,
    e.AttemptLost,
    e.AttemptInterrupted,
    e.TaskCancelled,
)
_COLUMN = re.compile(r"^    (\w+) [A-Z].*?,? -- (.*)$", re.MULTILINE)


def _table(
    view: str,
    columns: tuple[str, ...],
    key: int,
    noun: str,
    load: Callable[[Row], Any] = tuple,
    store: Callable[[Any], Row] = tuple,
    name: str | None = None,
) -> Table:
    sql = statements("projections", f"{PATH}{view}.sql")
    indexes = tuple(text for label, text in sql.items() if label.startswith("index_") and name in (None, view))
    return Table(name or view, columns, key, sql[f"create_{name or view}"], indexes, noun, load, store)


TASKS = _table("tasks", TaskRow._fields, 1, "task", load, finish)
_SCHEDULES = (
    _table("schedules", schedules.ScheduleRow._fields, 1, "schedule", schedules.load, schedules.store, "schedules"),
    _table("schedules", schedules.ComponentRow._fields, 1, "component", name="components"),
    _table("schedules", ("task_id", "schedule"), 1, "run", name="schedule_runs"),
)
_HOURLY = _table("hourly", hourly.HourRow._fields, 3, "hour", hourly.load, hourly.store)

VIEWS = (
    View("tasks", 4, (TASKS,), lambda step, tables: None, ()),
    View("attempts", 2, (_table("attempts", a.AttemptRow._fields, 2, "attempt", a.AttemptRow._make),), a.take_attempt, _OF_TASKS[1:]),
    View("events", 1, (_table("events", happenings.EventRow._fields, 1, "event"),), happenings.take_event),
    View(
        "output",
        1,
        (_table("output", a.OutputRow._fields, 2, "output", a.OutputRow._make),),
        a.take_output,
        (*_OF_TASKS[2:], e.LateResultRejected, OutputPruned),
    ),
    View("schedules", 1, _SCHEDULES, schedules.take_schedule),
    View(
        "firings",
        1,
        (_table("firings", schedules.FiringRow._fields, 1, "firing"),),
        schedules.take_firing,
        (s.SlotFired, s.SlotsMissed, s.RunRequested),
    ),
    View(
        "queues", 1, (_table("queues", a.QUEUE_COLUMNS, 1, "queue", a.load_queue, a.store_queue),), a.take_queue, (*_OF_TASKS, e.TaskRetried, QueuePaused, QueueResumed)
    ),
    View(
        "workers",
        1,
        (_table("workers", a.WORKER_COLUMNS, 1, "worker", a.load_worker, a.store_worker),),
        a.take_worker,
        (*_OF_TASKS[1:], e.LateResultRejected, e.WorkerStarted, e.WorkerStopped),
    ),
    View(
        "operators", 1, (_table("operators", happenings.OperatorRow._fields, 1, "act"),), happenings.take_act, None, happenings.NO_ACTS
    ),
    View("hourly", 1, (_HOURLY,), hourly.take, _OF_TASKS),
)  # fmt: skip
"""The base comes first: `tasks` is folded for all, since they ask of a task what it was before and after an event."""
NAMES = tuple(view.name for view in VIEWS)


def meanings(table: str) -> dict[str, str]:
    """Return what each column of a report table means, by name, as the comments beside the columns say it."""
    file = {"components": "schedules", "schedule_runs": "schedules"}.get(table, table)
    return dict(_COLUMN.findall(statements("projections", f"{PATH}{file}.sql")[f"create_{table}"]))
