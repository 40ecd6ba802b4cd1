"""State what happened: one frozen class per fact, past tense.

Stored events are for ever: a field may be added with a default, never renamed or removed. The stored form is the
business of `ledger.codec`; which events a command causes, of `ledger.task` and `ledger.keys`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Self, TypedDict

from ledger.retry import StoredRetry


class ErrorDetail(TypedDict, total=False):
    """What is kept of an exception: its type, message and traceback as text."""

    type: str
    message: str
    traceback: str


class OutputDigest(TypedDict, total=False):
    """What an outcome says of what the attempt printed: SHA-256 of the kept text in order as UTF-8, and counts."""

    sha256: str
    bytes: int
    lines: int
    dropped_bytes: int
    dropped_lines: int


class Usage(TypedDict, total=False):
    """What an attempt took: CPU of its thread, and the most memory its process ever had until then."""

    cpu_seconds: float
    peak_rss_bytes: int


# Events have no slots: the library's mapper contract reads and fills their __dict__.
@dataclass(frozen=True, kw_only=True)
class Event:
    """The envelope that every event has."""

    TOPIC: ClassVar[str]

    originator_id: str
    """Stream: ``task:<uuid>``, ``key:<digest>``, ``worker:<id>``."""
    originator_version: int
    """Index in the stream, from 1."""
    command: str
    """Id (uuid7) of the act that caused it; the events of one act share it."""
    at: datetime
    """The decision's present, aware UTC, read once per transaction from the store's clock."""
    actor: str
    """Who asked: ``user:…``, ``worker:…`` or ``system:…``."""
    reason: str | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return the event of these *fields*, which become its own; those left out have their defaults by the class.

        For the events that come by the thousand: the constructor of a frozen class sets its fields one by one.
        """
        event = object.__new__(cls)
        object.__setattr__(event, "__dict__", fields)
        return event


@dataclass(frozen=True, kw_only=True)
class TaskQueued(Event):
    """A task was accepted; everything it needs to run is in here."""

    TOPIC: ClassVar[str] = "TaskQueued.v1"

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    queue: str
    priority: int
    due_at: datetime
    run_as: str
    retry: StoredRetry
    max_attempts: int | None = None
    timeout: float | None = None
    kill_after: float = 30.0
    unique_key: str | None = None
    key_stream: str | None = None
    unique_until: str = "end"
    labels: list[str] = field(default_factory=list)
    parent: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskClaimed(Event):
    """A worker holds the task; *attempt* is the fencing token, *seen* the view's position it was planned from."""

    TOPIC: ClassVar[str] = "TaskClaimed.v1"

    attempt: int
    worker: str
    seen: int


@dataclass(frozen=True, kw_only=True)
class TaskSucceeded(Event):
    """The function returned *result*; the task has ended."""

    TOPIC: ClassVar[str] = "TaskSucceeded.v1"

    attempt: int
    started_at: datetime
    finished_at: datetime
    result: Any = None
    output: OutputDigest | None = None
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class TaskFailed(Event):
    """The function raised; *final* means that the task has ended, else it waits for its retry delay."""

    TOPIC: ClassVar[str] = "TaskFailed.v1"

    attempt: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: ErrorDetail
    final: bool
    output: OutputDigest | None = None
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class TaskDelayed(Event):
    """The task asked to be run again later: a soft retry, which uses an attempt but is no failure."""

    TOPIC: ClassVar[str] = "TaskDelayed.v1"

    attempt: int
    started_at: datetime
    finished_at: datetime
    seconds: float
    final: bool
    output: OutputDigest | None = None
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class AttemptLost(Event):
    """The process that ran the attempt died or its lease ran out; it counts like a failure."""

    TOPIC: ClassVar[str] = "AttemptLost.v1"

    attempt: int
    worker: str
    cause: str
    final: bool


@dataclass(frozen=True, kw_only=True)
class AttemptInterrupted(Event):
    """The attempt was given back (shutdown, recycling, not begun in time); it costs nothing."""

    TOPIC: ClassVar[str] = "AttemptInterrupted.v1"

    attempt: int
    worker: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class LateResultRejected(Event):
    """A worker reported *outcome* of an attempt that it no longer held."""

    TOPIC: ClassVar[str] = "LateResultRejected.v1"

    attempt: int
    worker: str
    outcome: str
    result: Any = None
    error: ErrorDetail | None = None
    output: OutputDigest | None = None


@dataclass(frozen=True, kw_only=True)
class TaskRescheduled(Event):
    """A waiting task is due at another time."""

    TOPIC: ClassVar[str] = "TaskRescheduled.v1"

    due_at: datetime


@dataclass(frozen=True, kw_only=True)
class TaskRetried(Event):
    """An ended task waits again with all its attempts; carries what a queue row needs."""

    TOPIC: ClassVar[str] = "TaskRetried.v1"

    name: str
    queue: str
    priority: int
    due_at: datetime
    run_as: str
    retry: StoredRetry
    max_attempts: int | None = None
    timeout: float | None = None
    kill_after: float = 30.0
    key_stream: str | None = None
    unique_until: str = "end"


@dataclass(frozen=True, kw_only=True)
class CancelRequested(Event):
    """A running task shall end; its attempt may still succeed."""

    TOPIC: ClassVar[str] = "CancelRequested.v1"


@dataclass(frozen=True, kw_only=True)
class TaskCancelled(Event):
    """The task has ended without success because somebody asked for it; *ended* tells how a running attempt did."""

    TOPIC: ClassVar[str] = "TaskCancelled.v1"

    attempt: int | None = None
    ended: str | None = None
    error: ErrorDetail | None = None
    output: OutputDigest | None = None
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class KeyReserved(Event):
    """*task* is the one live task of this key."""

    TOPIC: ClassVar[str] = "KeyReserved.v1"

    task: str
    key: str


@dataclass(frozen=True, kw_only=True)
class KeyReleased(Event):
    """*task* no longer holds the key."""

    TOPIC: ClassVar[str] = "KeyReleased.v1"

    task: str


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process (one incarnation) began to look for work."""

    TOPIC: ClassVar[str] = "WorkerStarted.v1"

    name: str
    host: str
    pid: int
    app: str
    threads: int
    queues: list[str]


@dataclass(frozen=True, kw_only=True)
class WorkerStopped(Event):
    """The worker process is gone; *cause* tells how."""

    TOPIC: ClassVar[str] = "WorkerStopped.v1"

    cause: str


TaskEvent = (
    TaskQueued
    | TaskClaimed
    | TaskSucceeded
    | TaskFailed
    | TaskDelayed
    | AttemptLost
    | AttemptInterrupted
    | LateResultRejected
    | TaskRescheduled
    | TaskRetried
    | CancelRequested
    | TaskCancelled
)
EVENT_CLASSES: tuple[type[Event], ...] = (
    TaskQueued,
    TaskClaimed,
    TaskSucceeded,
    TaskFailed,
    TaskDelayed,
    AttemptLost,
    AttemptInterrupted,
    LateResultRejected,
    TaskRescheduled,
    TaskRetried,
    CancelRequested,
    TaskCancelled,
    KeyReserved,
    KeyReleased,
    WorkerStarted,
    WorkerStopped,
)
