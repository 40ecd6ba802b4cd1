"""List tasks by what they have in common: a checked filter, and typed rows from the tasks report, newest or oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

import orjson

from ledger.api import Ledger
from ledger.errors import InvalidOption
from ledger.events import ErrorDetail
from ledger.handle import Task
from ledger.options import one_of
from ledger.task import STATES
from ledger.values import check_name, shown
from projections import arriving
from projections.filters import where as condition
from projections.reports import Reports
from projections.tasks import TaskRow

MOST_LISTED = 100_000
SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""From which ages count where a filter is only checked."""


class Having(TypedDict, total=False):
    """What tasks may be asked to have; each means what the field of `Filter` does."""

    name: str | None
    state: str | None
    queue: str | None
    run_as: str | None
    actor: str | None
    label: str | None
    failed_only: bool
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What tasks have in common; None asks for nothing. Checked when made.

    Raises:
        InvalidOption: A value is outside what is allowed; the message says what is.
    """

    name: str | None = None
    """The name that they were queued under."""
    state: str | None = None
    queue: str | None = None
    run_as: str | None = None
    actor: str | None = None
    """Who queued them, as events have it: ``user:ann``."""
    label: str | None = None
    """One of their labels."""
    failed_only: bool = False
    """Only those that have failed, or wait or run again after a failure."""
    where: str = ""
    """Terms of the filter language that must hold too: ``args.user_id:5 since:24h``; see `projections.filters`."""

    def __post_init__(self) -> None:
        if self.state is not None:
            one_of("state", self.state, STATES)
        for name in ("name", "queue", "run_as", "actor", "label"):
            if (value := getattr(self, name)) is not None:
                check_name(value, name)
        if not isinstance(self.failed_only, bool):
            raise InvalidOption(f"failed_only is {shown(self.failed_only)}; allowed is True or False")
        if not isinstance(self.where, str):
            raise InvalidOption(f"where is {shown(self.where)}; allowed is a text such as 'args.user_id:5 since:24h'")
        condition(self.where, "tasks", SOME_TIME)
        object.__setattr__(self, "where", self.where.strip())  # blanks ask for nothing: `is_empty` guards every task

    @property
    def is_empty(self) -> bool:
        """Whether every task has it."""
        return self == Filter()

    def parameters(self) -> dict[str, Any]:
        """Return it as what the listing methods of `Reports` take."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A task as the tasks report has it; times are aware UTC, hidden arguments are shown as hidden."""

    id: str
    name: str
    args: dict[str, Any]
    queue: str
    priority: int
    state: str
    attempt: int
    """Number of the newest attempt."""
    attempts_used: int
    max_attempts: int | None
    attempts_left: int | None
    """One that runs included; None: without end."""
    run_as: str
    actor: str
    """Who queued it."""
    reason: str | None
    labels: tuple[str, ...]
    queued_at: datetime
    due_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    error: ErrorDetail | None
    """The last one."""
    position: int | None
    """Of its TaskQueued; None while it waits in the inbox."""

    def handle(self, ledger: Ledger) -> Task[Any]:
        """Return the handle of the task, which reads the log anew."""
        return Task(ledger, self.id)


def tasks(ledger: Ledger, *, limit: int = 50, after: str | None = None, **having: Unpack[Having]) -> list[Listed]:
    """Return at most *limit* tasks that have all of *having* (see `Filter`), newest first.

    *after* is the id of the last task of the page before. The report is caught up first, so that what this returns is
    at least as new as the call; what waits in the inbox comes before what is in the log.

    Raises:
        InvalidOption: A value is outside what is allowed.

        NotFound: There is no task *after*.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_LISTED:
        raise InvalidOption(f"limit is {shown(limit)}; allowed is a whole number from 1 to {MOST_LISTED:,}")
    filter_ = _filter(having)
    rows = arriving.page(ledger, Reports(ledger), filter_.parameters(), limit, after)
    return [_listed(row) for row in rows]


def all_tasks(ledger: Ledger, **having: Unpack[Having]) -> Iterator[Listed]:
    """Yield every task that has all of *having* (see `Filter`) and was queued before this call, oldest first."""
    filter_ = _filter(having)
    reports = Reports(ledger)
    reports.catch_up()
    for row in oldest_first(reports, filter_):
        yield _listed(row)


def oldest_first(reports: Reports, filter_: Filter, page: int = 1_000) -> Iterator[TaskRow]:
    """Yield the rows that *filter_* fits as the report has them when their page is read, oldest first, each once."""
    position = 0
    upto = reports.last_position()
    while rows := reports.list_oldest(filter_.parameters(), page, position, upto):
        yield from rows
        position = rows[-1].first_position


def _filter(having: Having) -> Filter:
    allowed = Having.__annotations__
    for name in having:
        if name not in allowed:
            raise InvalidOption(f"{shown(name)} is nothing to list tasks by; there are: {', '.join(sorted(allowed))}")
    return Filter(**having)


def _listed(row: TaskRow) -> Listed:
    found = row.summary()
    same = {item.name: found[item.name] for item in fields(Listed) if item.name in found}
    times = {name: _moment(found[name]) for name in ("queued_at", "due_at", "expires_at", "ended_at")}
    return Listed(**same | times | {"labels": tuple(orjson.loads(row.labels)), "position": row.first_position or None})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
