"""State what may be asked of one task: imperative requests, which `ledger.task.decide` may refuse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, Self

from ledger.events import ErrorDetail, Event, OutputDigest, Usage
from ledger.retry import StoredRetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who asks, when and why; `id` is shared by all events that the act causes."""

    id: str
    at: datetime
    actor: str
    reason: str | None = None


def envelope(act: Act) -> dict[str, Any]:
    """Return the fields that all events of one act share."""
    return {"command": act.id, "at": act.at, "actor": act.actor, "reason": act.reason}


def next_envelope(stream: str, last: Event | None, act: Act) -> dict[str, Any]:
    """Return the envelope of the event after *last*, the newest of *stream*; None where it is the first."""
    version = last.originator_version + 1 if last else 1
    return {"originator_id": stream, "originator_version": version, **envelope(act)}


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Accept a new task: what `TaskQueued` keeps of it, but for *delay_us* and *expires_after_us*.

    It is due at *due_at*, or where that is None *delay_us* microseconds after the act. It expires at *expires_at*, or
    *expires_after_us* microseconds after it is due, or where both are None never.
    """

    name: str
    args: dict[str, Any] = field(repr=False)  # some may be hidden
    queue: str
    priority: int
    due_at: datetime | None = None
    run_as: str
    retry: StoredRetry
    max_attempts: int | None
    timeout: float | None = None
    kill_after: float = 30.0
    unique_key: str | None = None
    key_stream: str | None = None
    unique_until: str = "end"
    labels: list[str] = field(default_factory=list)
    parent: str | None = None
    schedule: str | None = None
    slot: datetime | None = None
    concurrency_key: str | None = None
    expires_at: datetime | None = None
    hidden: list[str] | None = None
    forked_from: str | None = None
    delay_us: int = 0
    expires_after_us: int | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return the command of these *fields*, all of them, which become its own; see `Event.of`."""
        command = object.__new__(cls)
        object.__setattr__(command, "__dict__", fields)
        return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Give the waiting, due task to *worker*, whose code is of *code_version*; *seen* is the position of the view it was
    planned from.
    """

    worker: str
    seen: int
    code_version: str | None = None


class Succeed(NamedTuple):  # most outcomes: a frozen class sets its fields one by one
    """Report that the attempt returned *result*."""

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime
    result: Any
    output: OutputDigest | None = None
    usage: Usage | None = None
    acted_as: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Report that the attempt raised; *forever* means that no retry shall follow."""

    attempt: int
    worker: str
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorDetail
    forever: bool = False
    output: OutputDigest | None = None
    usage: Usage | None = None
    acted_as: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Report that the attempt asked to run again in *seconds*."""

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime
    seconds: float
    output: OutputDigest | None = None
    usage: Usage | None = None
    acted_as: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose:
    """Report that the attempt's process is gone or silent beyond its lease."""

    attempt: int
    worker: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Give the attempt back unfinished, through no fault of the task."""

    attempt: int
    worker: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Say how far the running attempt is."""

    attempt: int
    worker: str
    done: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Make a waiting task due at another time; *expires_at* is its new expiry, None leaves that as it is."""

    due_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNow:
    """Let a failed or cancelled task wait again, due at once, with all its attempts.

    *queued* is the task's `TaskQueued` as a command: an ended task has no row to take its fields from.
    """

    queued: Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End a waiting task, or ask a running one to end; *duplicate_of* is the task that holds its key, if that is why."""

    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """End a task that still waits at its expiry."""


Reported = Succeed | Fail | Delay
"""Outcomes that the attempt itself has come to."""
Outcome = Reported | Lose | Interrupt
Command = Queue | Claim | Outcome | Progress | Reschedule | RetryNow | Cancel | Expire

NOT_STORED = ("delay_us", "expires_after_us")
"""Fields of `Queue` that `TaskQueued` does not keep: they count from the act."""


def reported(command: Reported, **about: Any) -> Reported:
    """Return *command* with other times, usage or output."""
    return command._replace(**about) if isinstance(command, Succeed) else replace(command, **about)
