"""Fold a batch of events into the tables of several views at once, wherever their rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from ledger.event import Event
from ledger.ids import TASK_PREFIX
from ledger.store import RawEvent
from ledger.task import evolve
from projections.tasks import Folded, begin, changes_of
from projections.tasks import stamp as stamped
from projections.views import Key, Row, Rows, Step, Table, Take, View

Fetch = Callable[[Table, Key], Row | None]
FetchMany = Callable[[Table, list[str]], list[Row]]
"""Returns the rows whose first key column is one of these texts."""
FetchAll = Callable[[Table], list[Row]]
_PREFIX_LENGTH = len(TASK_PREFIX)


class Batch:
    """The net effect of events on the tables of *views*, of which the first is `tasks`."""

    def __init__(
        self, views: Sequence[View], fetch: Fetch, fetch_all: FetchAll, fetch_many: FetchMany | None = None
    ) -> None:
        self._fetch_many = fetch_many
        self._takes = takes(tuple(views))
        self.tables = {
            table.name: Rows(table, _bound(fetch, table), _bound_all(fetch_all, table))
            for view in views
            for table in view.tables
        }
        self._tasks = self.tables["tasks"]

    def take(self, raws: Sequence[RawEvent], decode: Callable[[RawEvent], Event]) -> str:
        """Fold stored events in order and return the time of the last.

        Raises:
            CorruptEvent: One cannot be read, whatever its stream; nothing of this batch may be stored then.
        """
        at = ""
        self._look_up(raws)
        for raw in raws:
            event = decode(raw)
            at = stamped(event.at)
            stream = raw[1]
            if stream.startswith(TASK_PREFIX):
                step = self._of_task(stream[_PREFIX_LENGTH:], raw, event, at)
            else:
                step = Step(raw[0], event, at)
            for take in self._takes(type(event)):
                take(step, self.tables)
        return at

    def _look_up(self, raws: Sequence[RawEvent]) -> None:
        """Fetch the tasks that began before this batch, and their attempts, by one query each."""
        streams = {raw[1] for raw in raws if raw[2] > 1 and raw[1].startswith(TASK_PREFIX)}
        streams -= {raw[1] for raw in raws if raw[2] == 1}
        if self._fetch_many is None or not streams:
            return
        ids = [stream[_PREFIX_LENGTH:] for stream in streams]
        for name in ("tasks", "attempts"):
            if (rows := self.tables.get(name)) is not None:
                rows.remember(self._fetch_many(rows.table, ids))

    def _of_task(self, task_id: str, raw: RawEvent, event: Event, at: str) -> Step:
        position, key = raw[0], (task_id,)
        before: Folded | None = None if raw[2] == 1 else self._tasks.get(key)
        base = begin(task_id, position) if before is None else before
        changes = changes_of(base, event)
        # One dictionary for the batch: of the task before the event only its state is asked from here on.
        base.changes.update(changes, last_position=position)
        after = Folded(evolve(base.state, event), base.row, base.changes)
        self._tasks.put(key, after)
        return Step(position, event, at, task_id, before, after, changes)

    def changes(self) -> Iterator[tuple[Table, list[Row], list[Key]]]:
        """Yield for each table that changes the rows to be stored and the keys to be deleted."""
        for rows in self.tables.values():
            puts, drops = rows.puts(), list(rows.drops())
            if puts or drops:
                yield rows.table, puts, drops


@cache
def takes(views: tuple[View, ...]) -> Callable[[type[Event]], tuple[Take, ...]]:
    """Return what tells for a class of events which folds want it, in the order of *views*."""

    found: dict[type[Event], tuple[Take, ...]] = {}

    def of(kind: type[Event]) -> tuple[Take, ...]:
        if kind not in found:
            found[kind] = tuple(view.take for view in views if view.wants(kind))
        return found[kind]

    return of


def _bound(fetch: Fetch, table: Table) -> Callable[[Key], Row | None]:
    return lambda key: fetch(table, key)


def _bound_all(fetch_all: FetchAll, table: Table) -> Callable[[], list[Row]]:
    return lambda: fetch_all(table)
