"""Measure the raw limits of this disk and interpreter with plain sqlite3, and run workers the way a user does."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

HERE = Path(__file__).parent
APP = "bench_app:ledger"
_EVENTS = (
    "CREATE TABLE events (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,"
    " topic TEXT NOT NULL, state BLOB NOT NULL, UNIQUE (stream, version))"
)
_QUEUE = "CREATE TABLE queue (position INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, status TEXT, due_us INTEGER)"
_INSERT = "INSERT INTO events VALUES (?,?,?,?,?)"
QUEUED = orjson.dumps(
    {
        "command": "01890a5d-ac96-774b-bcce-b302099a8057",
        "at": "2026-01-01T00:00:00.000000Z",
        "actor": "user:somebody",
        "name": "noop",
        "args": {"number": 12345},
        "queue": "default",
        "priority": 0,
        "due_at": "2026-01-01T00:00:00.000000Z",
        "run_as": "system",
        "retry": {"first": 60, "factor": 2, "cap": 86400, "jitter": 0.0, "never_on": []},
        "max_attempts": 12,
        "kill_after": 30.0,
        "unique_until": "end",
        "labels": [],
    }
)
CLAIMED = orjson.dumps(
    {
        "command": "01890a5d-ac96-774b-bcce-b302099a8057",
        "at": "2026-01-01T00:00:00.000000Z",
        "actor": "worker:01890a5d-ac96-774b-bcce-b302099a8057",
        "attempt": 1,
        "worker": "01890a5d-ac96-774b-bcce-b302099a8057",
        "seen": 123456,
    }
)


def raw_database(directory: Path) -> sqlite3.Connection:
    """Return a new database as durable as a ledger: write-ahead log, fsync at every commit."""
    connection = sqlite3.connect(directory / f"raw-{uuid.uuid4()}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_EVENTS)
    connection.execute(_QUEUE)
    return connection


def streams(count: int) -> list[str]:
    """Return names of streams, ascending as those of time-ordered ids."""
    base = uuid.uuid4().int >> 64
    return [f"task:{uuid.UUID(int=((base + n) << 64) | 0x8000000000000000)}" for n in range(count)]


def raw_single_commits(directory: Path, count: int) -> float:
    """Return commits/s of one event row each."""
    names = streams(count)
    with closing(raw_database(directory)) as connection:
        started = time.perf_counter()
        for n, name in enumerate(names, 1):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, (n, name, 1, "TaskQueued.v1", QUEUED))
            connection.execute("COMMIT")
        return count / (time.perf_counter() - started)


def raw_batch_inserts(directory: Path, count: int) -> float:
    """Return event rows/s of one `executemany` in one commit."""
    names = streams(count)
    with closing(raw_database(directory)) as connection:
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, ((n, name, 1, "TaskQueued.v1", QUEUED) for n, name in enumerate(names, 1)))
        connection.execute("COMMIT")
        return count / (time.perf_counter() - started)


def raw_batch_100(directory: Path, count: int) -> float:
    """Return tasks/s of claim and completion, 100 tasks a commit: two event rows and one queue row each."""
    names = streams(count)
    with closing(raw_database(directory)) as connection:
        started = time.perf_counter()
        for first in range(0, count, 100):
            batch = names[first : first + 100]
            events = [
                (2 * (first + n) + version, name, version, "TaskClaimed.v1", CLAIMED)
                for n, name in enumerate(batch)
                for version in (1, 2)
            ]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, events)
            rows = [(first + n + 1, name, "running", 0) for n, name in enumerate(batch)]
            connection.executemany("INSERT INTO queue VALUES (?,?,?,?)", rows)
            connection.execute("COMMIT")
        return count / (time.perf_counter() - started)


def raw_read(database: Path, batch: int = 20_000) -> float:
    """Return events/s of an ordered read of a ledger's own log with `orjson.loads` of each."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        started, position, count = time.perf_counter(), 0, 0
        sql = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events WHERE rowid > ? LIMIT ?"
        while rows := connection.execute(sql, (position, batch)).fetchall():
            for row in rows:
                orjson.loads(row[4])
            position, count = rows[-1][0], count + len(rows)
        return count / (time.perf_counter() - started)


@contextmanager
def workers(
    url: str, *options: str, module: str = "runner.cli", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `workledger run` with *options* as a user would; it is stopped by SIGTERM at the end."""
    settings = {"WORKLEDGER_URL": url, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    command = [sys.executable, "-m", module, "--app", APP, "run", *options]
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, **settings, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def log_of(database: Path, topic: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (position, data) of every event of one topic."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        sql = "SELECT rowid, state FROM stored_events WHERE topic = ? ORDER BY rowid"
        return [(position, orjson.loads(state)) for position, state in connection.execute(sql, (topic,))]


def say(benchmark: Any, *, wanted: str, ours: list[float], limit: list[float] | None = None, **more: Any) -> None:
    """Keep with a benchmark its rates, the raw limit measured beside each of them, and their median ratio."""
    info: dict[str, Any] = {"wanted": wanted, "ours": round(statistics.median(ours), 4)}
    if limit is not None:
        info["raw"] = round(statistics.median(limit), 4)
        info["ratio"] = round(statistics.median(a / b for a, b in zip(ours, limit, strict=True)), 3)
    benchmark.extra_info.update(info, **more)
