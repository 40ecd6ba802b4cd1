"""Explain in sentences why a task is or is not running. Pure: the facts come as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.clock import from_us, to_us
from ledger.moments import has_come
from ledger.record import TaskRecord
from ledger.task import CANCELLED, ENDED, RUNNING, SUCCEEDED
from projections.heartbeat import Heartbeat
from projections.tasks import stamp


def why(
    record: TaskRecord,
    now: datetime,
    workers: Sequence[Heartbeat],
    before: int,
    key_holder: str | None = None,
    held_up: Sequence[str] = (),
) -> list[str]:
    """Return why the task is where it is at *now*.

    *before* is how many due tasks of its queue go first, *key_holder* the task that holds its unique key, *held_up*
    says what keeps tasks like it from beginning.
    """
    if record.state.status in ENDED:
        return _ended(record, key_holder)
    if record.state.status == RUNNING:
        return _running(record, now, workers)
    return _waiting(record, now, workers, before, held_up)


def _ended(record: TaskRecord, key_holder: str | None) -> list[str]:
    state = record.state
    when = stamp(record.ended_at) if record.ended_at else "an unknown time"
    attempts = _count(len(record.attempts), "attempt")
    if state.status == SUCCEEDED:
        return [f"It succeeded at {when}, after {attempts}."]
    if state.status == CANCELLED:
        reason = f": {record.end_reason}" if record.end_reason else ""
        sentences = [f"It was cancelled at {when} by {record.ended_by}, after {attempts}{reason}."]
    else:
        sentences = [f"It failed at {when}: {state.used} of {_allowed(record)} used.", *_last_error(record)]
    if key_holder is not None and key_holder != state.task_id:
        return [
            *sentences,
            f"Task {key_holder} holds its unique key; `task retry` is possible when that one has ended.",
        ]
    return [*sentences, "`task retry` lets it wait again."]


def _running(record: TaskRecord, now: datetime, workers: Sequence[Heartbeat]) -> list[str]:
    state = record.state
    since = from_us(state.claimed_us or 0)
    seconds = (now - since).total_seconds()
    worker = next((row for row in workers if row.worker_id == state.worker), None)
    where = f"worker {state.worker}" + (f" (host {worker.host}, pid {worker.pid})" if worker else "")
    sentences = [f"It is running: attempt {state.attempt} on {where} since {stamp(since)}, {seconds:.0f} s."]
    if worker is None or worker.is_silent(to_us(now)):
        heard = f"has not been heard of since {stamp(from_us(worker.beat_us))}" if worker else "has no heartbeat"
        sentences.append(f"Its worker {heard}; the next worker to look records the attempt as lost.")
    if state.cancel_us is not None:
        sentences.append(f"It was asked to end at {stamp(from_us(state.cancel_us))}.")
    return sentences


def _waiting(
    record: TaskRecord, now: datetime, workers: Sequence[Heartbeat], before: int, held_up: Sequence[str]
) -> list[str]:
    state = record.state
    sentences = []
    if state.due_us > to_us(now):
        seconds = (state.due_us - to_us(now)) / 1_000_000
        cause = f": {found}" if (found := _cause_of_due(record)) else ""
        sentences.append(f"It is not due until {stamp(from_us(state.due_us))}, in {seconds:.0f} s{cause}.")
    else:
        sentences.append(f"It has been due since {stamp(from_us(state.due_us))}.")
        behind = "next in" if before == 0 else f"waiting behind {_count(before, 'other')} in"
        sentences.append(f"It is {behind} queue {state.queue!r}.")
    sentences += held_up
    if state.expires_us is not None:
        sentences.append(_of_expiry(state.expires_us, to_us(now)))
    if state.used:
        sentences += _last_error(record)
    if state.lost:
        sentences.append("Its last attempt was lost, so the next one runs alone in a process of its own.")
    alive = [row for row in workers if not row.is_silent(to_us(now)) and row.serves(state.queue)]
    if not alive:
        sentences.append(f"No worker is alive for queue {state.queue!r}; `run` starts one.")
    elif not any(row.knows(state.name) for row in alive):
        sentences.append(f"No worker that is alive for it has a task named {state.name!r}; its app may have changed.")
    return sentences


def _of_expiry(expires_us: int, now_us: int) -> str:
    when = stamp(from_us(expires_us))
    if has_come(expires_us, now_us):
        return f"It expired at {when}; the next worker to look cancels it."
    return f"It is cancelled if it has not begun by {when}, in {(expires_us - now_us) / 1_000_000:.0f} s."


def _cause_of_due(record: TaskRecord) -> str:
    """Return what the due time follows from: an act of somebody, the retry policy, or the task's own wish."""
    if record.rescheduled_at is not None:
        return f"it was rescheduled at {stamp(record.rescheduled_at)}"
    used = [attempt for attempt in record.attempts if attempt.outcome in ("failed", "lost", "delayed")]
    if not record.state.used or not used:
        return ""
    if used[-1].outcome == "delayed":
        return used[-1].cause or ""
    return f"retry delay after {_count(record.state.used, 'failure')}"


def _last_error(record: TaskRecord) -> list[str]:
    if record.error is None:
        return []
    return [f"The last error was {record.error.get('type', '')}: {record.error.get('message', '')}".rstrip(" :") + "."]


def _allowed(record: TaskRecord) -> str:
    allowed = record.state.max_attempts
    return "unlimited attempts" if allowed is None else _count(allowed, "attempt")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
