"""What reports cost: folding them, following beside a worker, how large they are, and exporting them."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from bench import support
from bench.test_scale import fill_and_work, ledger_at
from bench.test_work import filled, span
from ledger import Ledger
from ledger.codec import EventMapper
from projections.following import BUILD_BATCH
from projections.report_views import VIEWS
from projections.reports import Reports
from projections.table_sql import sql_of
from runner.cli import app


def worked(database: Path, count: int) -> Ledger:
    """A ledger with so many tasks, a thousand at a time queued and nine of ten of them worked; no reports."""
    ledger = ledger_at(database)
    fill_and_work(ledger, count)
    return ledger


def raw_fold(database: Path, reports: Path, directory: Path, decode: Callable[[tuple[Any, ...]], Any]) -> float:
    """Return events/s of an ordered read, *decode* of each, and `executemany` of the views' own final rows.

    Into tables and indexes of the same declaration, in as many transactions as the fold makes.
    """
    with closing(sqlite3.connect(reports)) as source:
        tables = [table for view in VIEWS for table in view.tables]
        rows = {t.name: source.execute(f"SELECT {', '.join(t.columns)} FROM {t.name}").fetchall() for t in tables}
    target = directory / f"raw-{time.monotonic_ns()}.db"
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as log,
        closing(sqlite3.connect(target, isolation_level=None)) as out,
    ):
        out.execute("PRAGMA journal_mode = WAL")
        out.execute("PRAGMA synchronous = NORMAL")
        for table in tables:
            out.execute(table.create.format(table=table.name))
        (head,) = log.execute("SELECT max(rowid) FROM stored_events").fetchone()
        batches = -(-head // BUILD_BATCH)
        started = time.perf_counter()
        sql = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events WHERE rowid > ? LIMIT ?"
        for n in range(batches):
            for row in log.execute(sql, (n * BUILD_BATCH, BUILD_BATCH)).fetchall():
                decode(row)
            out.execute("BEGIN IMMEDIATE")
            for table in tables:
                all_rows = rows[table.name]
                part = all_rows[len(all_rows) * n // batches : len(all_rows) * (n + 1) // batches]
                out.executemany(sql_of(table, table.name, "sqlite").put_row, part)
            out.execute("COMMIT")
        for table in tables:
            for index in table.indexes:
                out.execute(index.format(table=table.name, index=table.name))
        took = time.perf_counter() - started
    target.unlink()
    return head / took


def test_fold_reports(benchmark: Any, tmp_path: Path) -> None:
    """All report views from 280,000 events, beside read, decode to events, and `executemany` of the same rows."""
    database = tmp_path / "work.db"
    ledger = worked(database, 100_000)
    reports = Reports(ledger)
    reports.catch_up()
    with closing(sqlite3.connect(reports.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = os.path.getsize(reports.path)
    ours, limit, plain = [], [], []
    mapper = EventMapper()

    def setup() -> None:
        limit.append(raw_fold(database, Path(reports.path), tmp_path, lambda row: mapper.decode(*row[1:], row[0])))
        plain.append(raw_fold(database, Path(reports.path), tmp_path, lambda row: orjson.loads(row[4])))

    def rebuild() -> None:
        started = time.perf_counter()
        count = reports.rebuild()
        ours.append(count / (time.perf_counter() - started))

    benchmark.pedantic(rebuild, setup=setup, rounds=3)
    support.say(benchmark, wanted="ratio >= 0.25", ours=ours, limit=limit, unit="events/s",
                ratio_to_orjson_loads=round(statistics.median(a / b for a, b in zip(ours, plain, strict=True)), 3),
                report_bytes_a_task=round(size / 100_000), log_bytes_a_task=round(os.path.getsize(database) / 100_000))  # fmt: skip


def test_following_beside_a_worker(benchmark: Any, tmp_path: Path) -> None:
    """30,000 no-op tasks by one worker that keeps the reports beside, and by one that does not, in turn."""
    count, rates, lags = 30_000, {"true": [], "false": []}, []

    def drain(follows: str) -> None:
        ledger, database = filled(tmp_path, f"work-{follows}-{len(rates[follows])}", count)
        with support.workers(ledger.url, WORKLEDGER_REPORTS=follows) as process:
            while ledger.store.path and not _is_done(database, count):
                time.sleep(0.02)
            ended = time.monotonic()
            if follows == "true":
                reports = Reports(ledger)
                with closing(sqlite3.connect(database)) as connection:
                    (head,) = connection.execute("SELECT max(rowid) FROM stored_events").fetchone()
                while reports.checkpoint() < head and time.monotonic() < ended + 60:
                    time.sleep(0.02)
                lags.append(time.monotonic() - ended)
            process.terminate()
        rates[follows].append(count / span(database))

    def both() -> None:
        for follows in ("false", "true"):
            drain(follows)

    benchmark.pedantic(both, rounds=3)
    support.say(benchmark, wanted="ratio >= 0.9, caught up <= 10 s", ours=rates["true"], limit=rates["false"],
                unit="tasks/s", caught_up_seconds=round(statistics.median(lags), 2))  # fmt: skip


def _is_done(database: Path, count: int) -> bool:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (head,) = connection.execute("SELECT max(rowid) FROM stored_events").fetchone()
    return int(head or 0) >= 3 * count


@pytest.mark.parametrize(("kind", "form"), [("tasks", "parquet"), ("attempts", "parquet"), ("events", "parquet"),
                                            ("tasks", "csv"), ("events", "jsonl")])  # fmt: skip
def test_export(benchmark: Any, tmp_path: Path, kind: str, form: str) -> None:
    """The export of 100,000 tasks, their attempts or their events, reports at the head."""
    ledger = worked(tmp_path / "work.db", 100_000)
    Reports(ledger).catch_up()
    ours: list[float] = []

    def export() -> None:
        started = time.perf_counter()
        words = ["export", kind, "--format", form, "--to", f"{tmp_path}/out"]
        result = CliRunner().invoke(app, ["--url", ledger.url, *words])
        ours.append(int(result.stderr.split()[0]) / (time.perf_counter() - started))

    benchmark.pedantic(export, rounds=3)
    support.say(benchmark, wanted="100,000 rows/s-class to Parquet", ours=ours, unit="rows/s")


COPIES = 20
COPYING = (
    """INSERT INTO attempts SELECT task_id || '-' || :n, {rest} FROM attempts WHERE claimed_position <= :head""",
    """INSERT INTO tasks SELECT task_id || '-' || :n, {rest} FROM tasks WHERE first_position <= :head""",
    """INSERT INTO hourly SELECT strftime('%Y-%m-%dT%H:00:00.000000Z', hour, '-' || :n || ' hours'), {rest}
        FROM (SELECT * FROM hourly ORDER BY hour DESC LIMIT :own)""",
)
"""How the rows of the report views of so many tasks are made those of twenty times as many."""


def multiplied(database: Path) -> Ledger:
    """A ledger with 50,000 tasks whose report views have the rows of 1,000,000, with ids and positions of their own."""
    ledger = worked(database, 50_000)
    reports = Reports(ledger)
    head = reports.catch_up()
    moved = {"claimed_position", "ended_position", "first_position", "last_position"}
    with closing(sqlite3.connect(reports.path)) as connection:
        (own,) = connection.execute("SELECT count(*) FROM hourly").fetchone()
        for statement in COPYING:
            name = statement.split()[2]
            [table] = next(view for view in VIEWS if view.name == name).tables
            rest = ", ".join(f"{c} + :n * :head" if c in moved else c for c in table.columns[1:])
            for n in range(1, COPIES):
                connection.execute(statement.format(rest=rest), {"n": n, "head": head, "own": own})
        connection.commit()
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (50_000 * COPIES,)
    return ledger


LOOKS = {
    "history": ("history",),
    "history of a name": ("history", "--filter", "name:noop"),
    "history of an outcome without rows": ("history", "--filter", "outcome:failed"),
    "history of one hour": ("history", "--filter", "outcome:succeeded", "--since", "1h"),
    "tasks by state": ("task", "list", "--filter", "state:waiting"),
    "stats": ("stats",),
    "stats by hour": ("stats", "--by", "hour"),
}


def test_looking_back(benchmark: Any, tmp_path: Path) -> None:
    """First pages of `history` and `stats` over 1,000,000 tasks, each from a cold start of its connections."""
    ledger = multiplied(tmp_path / "work.db")
    took: dict[str, list[float]] = {name: [] for name in LOOKS}

    def look() -> None:
        for name, words in LOOKS.items():
            started = time.perf_counter()
            done = CliRunner().invoke(app, ["--url", ledger.url, *words])
            took[name].append(1000 * (time.perf_counter() - started))
            assert done.exit_code == 0, done.output

    benchmark.pedantic(look, rounds=5)
    benchmark.extra_info["wanted"] = "100 ms-class"
    for name, all_ in took.items():
        benchmark.extra_info[f"{name}, ms"] = round(statistics.median(all_), 1)
