"""Keep the projections that an application declares: their folds run like those of the report views, each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from ledger import projection as declared
from ledger.errors import InvalidOption, InvalidValue
from ledger.event import Event
from ledger.hidden import shown_event
from ledger.ids import TASK_PREFIX
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Store
from projections.following import SQL as META_SQL
from projections.following import Changes, Keeper, name_of
from projections.report_store import ReportStore, ReportUnit
from projections.report_views import TASKS, VIEWS
from projections.table_sql import TableSql, sql_of
from projections.tasks import TaskRow, stamp
from projections.views import Key, Rows, Table, View

SQL = statements("projections", "sql/sqlite/report/own.sql")
_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT"}
_ANYWHERE = 2**63 - 1
_TAKEN = {table.name for view in VIEWS for table in view.tables} | {view.name for view in VIEWS}


class FoldFailed(Exception):
    """The fold of a projection raised at *position*."""

    def __init__(self, said: str, position: int) -> None:
        super().__init__(f"{said} at position {position}")
        self.position = position


class OwnStep:
    """One event as a declared fold sees it (`ledger.projection.Step`)."""

    def __init__(self, position: int, event: Event, task: TaskRow | None) -> None:
        self.position = position
        self.event = event
        self.at = stamp(event.at)
        self._task = task

    @property
    def task(self) -> declared.TaskFacts | None:
        """See `ledger.projection.Step`."""
        row = self._task
        if row is None:
            return None
        args, labels = orjson.loads(row.args), tuple(orjson.loads(row.labels))
        return declared.TaskFacts(row.task_id, row.name, row.queue, args, row.run_as, row.actor, labels, row.parent)


class OwnRows:
    """One table as a declared fold sees it (`ledger.projection.Rows`): checks what is put there."""

    def __init__(self, rows: Rows, table: declared.Table) -> None:
        self._rows = rows
        self._table = table

    def get(self, *key: declared.Value) -> dict[str, Any] | None:
        """See `ledger.projection.Rows`."""
        row = self._rows.get(self._checked_key(key))
        return None if row is None else dict(zip(self._table.columns, row[len(key) :], strict=True))

    def put(self, *key: declared.Value, **columns: declared.Value) -> None:
        """See `ledger.projection.Rows`."""
        if unknown := columns.keys() - self._table.columns.keys():
            raise InvalidValue(f"table {self._table.name} has no column {sorted(unknown)[0]!r}")
        values = tuple(self._checked(name, kind, columns.get(name)) for name, kind in self._table.columns.items())
        checked = self._checked_key(key)
        self._rows.get(checked)  # what is stored is known to be, should it be dropped
        self._rows.put(checked, (*checked, *values))

    def drop(self, *key: declared.Value) -> None:
        """See `ledger.projection.Rows`."""
        self._rows.drop(self._checked_key(key))

    def _checked_key(self, key: tuple[declared.Value, ...]) -> Key:
        if len(key) != len(self._table.key) or None in key:
            raise InvalidValue(f"the key of table {self._table.name} is {', '.join(self._table.key)}; {key!r} is none")
        return tuple(
            self._checked(n, kind, value) for (n, kind), value in zip(self._table.key.items(), key, strict=True)
        )

    def _checked(self, name: str, kind: type, value: declared.Value) -> declared.Value:
        if value is None or type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise InvalidValue(f"column {name} of table {self._table.name} is {kind.__name__}; {value!r} is none")


def view_of(projection: declared.Projection) -> View:
    """Return a declared projection as a view.

    Raises:
        InvalidOption: A name is one of a report view.
    """
    for name in (projection.name, *(table.name for table in projection.tables)):
        if name in _TAKEN:
            raise InvalidOption(f"{name!r} is the name of a report view; give the projection and its tables others")
    tables = tuple(_table(table) for table in projection.tables)
    return View(projection.name, projection.version, tables, lambda step, rows: None)


def _table(table: declared.Table) -> Table:
    columns = [f'"{name}" {_TYPES[kind]} NOT NULL' for name, kind in table.key.items()]
    columns += [f'"{name}" {_TYPES[kind]}' for name, kind in table.columns.items()]
    key = ", ".join(f'"{name}"' for name in table.key)
    create = SQL["create"].replace("{columns}", ", ".join(columns)).replace("{key}", key)
    return Table(table.name, (*table.key, *table.columns), len(table.key), create)


class OwnKeeper(Keeper):
    """Keeps one declared projection, behind the report views: what it asks of a task is in `tasks` by then."""

    def __init__(self, store: Store, file: ReportStore, projection: declared.Projection, reports: Keeper) -> None:
        super().__init__(store, file, (view_of(projection),))
        self._projection = projection
        self._reports = reports
        self._before = _ANYWHERE

    def fold(
        self, unit: ReportUnit, snapshot: Snapshot, raws: Sequence[RawEvent], views: Sequence[View], generation: int
    ) -> tuple[Changes, str]:
        """See `Keeper.fold`.

        Raises:
            FoldFailed: The declared fold raised.
        """
        tables = {table.name: table for view in views for table in view.tables}
        rows = {name: Rows(table, _fetch(unit, table, generation), list) for name, table in tables.items()}
        own = {table.name: OwnRows(rows[table.name], table) for table in self._projection.tables}
        tasks = self._tasks(raws)
        at = ""
        for raw in raws:
            step = OwnStep(raw[0], shown_event(snapshot.decode(raw)), tasks.get(raw[1]))
            at = step.at
            try:
                self._projection.fold(step, own)
            except Exception as error:  # it is the user's: whatever it raises, it cannot go on here
                raise FoldFailed(f"its fold raised {type(error).__name__}: {error}", raw[0]) from error
        return [(one.table, one.puts(), list(one.drops())) for one in rows.values()], at

    def _tasks(self, raws: Sequence[RawEvent]) -> dict[str, TaskRow]:
        """Return by stream what the report views know of the tasks that *raws* are of."""
        ids = {raw[1].removeprefix(TASK_PREFIX) for raw in raws if raw[1].startswith(TASK_PREFIX)}
        with self._reports.file.read() as unit:
            found = unit.rows(sql_of(TASKS, "tasks", unit.dialect).rows_of, (orjson.dumps(sorted(ids)).decode(),))
        return {TASK_PREFIX + row[0]: TaskRow._make(row) for row in found}

    def upto(self, snapshot: Snapshot) -> int:
        """Return the position up to which the report views know the tasks."""
        return min(snapshot.head(), self._reports.checkpoint(), self._before)

    def step(self, limit: int = 2_000, build_limit: int = 2_000, progress: Any = None) -> bool:
        """See `Keeper.step`; where the fold raises the view stands still, and the table `meta` says why."""
        try:
            return super().step(limit, build_limit, progress)
        except FoldFailed as error:
            self._before = error.position - 1
            with suppress(FoldFailed):  # again if it is being built beside rows that were folded further
                super().step(limit, build_limit, progress)
            self._before = _ANYWHERE
            with self.file.write() as unit, self._store.read() as snapshot:
                unit.run(META_SQL["stop_meta"], (str(error), stamp(snapshot.now), self._projection.name))
            return True


def _fetch(unit: ReportUnit, table: Table, generation: int) -> Any:
    sql: TableSql = sql_of(table, name_of(table, generation) if generation else table.name, unit.dialect)
    return lambda key: next(iter(unit.rows(sql.row, key)), None)


def keepers(store: Store, reports: Keeper, projections: Mapping[str, declared.Projection]) -> list[OwnKeeper]:
    """Return the keepers of what an application declares."""
    return [OwnKeeper(store, reports.file, projection, reports) for projection in projections.values()]
