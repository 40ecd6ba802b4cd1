"""Word what workers and supervisors log: every line of theirs is made here, as text or JSON."""

from __future__ import annotations

import sys
from typing import Any

import structlog

MESSAGES = {
    "worker_started": "worker started",
    "worker_stopped": "worker stopped",
    "worker_died": "worker died",
    "worker_killed": "worker ended: silent or past a hard timeout",
    "attempt_failed": "attempt failed",
    "attempt_lost": "attempt lost",
    "left_behind": "a task left the process changed; restored",
    "result_rejected": "late results rejected",
    "attempts_ended": "attempts of a gone worker recorded",
    "storage_unavailable": "storage unavailable, trying again",
    "schedules_registered": "schedules of this code registered",
    "schedule_left_alone": "schedule left alone",
    "schedule_overdue": "a schedule has not succeeded for too long",
    "notices_delivered": "notices delivered",
    "notice_hook_failed": "a hook for notices failed",
    "legacy_left_out": "legacy cron function not taken over",
    "clock_jumped": "the clock was set",
    "stopping": "stopping: no new claims; a second signal ends what still runs",
    "stopping_now": "stopping now: what still runs is interrupted",
    "view_stopped": "the views cannot go on",
}


class Log:
    """A structured log on standard error; *form* is ``console`` or ``json``."""

    def __init__(self, form: str, **context: Any) -> None:
        renderer: Any = (
            structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
        )
        self._logger = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), renderer],
        ).bind(**context)

    def info(self, event: str, **values: Any) -> None:
        """Log a transition."""
        self._logger.info(MESSAGES[event], **values)

    def warning(self, event: str, **values: Any) -> None:
        """Log a transition that somebody should look at."""
        self._logger.warning(MESSAGES[event], **values)
