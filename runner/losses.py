"""Find attempts whose worker is gone, and record them as lost, interrupted or past their hard timeout."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from ledger import acts
from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.events import ErrorDetail, WorkerStopped
from ledger.ids import mint
from ledger.store import Unit
from ledger.task import TaskState
from projections.queue import SQL, catch_up, is_prepared, prepare
from runner.cycle import put_row

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0


def host_name() -> str:
    """Return this host's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what tells this boot of the host from every other."""
    return f"{psutil.boot_time():.0f}"


def process_start(pid: int) -> float | None:
    """Return when process *pid* started (seconds since 1970), or None if there is none.

    A dead process is there until its parent has taken note of its end; a supervisor does so when it has recorded it.
    """
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


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

    def __init__(self, ledger: Ledger, *, beat_seconds: float = BEAT_SECONDS, lease_seconds: float = LEASE_SECONDS):
        self._ledger = ledger
        self._beat = beat_seconds
        self._lease = lease_seconds
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
        rows = {row[0]: row for row in unit.rows(SQL["all_workers"])}
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

    def _judge(self, row: tuple[object, ...] | None, now_us: int) -> str | None:
        if row is None:
            return "the worker has no heartbeat"
        worker, host, boot, pid, pid_started = str(row[0]), row[2], row[3], int(str(row[4])), float(str(row[5]))
        beat_us, beats = int(str(row[7])), int(str(row[8]))
        if host == host_name() and boot == boot_id():
            started = process_start(pid)
            if started is None or abs(started - pid_started) > 1:
                return f"process {pid} of the worker is gone"
        now = self._ledger.clock.monotonic()
        sighting = self._seen.get(worker)
        if sighting is None or sighting.beats != beats:
            self._seen[worker] = _Sighting(beats, now)
            return None
        stood_still = now - sighting.since
        if now_us - beat_us > self._lease * 1e6 and stood_still >= 2 * self._beat:
            return f"the lease of {self._lease:.0f} s ran out without a heartbeat"
        return None
