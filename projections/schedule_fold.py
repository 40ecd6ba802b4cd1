"""Fold events into the rows of the schedules view: its part of the catch-up that it shares with the queue view."""

from __future__ import annotations

from typing import Any

from ledger import schedule_events as s
from ledger.clock import to_us
from ledger.errors import InvalidSchedule
from ledger.events import Event
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import NoticeRaised
from ledger.schedule import LEDGER_STREAM, SCHEDULE_PREFIX, ScheduleState, advance, is_run_id
from ledger.slots import next_us
from ledger.statements import statements
from ledger.store import Snapshot, Unit

SQL = statements("projections", "sql/sqlite/schedules.sql")
BATCH = 20_000

COLUMNS = ("next_us", *ScheduleState._fields)
Row = tuple[Any, ...]
"""When to look at it next, then the fields of `ScheduleState`."""

_PREFIX_LENGTH = len(TASK_PREFIX)


class ScheduleFold:
    """The net effect of events on the rows: rows are loaded when first touched and written once."""

    def __init__(self, unit: Snapshot, *, fresh: bool = False) -> None:
        self._unit = unit
        self._fresh = fresh
        self.states: dict[str, ScheduleState] = {}
        self._of_run: dict[str, str] = {}
        self.disabled: dict[str, int] | None = {} if fresh else None
        """Disabled components and since when; None until somebody asks."""

    def take(self, event: Event) -> None:
        """Fold one event of whatever stream; those that concern no schedule change nothing."""
        stream = event.originator_id
        if stream.startswith(TASK_PREFIX):
            task_id = stream[_PREFIX_LENGTH:]
            if is_run_id(task_id) and (state := self._by_run(task_id)) is not None:
                self._put(advance(state, event, ()))
        elif stream.startswith(SCHEDULE_PREFIX):
            name = stream.removeprefix(SCHEDULE_PREFIX)
            state = self._by_name(name) or ScheduleState(name)
            self._put(advance(state, event, self._disabled()))
        elif stream == LEDGER_STREAM and isinstance(event, s.ComponentDisabled | s.ComponentEnabled):
            self._component(event)
        elif stream == LEDGER_STREAM and isinstance(event, NoticeRaised):
            self._noticed(event)

    def _component(self, event: s.ComponentDisabled | s.ComponentEnabled) -> None:
        if isinstance(event, s.ComponentDisabled):
            self._disabled()[event.component] = to_us(event.at)
        else:
            self._disabled().pop(event.component, None)
        if not self._fresh:
            for row in self._unit.rows(SQL["rows_of_component"], (event.component,)):
                self._remember(row)
        for state in list(self.states.values()):
            if state.component == event.component:
                self._put(advance(state, event, ()))

    def _noticed(self, event: NoticeRaised) -> None:
        if event.about.startswith(SCHEDULE_PREFIX) and (
            state := self._by_name(event.about.removeprefix(SCHEDULE_PREFIX))
        ):
            self._put(advance(state, event, ()))

    def _disabled(self) -> dict[str, int]:
        if self.disabled is None:
            self.disabled = dict(self._unit.rows(SQL["all_components"]))
        return self.disabled

    def _by_name(self, name: str) -> ScheduleState | None:
        if name not in self.states and not self._fresh:
            for row in self._unit.rows(SQL["row_of_name"], (name,)):
                self._remember(row)
        return self.states.get(name)

    def _by_run(self, task_id: str) -> ScheduleState | None:
        if task_id not in self._of_run and not self._fresh:
            for row in self._unit.rows(SQL["row_of_run"], (task_id,)):
                self._remember(row)
        name = self._of_run.get(task_id)
        state = None if name is None else self.states[name]
        return state if state is not None and state.run_id == task_id else None

    def _remember(self, row: Row) -> None:
        state = ScheduleState._make(row[1:])
        if state.name not in self.states:
            self._put(state)

    def _put(self, state: ScheduleState) -> None:
        self.states[state.name] = state
        if state.run_id is not None:
            self._of_run[state.run_id] = state.name

    def rows(self) -> list[Row]:
        """Return the rows as they are to be stored."""
        return [(look_at(state), *state) for state in self.states.values()]

    def write(self) -> None:
        """Write the net effect."""
        unit: Any = self._unit
        if self.states:
            unit.insert_many(SQL["put_schedule"], self.rows())
        if self.disabled is not None:
            stored = dict(unit.rows(SQL["all_components"]))
            for component in stored.keys() - self.disabled.keys():
                unit.run(SQL["delete_component"], (component,))
            for component, since_us in self.disabled.items() - stored.items():
                unit.run(SQL["put_component"], (component, since_us))


def look_at(state: ScheduleState) -> int | None:
    """Return when to look at a schedule next; None too if its time zone is unknown on this machine."""
    try:
        return next_us(state)
    except InvalidSchedule:
        return None


def fold_log(snapshot: Snapshot, upto: int) -> ScheduleFold:
    """Return what a fresh fold of the log up to position *upto* gives."""
    fold = ScheduleFold(snapshot, fresh=True)
    take_between(fold, snapshot, 0, upto)
    return fold


def take_between(fold: ScheduleFold, snapshot: Snapshot, after: int, upto: int) -> None:
    """Fold the events after position *after* up to *upto*."""
    while after < upto and (raws := snapshot.events_after(after, BATCH)):
        for raw in raws:
            if raw[0] <= upto and concerns(raw[1]):
                fold.take(snapshot.decode(raw))
        after = raws[-1][0]


def concerns(stream: str) -> bool:
    """Return whether events of this stream can change a schedule."""
    if stream.startswith(TASK_PREFIX):
        return is_run_id(stream[_PREFIX_LENGTH:])
    return stream.startswith(SCHEDULE_PREFIX) or stream == LEDGER_STREAM


def prepare(unit: Unit, checkpoint: int) -> None:
    """Make the view's tables where they are missing or of an older shape, filled up to the *checkpoint* it shares."""
    found = tuple(row[0] for row in unit.rows(SQL["columns"]))
    if found == COLUMNS:
        return
    if found:
        unit.run(SQL["drop_schedules"])
        unit.run(SQL["drop_components"])
    for name in ("create_schedules", "index_next", "index_run", "create_components"):
        unit.run(SQL[name])
    if checkpoint:
        fold_log(unit, checkpoint).write()
