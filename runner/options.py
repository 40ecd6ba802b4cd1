"""Say how a run works: what the command line gives the supervisor, and the supervisor each of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.output import OutputMode
from runner.candidates import Takes
from runner.losses import BEAT_SECONDS, LEASE_SECONDS
from runner.output import MOST_OUTPUT
from runner.overdue import INTERVALS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `workledger run`; times in seconds, `max_tasks` over all workers."""

    app: str = ""
    code_version: str | None = None
    """Of the app's code, as each claim keeps it."""
    workers: int = 1
    threads: int = 4
    queues: tuple[str, ...] = ()
    once: bool = False
    drain: bool = False
    max_tasks: int | None = None
    max_seconds: float | None = None
    name: str = "worker"
    log_format: str = "console"
    beat_seconds: float = BEAT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    output: OutputMode = "all"
    output_keep: int = 8 * 1024 * 1024
    output_echo: bool = True
    output_limit: int = MOST_OUTPUT
    notice_intervals: int = INTERVALS
    notice_command: tuple[str, ...] = ()
    smtp_host: str | None = None
    smtp_port: int = 25
    smtp_from: str | None = None
    smtp_to: tuple[str, ...] = ()
    smtp_starttls: bool = False
    smtp_user: str | None = None
    reports: bool = True
    """Whether a process beside the workers keeps the report views."""
    timezone: str = "UTC"
    schedule_overrides: Mapping[str, Any] | None = None
    """What the configuration file says of schedules; None where none is read."""
    limits: Mapping[str, Any] | None = None
    """What the configuration says of limits; None where none is read."""
    max_tasks_per_worker: int | None = None
    max_memory_per_worker: int | None = None
    """In MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How one worker process works: the options of its run, and its own share of their bounds."""

    run: RunOptions
    worker: str
    supervisor: int
    """Process id; a worker leaves when this is no longer its parent."""
    name: str
    begun: int
    """The log's head when the run began: it hears what all runs are told after that."""
    max_tasks: int | None
    max_seconds: float | None
    takes: Takes = "all"
