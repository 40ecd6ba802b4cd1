"""What reports cost on PostgreSQL: folding them into their schema, and following beside a worker."""

from __future__ import annotations

import statistics
import time
from typing import Any

import psycopg

from bench import support
from bench.test_postgres_work import SPAN, asked, filled
from bench.test_scale import fill_and_work
from ledger import Ledger
from ledger.codec import EventMapper
from ledger.postgres import PostgresStore
from projections.following import BUILD_BATCH
from projections.report_views import VIEWS
from projections.reports import Reports
from tests.databases import with_schema

TABLES = [table for view in VIEWS for table in view.tables]


def worked(server: str, count: int) -> Ledger:
    """A ledger with so many tasks, a thousand at a time queued and nine of ten of them worked; no reports."""
    ledger = Ledger(with_schema(server))
    ledger.task(name="noop")(lambda number: None)
    fill_and_work(ledger, count)
    return ledger


def raw_fold(ledger: Ledger, schema: str) -> float:
    """Return events/s of an ordered read, decode of each, and psycopg's `executemany` of the views' own final rows.

    Into tables and indexes of the same declaration, in as many transactions as the fold makes, not waiting for the disk.
    """
    mapper = EventMapper()
    assert isinstance(ledger.store, PostgresStore)
    with psycopg.connect(**ledger.store.address.parameters, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS raw CASCADE")
        connection.execute("CREATE SCHEMA raw")
        connection.execute("SET synchronous_commit = off")
        rows = {table.name: connection.execute(f"SELECT * FROM {schema}.{table.name}").fetchall() for table in TABLES}
        for table in TABLES:
            connection.execute(f"CREATE TABLE raw.{table.name} (LIKE {schema}.{table.name} INCLUDING ALL)")
        head = connection.execute(f"SELECT max(notification_id) FROM {ledger.store.schema}.stored_events").fetchone()[0]  # type: ignore[index]
        batches = -(-head // BUILD_BATCH)
        sql = (
            "SELECT notification_id, originator_id, originator_version, topic, state"
            f" FROM {ledger.store.schema}.stored_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
        )
        started = time.perf_counter()
        for n in range(batches):
            for row in connection.execute(sql, (n * BUILD_BATCH, BUILD_BATCH), binary=True).fetchall():
                mapper.decode(*row[1:], row[0])
            with connection.transaction(), connection.cursor() as cursor:
                for table in TABLES:
                    part = rows[table.name]
                    part = part[len(part) * n // batches : len(part) * (n + 1) // batches]
                    marks = ", ".join(["%s"] * len(table.columns))
                    cursor.executemany(f"INSERT INTO raw.{table.name} VALUES ({marks})", part)
        return float(head / (time.perf_counter() - started))


def test_fold_reports_on_postgres(benchmark: Any, server: str) -> None:
    """All report views from 140,000 events, beside read, decode to events, and `executemany` of the same rows."""
    ledger = worked(server, 50_000)
    reports = Reports(ledger)
    reports.catch_up()
    size = f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = '{reports.file.schema}'::regnamespace AND relkind = 'r'"
    report_bytes = int(asked(ledger, size)[0])
    ours, limit = [], []

    def setup() -> None:
        limit.append(raw_fold(ledger, reports.file.schema))

    def rebuild() -> None:
        started = time.perf_counter()
        count = reports.rebuild()
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(rebuild, setup=setup, rounds=3)
    support.say(benchmark, wanted="ratio >= 0.25", ours=ours, limit=limit, unit="events/s",
                report_bytes_a_task=round(report_bytes / 50_000))  # fmt: skip
    ledger.close()


def test_following_beside_a_worker_on_postgres(benchmark: Any, server: str) -> None:
    """10,000 no-op tasks by one worker that keeps the reports beside, and by one that does not, in turn."""
    count, rates, lags = 10_000, {"true": [], "false": []}, []

    def drain(follows: str) -> None:
        ledger = filled(server, count)
        with support.workers(ledger.url, WORKLEDGER_REPORTS=follows) as process:
            while asked(ledger, "SELECT max(position) FROM events")[0] < 3 * count:
                time.sleep(0.05)
            ended = time.monotonic()
            if follows == "true":
                reports = Reports(ledger)
                while reports.checkpoint() < 3 * count and time.monotonic() < ended + 60:
                    time.sleep(0.02)
                lags.append(time.monotonic() - ended)
            process.terminate()
            process.wait()
        rates[follows].append(count / asked(ledger, SPAN)[0])
        ledger.close()

    def both() -> None:
        for follows in ("false", "true"):
            drain(follows)

    benchmark.pedantic(both, rounds=3)
    support.say(benchmark, wanted="ratio >= 0.9, caught up <= 10 s", ours=rates["true"], limit=rates["false"],
                unit="tasks/s", caught_up_seconds=round(statistics.median(lags), 2))  # fmt: skip
