"""State what may be asked of one schedule: imperative requests, which `ledger.schedule_rules.decide` may refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ledger.retry import StoredRetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A schedule as its code declares it: the default, and all that a run of it needs. Durations in seconds."""

    task: str
    fields: tuple[str, ...]
    """Minute, hour, day, month, day of week as written."""
    timezone: str
    retry: StoredRetry
    enabled: bool = True
    args: dict[str, Any] = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    run_as: str = "system"
    max_attempts: int | None = None
    timeout: float | None = None
    kill_after: float = 30.0
    labels: tuple[str, ...] = ()
    jitter: float = 0.0
    misfire: str = "one"
    component: str | None = None
    always: bool = False
    description: str | None = None
    expires_us: int | None = None
    """Microseconds after it was due at which a run that has not begun is cancelled."""
    hidden: list[str] | None = None
    """Names of the arguments that are shown as hidden."""
    concurrency_key: str | None = None
    """Limits may bound how many of one key run at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declare:
    """Say that the code of *app* has it; *resolved* are the fields with R and H settled, R drawn anew.

    A worker that starts declares; with *is_sync* somebody asked for it, which may also go back to an older default.
    """

    app: str
    definition: Definition
    resolved: tuple[str, ...]
    croniter: str
    is_sync: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Say that the code no longer has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Customise:
    """Put values in the place of the default; None leaves one as it is. *resolved* goes with *fields*.

    With *override* they come from the configuration file, where they stand under that name or pattern.
    """

    fields: tuple[str, ...] | None = None
    resolved: tuple[str, ...] | None = None
    timezone: str | None = None
    enabled: bool | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Go back to the default of the code; with *override*, take back what the configuration file said."""

    override: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Enable:
    """Fire its slots from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disable:
    """Fire none of its slots until it is enabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearDelay:
    """Give up the run that waits for its retry. *run* is the state of the live run's task, None without one."""

    run: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """Queue a run at once as *task*, or make the one that waits due. *run* as for `ClearDelay`."""

    task: str
    run: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSoon:
    """Let the next worker that looks fire it. *run* as for `ClearDelay`."""

    run: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """Fire what is due, and record what was missed; *away* says why slots were not fired at their time."""

    away: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Record the slots that have passed until now as missed, for *cause*, pending ones too; nothing is fired."""

    cause: str


ScheduleCommand = Declare | Retire | Customise | Reset | Enable | Disable | ClearDelay | RunNow | RunSoon | Fire | Pass
