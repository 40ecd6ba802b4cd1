"""Keep views at the head of the log: batches, views built beside the live ones and swapped with them, by anybody at once.

Checkpoints and rows change in one transaction on the reports, and the checkpoint is read inside it: whoever follows, each event is folded once. A view that is built anew has tables of its own, with the number of its generation
in their names, until it has the checkpoint of the live one; then it takes its name. Readers see one or the other.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import orjson

from ledger.errors import StorageUnavailable
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Store
from projections.report_fold import Batch
from projections.report_store import ReportStore, ReportUnit
from projections.table_sql import TableSql, sql_of
from projections.tasks import stamp
from projections.views import Key, Row, Table, View

SQL = statements("projections", "sql/sqlite/report/meta.sql")
BATCH = 2_000
BUILD_BATCH = 10_000
Changes = Iterable[tuple[Table, list[Row], list[Key]]]
Progress = Callable[[int, int], None]
"""Called with the position reached and the one to reach."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the collector of reference cycles: a batch makes a hundred thousand objects, and none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Kept(NamedTuple):
    """What is known of a view: a row of the table `meta`, whose SQL file says what the columns mean."""

    view: str
    version: int
    checkpoint: int
    head: int
    lag: int
    newest_at: str | None
    written_at: str
    built_at: str
    origin: str
    shape: str
    generation: int
    error: str | None = None


class Building(NamedTuple):
    """A view that is being built beside the live one."""

    view: str
    version: int
    checkpoint: int
    generation: int
    built_at: str


def name_of(table: Table, generation: int) -> str:
    """Return the name of a table while its view is being built."""
    return f"{table.name}__{generation}"


class Keeper:
    """Keeps a group of views that have one checkpoint; the first of them is the base that the others are folded with."""

    def __init__(self, store: Store, file: ReportStore, views: Sequence[View]) -> None:
        self._store = store
        self.file = file
        self.views = {view.name: view for view in views}
        self._base = views[0]

    @property
    def base(self) -> Sequence[View]:
        """What must be folded along with any of the views."""
        return (self._base,)

    def fold(
        self, unit: ReportUnit, snapshot: Snapshot, raws: Sequence[RawEvent], views: Sequence[View], generation: int
    ) -> tuple[Changes, str]:
        """Return what *raws* change in tables of *generation* (0: the live ones), and the time of the last of them."""

        def sql(table: Table) -> TableSql:
            return sql_of(table, name_of(table, generation) if generation else table.name, unit.dialect)

        batch = Batch(
            views,
            lambda table, key: next(iter(unit.rows(sql(table).row, key)), None),
            lambda table: unit.rows(sql(table).all_rows),
            lambda table, keys: unit.rows(sql(table).rows_of, (orjson.dumps(keys).decode(),)),
        )
        at = batch.take(raws, snapshot.decode)
        return list(batch.changes()), at

    @_no_collection()
    def step(self, limit: int = BATCH, build_limit: int = BUILD_BATCH, progress: Progress | None = None) -> bool:
        """Take one batch forward with the live views and one with those being built; return whether nothing is left.

        Raises:
            CorruptEvent: An event cannot be read; the views stay before it.

            StorageUnavailable: The ledger or the report file cannot be used now, or a newer version has written it.
        """
        with self._store.read():
            pass  # without a ledger there is no report file either
        with self.file.write() as unit, self._store.read() as snapshot:  # in this order: the head is never too old
            kept = self._prepare(unit, snapshot)
            is_done = self._live(unit, snapshot, kept, limit)
        with self.file.write() as unit, self._store.read() as snapshot:
            return self._build(unit, snapshot, build_limit, progress) and is_done

    def catch_up(self, progress: Progress | None = None) -> int:
        """Take `step` until nothing is left; return the checkpoint then."""
        while not self.step(BUILD_BATCH, progress=progress):
            pass
        return self.checkpoint()

    def checkpoint(self) -> int:
        """Return the position up to which the views have folded, 0 where there is nothing; nothing is made."""
        if not self.file.exists():
            return 0
        with self.file.read() as unit:
            found = _kept(unit).get(self._base.name) if _has_meta(unit) else None
        return found.checkpoint if found else 0

    def start(self, names: Iterable[str]) -> None:
        """Begin to build the views of these *names* anew; those that are being built already go on."""
        with self.file.write() as unit, self._store.read() as snapshot:
            self._prepare(unit, snapshot)
            under_way = {row.view for row in self._building(unit)}
            self._start(unit, snapshot, [self.views[name] for name in names if name not in under_way])

    def _prepare(self, unit: ReportUnit, snapshot: Snapshot) -> dict[str, Kept]:
        """Make what is missing; begin to build what is of another version; return what is known of the live views."""
        if not _has_meta(unit):
            _wipe(unit)
        kept = _kept(unit)
        origin, head = origin_of(snapshot), snapshot.head()
        if any(row.checkpoint > head or (row.checkpoint and row.origin != origin) for row in kept.values()):
            _wipe(unit)  # another log, or this one before a backup of it was put in its place
            kept = {}
        newer = [
            row.view for row in kept.values() if row.view in self.views and row.version > self.views[row.view].version
        ]
        if newer:
            raise StorageUnavailable(f"{self.file.path}: a newer version keeps {', '.join(newer)}; use that version")
        if not kept.keys() & self.views.keys():
            self._create(unit, snapshot, origin)
            return _kept(unit)
        stale = self._stale(kept)
        if stale:
            building = self._building(unit)
            if any(row.version != self.views[row.view].version for row in building):
                self._abandon(unit, building)
            under_way = {row.view for row in self._building(unit)}
            self._start(unit, snapshot, [view for view in stale if view.name not in under_way])
        return kept

    def _stale(self, kept: dict[str, Kept]) -> list[View]:
        """Return the views that are missing or of another version or shape; all of them if the base is."""

        def is_stale(view: View) -> bool:
            row = kept.get(view.name)
            return row is None or row.version != view.version or row.shape != view.shape

        views = list(self.views.values())
        return views if is_stale(self._base) else [view for view in views if is_stale(view)]

    def _create(self, unit: ReportUnit, snapshot: Snapshot, origin: str) -> None:
        now = stamp(snapshot.now)
        for view in self.views.values():
            for table in view.tables:
                make(unit, table, table.name)
                _index(unit, table, table.name, table.name)
            row = Kept(view.name, view.version, 0, 0, 0, None, now, now, origin, view.shape, 1)
            unit.run(SQL["put_meta"], row)

    def _live(self, unit: ReportUnit, snapshot: Snapshot, kept: dict[str, Kept], limit: int) -> bool:
        stale = {view.name for view in self._stale(kept)}
        if self._base.name in stale:
            return True
        checkpoint, head = kept[self._base.name].checkpoint, self.upto(snapshot)
        raws = [raw for raw in snapshot.events_after(checkpoint, limit) if raw[0] <= head]
        if not raws:
            return True
        views = [view for view in self.views.values() if view.name not in stale]
        changes, at = self.fold(unit, snapshot, raws, views, 0)
        write(unit, changes, 0)
        position, written_at = raws[-1][0], stamp(snapshot.now)
        moved = (position, snapshot.head(), snapshot.head() - position, at, written_at)
        unit.run_many(SQL["move_meta"], [(*moved, view.name) for view in views])
        if checkpoint == 0:  # an empty log had no first event
            unit.run_many(SQL["set_origin"], [(origin_of(snapshot), view.name) for view in views])
        return position == head

    def upto(self, snapshot: Snapshot) -> int:
        """Return the position that the views may be folded up to."""
        return snapshot.head()

    def _building(self, unit: ReportUnit) -> list[Building]:
        return [row for found in unit.rows(SQL["all_building"]) if (row := Building(*found)).view in self.views]

    def _start(self, unit: ReportUnit, snapshot: Snapshot, views: Sequence[View]) -> None:
        building = self._building(unit)
        if not views:
            return
        if building:  # one generation at a time: what was begun is begun again together with these
            views = [*{view.name: view for view in (*views, *(self.views[row.view] for row in building))}.values()]
            self._abandon(unit, building)
        generations = [row.generation for row in _kept(unit).values()]
        generations += [row[3] for row in unit.rows(SQL["all_building"])]
        generation = 1 + max(generations, default=0)
        for view in {view.name: view for view in (self._base, *views)}.values():
            for table in view.tables:
                make(unit, table, name_of(table, generation))
        now = stamp(snapshot.now)
        unit.run_many(SQL["put_building"], [(view.name, view.version, 0, generation, now) for view in views])

    def _abandon(self, unit: ReportUnit, building: Sequence[Building]) -> None:
        tables = unit.tables()
        for generation in {row.generation for row in building}:
            for name in tables:
                if name.endswith(f"__{generation}"):
                    unit.run(SQL["drop_table"].format(table=name))
        unit.run_many(SQL["delete_building"], [(row.view,) for row in building])

    def _build(self, unit: ReportUnit, snapshot: Snapshot, limit: int, progress: Progress | None) -> bool:
        building = self._building(unit)
        if not building:
            return True
        kept = _kept(unit)
        is_base_stale = any(view is self._base for view in self._stale(kept))
        upto = self.upto(snapshot) if is_base_stale else kept[self._base.name].checkpoint
        checkpoint, generation = building[0].checkpoint, building[0].generation
        raws = [raw for raw in snapshot.events_after(checkpoint, limit) if raw[0] <= upto]
        at: str | None = None
        if raws:
            named = {self._base.name: self._base, **{row.view: self.views[row.view] for row in building}}
            changes, at = self.fold(unit, snapshot, raws, list(named.values()), generation)
            write(unit, changes, generation)
            checkpoint = raws[-1][0]
            unit.run_many(SQL["move_building"], [(checkpoint, row.view) for row in building])
        if progress is not None:
            progress(checkpoint, upto)
        if checkpoint < upto:
            return False
        self._swap(unit, snapshot, building, kept, checkpoint, at)
        return not is_base_stale

    def _swap(
        self,
        unit: ReportUnit,
        snapshot: Snapshot,
        building: Sequence[Building],
        kept: dict[str, Kept],
        checkpoint: int,
        at: str | None,
    ) -> None:
        now, head = stamp(snapshot.now), snapshot.head()
        for row in building:
            view = self.views[row.view]
            for table in view.tables:
                new = name_of(table, row.generation)
                _index(unit, table, new, new)
                unit.put_in_place(new, table.name)
            newest_at = at or (kept[row.view].newest_at if row.view in kept else None)
            new_row = Kept(
                row.view, row.version, checkpoint, head, head - checkpoint, newest_at, now, row.built_at,
                origin_of(snapshot), view.shape, row.generation,
            )  # fmt: skip
            unit.run(SQL["put_meta"], new_row)
        self._abandon(unit, building)  # what is left of its tables: the base, if it was not asked for


def origin_of(snapshot: Snapshot) -> str:
    """Return what tells this log from another one at the same path: the stream of its first event."""
    first = snapshot.events_after(0, 1)
    return first[0][1] if first else ""


def _has_meta(unit: ReportUnit) -> bool:
    return unit.columns_of("meta") == Kept._fields


def _kept(unit: ReportUnit) -> dict[str, Kept]:
    return {row[0]: Kept(*row) for row in unit.rows(SQL["all_meta"])}


def kept(unit: ReportUnit) -> list[Kept]:
    """Return what is known of every view in the reports, by name; of those of another version nothing."""
    return sorted(_kept(unit).values()) if _has_meta(unit) else []


def forget(unit: ReportUnit, name: str) -> bool:
    """Delete a view with its tables; return whether there was one."""
    row = _kept(unit).get(name) if _has_meta(unit) else None
    for table in row.shape.split(";") if row is not None else ():
        unit.run(SQL["drop_table"].format(table=table.partition("(")[0]))
    unit.run(SQL["delete_meta"], (name,))
    unit.run(SQL["delete_building"], (name,))
    return row is not None


def _wipe(unit: ReportUnit) -> None:
    for name in unit.tables():
        unit.run(SQL["drop_table"].format(table=name))
    unit.make(SQL["create_meta"])
    unit.make(SQL["create_building"])


def make(unit: ReportUnit, table: Table, name: str) -> None:
    """Make an empty table under *name*, without indexes; one of the same name goes if it is ours."""
    if name in unit.tables():
        unit.run(SQL["drop_table"].format(table=name))
    unit.make(table.create.format(table=name))


def _index(unit: ReportUnit, table: Table, name: str, index: str) -> None:
    for statement in table.indexes:
        unit.run(statement.format(table=name, index=index))


def write(unit: ReportUnit, changes: Changes, generation: int = 0) -> None:
    """Write the net effect of a batch to the tables of *generation* (0: the live ones)."""
    for table, puts, drops in changes:
        sql = sql_of(table, name_of(table, generation) if generation else table.name, unit.dialect)
        if drops:
            unit.run_many(sql.delete_row, drops)
        if puts:
            unit.run_many(sql.put_row, puts)
