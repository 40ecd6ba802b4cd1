"""Find schedules that have not succeeded for too many of their slots, and raise a notice of each, once."""

from __future__ import annotations

from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import InvalidSchedule
from ledger.notices import of_schedule
from ledger.schedule import LEDGER_STREAM, ScheduleState
from ledger.slots import overdue_us
from ledger.store import Snapshot, Unit
from projections.queue import catch_up, is_prepared
from projections.schedule_fold import SQL

LOOK_SECONDS = 60.0
INTERVALS = 3
_SHORTEST_US = 60_000_000
"""Slots are at least a minute apart."""


class OverdueWatch:
    """One process's look at the schedules, every minute; what it reckoned of a schedule it keeps until that changes."""

    def __init__(self, ledger: Ledger, actor: str, intervals: int = INTERVALS) -> None:
        self._ledger = ledger
        self._actor = actor
        self._intervals = intervals
        self._due: dict[str, tuple[tuple[object, ...], int | None]] = {}
        self._next_look = ledger.clock.monotonic() + LOOK_SECONDS
        """Schedules that became overdue while no worker ran are given a minute to run first."""

    def look_if_due(self) -> list[str]:
        """Look, if the last look is a minute ago; see `look`."""
        now = self._ledger.clock.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        return self.look()

    def look(self) -> list[str]:
        """Raise a notice of each schedule that is overdue and of which none says so yet; return their names.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        if not self._intervals:
            return []
        with self._ledger.store.read() as snapshot:
            if not is_prepared(snapshot) or not self._overdue(snapshot):
                return []
        with self._ledger.store.write() as unit:
            if not catch_up(unit):
                return []  # what it has not folded yet may be a success
            return self._raise(unit)

    def _raise(self, unit: Unit) -> list[str]:
        act = self._ledger.act(unit, self._actor)
        found = self._overdue(unit)
        for state in found:
            unit.append([of_schedule(state, self._intervals, lambda: unit.last(LEDGER_STREAM), act)])
        while not catch_up(unit):
            pass
        return [state.name for state in found]

    def _overdue(self, snapshot: Snapshot) -> list[ScheduleState]:
        now_us = to_us(snapshot.now)
        states = (ScheduleState._make(row[1:]) for row in snapshot.rows(SQL["unnoticed"]))
        return [state for state in states if self._is_overdue(state, now_us)]

    def _is_overdue(self, state: ScheduleState, now_us: int) -> bool:
        if max(state.success_us or 0, state.counted_us) + self._intervals * _SHORTEST_US > now_us:
            return False
        key = (state.success_us, state.counted_us, state.resolved, state.timezone, state.is_active)
        known = self._due.get(state.name)
        if known is None or known[0] != key:
            try:
                known = key, overdue_us(state, self._intervals)
            except InvalidSchedule:  # `schedule list` says so
                known = key, None
            self._due[state.name] = known
        return known[1] is not None and known[1] < now_us
