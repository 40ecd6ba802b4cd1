"""State what happened: one frozen class per fact, past tense.

Stored events are for ever: a field may be added with a default, never renamed or removed. The stored form is the
business of `ledger.codec`; which events a command causes, of `ledger.task` and `ledger.keys`. The events of schedules
stand in `ledger.schedule_events`, those of the ledger beside its tasks in `ledger.ledger_events`, those of
the running of tasks in `ledger.control_events`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from ledger.control_events import CONTROL_EVENT_CLASSES
from ledger.event import ErrorDetail as ErrorDetail  # noqa: PLC0414 (named here for all who import the facts)
from ledger.event import Event as Event  # noqa: PLC0414
from ledger.event import OutputDigest as OutputDigest  # noqa: PLC0414
from ledger.event import Usage as Usage  # noqa: PLC0414
from ledger.ledger_events import LEDGER_EVENT_CLASSES
from ledger.retry import StoredRetry
from ledger.schedule_events import SCHEDULE_EVENT_CLASSES


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
    schedule: str | None = None
    """The schedule that this is a run of; a run's id is a version 8 UUID."""
    slot: datetime | None = None
    """The due time of the schedule that it was fired for; None for a run that somebody asked for."""
    concurrency_key: str | None = None
    """Limits may bound how many of one key run at once."""
    expires_at: datetime | None = None
    """If it still waits for its first attempt then, it is cancelled."""
    hidden: list[str] | None = None
    """Names of the arguments that are shown as hidden."""
    forked_from: str | None = None
    """The task that this is a changed copy of."""


@dataclass(frozen=True, kw_only=True)
class TaskClaimed(Event):
    """A worker holds the task; *attempt* is the fencing token, *seen* the view's position it was planned from."""

    TOPIC: ClassVar[str] = "TaskClaimed.v1"

    attempt: int
    worker: str
    seen: int
    code_version: str | None = None
    """Of the code that its worker has: ``git:…`` of a clone, else ``<package> <version>``; None where nobody could tell."""


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
    acted_as: list[str] | None = None
    """The identities that the attempt took on beside the one it ran as, each once, in order."""


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
    acted_as: list[str] | None = None
    retry_at: datetime | None = None
    """When it was to run again by the rules of its time. The due time is derived: this is what it is compared with."""


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
    acted_as: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class AttemptLost(Event):
    """The process that ran the attempt died or its lease ran out; it counts like a failure."""

    TOPIC: ClassVar[str] = "AttemptLost.v1"

    attempt: int
    worker: str
    cause: str
    final: bool
    retry_at: datetime | None = None


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
    expires_at: datetime | None = None
    """Its new expiry; None: as it was."""


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
    concurrency_key: str | None = None


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
    acted_as: list[str] | None = None
    duplicate_of: str | None = None
    """The task that held its unique key, where that is why."""


@dataclass(frozen=True, kw_only=True)
class TaskProgressed(Event):
    """A running attempt said how far it is: *done* of *total*, where it knows the total. Throttled."""

    TOPIC: ClassVar[str] = "TaskProgressed.v1"

    attempt: int
    done: float
    total: float | None = None
    message: str | None = None


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
    | TaskProgressed
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
    TaskProgressed,
    KeyReserved,
    KeyReleased,
    WorkerStarted,
    WorkerStopped,
    *SCHEDULE_EVENT_CLASSES,
    *LEDGER_EVENT_CLASSES,
    *CONTROL_EVENT_CLASSES,
)
