"""Tell what every attempt did, newest first: the report views read by a filter, and the output that they printed searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from ledger.errors import InvalidOption
from ledger.output import chunks_of, lines_of
from ledger.statements import statements
from projections.filters import Where, where
from projections.reports import Reports

SQL = statements("projections", "sql/sqlite/report/history.sql")
PAGE = 200
"""Attempts whose output is searched between two looks at the views."""
_NEWEST = 2**63 - 1


class Entry(NamedTuple):
    """One attempt, with what its task was asked to do; the columns of the views `attempts`, `tasks` and `output`."""

    id: str
    attempt: int
    name: str
    queue: str
    outcome: str
    state: str
    """Of the task, now."""
    run_as: str
    actor: str
    """Who queued it."""
    worker: str
    claimed_at: str
    started_at: str | None
    finished_at: str | None
    wait_ms: float | None
    run_ms: float | None
    cpu_ms: float | None
    error_type: str | None
    error_message: str | None
    cause: str | None
    args: Any
    labels: Any
    output_bytes: int | None
    pruned_at: str | None
    """When its output was deleted."""
    position: int
    """Of its claim: `Asked.after` goes on after it."""
    line: str | None = None
    """The first line of its output that has the text searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which attempts: a filter, and a text that their output must have (letters are compared as they are)."""

    filter: str = ""
    text: str | None = None
    limit: int = 50
    after: int | None = None
    """The position of the last entry of the page before."""


def history(reports: Reports, asked: Asked) -> Iterator[Entry]:
    """Yield the newest attempts that fit, as far as the log had come when this was called.

    Raises:
        InvalidOption: It is no filter (the message names the column), or the text to be found is empty.
    """
    if asked.text is not None and not asked.text:
        raise InvalidOption("the text to be found in output is empty")
    with reports.ledger.store.read() as snapshot:
        condition = where(asked.filter, "history", snapshot.now, reports.dialect)
    reports.catch_up()
    return _found(reports, asked, condition)


def _found(reports: Reports, asked: Asked, condition: Where) -> Iterator[Entry]:
    after, left = asked.after or _NEWEST, asked.limit
    words = condition.sql if asked.text is None else f"{condition.sql} AND {SQL['with_output']}"
    size = asked.limit if asked.text is None else PAGE
    sql = SQL["page"].format(where=words)
    while left > 0:
        with reports.read() as unit:
            rows = [Entry(*row) for row in unit.rows(sql, (*condition.parameters, after, size))]
        for entry in rows:
            line = None if asked.text is None else _line(reports, entry, asked.text)
            if asked.text is None or line is not None:
                yield entry._replace(args=orjson.loads(entry.args), labels=orjson.loads(entry.labels), line=line)
                left -= 1
                if not left:
                    return
        if len(rows) < size:
            return
        after = rows[-1].position


def _line(reports: Reports, entry: Entry, text: str) -> str | None:
    """Return the first line of an attempt's output that has *text*."""
    with reports.ledger.store.read() as snapshot:
        lines = lines_of(chunks_of(snapshot, entry.id, entry.attempt))
        return next((line.text for line in lines if text in line.text), None)
