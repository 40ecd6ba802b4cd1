"""Offer the report views of a ledger: keep them, build them anew, verify them, and list tasks from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ledger.api import Ledger
from ledger.errors import InvalidOption
from ledger.statements import statements
from projections import own, verifying
from projections.filters import where, words_of
from projections.following import Keeper, Kept, Progress, forget, kept
from projections.report_file import report_path
from projections.report_store import DamagedReports, ReportUnit, reports_of
from projections.report_views import VIEWS
from projections.tasks import TaskRow
from projections.views import View

__all__ = ["DamagedReports", "Reports", "report_path"]
SQL = statements("projections", "sql/sqlite/tasks.sql")
_NEWEST = 2**63 - 1
_ANY = {"run_as": None, "actor": None, "label": None, "failed_only": False}


class Reports:
    """The report views of one ledger. All of it is derived: it may be deleted, it is built again.

    Several processes may catch up at once; an object belongs to one thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.file = reports_of(ledger.store)
        self.path = self.file.path
        reports = Keeper(ledger.store, self.file, VIEWS)
        self.keepers: tuple[Keeper, ...] = (reports, *own.keepers(ledger.store, reports, ledger.projections))

    @property
    def dialect(self) -> str:
        """The dialect of the database that the views are in."""
        return self.file.dialect

    def close(self) -> None:
        """Close the report file; the next use opens it again."""
        self.file.close()

    def names(self) -> list[str]:
        """Return the names of the views that may be built and verified."""
        return [name for keeper in self.keepers for name in keeper.views]

    def step(self, limit: int) -> bool:
        """Take all views forward by a batch of at most *limit* events; return whether nothing is left. As `catch_up`."""
        done = [keeper.step(limit, limit) for keeper in self.keepers]  # each of them has its turn
        return all(done)

    def catch_up(self) -> int:
        """Fold the events after the checkpoint into rows, a batch a transaction; return the checkpoint then.

        Raises:
            CorruptEvent: An event cannot be read; the views stay before it.

            StorageUnavailable: The ledger or the reports cannot be used now.
        """
        for keeper in self.keepers:
            keeper.catch_up()
        return self.checkpoint()

    def checkpoint(self) -> int:
        """Return the position up to which the views have folded, 0 where there are none; nothing is made or caught up.

        Raises:
            DamagedReports: The file cannot be read.
        """
        return self.keepers[0].checkpoint()

    def state(self) -> list[Kept]:
        """Return what is known of every view in the file, whether this code has its fold or not."""
        if not self.file.exists():
            return []
        with self.file.read() as unit:
            return kept(unit)

    def rebuild(self, names: Iterable[str] | None = None, progress: Progress | None = None) -> int:
        """Build views (all of them by default) from the first event beside the live ones, and put them in their place.

        Readers see the old rows until then. Whoever follows goes on with what a process that died has begun. Returns
        the count of events folded.

        Raises:
            InvalidOption: There is no such view.
        """
        wanted = self._views(names)
        try:
            self.catch_up()
        except DamagedReports:
            with self.ledger.store.read():
                self.file.delete()
            return self.catch_up()
        for keeper in self.keepers:
            mine = [view.name for view in wanted if keeper.views.get(view.name) is view]
            if mine:
                keeper.start(mine)
                keeper.catch_up(progress)
        return self.checkpoint()

    def verify(self, names: Iterable[str] | None = None) -> list[str]:
        """Return how the live rows differ from a fresh fold of the log, as sentences; empty when they are equal."""
        return [line for lines in self.verify_each(names).values() for line in lines]

    def verify_each(self, names: Iterable[str] | None = None) -> dict[str, list[str]]:
        """Return what `verify` does by the name of the view."""
        wanted = self._views(names)
        self.catch_up()
        found: dict[str, list[str]] = {}
        errors = {row.view: row.error for row in self.state() if row.error}
        for keeper in self.keepers:
            mine = [view for view in wanted if keeper.views.get(view.name) is view]
            for view in mine:
                if view.name in errors:
                    found[view.name] = [f"it stands still: {errors[view.name]}"]
            mine = [view for view in mine if view.name not in found]
            found |= verifying.differences(self.ledger.store, keeper, mine) if mine else {}
        return found

    def drop(self, name: str) -> None:
        """Delete the rows of a projection that no code declares any more.

        Raises:
            InvalidOption: There is none of this name, or it would be built again at once.
        """
        if name in self.names():
            raise InvalidOption(f"{name!r} is declared; it would be built again at once")
        with self.file.write() as unit:
            if not forget(unit, name):
                raise InvalidOption(f"the reports have no view {name!r}")

    def _views(self, names: Iterable[str] | None) -> list[View]:
        known = {name: view for keeper in self.keepers for name, view in keeper.views.items()}
        for name in names or ():
            if name not in known:
                raise InvalidOption(f"there is no view {name!r}; there are: {', '.join(known)}")
        return [known[name] for name in (known if names is None else names)]

    @contextmanager
    def read(self) -> Iterator[ReportUnit]:
        """Open the views only to read them, under the schema `report_v1` as reporting SQL has it."""
        with self.file.as_schema() as unit:
            yield unit

    def list_tasks(
        self,
        state: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        limit: int = 50,
        after: int | None = None,
        **having: Any,
    ) -> list[TaskRow]:
        """Return at most *limit* tasks, newest first; *after* is the `first_position` of the last one already seen.

        *having* are further fields of `projections.listing.Filter`, checked there.
        """
        statement = "list_state" if state is not None else "list_name" if name is not None else "list_all"
        parameters = {"state": state, "name": name, "queue": queue, "limit": limit, "after": after or _NEWEST}
        return self._having(statement, _ANY | parameters | having)

    def list_oldest(self, having: Mapping[str, Any], limit: int, after: int, upto: int) -> list[TaskRow]:
        """Return at most *limit* tasks with a `first_position` after *after* and up to *upto*, oldest first."""
        return self._having("list_oldest", {**having, "limit": limit, "after": after, "upto": upto})

    def _having(self, statement: str, parameters: Mapping[str, Any]) -> list[TaskRow]:
        """Return the rows that *parameters* ask for, of which ``where`` is text in the filter language."""
        asked = dict(parameters)
        with self.ledger.store.read() as snapshot:
            sql, values = where(asked.pop("where", ""), "tasks", snapshot.now, self.dialect).named()
        has_label = words_of(self.dialect)["label"].format(column="labels", condition="value = :label")
        text = SQL[statement].format(where=sql, has_label=has_label)
        with self.file.read() as unit:
            return [TaskRow._make(row) for row in unit.rows(text, asked | values)]

    def last_position(self) -> int:
        """Return the greatest `first_position`, 0 without tasks."""
        with self.file.read() as unit:
            return int(unit.rows(SQL["last_position"])[0][0])

    def counts_per_state(self) -> dict[str, int]:
        """Return how many tasks are in each state that has any."""
        with self.file.read() as unit:
            return {str(state): int(count) for state, count in unit.rows(SQL["counts_per_state"])}

    def slowest(self, n: int) -> list[TaskRow]:
        """Return the *n* tasks whose newest ended attempt ran longest."""
        return self._rows("slowest", (n,))

    def failures(self, n: int) -> list[TaskRow]:
        """Return the *n* tasks with the newest errors: failed, or to be retried at their `due_at`."""
        return self._rows("failures", (n,))

    def lost(self, n: int) -> list[TaskRow]:
        """Return *n* tasks that lost an attempt, last changed first."""
        return self._rows("lost", (n,))

    def _rows(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[TaskRow]:
        with self.file.read() as unit:
            return [TaskRow._make(row) for row in unit.rows(SQL[statement], parameters)]
