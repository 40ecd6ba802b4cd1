"""Fire what is due: the schedules' share of a cycle, inside its transaction; and notice jumps of the clock."""

from __future__ import annotations

from ledger import schedule_commands as sc
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.commands import Act
from ledger.errors import Conflict
from ledger.schedule import ScheduleState
from ledger.schedule_acts import carry_out
from ledger.store import Unit
from projections.schedule_fold import SQL

MOST_FIRED = 400
"""Schedules looked at in one cycle, so that a thousand that are due take three commits and none holds up the log."""
JUMP_SECONDS = 5.0
AWAY = "no worker ran"
DISABLED = "the runners were disabled"
OVERTAKEN = "another task holds the key of the schedule"


class ClockWatch:
    """Compare the clock of the store with the monotonic one, from look to look."""

    def __init__(self, ledger: Ledger) -> None:
        self._clock = ledger.clock
        self._last: tuple[int, float] | None = None
        self._ahead: tuple[int, int] | None = None
        self.jump_seconds = 0.0
        """How far the clock was set forward (or back, negative) between the last two looks; 0 for none."""

    def look(self, now_us: int) -> None:
        """Take in the present of a transaction."""
        monotonic = self._clock.monotonic()
        self.jump_seconds = 0.0
        if self._last is not None:
            jump = (now_us - self._last[0]) / 1e6 - (monotonic - self._last[1])
            if abs(jump) > JUMP_SECONDS:
                self.jump_seconds = round(jump, 1)
                self._ahead = (self._last[0], now_us) if jump > 0 else None
        self._last = now_us, monotonic

    def away(self, since_us: int) -> str:
        """Return why slots later than *since_us* were not fired at their time: the newest jump, if it passed over them."""
        if self._ahead is None or since_us >= self._ahead[1]:
            return AWAY
        return f"the clock was set forward by {(self._ahead[1] - self._ahead[0]) / 1e6:,.0f} s"


def fire_due(unit: Unit, act: Act, watch: ClockWatch, enabled_us: int | None = None) -> tuple[int, int | None]:
    """Fire what is due, at most so many schedules; return how many were looked at and when to look next.

    *enabled_us* is when the runners were last enabled: while they were not, no slot was fired.
    """
    now_us = to_us(act.at)
    next_us = _next(unit)
    if next_us is None or next_us > now_us:
        return 0, next_us
    rows = unit.rows(SQL["due_schedules"], (now_us, MOST_FIRED))
    for row in rows:
        state = ScheduleState._make(row[1:])
        since_us = max(state.decided_us, state.run_ended_us or 0)
        is_cause = enabled_us is not None and enabled_us > since_us
        _fire(unit, state, DISABLED if is_cause else watch.away(since_us), act)
    return len(rows), next_us


def _next(unit: Unit) -> int | None:
    found = unit.rows(SQL["next_schedule"])
    return int(found[0][0]) if found else None


def _fire(unit: Unit, state: ScheduleState, away: str, act: Act) -> None:
    try:
        carry_out(unit, state, sc.Fire(away=away), act)
    except Conflict:
        carry_out(unit, state, sc.Pass(cause=OVERTAKEN), act)
