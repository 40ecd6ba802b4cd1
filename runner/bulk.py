"""Change the course of many tasks: those that a filter fits, oldest first, in bounded batches of one act each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import Conflict, InvalidOption
from ledger.store import Unit
from ledger.task import CANCELLED, FAILED, RUNNING, WAITING
from ledger.values import require_reason
from projections.listing import Filter, oldest_first
from projections.reports import Reports
from projections.tasks import TaskRow

BATCH = 100
"""Tasks in one transaction: it holds the database for some ten milliseconds."""
MOST_REFUSALS = 20

Change = Callable[[Unit, TaskRow, c.Act], object]


@dataclass(slots=True)
class Changed:
    """What a change of many did: how many tasks it *found*, *changed*, and left because they had moved on."""

    found: int = 0
    changed: int = 0
    conflicts: int = 0
    """Found, but in another state by then, or with a key that another task holds."""
    by_name: Counter[str] = field(default_factory=Counter)
    """How many were found of each name."""
    refusals: list[str] = field(default_factory=list)
    """Why the first of those in conflict were left."""


def retry_all(
    ledger: Ledger, filter_: Filter, *, reason: str, actor: str | None = None, dry_run: bool = False
) -> Changed:
    """Retry every failed task that *filter_* fits (every cancelled one, if it asks for that state).

    Each batch is stored whole or not at all; called again, it goes on with those that are left.

    Raises:
        InvalidOption: No reason is given, or tasks of the state that is asked for cannot be retried.
    """
    require_reason(reason, "retry")
    filter_ = replace(filter_, state=_one_of("retry", filter_.state or FAILED, FAILED, CANCELLED))
    return _change_all(ledger, filter_, _retry, reason, actor, dry_run=dry_run)


def cancel_all(
    ledger: Ledger, filter_: Filter, *, reason: str, actor: str | None = None, dry_run: bool = False
) -> Changed:
    """Cancel every live task that *filter_* fits; running ones are asked to end. As `retry_all` otherwise."""
    require_reason(reason, "cancel")
    if filter_.state is not None:
        _one_of("cancel", filter_.state, WAITING, RUNNING)
    return _change_all(ledger, filter_, _cancel, reason, actor, dry_run=dry_run, states=(WAITING, RUNNING))


def run_failed(
    ledger: Ledger, filter_: Filter, *, reason: str, actor: str | None = None, dry_run: bool = False
) -> Changed:
    """Make every task that has failed due now: retry those that have ended, pull forward those that wait for a retry.

    As `retry_all` otherwise.
    """
    require_reason(reason, "run-failed")
    if filter_.state is not None:
        _one_of("run-failed", filter_.state, FAILED, WAITING)
    filter_ = replace(filter_, failed_only=True)
    return _change_all(ledger, filter_, _make_due, reason, actor, dry_run=dry_run, states=(FAILED, WAITING))


def _one_of(verb: str, state: str, *allowed: str) -> str:
    if state not in allowed:
        raise InvalidOption(f"state is {state!r}; {verb} is possible for tasks that are {' or '.join(allowed)}")
    return state


def _retry(unit: Unit, row: TaskRow, act: c.Act) -> None:
    acts.retry(unit, row.task_id, act)


def _cancel(unit: Unit, row: TaskRow, act: c.Act) -> None:
    acts.act_on(unit, row.task_id, c.Cancel(), act)


def _make_due(unit: Unit, row: TaskRow, act: c.Act) -> None:
    if row.state == FAILED:
        acts.retry(unit, row.task_id, act)
    elif acts.load(unit, row.task_id).due_us > to_us(act.at):
        acts.act_on(unit, row.task_id, c.Reschedule(due_at=act.at), act)


def _change_all(
    ledger: Ledger,
    filter_: Filter,
    change: Change,
    reason: str,
    actor: str | None,
    *,
    dry_run: bool,
    states: tuple[str, ...] = (),
) -> Changed:
    reports = Reports(ledger)
    reports.catch_up()
    done = Changed()
    rows = (row for row in oldest_first(reports, filter_) if not states or row.state in states)
    for batch in _batches(rows):
        done.found += len(batch)
        done.by_name.update(row.name for row in batch)
        if not dry_run:
            change_batch(ledger, batch, change, reason, actor, done)
    return done


def _batches(rows: Iterator[TaskRow]) -> Iterator[list[TaskRow]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def change_batch(
    ledger: Ledger, batch: list[TaskRow], change: Change, reason: str, actor: str | None, done: Changed
) -> None:
    """Change the rows of *batch* in one transaction, and add to *done* what became of them."""
    changed, refused = 0, []
    with ledger.store.write() as unit:
        act = ledger.act(unit, actor, reason)
        for row in batch:
            try:
                _require_as_found(unit, row)
                change(unit, row, act)
                changed += 1
            except Conflict as error:  # decided before anything of it was appended
                refused.append(str(error))
    done.changed += changed
    done.conflicts += len(refused)
    done.refusals += refused[: MOST_REFUSALS - len(done.refusals)]


def _require_as_found(unit: Unit, row: TaskRow) -> None:
    state = acts.load(unit, row.task_id)
    if state.status != row.state:
        raise Conflict(f"task {row.task_id} is {state.status} by now; it was {row.state} when it was listed")
