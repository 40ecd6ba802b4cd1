"""State what a process that works the queue shows of itself: one mutable row of the table `workers`, no event."""

from __future__ import annotations

from typing import NamedTuple

import orjson


class Heartbeat(NamedTuple):
    """A row of the table `workers`; times in microseconds since 1970, *pid_started* in seconds since then."""

    worker_id: str
    name: str
    host: str
    boot: str
    pid: int
    pid_started: float
    started_us: int
    beat_us: int
    beats: int
    threads: int
    queues: str
    """JSON list; empty: all."""
    lease_us: int
    """How long it may be silent; 0 for a process that shows no heartbeats and is there until it is gone."""
    names: str
    """JSON list of the task names it knows."""

    def is_silent(self, now_us: int) -> bool:
        """Return whether its lease has run out at *now_us*."""
        return self.lease_us > 0 and now_us - self.beat_us > self.lease_us

    def serves(self, queue: str) -> bool:
        """Return whether it takes tasks from *queue*."""
        queues = orjson.loads(self.queues)
        return not queues or queue in queues

    def knows(self, name: str) -> bool:
        """Return whether it has a task of this name."""
        return name in orjson.loads(self.names)
