"""How fast workers work a queue on PostgreSQL beside plain psycopg, how soon an idle one picks a task up, and at what cost."""

from __future__ import annotations

import re
import statistics
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from bench import support
from bench.postgres_limits import raw_batch_100
from ledger import Ledger
from ledger.postgres import PostgresStore
from tests.databases import Server, new_server, with_schema


def filled(server: str, count: int) -> Ledger:
    ledger = Ledger(with_schema(server))
    noop = ledger.task(name="noop")(lambda number: None)
    for first in range(0, count, 1_000):
        ledger.enqueue_many(noop.call(number=number) for number in range(first, first + 1_000))
    ledger.close()
    return ledger


def asked(ledger: Ledger, sql: str) -> Any:
    assert isinstance(ledger.store, PostgresStore)
    with psycopg.connect(**ledger.store.address.parameters) as connection:
        connection.execute(f"SET search_path = {ledger.store.schema}")
        return connection.execute(sql).fetchone()


SPAN = """
SELECT extract(epoch FROM max((data::json->>'at')::timestamptz) FILTER (WHERE topic = 'TaskSucceeded.v1')
                        - min((data::json->>'at')::timestamptz) FILTER (WHERE topic = 'TaskClaimed.v1'))::float8,
       count(*) FILTER (WHERE topic = 'TaskSucceeded.v1')
  FROM events
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_end_to_end_on_postgres(benchmark: Any, server: str, workers: int) -> None:
    """10,000 queued no-op tasks claimed and completed by so many worker processes, beside plain batches of 100."""
    count, ours, limit = 10_000, [], []

    def setup() -> tuple[tuple[Ledger], dict[str, Any]]:
        limit.append(raw_batch_100(server, count, workers))
        return (filled(server, count),), {}

    def drain(ledger: Ledger) -> None:
        with support.workers(ledger.url, "--drain", "--workers", str(workers)) as process:
            process.wait()
        seconds, done = asked(ledger, SPAN)
        assert done == count
        ours.append(count / seconds)

    benchmark.pedantic(drain, setup=setup, rounds=7)
    support.say(benchmark, wanted="ratio >= 0.5", ours=ours, limit=limit, unit="tasks/s")


def test_pickup_on_postgres(benchmark: Any, server: str) -> None:
    """From the return of `enqueue` to the first line of the task in an idle worker's process, at odd moments."""
    ledger = Ledger(with_schema(server))
    task = ledger.task(name="picked_up")(lambda: 0)
    after: list[float] = []
    with support.workers(ledger.url):
        task.enqueue().result(timeout=30)

        def one() -> None:
            handle = task.enqueue()
            returned = time.monotonic_ns()
            after.append((handle.result(timeout=30) - returned) / 1e6)
            time.sleep(0.005 + len(after) % 17 / 1000)

        benchmark.pedantic(one, rounds=500)
    cut = statistics.quantiles(after, n=100)
    support.say(benchmark, wanted="p50 <= 5 ms, p99 <= 15 ms", ours=after, unit="ms", p50=round(cut[49], 2),
                p99=round(cut[98], 2))  # fmt: skip


def test_idle_on_postgres(benchmark: Any) -> None:
    """Statements a second that one waiting worker and what runs beside it cost the server, with a task for tomorrow."""
    server = new_server()
    with psycopg.connect(server.url, autocommit=True) as connection:
        for setting in ("log_statement = 'all'", "log_line_prefix = 'heard '"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    ledger = filled(server.url, 0)
    ledger.functions["noop"].using(run_after=timedelta(days=1)).enqueue(number=0)
    ledger.close()
    rates: list[float] = []
    with support.workers(ledger.url, "--workers", "1"):
        time.sleep(8)

        def rest() -> None:
            before, started = heard(server), time.monotonic()
            time.sleep(20)
            rates.append((heard(server) - before) / (time.monotonic() - started))

        benchmark.pedantic(rest, rounds=2)
    server.remove()
    support.say(benchmark, wanted="< 5 a second", ours=rates, unit="statements/s")


def heard(server: Server) -> int:
    """Return how many statements the server has logged; what was sent in one message counts one by one."""
    log = (server.place / "data" / "log").read_text(errors="replace")
    messages = re.findall(r"^heard LOG:  (?:statement|execute [^:]*): ((?:.*\n)(?:(?!heard ).*\n)*)", log, re.MULTILINE)
    return sum(message.count("; ") + 1 for message in messages)
