"""Measure the raw limits of a PostgreSQL server with plain psycopg: batches of 100 claimed and completed."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import psycopg
from psycopg import RawCursor

from bench.support import CLAIMED, streams

TABLES = """
DROP TABLE IF EXISTS raw_events, raw_queue;
CREATE TABLE raw_events (
    position bigserial PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL, topic text NOT NULL,
    state bytea NOT NULL, UNIQUE (stream, version));
CREATE TABLE raw_queue (
    position bigint PRIMARY KEY, task_id text NOT NULL UNIQUE, status text NOT NULL, due_us bigint NOT NULL);
CREATE INDEX raw_due ON raw_queue (due_us, position) WHERE status = 'waiting';
"""
FILL = "INSERT INTO raw_queue SELECT n, s, 'waiting', 0 FROM unnest($1::bigint[], $2::text[]) AS u(n, s)"
CLAIM = (
    "UPDATE raw_queue SET status = 'running' WHERE position IN (SELECT position FROM raw_queue WHERE status = 'waiting'"
    " AND due_us <= 1 ORDER BY due_us, position LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING position, task_id"
)
COMPLETE = "DELETE FROM raw_queue WHERE position = ANY($1::bigint[])"
APPEND = (
    "INSERT INTO raw_events (stream, version, topic, state)"
    " SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[])"
)


def fill(url: str, count: int) -> None:
    """Make new tables and queue *count* tasks."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
        RawCursor(connection).execute(FILL, (list(range(count)), streams(count)))
        connection.execute("ANALYZE raw_queue")


def work(url: str, gate: Any, spans: Any) -> None:
    """Claim and complete until nothing waits: one commit per 100 tasks, an event for each claim and each completion."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = RawCursor(connection)
        held: list[tuple[int, str]] = []
        gate.wait()
        started = time.monotonic()
        while True:
            cursor.execute("BEGIN")
            claimed = cursor.execute(CLAIM).fetchall()
            names = [name for _, name in claimed] + [name for _, name in held]
            versions = [2] * len(claimed) + [3] * len(held)
            if names:
                topics = ["TaskClaimed.v1"] * len(names)
                cursor.execute(APPEND, (names, versions, topics, [CLAIMED] * len(names)))
            if held:
                cursor.execute(COMPLETE, ([position for position, _ in held],))
            cursor.execute("COMMIT")
            held = claimed
            if not held:
                break
        spans.put((started, time.monotonic()))


def raw_batch_100(url: str, count: int, connections: int) -> float:
    """Return tasks/s of so many processes with a connection each."""
    fill(url, count)
    context = multiprocessing.get_context("fork")
    gate, spans = context.Barrier(connections), context.Queue()
    processes = [context.Process(target=work, args=(url, gate, spans)) for _ in range(connections)]
    for process in processes:
        process.start()
    found = [spans.get() for _ in processes]
    for process in processes:
        process.join()
    return count / (max(end for _, end in found) - min(start for start, _ in found))
