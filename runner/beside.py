"""Turn the crank beside other workers, where the store lets them: each claims rows that nobody else has locked.

Three transactions of different kinds work one queue. Catching the views up is one's own, taken by whichever worker gets
its lock. Claims and the outcomes of usual attempts are recorded by many at the same time: they decide from rows that they
have locked, bring these forward, and note the events as passed. Whatever else there is to do (limits, schedules,
the inbox, expiries, children, ends of runs, tasks that others have moved) is done by a `Cycle`, which has the ledger to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import Conflict
from ledger.events import Event
from ledger.ids import mint
from ledger.moments import has_come
from ledger.output import put
from ledger.schedule import is_run_id
from ledger.statements import statements
from ledger.store import Unit
from ledger.task import ENDED, decide
from projections.queue import SQL, VIEW, Row, catch_up
from runner.candidates import Takes
from runner.cycle import Begun, Cycle, Finished, Turn, told

SHARING_SQL = statements("projections", "sql/postgres/sharing.sql")
MOST_BEHIND = 10_000
"""Events between the view and the head that a claim is made beside; with more the views are caught up first."""


class Standing(NamedTuple):
    """What holds besides the rows, at the view's checkpoint; times in microseconds."""

    checkpoint: int
    behind: int
    governs: bool
    """Whether an event after the checkpoint may change what governs claims."""
    passed: int
    next_expiry_us: int | None
    next_slot_us: int | None
    running: int
    has_inbox: bool
    """Whether something waits to be taken into the log."""

    @property
    def unfolded(self) -> int:
        """Events that are not in the rows yet."""
        return self.behind - self.passed

    def is_usual(self, now_us: int) -> bool:
        """Return whether claims can be made by the rows alone: nothing that governs them is unknown, nothing else is due."""
        is_due = has_come(self.next_expiry_us, now_us) or has_come(self.next_slot_us, now_us)
        return not (is_due or self.governs or self.has_inbox or self.behind >= MOST_BEHIND)


class Beside:
    """The cycle of a worker that works the queue at the same time as others."""

    def __init__(
        self,
        ledger: Ledger,
        worker: str,
        queues: Sequence[str] = (),
        takes: Takes = "all",
        *,
        code_version: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._actor = "worker:" + worker
        self._cycle = Cycle(ledger, worker, queues, takes, code_version=code_version)

    @property
    def begun(self) -> Begun:
        """Since when the worker hears what all are told."""
        return self._cycle.begun

    @begun.setter
    def begun(self, begun: Begun) -> None:
        self._cycle.begun = begun

    def turn(self, finished: Sequence[Finished], free: int, *, is_idle: bool) -> Turn:
        """Run one cycle as `Cycle.turn` does, beside others if what there is to do allows it."""
        if self._cycle.is_prepared and all(map(_is_usual, finished)):
            self._catch_up()
            try:
                turn = self._turn(finished, free, is_idle=is_idle)
            except Conflict:  # somebody has moved a task meanwhile: alone it is decided again, from what is then
                turn = None
            if turn is not None:
                return turn
        return self._cycle.turn(finished, free, is_idle=is_idle)

    def _catch_up(self) -> None:
        """Catch the views up, a batch a transaction, unless somebody else does; what is in the inbox is left there.

        Its events would be new, so their commit would have to wait for the disk, and others for the keys it takes.
        """
        is_behind = True
        while is_behind:
            with self._ledger.store.catching_up() as unit:
                is_behind = unit is not None and not catch_up(unit, with_inbox=False)

    def _turn(self, finished: Sequence[Finished], free: int, *, is_idle: bool) -> Turn | None:
        """Record and claim in one transaction; None, and nothing done, if it takes the ledger to oneself.

        Raises:
            Conflict: The same, since a task is not as its row was.
        """
        turn = Turn()  # nobody waits for it, so it says nothing of how long it took
        with self._ledger.store.share() as unit:
            standing = _standing(unit)
            act = c.Act(id=mint(unit.now), at=unit.now, actor=self._actor)
            self._cycle.look_at_clock(unit, turn)
            may_begin = self._cycle.may_begin(unit, turn)
            if self._cycle.has_limits or not standing.is_usual(to_us(unit.now)):
                return None
            if free and is_idle and not finished and standing.unfolded:
                return None  # rather than be idle with work at hand
            events = self._record(unit, finished, act)
            turn.recorded = len(finished)
            if may_begin:
                events += self._cycle.plan(unit, free, act, turn, is_idle=is_idle, seen=standing.checkpoint)
            unit.append(events)  # once, in the order of streams: two that wait for each other's cannot be
            turn.next_expiry_us, turn.next_slot_us = standing.next_expiry_us, standing.next_slot_us
            turn.running = standing.running - len(finished) + len(turn.claims)
            unit.pass_own(VIEW)
        return turn

    def _record(self, unit: Unit, finished: Sequence[Finished], act: c.Act) -> list[Event]:
        """Bring the rows of ended attempts forward and return the events, to be appended."""
        if not finished:
            return []
        rows = [(one.claimed.position, one.claimed.state.version) for one in finished]
        if unit.run(SQL["delete_rows_at_versions"], (orjson.dumps(rows).decode(),)) != len(rows):
            raise Conflict("a task is not as this worker has claimed it")
        events: list[Event] = []
        living: list[Row] = []
        for one in finished:
            state, said = told(one.claimed.state, one.progress, act)
            if state.key_held or not isinstance(one.command, c.Succeed):
                after, caused = acts.settle(unit, state, one.command, act)
                if after.status not in ENDED:
                    living.append((one.claimed.position, *after))
            else:
                caused = list(decide(state, one.command, act))
            events += [*said, *caused]
        unit.insert_many(SQL["put_row"], living)
        put(unit, [(one.claimed.state, one.printed) for one in finished if one.printed])
        return events


def _standing(unit: Unit) -> Standing:
    checkpoint = unit.checkpoint(VIEW)
    [(behind, governs, passed, *rest)] = unit.rows(SHARING_SQL["standing"], (checkpoint, VIEW, MOST_BEHIND))
    return Standing(checkpoint, behind, governs, passed, *rest)


def _is_usual(one: Finished) -> bool:
    """Return whether an outcome concerns its own task alone, and can be recorded from what its worker knows."""
    return not one.children and not is_run_id(one.claimed.state.task_id) and isinstance(one.command, _USUAL)


_USUAL = c.Succeed, c.Fail, c.Delay, c.Interrupt


def cycle_of(
    ledger: Ledger, worker: str, queues: Sequence[str], takes: Takes, *, code_version: str | None = None
) -> Cycle | Beside:
    """Return the cycle for a worker: beside others where the store lets it; what takes lost tasks has it to itself."""
    kind = Beside if ledger.store.can_share and takes != "lost" else Cycle
    return kind(ledger, worker, queues, takes, code_version=code_version)
