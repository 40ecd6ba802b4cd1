"""Put a ledger as it was into the rows that the reading commands show of it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ledger.api import Ledger
from ledger.clock import from_us, to_us
from ledger.events import TaskQueued
from ledger.ids import TASK_PREFIX
from ledger.past import Past
from ledger.record import TaskRecord
from ledger.schedule import DECLARED, ScheduleState
from ledger.task import ENDED, FAILED
from projections.controls import Controls
from projections.listing import Filter
from projections.schedules import LiveRun
from runner.control_rows import control_rows, limit_row, mark_row
from runner.schedule_rows import details_of, row_of, state_of

BATCH = 2_000


def controls_of(past: Past) -> Controls:
    """Return what governed the claims."""
    return Controls(past.marks, past.limits())


def queue_rows(past: Past) -> list[dict[str, Any]]:
    """Return the rows of ``queue list``."""
    return [
        {
            "queue": one.queue,
            "waiting_due": one.waiting_due,
            "waiting_later": one.waiting_later,
            "running": one.running,
            "oldest_due": None if one.oldest_due_us is None else from_us(one.oldest_due_us),
            "paused": None if one.paused is None else mark_row(one.paused),
        }
        for one in past.queues()
    ]


def running_rows(past: Past, slow_seconds: float, stuck_seconds: float) -> list[dict[str, Any]]:
    """Return the rows of ``now``: what ran, the oldest first."""
    now_us = to_us(past.at)
    rows = []
    for _, state in past.running():
        record = past.get(state.task_id)
        worker = past.world.workers.get(state.worker or "")
        seconds = round((now_us - (state.claimed_us or 0)) / 1_000_000, 3)
        progress = record.progress
        rows.append(
            {
                "task": state.task_id,
                "name": state.name,
                "actor": record.queued.actor,
                "run_as": state.run_as,
                "worker": state.worker,
                "host": None if worker is None else worker.host,
                "pid": None if worker is None else worker.pid,
                "since": from_us(state.claimed_us or 0),
                "attempt": state.attempt,
                "seconds": seconds,
                "slow": "critical" if seconds > stuck_seconds else "warning" if seconds > slow_seconds else None,
                "progress": None if progress is None else {**progress.summary(), "text": progress.text},
            }
        )
    return rows


def marks_rows(past: Past) -> list[dict[str, Any]]:
    """Return what kept work from going on, as ``now`` shows it; whom a stop still concerned is not known."""
    return control_rows(controls_of(past), ())


def limit_rows(past: Past) -> list[dict[str, Any]]:
    """Return the rows of ``limit list``."""
    running = past.running_counts()
    return [limit_row(state, running) for state in past.limit_states()]


def worker_rows(past: Past) -> list[dict[str, Any]]:
    """Return the rows of ``worker list``: those that had started and not ended; heartbeats are not kept."""
    held = [state.worker for _, state in past.running()]
    return [
        {
            "id": one.worker_id,
            "name": one.name,
            "host": one.host,
            "pid": one.pid,
            "state": "started",
            "started_at": from_us(one.started_us),
            "beat_at": None,
            "threads": one.threads,
            "queues": list(one.queues),
            "running": held.count(one.worker_id),
            "leaving": None,
        }
        for one in past.workers()
    ]


def live_run(past: Past, state: ScheduleState) -> LiveRun | None:
    """Return the live run that a schedule had."""
    task = past.world.tasks.get(state.run_id or "")
    if task is None:
        return None
    run = task.state
    return LiveRun(run.task_id, run.status, run.due_us, run.used, run.claimed_us)


def schedule_rows(past: Past, component: str | None, *, retired: bool) -> list[dict[str, Any]]:
    """Return the rows of ``schedule list``."""
    states = [state for state in past.schedules() if retired or state.status == DECLARED]
    return [row_of(state, live_run(past, state), past.at) for state in states if component in (None, state.component)]


def schedule_details(past: Past, name: str) -> dict[str, Any]:
    """Return what ``schedule show`` tells."""
    state = past.schedule(name)
    run = live_run(past, state)
    return {**details_of(state, run, past.at), "state": state_of(run, past.at)}


def task_records(ledger: Ledger, past: Past, having: Filter, limit: int, after: int | None) -> list[TaskRecord]:
    """Return at most *limit* tasks that had all of *having* then, newest first; *after* as for `Reports.list_tasks`.

    The log is walked back from the position, each task that is met folded by itself.
    """
    found: list[TaskRecord] = []
    is_live = having.state is not None and having.state not in ENDED
    for queued in _queued(ledger, past.position if after is None else after - 1):
        task_id = queued.originator_id.removeprefix(TASK_PREFIX)
        if not _may_fit(queued, having) or (is_live and task_id not in past.world.tasks):
            continue
        record = past.get(task_id)
        if _fits(record, having):
            found.append(record)
        if len(found) == limit:
            break
    return found


def _queued(ledger: Ledger, position: int) -> Iterator[TaskQueued]:
    """Yield the requests up to a position, newest first."""
    with ledger.store.read() as snapshot:
        snapshot.head()
        while raws := snapshot.events_before(position + 1, BATCH):
            for raw in raws:
                if raw[2] == 1 and raw[1].startswith(TASK_PREFIX):
                    event = snapshot.decode(raw)
                    if isinstance(event, TaskQueued):
                        yield event
            position = raws[-1][0] - 1


def _may_fit(queued: TaskQueued, having: Filter) -> bool:
    pairs = [(having.name, queued.name), (having.queue, queued.queue), (having.run_as, queued.run_as)]
    pairs.append((having.actor, queued.actor))
    is_labelled = having.label is None or having.label in queued.labels
    return is_labelled and all(wanted in (None, has) for wanted, has in pairs)


def _fits(record: TaskRecord, having: Filter) -> bool:
    state = record.state
    if having.state not in (None, state.status):
        return False
    has_failed = state.status == FAILED or (state.status not in ENDED and state.used > 0)
    return not having.failed_only or (record.error is not None and has_failed)
