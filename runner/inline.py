"""Run the queue here, in the caller's thread, to the end: for tests and scripts; no threads, no processes, no sleeping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from ledger import commands as c
from ledger import deliveries
from ledger.api import Ledger
from ledger.clock import from_us
from ledger.ids import mint
from projections.queue import SQL, is_prepared, prepare
from runner.cycle import Begun, Cycle, Finished, Turn
from runner.execute import execute
from runner.heartbeat import show
from runner.logs import Log
from runner.notices import deliver, hooks_of
from runner.overdue import OverdueWatch


def run_inline(
    ledger: Ledger,
    *,
    advance: Callable[[datetime], None] | None = None,
    max_tasks: int = 10_000,
    until: datetime | None = None,
    through_slots: bool = False,
) -> int:
    """Register the schedules and limits that the code declares, run every due task, one at a time, until none is due.

    *advance* is called with the next due time when only later ones are left (a manual clock's `advance_to`), and
    running goes on, at most *until* then; without it they stay. Only *through_slots* moves on to a schedule's next
    slot while no task waits. Nothing is begun while the runners are disabled, nor after all runs are told to stop; a
    call for new processes is not heard here. Returns how many attempts ran.
    """
    if ledger.schedules.declarations:
        ledger.schedules.register()
    if ledger.controls.declared():
        ledger.controls.register()
    hooks = hooks_of(ledger)
    with _shown(ledger, [hook.name for hook in hooks]) as worker:
        watch = OverdueWatch(ledger, "worker:" + worker)
        ran = _run(ledger, Cycle(ledger, worker), watch, advance, max_tasks, until, through_slots=through_slots)
        deliver(ledger, hooks, worker, Log("console", worker=worker))
        return ran


@contextmanager
def _shown(ledger: Ledger, hooks: Sequence[str]) -> Iterator[str]:
    """Give the id of a worker that others see for as long as this process runs the queue."""
    worker = mint(ledger.clock.now())
    with ledger.store.write() as unit:
        if not is_prepared(unit):
            prepare(unit)
        if hooks:
            deliveries.begin(unit, hooks)
        show(unit, worker, "inline", threads=1, queues=(), lease_seconds=0, names=ledger.functions)
    try:
        yield worker
    finally:
        with ledger.store.write() as unit:
            unit.run(SQL["delete_worker"], (worker,))


def _run(
    ledger: Ledger,
    cycle: Cycle,
    watch: OverdueWatch,
    advance: Callable[[datetime], None] | None,
    max_tasks: int,
    until: datetime | None,
    *,
    through_slots: bool,
) -> int:
    finished: list[Finished] = []
    ran = 0
    with ledger.store.read() as snapshot:
        cycle.begun = Begun(run=snapshot.head())
    while True:
        turn = cycle.turn(finished, int(ran < max_tasks), is_idle=True)
        if turn.is_behind:
            continue
        finished = [execute(ledger, claimed, lambda: False) for claimed in turn.claims]
        for one in finished:
            if is_interrupt(one):
                while cycle.turn([give_back(one)], 0, is_idle=True).is_behind:
                    pass
                raise KeyboardInterrupt
        ran += len(finished)
        if finished:
            continue
        if turn.fired or turn.is_expiring:
            continue
        watch.look_if_due()
        next_us = _next(turn, through_slots=through_slots)
        if next_us is None or advance is None or ran >= max_tasks or (until is not None and from_us(next_us) > until):
            break
        advance(from_us(next_us))
    if until is not None and advance is not None and ran < max_tasks:
        advance(until)
        watch.look_if_due()
    return ran


def _next(turn: Turn, *, through_slots: bool) -> int | None:
    """Return the next time at which something is due or expires; slots alone count only with *through_slots*."""
    if turn.next_due_us is None and turn.next_expiry_us is None and not through_slots:
        return None
    moments = (turn.next_due_us, turn.next_slot_us, turn.next_expiry_us)
    return min((when for when in moments if when is not None), default=None)


def is_interrupt(finished: Finished) -> bool:
    """Return whether whoever runs the attempt here was interrupted from the keyboard."""
    command = finished.command
    return isinstance(command, c.Fail) and command.error["type"] == KeyboardInterrupt.__name__


def give_back(finished: Finished) -> Finished:
    """Return the outcome of an attempt that was interrupted so, which is no failure of the task."""
    state = finished.claimed.state
    back = c.Interrupt(attempt=state.attempt, worker=state.worker or "", cause="interrupted from the keyboard")
    return Finished(finished.claimed, back)
