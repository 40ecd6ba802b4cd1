"""Show others the process that works the queue: its host, its pid, its beat."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import orjson
import psutil

from ledger.clock import to_us
from ledger.store import Snapshot, Unit
from projections.heartbeat import Heartbeat
from projections.queue import SQL


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
