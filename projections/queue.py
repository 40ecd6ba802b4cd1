"""Keep the queue view: fold events into one row per live task, caught up, rebuilt and verified by the same fold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ledger.api import Ledger
from ledger.events import Event, TaskQueued
from ledger.ids import TASK_PREFIX
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Unit
from ledger.task import ENDED, TaskState, evolve

SQL = statements("projections", "sql/sqlite/queue.sql")
VIEW = "queue.v1"
BATCH = 2_000
REBUILD_BATCH = 20_000

Row = tuple[Any, ...]
"""Position of TaskQueued, then the fields of `TaskState`."""

_PREFIX_LENGTH = len(TASK_PREFIX)


def prepare(unit: Unit) -> None:
    """Make the view's tables where they are missing."""
    for name in ("create_queue", "index_waiting", "index_running", "create_workers"):
        unit.run(SQL[name])


def is_prepared(snapshot: Snapshot) -> bool:
    """Return whether the view's tables exist."""
    return bool(snapshot.rows(SQL["has_queue"]))


def catch_up(unit: Unit, limit: int = BATCH) -> bool:
    """Fold at most *limit* events after the checkpoint into rows; return whether the view is at the head then.

    Raises:
        CorruptEvent: An event cannot be read; the view stays where it was.
    """
    checkpoint = unit.checkpoint(VIEW)
    if checkpoint == unit.head():
        return True
    raws = unit.events_after(checkpoint, limit)
    folded = Fold(unit)
    folded.take(raws)
    folded.write()
    unit.move_checkpoint(VIEW, raws[-1][0])
    return bool(raws[-1][0] == unit.head())


class Fold:
    """The net effect of a batch of events on the rows: rows are loaded when first touched and written once."""

    def __init__(self, unit: Snapshot, *, fresh: bool = False) -> None:
        self._unit = unit
        self._fresh = fresh
        self.rows: dict[str, Row | None] = {}
        """Task id → row after the batch, None when the task has ended."""
        self.gone: list[int] = []
        """Positions of rows that stood before the batch and must go."""
        self._stored: dict[str, int] = {}

    def take(self, raws: Iterable[RawEvent]) -> None:
        """Fold stored events in order."""
        decode = self._unit.decode
        for raw in raws:
            # Every event is decoded, also those of other streams: damage is never passed over in silence.
            event = decode(raw)
            if raw[1].startswith(TASK_PREFIX):
                self._fold(raw[1][_PREFIX_LENGTH:], raw[0], event)

    def _fold(self, task_id: str, position: int, event: Event) -> None:
        row = self._load(task_id, event)
        if row is None:
            state = TaskState(task_id)
            first = position if isinstance(event, TaskQueued) else self._first_position(task_id, position)
        else:
            state, first = TaskState._make(row[1:]), row[0]
            if event.originator_version <= state.version:
                return  # a runner has brought this row forward already
        after = self._evolve_ended(state, event) if row is None else evolve(state, event)
        self.rows[task_id] = None if after.status in ENDED or after.status == "none" else (first, *after)

    def _evolve_ended(self, state: TaskState, event: Event) -> TaskState:
        """Return the state after an event of a task without a row: new, or ended before (then fold its stream)."""
        if isinstance(event, TaskQueued):
            return evolve(state, event)
        for _, past in self._unit.stream(TASK_PREFIX + state.task_id):
            if past.originator_version > event.originator_version:
                break
            state = evolve(state, past)
        return state

    def _load(self, task_id: str, event: Event) -> Row | None:
        if task_id in self.rows:
            return self.rows[task_id]
        if self._fresh or isinstance(event, TaskQueued):
            return None
        found = self._unit.rows(SQL["row_of_task"], (task_id,))
        if not found:
            return None
        self._stored[task_id] = found[0][0]
        return found[0]

    def _first_position(self, task_id: str, position: int) -> int:
        found = self._unit.rows(SQL["position_of_first"], (TASK_PREFIX + task_id,))
        return int(found[0][0]) if found else position

    def write(self) -> None:
        """Write the net effect."""
        unit: Any = self._unit
        gone = [self._stored[task_id] for task_id, row in self.rows.items() if row is None and task_id in self._stored]
        if gone:
            unit.run(SQL["delete_rows"], (orjson.dumps(gone).decode(),))
        rows = [row for row in self.rows.values() if row is not None]
        if rows:
            unit.insert_many(SQL["put_row"], rows)


def catch_up_all(ledger: Ledger) -> int:
    """Bring the view to the head, a batch a transaction; return its checkpoint."""
    while True:
        with ledger.store.write() as unit:
            if not is_prepared(unit):
                prepare(unit)
            if catch_up(unit):
                return unit.checkpoint(VIEW)


def rebuild(ledger: Ledger) -> int:
    """Drop the view's rows and fold the whole log again in one transaction; return the count of events folded."""
    with ledger.store.write() as unit:
        rows = fold_log(unit)
        unit.run(SQL["drop_queue"])
        prepare(unit)
        unit.insert_many(SQL["put_row"], list(rows.values()))
        unit.move_checkpoint(VIEW, unit.head())
        return unit.head()


def fold_log(snapshot: Snapshot, upto: int | None = None) -> dict[str, Row]:
    """Return the live rows by task id that a fresh fold of the log (up to position *upto*) gives."""
    live: dict[str, Row] = {}
    position = 0
    while raws := snapshot.events_after(position, REBUILD_BATCH):
        position = raws[-1][0]
        if upto is not None:
            raws = [raw for raw in raws if raw[0] <= upto]
        fold = Fold(snapshot, fresh=True)
        fold.rows.update(live)
        fold.take(raws)
        live = {task_id: row for task_id, row in fold.rows.items() if row is not None}
        if upto is not None and position >= upto:
            break
    return live


def verify(ledger: Ledger) -> list[str]:
    """Return the differences between the live rows and a fresh fold, as sentences; empty when they are equal."""
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        checkpoint = snapshot.checkpoint(VIEW)
        folded = fold_log(snapshot, checkpoint)
        live = {row[1]: row for row in snapshot.rows(SQL["all_rows"])}
    differences = [f"task {task_id}: the live row is missing" for task_id in folded.keys() - live.keys()]
    differences += [f"task {task_id}: a live row that the log does not give" for task_id in live.keys() - folded.keys()]
    names = ("position", *TaskState._fields)
    for task_id in live.keys() & folded.keys():
        for name, has, should in zip(names, live[task_id], folded[task_id], strict=True):
            if has != should:
                differences.append(f"task {task_id}: {name} is {has!r}, the fold gives {should!r}")
    return sorted(differences)
