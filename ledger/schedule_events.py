"""State what happened to schedules and components: one frozen class per fact, past tense (see `ledger.events`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from ledger.event import Event
from ledger.retry import StoredRetry


@dataclass(frozen=True, kw_only=True)
class ScheduleDeclared(Event):
    """The code of *app* has this schedule: its default, and all that a run of it needs."""

    TOPIC: ClassVar[str] = "ScheduleDeclared.v1"

    app: str
    task: str
    """Registered name of the function that a run calls."""
    fields: list[str]
    """Minute, hour, day, month and day of week as written."""
    resolved: list[str]
    """The same with R and H settled: what is evaluated."""
    timezone: str
    croniter: str
    """Version of the library that evaluates the fields."""
    retry: StoredRetry
    enabled: bool = True
    args: dict[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    run_as: str = "system"
    max_attempts: int | None = None
    timeout: float | None = None
    kill_after: float = 30.0
    labels: list[str] = field(default_factory=list)
    jitter: float = 0.0
    """Seconds by which a run may be due later than its slot, by a hash of schedule and slot."""
    misfire: str = "one"
    component: str | None = None
    always: bool = False
    """It runs although its component is disabled."""
    description: str | None = None
    expires_us: int | None = None
    """A run that has not begun so many microseconds after it was due is cancelled."""
    hidden: list[str] | None = None
    """Names of the arguments that are shown as hidden."""
    concurrency_key: str | None = None
    """Limits may bound how many of one key run at once, whatever their names."""


@dataclass(frozen=True, kw_only=True)
class ScheduleCustomised(Event):
    """What is given here stands in for the default: set by hand, or by the *override* of the configuration file."""

    TOPIC: ClassVar[str] = "ScheduleCustomised.v1"

    fields: list[str] | None = None
    resolved: list[str] | None = None
    timezone: str | None = None
    enabled: bool | None = None
    override: str | None = None
    """The name or pattern in the configuration file, where it came from there."""


@dataclass(frozen=True, kw_only=True)
class ScheduleReset(Event):
    """The schedule is as its code declares it again; with *override*, as before the configuration file overrode it."""

    TOPIC: ClassVar[str] = "ScheduleReset.v1"

    override: bool = False


@dataclass(frozen=True, kw_only=True)
class ScheduleEnabled(Event):
    """Slots from now on are fired."""

    TOPIC: ClassVar[str] = "ScheduleEnabled.v1"


@dataclass(frozen=True, kw_only=True)
class ScheduleDisabled(Event):
    """No slot is fired until it is enabled; a running run may finish."""

    TOPIC: ClassVar[str] = "ScheduleDisabled.v1"


@dataclass(frozen=True, kw_only=True)
class ScheduleRetired(Event):
    """The code no longer declares it; its history stays."""

    TOPIC: ClassVar[str] = "ScheduleRetired.v1"


@dataclass(frozen=True, kw_only=True)
class FailDelayCleared(Event):
    """The run that waited for its retry was given up; the schedule goes on with its next slot."""

    TOPIC: ClassVar[str] = "FailDelayCleared.v1"

    task: str


@dataclass(frozen=True, kw_only=True)
class RunRequested(Event):
    """Somebody asked for a run beside the slots: *task* now, or without it the next worker queues one."""

    TOPIC: ClassVar[str] = "RunRequested.v1"

    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class SlotFired(Event):
    """A run was queued for *slot* as *task*; with *asked* the slot is the moment of a request."""

    TOPIC: ClassVar[str] = "SlotFired.v1"

    slot: datetime
    task: str
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class SlotsMissed(Event):
    """The slots *first* to *last* passed without a run at their time, and why."""

    TOPIC: ClassVar[str] = "SlotsMissed.v1"

    first: datetime
    last: datetime
    count: int
    cause: str
    run_later: list[str] = field(default_factory=list)
    """Those of them, as text, that are run one after the other from now on."""


@dataclass(frozen=True, kw_only=True)
class ComponentDisabled(Event):
    """The schedules of this component are not fired, but for those that run always."""

    TOPIC: ClassVar[str] = "ComponentDisabled.v1"

    component: str


@dataclass(frozen=True, kw_only=True)
class ComponentEnabled(Event):
    """The schedules of this component are fired again, from now on."""

    TOPIC: ClassVar[str] = "ComponentEnabled.v1"

    component: str


SCHEDULE_EVENT_CLASSES: tuple[type[Event], ...] = (
    ScheduleDeclared,
    ScheduleCustomised,
    ScheduleReset,
    ScheduleEnabled,
    ScheduleDisabled,
    ScheduleRetired,
    FailDelayCleared,
    RunRequested,
    SlotFired,
    SlotsMissed,
    ComponentDisabled,
    ComponentEnabled,
)
