"""Keep the queue view: fold events into one row per live task, caught up, rebuilt and verified by the same fold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import orjson

from ledger import inbox
from ledger.api import Ledger
from ledger.events import Event, TaskQueued, TaskRetried
from ledger.ids import TASK_PREFIX
from ledger.statements import statements
from ledger.store import HOT_VIEWS, RawEvent, Snapshot, Unit
from ledger.task import ENDED, NONE, TaskState, ends, evolve
from projections import control_fold, schedule_fold
from projections.control_fold import ControlFold
from projections.heartbeat import Heartbeat
from projections.schedule_fold import ScheduleFold

SQL = statements("projections", "sql/sqlite/queue.sql")
VIEW = HOT_VIEWS
"""The checkpoint; the schedules and controls views share it, since one reading of the log catches up all of them."""
BATCH = 2_000
REBUILD_BATCH = 5_000

Row = tuple[Any, ...]
"""Position of TaskQueued, then the fields of `TaskState`."""

_PREFIX_LENGTH = len(TASK_PREFIX)
_COLUMNS = ",".join(("position", *TaskState._fields))
_SHAPES = (_COLUMNS, ",".join(Heartbeat._fields), ",".join(schedule_fold.COLUMNS))


def prepare(unit: Unit) -> None:
    """Make the tables of the views beside the log where they are missing; those of an older shape are made anew.

    No view is migrated: it is folded from the log up to the checkpoint that all of them share. Living workers show
    their heartbeats again.
    """
    queue, workers, _ = unit.rows(SQL["shapes"])[0]
    if queue not in (None, _COLUMNS):
        unit.run(SQL["drop_queue"])
        queue = None
    if workers not in (None, _SHAPES[1]):
        unit.run(SQL["drop_workers"])
    _create(unit)
    unit.unpass(VIEW)
    checkpoint = unit.checkpoint(VIEW)
    if queue is None and checkpoint:
        unit.insert_many(SQL["put_row"], sorted(fold_log(unit, checkpoint).values()))
    schedule_fold.prepare(unit, checkpoint)
    control_fold.prepare(unit, checkpoint)


def _create(unit: Unit) -> None:
    indexes = ("index_free", "index_keyed", "index_keys", "index_lost", "index_used", "index_running", "index_expires")
    for name in ("create_queue", *indexes, "create_workers"):
        unit.run(SQL[name])


def is_prepared(snapshot: Snapshot) -> bool:
    """Return whether the tables of all views beside the log exist in the shape that this version knows."""
    return snapshot.rows(SQL["shapes"])[0] == _SHAPES and control_fold.is_prepared(snapshot)


def catch_up(unit: Unit, limit: int = BATCH, *, with_inbox: bool = True) -> bool:
    """Fold at most *limit* events after the checkpoint into rows; return whether that was all there were.

    What waits in the inbox is taken into the log before, if *with_inbox*.

    Raises:
        CorruptEvent: An event cannot be read; the view stays where it was.
    """
    is_emptied = not with_inbox or inbox.take_in(unit)
    raws, upto = unit.unfolded(VIEW, limit)
    if raws:
        folded = Fold(unit)
        folded.take(raws)
        folded.write()
    if upto > unit.checkpoint(VIEW):
        unit.move_checkpoint(VIEW, upto)
    # Rows are held from now on: looking on here could wait for somebody who waits for these.
    return is_emptied and len(raws) < limit


class Fold:
    """The net effect of a batch of events on the rows: rows are loaded together and written once.

    For *reading* alone it holds nobody's rows.
    """

    def __init__(self, unit: Unit, *, reading: bool = False) -> None:
        self._unit = unit
        self._rows_of_tasks = SQL["rows_of_tasks" if reading else "hold_rows_of_tasks"]
        self._schedules = ScheduleFold(unit)
        self._controls = ControlFold(unit)
        self.live: dict[str, tuple[int, TaskState] | None] = {}
        """Task id → position of TaskQueued and state after the batch, None when the task has ended."""
        self._rows: dict[str, tuple[int, TaskState]] = {}

    def take(self, raws: Sequence[RawEvent]) -> None:
        """Fold stored events in order."""
        self._load({raw[1][_PREFIX_LENGTH:] for raw in raws if raw[1].startswith(TASK_PREFIX) and raw[2] > 1})
        decode = self._unit.decode
        for raw in raws:
            # Every event is decoded, also those of other streams: damage is never passed over in silence.
            event = decode(raw)
            if raw[1].startswith(TASK_PREFIX):
                self._fold(raw[1][_PREFIX_LENGTH:], raw[0], event)
            elif control_fold.concerns(raw[1]):
                self._controls.take(raw[0], event)
            if schedule_fold.concerns(raw[1]):
                self._schedules.take(event)

    def _fold(self, task_id: str, position: int, event: Event) -> None:
        if isinstance(event, TaskQueued):
            self.live[task_id] = position, evolve(TaskState(task_id), event)
            return
        before = self.live[task_id] if task_id in self.live else self._rows.get(task_id)
        if before is None:
            # Its row left with its end, also where a runner has brought that forward: only a retry opens a next round.
            self.live[task_id] = self._replay(task_id, position, event) if isinstance(event, TaskRetried) else None
        elif event.originator_version > before[1].version:  # else a runner has brought the row forward already
            self.live[task_id] = None if ends(event) else (before[0], evolve(before[1], event))

    def _replay(self, task_id: str, position: int, event: Event) -> tuple[int, TaskState] | None:
        """Return an ended task as its stream up to *event* gives it: it may wait again."""
        state = TaskState(task_id)
        for _, past in self._unit.stream(TASK_PREFIX + task_id):
            if past.originator_version > event.originator_version:
                break
            state = evolve(state, past)
        if state.status in ENDED or state.status == NONE:
            return None
        return self._first_position(task_id, position), state

    def _load(self, task_ids: set[str]) -> None:
        """Load the rows of the tasks, where there are any that were not yet: nobody changes them from now on."""
        if not (asked := task_ids - self._rows.keys()):
            return
        for row in self._unit.rows(self._rows_of_tasks, (orjson.dumps(sorted(asked)).decode(),)):
            self._rows[row[1]] = row[0], TaskState._make(row[1:])

    @property
    def stored(self) -> dict[str, int]:
        """Task id → position of the rows that the batch changes."""
        return {task_id: self._rows[task_id][0] for task_id in self.live if task_id in self._rows}

    def _first_position(self, task_id: str, position: int) -> int:
        found = self._unit.rows(SQL["position_of_first"], (TASK_PREFIX + task_id,))
        return int(found[0][0]) if found else position

    def write(self) -> None:
        """Write the net effect."""
        stored = self.stored
        gone = [stored[task_id] for task_id, one in self.live.items() if one is None and task_id in stored]
        if gone:
            self._unit.run(SQL["delete_rows"], (orjson.dumps(gone).decode(),))
        rows = [(one[0], *one[1]) for one in self.live.values() if one is not None]
        if rows:
            self._unit.insert_many(SQL["put_row"], rows)
        self._schedules.write()
        self._controls.write()


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
        _create(unit)
        checkpoint = unit.checkpoint(VIEW)
        schedule_fold.prepare(unit, checkpoint)
        schedules = ScheduleFold(unit)  # shares the checkpoint
        schedule_fold.take_between(schedules, unit, checkpoint, unit.head())
        schedules.write()
        control_fold.make_anew(unit, unit.head())
        unit.insert_many(SQL["put_row"], sorted(rows.values()))
        unit.move_checkpoint(VIEW, unit.head())
        return unit.head()


def fold_log(snapshot: Snapshot, upto: int | None = None, passed: Sequence[tuple[int, int]] = ()) -> dict[str, Row]:
    """Return the live rows by task id that a fresh fold of the log (up to position *upto*, and *passed*) gives.

    The log is read newest first, so that a task's end is met before the events that led to it: those are decoded,
    since damage is never passed over, but not folded.
    """
    rows: dict[str, Row] = {}
    ended: set[str] = set()
    later: dict[str, list[Event]] = {}
    decode = snapshot.decode
    upto = snapshot.head() if upto is None else upto
    position = 1 + max([upto, *(last for _, last in passed)])
    while raws := snapshot.events_before(position, REBUILD_BATCH):
        for raw in raws:
            position, stream = raw[0], raw[1]
            if position > upto and not any(first <= position <= last for first, last in passed):
                continue
            event = decode(raw)
            if stream in ended:
                if raw[2] == 1:
                    ended.remove(stream)
            elif stream.startswith(TASK_PREFIX):
                events = later.setdefault(stream, [])
                events.append(event)
                if ends(event) and not any(isinstance(one, TaskRetried) for one in events):
                    del later[stream]
                    ended.add(stream)
                elif raw[2] == 1:
                    task_id = stream[_PREFIX_LENGTH:]
                    rows[task_id] = (position, *reduce(evolve, reversed(later.pop(stream)), TaskState(task_id)))
    return rows


def verify(ledger: Ledger) -> list[str]:
    """Return the differences between the live rows and a fresh fold, as sentences; empty when they are equal."""
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        checkpoint = snapshot.checkpoint(VIEW)
        folded = fold_log(snapshot, checkpoint, snapshot.passed(VIEW))
        live = {row[1]: row for row in snapshot.rows(SQL["all_rows"])}
    differences = [f"task {task_id}: the live row is missing" for task_id in folded.keys() - live.keys()]
    differences += [f"task {task_id}: a live row that the log does not give" for task_id in live.keys() - folded.keys()]
    names = ("position", *TaskState._fields)
    for task_id in live.keys() & folded.keys():
        for name, has, should in zip(names, live[task_id], folded[task_id], strict=True):
            if has != should:
                differences.append(f"task {task_id}: {name} is {has!r}, the fold gives {should!r}")
    return sorted(differences)
