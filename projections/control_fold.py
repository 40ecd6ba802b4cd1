"""Fold events into the rows of the controls view: its part of the catch-up that it shares with the queue view."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger import control_events as ce
from ledger.clock import to_us
from ledger.control_rules import CACHES, ENABLED, LIMITS, QUEUE_PREFIX, RUNNERS, STOP, LimitState, evolve_limit
from ledger.control_rules import Mark as Mark  # noqa: PLC0414 (a row of this view)
from ledger.events import Event
from ledger.limits import LIMIT_PREFIX
from ledger.schedule import LEDGER_STREAM
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Unit

SQL = statements("projections", "sql/sqlite/controls.sql")
_STREAMS = (QUEUE_PREFIX, LIMIT_PREFIX, LEDGER_STREAM)


COLUMNS = (",".join(Mark._fields), ",".join(LimitState._fields))


class ControlFold:
    """The net effect of events on the rows of the view."""

    def __init__(self, unit: Snapshot, *, fresh: bool = False) -> None:
        self._unit = unit
        self._fresh = fresh
        self.marks: dict[str, Mark | None] = {}
        self.limits: dict[str, LimitState] = {}

    def take(self, position: int, event: Event) -> None:
        """Fold one event; those that govern nothing change nothing."""
        match event:
            case ce.QueuePaused():
                self._mark(event.originator_id, position, event)
            case ce.QueueResumed():
                self.marks[event.originator_id] = None
            case ce.LimitChanged():
                scope = event.originator_id.removeprefix(LIMIT_PREFIX)
                self.limits[scope] = evolve_limit(self._limit(scope), event)
                self._mark(LIMITS, position, event)
            case ce.RunnersDisabled():
                self._mark(RUNNERS, position, event)
            case ce.RunnersEnabled():
                self.marks[RUNNERS] = None
                self._mark(ENABLED, position, event)
            case ce.StopRequested():
                self._mark(STOP, position, event)
            case ce.CachesCleared():
                self._mark(CACHES, position, event)

    def _mark(self, mark: str, position: int, event: Event) -> None:
        self.marks[mark] = Mark(mark, position, to_us(event.at), event.actor, event.reason)

    def _limit(self, scope: str) -> LimitState:
        if scope in self.limits:
            return self.limits[scope]
        found = [] if self._fresh else self._unit.rows(SQL["limit_of_scope"], (scope,))
        return LimitState._make(found[0]) if found else LimitState(scope)

    def rows(self) -> tuple[dict[str, Mark], dict[str, LimitState]]:
        """Return the marks that are there, and the limits of which some source says something."""
        marks = {name: mark for name, mark in self.marks.items() if mark is not None}
        return marks, {scope: state for scope, state in self.limits.items() if state.in_force is not None}

    def write(self) -> None:
        """Write the net effect."""
        if not self.marks and not self.limits:
            return
        unit: Any = self._unit
        marks, limits = self.rows()
        for name in self.marks.keys() - marks.keys():
            unit.run(SQL["delete_mark"], (name,))
        for scope in self.limits.keys() - limits.keys():
            unit.run(SQL["delete_limit"], (scope,))
        unit.insert_many(SQL["put_mark"], list(marks.values()))
        unit.insert_many(SQL["put_limit"], list(limits.values()))


def concerns(stream: str) -> bool:
    """Return whether events of this stream can change the view."""
    return stream.startswith(_STREAMS)


def fold_log(snapshot: Snapshot, upto: int) -> ControlFold:
    """Return what a fresh fold of the log up to position *upto* gives; only the streams that count are read."""
    fold = ControlFold(snapshot, fresh=True)
    for raw in sorted(raw for prefix in _STREAMS for raw in _events(snapshot, prefix, upto)):
        fold.take(raw[0], snapshot.decode(raw))
    return fold


def _events(snapshot: Snapshot, prefix: str, upto: int) -> list[RawEvent]:
    beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    rows: Iterable[Any] = snapshot.rows(SQL["events_of_streams"], (prefix, beyond, upto))
    return list(rows)


def is_prepared(snapshot: Snapshot) -> bool:
    """Return whether the view's tables exist in the shape that this version knows."""
    return snapshot.rows(SQL["columns"])[0] == COLUMNS


def prepare(unit: Unit, checkpoint: int) -> None:
    """Make the view's tables where they are missing or of an older shape, filled up to the *checkpoint* it shares."""
    if not is_prepared(unit):
        make_anew(unit, checkpoint)


def make_anew(unit: Unit, checkpoint: int) -> None:
    """Drop the view's tables and fold the log up to *checkpoint* into new ones."""
    for name in ("drop_marks", "drop_limits", "create_marks", "create_limits"):
        unit.run(SQL[name])
    if checkpoint:
        fold_log(unit, checkpoint).write()
