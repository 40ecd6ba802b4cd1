"""Fold task events into the rows of the report views `attempts`, `output`, `queues` and `workers`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from ledger import events as e
from ledger.control_events import QueuePaused, QueueResumed
from ledger.ledger_events import OutputPruned
from ledger.task import STATES
from projections.tasks import Folded
from projections.views import Row, Step, Tables

OUTCOMES: dict[type[e.Event], str] = {
    e.TaskSucceeded: "succeeded",
    e.TaskFailed: "failed",
    e.TaskDelayed: "delayed",
    e.AttemptLost: "lost",
    e.AttemptInterrupted: "interrupted",
    e.TaskCancelled: "cancelled",
}
"""The events that end an attempt; TaskCancelled only where it names one."""


class AttemptRow(NamedTuple):
    """A row of `attempts`; what the columns mean says its SQL file."""

    task_id: str
    attempt: int
    name: str
    queue: str
    run_as: str
    worker: str
    outcome: str
    claimed_at: str
    started_at: str | None
    finished_at: str | None
    wait_ms: float
    run_ms: float | None
    error_type: str | None
    error_message: str | None
    cause: str | None
    is_final: int | None
    cpu_ms: float | None
    peak_rss_bytes: int | None
    claimed_position: int
    ended_position: int | None


class OutputRow(NamedTuple):
    """A row of `output`."""

    task_id: str
    attempt: int
    name: str
    bytes: int
    lines: int
    dropped_bytes: int
    dropped_lines: int
    sha256: str
    at: str
    pruned_at: str | None = None


@dataclass(slots=True)
class QueueCell:
    """A row of `queues` in the midst of folding; the batch that loaded it owns it."""

    queue: str
    counts: dict[str, int]
    last_at: str = ""
    is_paused: int = 0
    paused_by: str | None = None
    pause_reason: str | None = None


QUEUE_COUNTS = ("queued", *STATES)
QUEUE_COLUMNS = ("queue", *QUEUE_COUNTS, "last_at", "is_paused", "paused_by", "pause_reason")


def load_queue(row: Row) -> QueueCell:
    """Return a stored row ready for its next event."""
    end = 1 + len(QUEUE_COUNTS)
    return QueueCell(row[0], dict(zip(QUEUE_COUNTS, row[1:end], strict=True)), *row[end:])


def store_queue(cell: QueueCell) -> Row:
    """Return the row as it is to be stored."""
    said = (cell.is_paused, cell.paused_by, cell.pause_reason)
    return (cell.queue, *cell.counts.values(), cell.last_at, *said)


WORKER_FACTS = ("name", "host", "pid", "app", "threads", "queues", "started_at", "stopped_at", "stop_cause")
WORKER_COUNTS = ("claimed", "succeeded", "failed", "delayed", "lost", "interrupted", "cancelled", "rejected")
WORKER_COLUMNS = ("worker_id", *WORKER_FACTS, *WORKER_COUNTS, "last_at")


@dataclass(slots=True)
class WorkerCell:
    """A row of `workers` in the midst of folding; the batch that loaded it owns it."""

    worker_id: str
    facts: dict[str, Any]
    counts: dict[str, int]
    last_at: str = ""


def load_worker(row: Row) -> WorkerCell:
    """Return a stored row ready for its next event."""
    end = 1 + len(WORKER_FACTS)
    facts, counts = zip(WORKER_FACTS, row[1:end], strict=True), zip(WORKER_COUNTS, row[end:-1], strict=True)
    return WorkerCell(row[0], dict(facts), dict(counts), row[-1])


def store_worker(cell: WorkerCell) -> Row:
    """Return the row as it is to be stored."""
    return (cell.worker_id, *cell.facts.values(), *cell.counts.values(), cell.last_at)


def take_attempt(step: Step, tables: Tables) -> None:
    """Fold a claim or the end of an attempt into `attempts`."""
    event, before = step.event, step.before
    if before is None or step.after is None or step.task_id is None:
        return
    rows = tables["attempts"]
    if isinstance(event, e.TaskClaimed):
        rows.put((step.task_id, event.attempt), _claimed(step, before, event))
        return
    number: int | None = getattr(event, "attempt", None)
    row = None if number is None else rows.get((step.task_id, number))
    if row is not None:
        rows.put((step.task_id, number), _ended(row, step))


def _claimed(step: Step, before: Folded, event: e.TaskClaimed) -> AttemptRow:
    state = before.state
    return AttemptRow(
        state.task_id, event.attempt, state.name, state.queue, state.run_as, event.worker, "running", step.at, step.at,
        None, step.changes["wait_ms"], None, None, None, None, None, None, None, step.position, None,
    )  # fmt: skip


def _ended(row: AttemptRow, step: Step) -> AttemptRow:
    event: Any = step.event
    changes = step.changes
    error = getattr(event, "error", None) or {}
    cause = getattr(event, "cause", None) or getattr(event, "ended", None)
    if isinstance(event, e.AttemptLost):
        error = {"type": "AttemptLost", "message": event.cause}
    usage = getattr(event, "usage", None) or {}
    seconds = usage.get("cpu_seconds")
    is_final = isinstance(event, e.TaskSucceeded | e.TaskCancelled) or getattr(event, "final", False)
    return AttemptRow(
        row.task_id,
        row.attempt,
        row.name,
        row.queue,
        row.run_as,
        row.worker,
        OUTCOMES[type(event)],
        row.claimed_at,
        changes.get("started_at", row.started_at),
        changes.get("finished_at", step.at),
        row.wait_ms,
        changes.get("run_ms"),
        error.get("type"),
        error.get("message"),
        cause,
        int(is_final),
        None if seconds is None else round(seconds * 1000, 3),
        usage.get("peak_rss_bytes"),
        row.claimed_position,
        step.position,
    )


def take_output(step: Step, tables: Tables) -> None:
    """Fold what outcomes say of output, and what was pruned, into `output`."""
    event, rows = step.event, tables["output"]
    if isinstance(event, OutputPruned):
        for key in map(tuple, event.attempts):
            if (row := rows.get(key)) is not None:
                rows.put(key, row._replace(pruned_at=step.at))
        return
    digest = getattr(event, "output", None)
    attempt = getattr(event, "attempt", None)
    if digest is None or attempt is None or step.task_id is None or step.after is None:
        return
    counts = {name: digest.get(name, 0) for name in ("bytes", "lines", "dropped_bytes", "dropped_lines")}
    sha256 = digest.get("sha256", "")
    row = OutputRow(step.task_id, attempt, step.after.state.name, **counts, sha256=sha256, at=step.at)
    rows.put((step.task_id, attempt), row)


def take_queue(step: Step, tables: Tables) -> None:
    """Fold the change of a task's state into the counts of its queue."""
    before, after, event = step.before, step.after, step.event
    if after is None:
        if isinstance(event, QueuePaused | QueueResumed):
            cell = _queue(tables, event.originator_id.removeprefix("queue:"), step.at)
            cell.is_paused = int(isinstance(event, QueuePaused))
            cell.paused_by, cell.pause_reason = event.actor, event.reason
        return
    old, new = None if before is None else before.state, after.state
    if old is not None and old.status == new.status and old.queue == new.queue:
        return
    if old is not None and old.status in STATES:
        _queue(tables, old.queue, step.at).counts[old.status] -= 1
    if new.status in STATES:
        counts = _queue(tables, new.queue, step.at).counts
        counts[new.status] += 1
        if old is None:
            counts["queued"] += 1


def _queue(tables: Tables, queue: str, at: str) -> QueueCell:
    def make() -> QueueCell:
        return QueueCell(queue, dict.fromkeys(QUEUE_COUNTS, 0))

    cell: QueueCell = tables["queues"].own((queue,), make)
    cell.last_at = at
    return cell


def take_worker(step: Step, tables: Tables) -> None:
    """Fold the life of workers, and what became of their attempts, into `workers`."""
    event = step.event
    match event:
        case e.TaskClaimed():
            _worker(tables, event.worker, step.at).counts["claimed"] += 1
        case e.LateResultRejected():
            _worker(tables, event.worker, step.at).counts["rejected"] += 1
        case e.WorkerStarted():
            facts = _worker(tables, event.originator_id.removeprefix("worker:"), step.at).facts
            facts.update(name=event.name, host=event.host, pid=event.pid, app=event.app, threads=event.threads,
                         queues=orjson.dumps(event.queues).decode(), started_at=step.at)  # fmt: skip
        case e.WorkerStopped():
            facts = _worker(tables, event.originator_id.removeprefix("worker:"), step.at).facts
            facts.update(stopped_at=step.at, stop_cause=event.cause)
        case _:
            held = None if step.before is None else step.before.state.worker
            if held is not None:
                _worker(tables, held, step.at).counts[OUTCOMES[type(event)]] += 1


def _worker(tables: Tables, worker: str, at: str) -> WorkerCell:
    def make() -> WorkerCell:
        facts = {**dict.fromkeys(WORKER_FACTS), "name": "", "host": "", "app": "", "queues": "[]"}
        return WorkerCell(worker, facts, dict.fromkeys(WORKER_COUNTS, 0))

    cell: WorkerCell = tables["workers"].own((worker,), make)
    cell.last_at = at
    return cell
