"""Say what a report view is: its tables, and the fold that says what an event changes in them. Pure.

Which views there are says `projections.report_views`; how they are kept, `projections.following`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ledger.events import Event
from projections.tasks import Folded

Row = tuple[Any, ...]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a view. *columns* in their order, those of *key* first and never NULL.

    A fold meets *cells*: by default rows as they are stored, else what *load* makes of them and *store* turns back.
    """

    name: str
    columns: tuple[str, ...]
    key: int
    """How many columns are the key."""
    create: str
    """Statement with ``{table}`` where the name stands."""
    indexes: tuple[str, ...] = ()
    """Statements with ``{index}`` and ``{table}``; not needed by the fold."""
    noun: str = "row"
    load: Callable[[Row], Any] = tuple
    store: Callable[[Any], Row] = tuple


class Step(NamedTuple):
    """One event, and for an event of a task that task before and after it."""

    position: int
    event: Event
    at: str
    """The event's time as reports show it."""
    task_id: str | None = None
    before: Folded | None = None
    """None too before the first event."""
    after: Folded | None = None
    changes: Mapping[str, Any] = MappingProxyType({})
    """What the event changes in the row of `tasks`, beside what follows from the state: wait_ms, run_ms and the like."""


class Rows:
    """One table while a batch of events is folded: cells are loaded when first met, and their net effect is kept."""

    def __init__(self, table: Table, fetch: Callable[[Key], Row | None], fetch_all: Callable[[], list[Row]]) -> None:
        self.table = table
        self._fetch = fetch
        self._fetch_all = fetch_all
        self._cells: dict[Key, Any] = {}
        self._changed: set[Key] = set()
        self._is_stored: set[Key] = set()

    def get(self, key: Key) -> Any | None:
        """Return the cell of *key*, or None."""
        if key not in self._cells:
            row = self._fetch(key)
            if row is not None:
                self._is_stored.add(key)
            self._cells[key] = None if row is None else self.table.load(row)
        return self._cells[key]

    def remember(self, rows: Iterable[Row]) -> None:
        """Take in rows that were looked up together, so that they need not be one by one."""
        for row in rows:
            key = row[: self.table.key]
            if key not in self._cells:
                self._is_stored.add(key)
                self._cells[key] = self.table.load(row)

    def all(self) -> list[Any]:
        """Return every cell; for tables of few rows."""
        for row in self._fetch_all():
            self.get(row[: self.table.key])
        return [cell for cell in self._cells.values() if cell is not None]

    def put(self, key: Key, cell: Any) -> None:
        """Store *cell* under *key*, whatever is there; nothing is looked up."""
        self._cells[key] = cell
        self._changed.add(key)

    def own(self, key: Key, make: Callable[[], Any]) -> Any:
        """Return the cell of *key*, made if there is none, to be changed in place: it will be stored."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self.get(key)
            if cell is None:
                cell = self._cells[key] = make()
        self._changed.add(key)
        return cell

    def drop(self, key: Key) -> None:
        """Delete what is under *key*."""
        if self.get(key) is not None:
            self.put(key, None)

    def puts(self) -> list[Row]:
        """Return the rows that are to be stored, in the order of their keys."""
        store = self.table.store
        return [store(cell) for key in sorted(self._changed) if (cell := self._cells[key]) is not None]

    def drops(self) -> Iterator[Key]:
        """Return the keys whose rows are to be deleted."""
        return (key for key in self._changed if self._cells[key] is None and key in self._is_stored)


Tables = Mapping[str, Rows]
Take = Callable[[Step, Tables], None]


@dataclass(frozen=True, slots=True)
class View:
    """A view: what it is called, its tables, and its fold.

    Another *version* is built anew beside the old one. *events* are the classes that *take* is called with; None: all.
    """

    name: str
    version: int
    tables: tuple[Table, ...]
    take: Take
    events: tuple[type[Event], ...] | None = None
    but: tuple[type[Event], ...] = ()
    """Classes that it is not called with."""

    def wants(self, kind: type[Event]) -> bool:
        """Return whether the fold is called with events of this class."""
        return (self.events is None or kind in self.events) and kind not in self.but

    @property
    def shape(self) -> str:
        """What the tables look like: a view of another shape is built anew as well."""
        return ";".join(f"{table.name}({','.join(table.columns)})" for table in self.tables)
