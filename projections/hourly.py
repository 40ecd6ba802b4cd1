"""Fold task events into the report view `hourly`: counts, and waits and runs in fixed buckets. Pure.

The bounds of the buckets are constants: where a batch ends or another process goes on changes no percentile.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

import orjson

from ledger import events as e
from projections.views import Row, Step, Tables

PER_DOUBLING = 8
"""A percentile is the upper bound of its bucket, so at most 9.1 % above the value (2 ** (1 / 8))."""
BOUNDS_US = tuple(ceil(2 ** (n / PER_DOUBLING)) for n in range(PER_DOUBLING * 48))
"""Upper bounds in microseconds: bucket n has what is longer than bound n - 1 and not longer than bound n."""
COUNTED = ("queued", "started", "succeeded", "failed", "retried", "lost", "interrupted", "cancelled")


class HourRow(NamedTuple):
    """A row of `hourly`; what the columns mean says its SQL file."""

    hour: str
    name: str
    queue: str
    queued: int
    started: int
    succeeded: int
    failed: int
    retried: int
    lost: int
    interrupted: int
    cancelled: int
    wait_p50_ms: float | None
    wait_p95_ms: float | None
    wait_max_ms: float | None
    run_p50_ms: float | None
    run_p95_ms: float | None
    run_max_ms: float | None
    wait_buckets: str
    run_buckets: str


@dataclass(slots=True)
class Buckets:
    """How many durations fell into which bucket, and the longest of them in milliseconds."""

    counts: dict[int, int] = field(default_factory=dict)
    longest: float | None = None

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        bucket = min(bisect_left(BOUNDS_US, round(milliseconds * 1000)), len(BOUNDS_US) - 1)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.longest = milliseconds if self.longest is None else max(self.longest, milliseconds)

    def percentile(self, share: float) -> float | None:
        """Return the bound below which this *share* of the durations lies, never above the longest; None of none."""
        left = ceil(share * sum(self.counts.values()))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(BOUNDS_US[bucket] / 1000, self.longest or 0.0)
        return None

    def dumps(self) -> str:
        """Return the counts as JSON, in the order of the buckets."""
        return orjson.dumps({str(bucket): self.counts[bucket] for bucket in sorted(self.counts)}).decode()


@dataclass(slots=True)
class Hour:
    """A row in the midst of folding; the batch that loaded it owns it."""

    key: tuple[str, str, str]
    counts: dict[str, int]
    waits: Buckets
    runs: Buckets


def load(row: Row) -> Hour:
    """Return a stored row ready for its next event."""
    stored = HourRow._make(row)
    counts = {name: getattr(stored, name) for name in COUNTED}
    waits = Buckets(_counts(stored.wait_buckets), stored.wait_max_ms)
    return Hour(stored[:3], counts, waits, Buckets(_counts(stored.run_buckets), stored.run_max_ms))


def _counts(text: str) -> dict[int, int]:
    return {int(bucket): count for bucket, count in orjson.loads(text).items()}


def store(hour: Hour) -> Row:
    """Return the row as it is to be stored."""
    durations = [(b.percentile(0.5), b.percentile(0.95), b.longest) for b in (hour.waits, hour.runs)]
    counts = tuple(hour.counts[name] for name in COUNTED)
    return (*hour.key, *counts, *durations[0], *durations[1], hour.waits.dumps(), hour.runs.dumps())


def take(step: Step, tables: Tables) -> None:
    """Fold one event of a task."""
    counted = _counted(step.event)
    if not counted or step.after is None:
        return
    state = step.after.state
    key = (step.at[:13] + ":00:00.000000Z", state.name, state.queue)
    hour: Hour = tables["hourly"].own(key, lambda: Hour(key, dict.fromkeys(COUNTED, 0), Buckets(), Buckets()))
    for name in counted:
        hour.counts[name] += 1
    if (wait_ms := step.changes.get("wait_ms")) is not None:
        hour.waits.add(wait_ms)
    if (run_ms := step.changes.get("run_ms")) is not None:
        hour.runs.add(run_ms)


def _counted(event: e.Event) -> tuple[str, ...]:
    match event:
        case e.TaskQueued():
            return ("queued",)
        case e.TaskClaimed():
            return ("started",)
        case e.TaskSucceeded():
            return ("succeeded",)
        case e.TaskFailed() | e.TaskDelayed():
            return ("failed",) if event.final else ("retried",)
        case e.AttemptLost():
            return ("failed", "lost") if event.final else ("retried", "lost")
        case e.AttemptInterrupted():
            return ("interrupted",)
        case e.TaskCancelled():
            return ("cancelled",)
        case _:
            return ()
