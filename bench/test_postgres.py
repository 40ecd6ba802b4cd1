"""How fast tasks are queued on PostgreSQL, beside plain inserts, and beside appending under a table lock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any

import psycopg
import pytest

from bench import support
from bench.support import QUEUED
from ledger import Ledger
from ledger.postgres import PostgresStore
from tests.databases import with_schema

EACH = 1_200
"""Tasks of all producers together, in one round."""
_TABLE = (
    "CREATE TABLE {} (originator_id text NOT NULL, originator_version bigint NOT NULL, topic text, state bytea,"
    " notification_id bigserial UNIQUE, PRIMARY KEY (originator_id, originator_version))"
)
_INSERT = "INSERT INTO {} (originator_id, originator_version, topic, state) VALUES (%s, 1, 'TaskQueued.v1', %s)"
_LOCKED = """
CREATE FUNCTION {0}_append(stream text, state_ bytea) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    LOCK TABLE {0} IN EXCLUSIVE MODE;
    INSERT INTO {0} (originator_id, originator_version, topic, state) VALUES (stream, 1, 'TaskQueued.v1', state_)
    RETURNING notification_id INTO id;
    RETURN id;
END $$
"""


def new_task(url: str) -> Any:
    ledger = Ledger(with_schema(url))

    @ledger.task
    def noop(number: int) -> None: ...

    noop.enqueue(0)
    return noop


def together(producers: int, produce: Callable[[int], None]) -> float:
    """Let so many threads *produce* their share at once; return how many a second all have queued."""
    share = EACH // producers
    with ThreadPoolExecutor(producers) as pool:
        started = time.perf_counter()
        for one in [pool.submit(produce, share) for _ in range(producers)]:
            one.result()
        return share * producers / (time.perf_counter() - started)


def by_statement(url: str, producers: int, sql: str) -> float:
    """Let so many threads execute *sql* for an event each time, over a connection each, in autocommit."""
    with ExitStack() as stack:
        idle = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(producers)]

        def produce(count: int) -> None:
            connection = idle.pop()
            for _ in range(count):
                connection.execute(sql, (f"task:{uuid.uuid4()}", QUEUED), prepare=True)

        return together(producers, produce)


@pytest.mark.parametrize("producers", [1, 4, 16])
def test_enqueue_on_postgres(benchmark: Any, server: str, producers: int) -> None:
    """`enqueue`, one commit each, beside plain single-row commits by as many threads of one process."""
    ours, limit, locked = [], [], []
    table = f"raw_{producers}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(_TABLE.format(table))
        connection.execute(_LOCKED.format(table))
    task = new_task(server)

    def produce(count: int) -> None:
        for number in range(count):
            task.enqueue(number)

    def setup() -> None:
        limit.append(by_statement(server, producers, _INSERT.format(table)))
        locked.append(by_statement(server, producers, f"SELECT {table}_append(%s, %s)"))

    benchmark.pedantic(lambda: ours.append(together(producers, produce)), setup=setup, rounds=7)
    task.ledger.close()
    wanted = "ratio >= 0.5" if producers == 1 else "ratio >= 0.6"
    support.say(benchmark, wanted=wanted, ours=ours, limit=limit, unit="tasks/s", table_lock=round(median(locked)))


@pytest.mark.parametrize("producers", [1, 4, 16])
def test_the_order_on_postgres(benchmark: Any, server: str, producers: int) -> None:
    """What the order of positions costs: a bare call of the append function beside one that locks the table."""
    ours, locked = [], []
    table = f"order_{producers}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(_TABLE.format(table))
        connection.execute(_LOCKED.format(table))
    store = PostgresStore(with_schema(server))
    store.prepare()
    append = f"SELECT * FROM {store.schema}.append_event(%s, 1, 'TaskQueued.v1', %s)"

    def setup() -> None:
        locked.append(by_statement(server, producers, f"SELECT {table}_append(%s, %s)"))

    benchmark.pedantic(lambda: ours.append(by_statement(server, producers, append)), setup=setup, rounds=7)
    store.close()
    support.say(benchmark, wanted="ratio >= 1", ours=ours, limit=locked, unit="appends/s")


def test_enqueue_many_on_postgres(benchmark: Any, server: str) -> None:
    """`enqueue_many` of 1,000 in one commit, beside 1,000 rows by `executemany` in one commit."""
    count, ours, limit = 1_000, [], []
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(_TABLE.format("raw_many"))
    task = new_task(server)

    def setup() -> None:
        rows = [(f"task:{uuid.uuid4()}", QUEUED) for _ in range(count)]
        with psycopg.connect(server) as connection:
            started = time.perf_counter()
            connection.cursor().executemany(_INSERT.format("raw_many"), rows)
            connection.commit()
            limit.append(count / (time.perf_counter() - started))

    def enqueue() -> None:
        started = time.perf_counter()
        task.ledger.enqueue_many(task.call(number) for number in range(count))
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(enqueue, setup=setup, rounds=15)
    task.ledger.close()
    support.say(benchmark, wanted="40,000/s-class", ours=ours, limit=limit, unit="tasks/s")
