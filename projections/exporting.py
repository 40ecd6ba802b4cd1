"""Read report views and the log page by page for export: rows by keyset, so in constant memory and resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ledger.api import Ledger
from ledger.errors import InvalidOption
from ledger.statements import statements
from ledger.store import RawEvent
from ledger.transfer import all_raw
from projections.filters import Where, where
from projections.report_views import VIEWS
from projections.reports import Reports
from projections.views import Row

SQL = statements("projections", "sql/sqlite/report/export.sql")
PAGE = 5_000
POSITIONS = {"tasks": "first_position", "attempts": "claimed_position", "events": "position"}
"""The column that orders the rows of each view that can be exported, and by which an export goes on."""
INTERNAL = ("fold",)
"""Columns for the fold alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to export: a view, rows after a position, and a filter with its moments."""

    view: str
    filter: str = ""
    since: str | None = None
    until: str | None = None
    after: int = 0

    def condition(self, now: datetime, dialect: str = "sqlite") -> Where:
        """Return the filter as SQL in *dialect*.

        Raises:
            InvalidOption: It is no filter, or there is no such view to be exported.
        """
        if self.view not in POSITIONS:
            raise InvalidOption(f"{self.view!r} cannot be exported; allowed are {', '.join(POSITIONS)}")
        bounds = {"since": self.since, "until": self.until}
        for name, value in bounds.items():
            if value is not None:
                where(f'{name}:"{value}"', self.view, now, dialect)  # alone, so that an error counts its own columns
        terms = [self.filter, *(f'{name}:"{value}"' for name, value in bounds.items() if value is not None)]
        return where(" ".join(terms), self.view, now, dialect)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out but what stands before a position."""
        return not self.filter.strip() and self.since is None and self.until is None


class Page(NamedTuple):
    """Rows in order, and the position of the last of them."""

    rows: list[Row]
    position: int


def columns_of(view: str) -> tuple[str, ...]:
    """Return the columns of a view that are exported."""
    [table] = next(one for one in VIEWS if one.name == view).tables
    return tuple(column for column in table.columns if column not in INTERNAL)


def pages(reports: Reports, wanted: Wanted, size: int = PAGE) -> Iterator[Page]:
    """Yield the rows that were there at the beginning, oldest first; each page is a read of its own.

    Raises:
        InvalidOption: See `Wanted.condition`.
    """
    with reports.ledger.store.read() as snapshot:
        condition = wanted.condition(snapshot.now, reports.dialect)
    reports.catch_up()
    words = {
        "view": wanted.view,
        "columns": ", ".join(columns_of(wanted.view)),
        "position": POSITIONS[wanted.view],
        "where": condition.sql,
    }
    with reports.read() as unit:
        upto = unit.rows(SQL["last"].format(**words))[0][0]
    after = wanted.after
    page = SQL["page"].format(**words)
    while True:
        with reports.read() as unit:
            rows = unit.rows(page, (*condition.parameters, after, upto, size))
        if not rows:
            return
        after = rows[-1][-1]
        yield Page([row[:-1] for row in rows], after)


def raw_events(ledger: Ledger, reports: Reports, wanted: Wanted) -> Iterator[RawEvent]:
    """Yield stored events as they are in the log: those that the filter finds in the view `events`."""
    if wanted.is_everything:
        yield from all_raw(ledger.store, wanted.after)
        return
    for page in pages(reports, wanted):
        with ledger.store.read() as snapshot:
            positions: list[Any] = [row[0] for row in page.rows]
            for position in positions:
                yield snapshot.events_after(position - 1, 1)[0]
