"""Find attempts whose worker is gone, and record them as lost, interrupted or past their hard timeout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.events import ErrorDetail, WorkerStopped
from ledger.ids import mint
from ledger.store import Unit
from ledger.task import TaskState
from projections.heartbeat import Heartbeat
from projections.queue import SQL, catch_up, is_prepared, prepare
from runner.cycle import put_row
from runner.heartbeat import all_of, boot_id, host_name, process_start

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0


Verdict = Callable[[TaskState], c.Outcome]


def lost(cause: str) -> Verdict:
    """Return the verdict that every attempt was lost."""
    return lambda state: c.Lose(attempt=state.attempt, worker=state.worker or "", cause=cause)


def end_worker(
    ledger: Ledger, worker: str, cause: str, verdict: Verdict, *, actor: str, wait_seconds: float | None = None
) -> list[c.Outcome]:
    """Record the end of *worker*: each attempt it holds by *verdict*, its heartbeat gone, `WorkerStopped`.

    Idempotent: a worker that holds nothing and has no heartbeat is left alone. Returns what was recorded.

    Raises:
        StorageUnavailable: Also if *wait_seconds* are given and other writers held the database for so long.
    """
    while True:
        with ledger.store.write(wait_seconds) as unit:
            if not is_prepared(unit):
                prepare(unit)
            if not catch_up(unit):
                continue
            return _end_worker(unit, worker, cause, verdict, actor)


def _end_worker(unit: Unit, worker: str, cause: str, verdict: Verdict, actor: str) -> list[c.Outcome]:
    act = c.Act(id=mint(unit.now), at=unit.now, actor=actor)
    outcomes = []
    for row in unit.rows(SQL["rows_of_worker"], (worker,)):
        state = TaskState._make(row[1:])
        outcome = verdict(state)
        after, events = acts.settle(unit, state, outcome, act)
        unit.append(events)
        put_row(unit, row[0], after)
        outcomes.append(outcome)
    if unit.run(SQL["delete_worker"], (worker,)):
        stream = "worker:" + worker
        last = unit.last(stream)
        version = last.originator_version + 1 if last else 1
        stopped = WorkerStopped(
            originator_id=stream, originator_version=version, command=act.id, at=act.at, actor=actor, cause=cause
        )
        unit.append([stopped])
    while not catch_up(unit):  # the ends of runs are news to their schedules
        pass
    return outcomes


def timed_out(state: TaskState, seconds: float | None) -> c.Fail:
    """Return the outcome of an attempt whose process was ended at its hard timeout."""
    limit = "its grace after the request to cancel" if state.cancel_us is not None else f"its timeout of {seconds} s"
    error = ErrorDetail(type="TimeLimit", message=f"the task went on past {limit} and its process was ended")
    return c.Fail(attempt=state.attempt, worker=state.worker or "", started_at=None, finished_at=None, error=error)


@dataclass(slots=True)
class _Sighting:
    beats: int
    since: float


class LeaseWatch:
    """Judge which workers are gone. One watcher's memory: what it saw of each heartbeat, on its monotonic clock."""

    def __init__(self, ledger: Ledger, *, beat_seconds: float = BEAT_SECONDS):
        self._ledger = ledger
        self._beat = beat_seconds
        self._seen: dict[str, _Sighting] = {}
        self._looked = 0.0

    def forget(self) -> None:
        """Start anew: in the time until now others may have had no way to show their heartbeats."""
        self._seen.clear()

    def gone(self, unit: Unit, me: str) -> dict[str, str]:
        """Return the workers that hold attempts or a heartbeat row and are gone, each with the cause.

        At once where the heartbeat row is missing, or the process is gone from this same host and boot; else when the
        lease has run out by the store's clock and the heartbeat stood still for two beats by this watcher's.
        """
        rows = {row.worker_id: row for row in all_of(unit)}
        now = self._ledger.clock.monotonic()
        # What kept this watcher from looking (a lock, a frozen host) may have kept the others from showing heartbeats.
        is_awake = now - self._looked <= 2 * self._beat
        self._seen = {worker: seen for worker, seen in self._seen.items() if is_awake and worker in rows}
        self._looked = now
        holders = {row[0] for row in unit.rows(SQL["running_workers"])}
        causes = {}
        for worker in (holders | rows.keys()) - {me}:
            cause = self._judge(rows.get(worker), to_us(unit.now))
            if cause:
                causes[worker] = cause
        return causes

    def _judge(self, row: Heartbeat | None, now_us: int) -> str | None:
        if row is None:
            return "the worker has no heartbeat"
        if row.host == host_name() and row.boot == boot_id():
            started = process_start(row.pid)
            if started is None or abs(started - row.pid_started) > 1:
                return f"process {row.pid} of the worker is gone"
        elif not row.lease_us:
            return "its host was started anew"  # such a process lives beside the database file only
        now = self._ledger.clock.monotonic()
        sighting = self._seen.get(row.worker_id)
        if sighting is None or sighting.beats != row.beats:
            self._seen[row.worker_id] = _Sighting(row.beats, now)
            return None
        if row.is_silent(now_us) and now - sighting.since >= 2 * self._beat:
            return f"the lease of {row.lease_us / 1e6:.0f} s ran out without a heartbeat"
        return None
