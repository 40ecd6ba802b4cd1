"""State what administrators did to the running of tasks: limits, pauses, stops, recycling; facts like the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.event import Event


@dataclass(frozen=True, kw_only=True)
class QueuePaused(Event):
    """Nothing of the queue is claimed until it is resumed; what runs may finish."""

    TOPIC: ClassVar[str] = "QueuePaused.v1"


@dataclass(frozen=True, kw_only=True)
class QueueResumed(Event):
    """Tasks of the queue are claimed again."""

    TOPIC: ClassVar[str] = "QueueResumed.v1"


@dataclass(frozen=True, kw_only=True)
class LimitChanged(Event):
    """*source* (``code``, ``hand`` or ``configuration``) says how many may run at once within the scope of the stream.

    Of several sources the later in that order counts.
    """

    TOPIC: ClassVar[str] = "LimitChanged.v1"

    source: str
    most: int | None = None
    """At most so many; None: any number."""
    app: str | None = None
    """The application whose code says it."""
    reset: bool = False
    """The source says nothing of this scope any more."""


@dataclass(frozen=True, kw_only=True)
class RunnersDisabled(Event):
    """Nothing is claimed and no schedule is fired until they are enabled; what runs may finish."""

    TOPIC: ClassVar[str] = "RunnersDisabled.v1"


@dataclass(frozen=True, kw_only=True)
class RunnersEnabled(Event):
    """Tasks are claimed again."""

    TOPIC: ClassVar[str] = "RunnersEnabled.v1"


@dataclass(frozen=True, kw_only=True)
class StopRequested(Event):
    """Every run that had begun by then finishes what it runs and ends."""

    TOPIC: ClassVar[str] = "StopRequested.v1"


@dataclass(frozen=True, kw_only=True)
class CachesCleared(Event):
    """Every worker that had started by then finishes what it runs, and a new process takes its place."""

    TOPIC: ClassVar[str] = "CachesCleared.v1"


CONTROL_EVENT_CLASSES: tuple[type[Event], ...] = (
    QueuePaused,
    QueueResumed,
    LimitChanged,
    RunnersDisabled,
    RunnersEnabled,
    StopRequested,
    CachesCleared,
)
