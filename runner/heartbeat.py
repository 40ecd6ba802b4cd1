"""State what a process that works the queue shows of itself: one mutable row, no event."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import NamedTuple

import orjson
import psutil

from ledger.clock import to_us
from ledger.store import Snapshot, Unit
from projections.queue import SQL


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


def host_name() -> str:
    """Return this host's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what tells this boot of the host from every other."""
    return f"{psutil.boot_time():.0f}"


def process_start(pid: int) -> float | None:
    """Return when process *pid* started (seconds since 1970), or None if there is none.

    A dead process is there until its parent has taken note of its end; a supervisor does so when it has recorded it.
    """
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def show(
    unit: Unit,
    worker: str,
    name: str,
    *,
    threads: int,
    queues: Iterable[str],
    lease_seconds: float,
    names: Iterable[str],
) -> None:
    """Put the row of this process, with its first heartbeat."""
    now_us = to_us(unit.now)
    row = Heartbeat(
        worker_id=worker,
        name=name,
        host=host_name(),
        boot=boot_id(),
        pid=os.getpid(),
        pid_started=process_start(os.getpid()) or 0.0,
        started_us=now_us,
        beat_us=now_us,
        beats=0,
        threads=threads,
        queues=orjson.dumps(list(queues)).decode(),
        lease_us=int(lease_seconds * 1_000_000),
        names=orjson.dumps(sorted(names)).decode(),
    )
    unit.run(SQL["put_worker"], row)


def all_of(snapshot: Snapshot) -> list[Heartbeat]:
    """Return the rows, oldest process first."""
    return [Heartbeat._make(row) for row in snapshot.rows(SQL["all_workers"])]
