"""Say when a task is due and when it expires, and what is refused and said then. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypedDict

from ledger.clock import from_us, to_us
from ledger.commands import Queue
from ledger.errors import Conflict


class Moments(TypedDict):
    """The fields of `TaskQueued` that count from the act."""

    due_at: datetime
    expires_at: datetime | None


def of(command: Queue, at: datetime) -> Moments:
    """Return when the task that *command* asks for at *at* is due and when it expires."""
    due_at, expires_at = command.due_at, command.expires_at
    if due_at is None:
        due_at = at + timedelta(microseconds=command.delay_us) if command.delay_us else at
    if expires_at is None and command.expires_after_us is not None:
        expires_at = due_at + timedelta(microseconds=command.expires_after_us)
    return Moments(due_at=due_at, expires_at=expires_at)


def has_come(expires_us: int | None, now_us: int) -> bool:
    """Return whether a task with this expiry may not begin any more."""
    return expires_us is not None and expires_us <= now_us


def moved(expires_us: int | None, to: datetime | None) -> int | None:
    """Return the expiry after a move *to* a new one, None for the same."""
    return expires_us if to is None else to_us(to)


def require_before(task_id: str, expires_us: int | None, moment: datetime) -> None:
    """Refuse to let a task begin at *moment*, or be due then, if it has expired by then.

    Raises:
        Conflict: It has.
    """
    if expires_us is not None and has_come(expires_us, to_us(moment)):
        raise Conflict(f"task {task_id} expires at {_shown(expires_us)}; it cannot begin at {moment.isoformat()}")


def told(expires_us: int, attempt: int) -> str:
    """Return why a task was cancelled that expired with *attempt* attempts behind it, all of them interrupted."""
    waited = "before any attempt began" if attempt == 0 else "while it waited to begin again, having been interrupted"
    return f"it expired at {_shown(expires_us)} {waited}"


def _shown(expires_us: int) -> str:
    return from_us(expires_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
