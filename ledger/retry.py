"""Decide how long a failed task waits: pure, from the policy stored with the task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypedDict

from ledger.errors import InvalidOption
from ledger.values import is_number, shown

DEFAULT_MAX_ATTEMPTS = 12


class StoredRetry(TypedDict):
    """A retry policy as `TaskQueued` keeps it; times in seconds."""

    first: float
    factor: float
    cap: float
    jitter: float
    never_on: list[str]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How a task is tried again: *first* seconds, then *factor* times longer each time, at most *cap* seconds.

    *jitter* 0.1 lengthens a delay by up to a tenth, the same for the same task and attempt. An error of a type in
    *never_on* (or a subclass) ends the task at once. The defaults: 1 minute, doubling, at most 24 hours.

    Raises:
        InvalidOption: A number is outside its range.
    """

    first: float = 60
    factor: float = 2
    cap: float = 86_400
    jitter: float = 0.0
    never_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        _check("first", self.first, 0, 31_536_000)
        _check("factor", self.factor, 1, 1_000)
        _check("cap", self.cap, 0, 31_536_000)
        _check("jitter", self.jitter, 0, 1)
        if not isinstance(self.never_on, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.never_on
        ):
            raise InvalidOption(f"retry never_on is {shown(self.never_on)}; it must be a tuple of exception classes")

    def stored(self) -> StoredRetry:
        """Return the policy as JSON; classes by their names."""
        return StoredRetry(
            first=self.first,
            factor=self.factor,
            cap=self.cap,
            jitter=self.jitter,
            never_on=[class_name(kind) for kind in self.never_on],
        )


def is_never_retried(stored: StoredRetry, error: BaseException) -> bool:
    """Return whether *error*, or a class it derives from, is one that the stored policy never retries.

    Classes are compared by name: nothing that the log names is ever imported.
    """
    never_on = stored.get("never_on")
    return bool(never_on) and any(class_name(kind) in never_on for kind in type(error).__mro__)


def class_name(kind: type) -> str:
    """Return ``module.Class``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _check(name: str, value: object, low: float, high: float) -> None:
    if not is_number(value) or not low <= value <= high:
        raise InvalidOption(f"retry {name} is {shown(value)}; allowed is a number from {low} to {high}")


def delay_seconds(
    first: float, factor: float, cap: float, jitter: float, used: int, task_id: str, attempt: int
) -> float:
    """Return the seconds to wait after *used* attempts (1 after the first failure) have been used up.

    ``min(cap, first * factor ** (used - 1))``, lengthened by at most *jitter* of itself. The share is a hash of task
    and attempt, so a replay gives the same time.
    """
    try:
        delay = min(float(cap), first * factor ** max(used - 1, 0))
    except OverflowError:  # a power beyond any float is beyond the cap
        delay = float(cap) if first else 0.0
    if jitter:
        digest = hashlib.sha256(f"{task_id}:{attempt}".encode()).digest()
        delay *= 1 + jitter * int.from_bytes(digest[:8], "big") / 2**64
    return delay
