"""Real reporting tools read the reports: pandas by SQLAlchemy, Datasette, and what is shipped for them, while workers write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from datasette.app import Datasette
from datasette.utils import tilde_encode

from ledger import Ledger
from projections import ready
from projections.reports import Reports
from tests.databases import by_driver
from tests.invoking import invoke
from tests.projections.everything import fill, ledger_of

ROOT = Path(__file__).parents[2]
GRAFANA_SOURCES = {"sqlite": "frser-sqlite-datasource", "postgres": "grafana-postgresql-datasource"}
PLACE = tilde_encode("work.reports")


@pytest.fixture(scope="module")
def ledger(module_url: str) -> Iterator[Ledger]:
    """A ledger to which everything has happened, its reports at the head, on each kind of database."""
    ledger = ledger_of(module_url)
    fill(ledger)
    Reports(ledger).catch_up()
    yield ledger
    ledger.close()


@contextmanager
def connected(ledger: Ledger) -> Iterator[sqlalchemy.Connection]:
    """A connection of SQLAlchemy's to the reports; a file is attached under the schema's name."""
    reports = Reports(ledger)
    engine = sqlalchemy.create_engine("sqlite://" if reports.dialect == "sqlite" else alchemy_url(ledger.url))
    with engine.connect() as connection:
        if reports.dialect == "sqlite":
            connection.execute(sqlalchemy.text("ATTACH :path AS report_v1"), {"path": reports.path})
        yield connection
    engine.dispose()


def alchemy_url(url: str) -> str:
    """The URL of a ledger on PostgreSQL as SQLAlchemy has it."""
    head, _, options = url.partition("?")
    kept = [option for option in options.split("&") if not option.startswith("schema=")]
    return "postgresql+psycopg" + head.removeprefix("postgresql") + "?" + "&".join(kept)


def of(ledger: Ledger, sql: str) -> sqlalchemy.TextClause:
    """SQL on ``report_v1``, on PostgreSQL with the schema that the reports of this of many ledgers are in."""
    return sqlalchemy.text(sql.replace("report_v1.", f"{Reports(ledger).file.schema}."))


def call(ledger: Ledger, *words: str) -> str:
    result = invoke(["--url", ledger.url, *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_pandas_reads_the_views_by_sqlalchemy(ledger: Ledger) -> None:
    """A frame of the attempts has the counts and quantiles of the views; the same text runs under the schema's name."""
    with connected(ledger) as connection:
        frame = pd.read_sql(of(ledger, "SELECT * FROM report_v1.attempts"), connection)
        states = pd.read_sql(of(ledger, "SELECT state, count(*) AS n FROM report_v1.tasks GROUP BY state"), connection)
        hours = pd.read_sql(of(ledger, "SELECT * FROM report_v1.hourly"), connection, parse_dates=["hour"])
    assert len(frame) == hours["started"].sum()
    assert dict(zip(states["state"], states["n"], strict=True)) == Reports(ledger).counts_per_state()
    assert str(hours["hour"].dt.tz) == "UTC"
    waited = frame.groupby("name")["wait_ms"].max()
    for name, longest in hours.groupby("name")["wait_max_ms"].max().items():
        assert waited[name] == pytest.approx(longest)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_datasette_serves_the_file_with_our_metadata(ledger: Ledger, tmp_path: Path) -> None:
    """Every table, the meaning of its columns, and every ready query can be had from Datasette."""
    import asyncio

    if Reports(ledger).dialect != "sqlite":
        done = invoke(["--url", ledger.url, "report", "datasette"])
        assert (done.exit_code, "Datasette reads SQLite files" in done.output) == (2, True)
        return
    metadata = json.loads(call(ledger, "report", "datasette"))

    async def ask() -> None:
        served = Datasette([Reports(ledger).path], metadata=metadata)
        await served.invoke_startup()
        database = (await served.client.get(f"/{PLACE}.json")).json()
        shown = {table["name"]: table["columns"] for table in database["tables"] if not table["hidden"]}
        assert shown.keys() >= {"tasks", "attempts", "events", "hourly", "operators", "meta"}
        for table, columns in shown.items():
            assert metadata["databases"]["work.reports"]["tables"][table]["columns"].keys() == set(columns)
            page = await served.client.get(f"/{PLACE}/{table}")
            assert page.status_code == 200
        page = await served.client.get(f"/{PLACE}/tasks")
        assert "Who queued it." in page.text
        for name in ready.QUERIES:
            answer = await served.client.get(f"/{PLACE}/{name}.json?_shape=array")
            assert answer.status_code == 200
            assert answer.json() == json.loads(call(ledger, "report", "query", name, "-o", "json"))

    asyncio.run(ask())


def test_every_panel_of_the_dashboard_has_something_to_show(ledger: Ledger) -> None:
    """Each SQL of the Grafana dashboard runs as it is there: on the file itself, or by the schema's name on a server."""
    dashboard = json.loads(call(ledger, "report", "grafana"))
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(targets) == len(dashboard["panels"]) >= 6
    with by_driver(ledger, of_reports=Reports(ledger).dialect == "sqlite") as ask:
        for target in targets:
            found = ask(target["rawSql"] if "rawSql" in target else target["queryText"])
            assert found, target
            if target.get("format") == "time_series":
                assert all(row[0].tzinfo is not None for row in found)
    kinds = {panel["datasource"]["type"] for panel in dashboard["panels"]}
    kinds |= {source["query"] for source in dashboard["templating"]["list"]}
    assert kinds == {GRAFANA_SOURCES[Reports(ledger).dialect]}


def rows(ledger: Ledger, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(ledger, "report", "query", name, "-o", "json"))
    return found


def test_ready_queries_tell_the_truth(ledger: Ledger) -> None:
    """The five queries give what a few lines of Python give from the attempts and tasks themselves."""
    reports = Reports(ledger)
    with reports.read() as unit:
        attempts = [dict(zip(("name", "run", "outcome", "wait", "id", "hour"), row, strict=True)) for row in unit.rows(
            "SELECT name, run_ms, outcome, wait_ms, task_id, substr(claimed_at, 1, 13) FROM report_v1.attempts")]  # fmt: skip
        tasks = unit.rows("SELECT name, state FROM report_v1.tasks WHERE attempt > 1")
    for row in rows(ledger, "slowest_tasks"):
        runs = sorted(
            a["run"]
            for a in attempts
            if a["name"] == row["name"] and a["outcome"] != "interrupted" and a["run"] is not None
        )
        assert (row["runs"], row["max_ms"]) == (len(runs), runs[-1])
        assert row["p95_ms"] == runs[-(-95 * len(runs) // 100) - 1]
    waits = sorted((a["wait"] for a in attempts), reverse=True)[:20]
    assert [row["wait_ms"] for row in rows(ledger, "longest_waits")] == [pytest.approx(wait, abs=0.5) for wait in waits]
    for row in rows(ledger, "retries_that_helped"):
        states = [state for name, state in tasks if name == row["name"]]
        assert (row["retried"], row["helped"]) == (len(states), states.count("succeeded"))
    rates = rows(ledger, "failure_rate")
    ended = sum(a["outcome"] in ("succeeded", "failed", "lost", "delayed") for a in attempts)
    assert sum(row["ended"] for row in rates) == ended
    bad = sum(a["outcome"] in ("failed", "lost", "delayed") for a in attempts)
    assert sum(row["unsuccessful"] for row in rates) == bad > 0
    assert [row["reason"] for row in rows(ledger, "operator_actions") if row["actor"] == "user:bob"][-1] == "once more"


def test_a_ready_query_can_be_taken_along() -> None:
    """`report sql` prints the text with the schema's name, and `report list` what it tells; a wrong name is refused."""
    for name in ready.QUERIES:
        said, sql = ready.query(name)
        printed = invoke(["report", "sql", name]).stdout
        assert printed == f"-- {said}\n{sql};\n"
        assert "report_v1." in sql
    assert [line.split()[0] for line in invoke(["report", "list"]).stdout.splitlines()] == list(ready.QUERIES)
    assert invoke(["report", "sql", "none"]).exit_code == 2


def test_tools_read_while_workers_write(url: str, tmp_path: Path) -> None:
    """While a run works its queue and keeps the reports, a reader through SQLAlchemy never waits, errs or sees halves."""
    app_file = tmp_path / "work_app.py"
    app_file.write_text(
        "import os\nfrom ledger import Ledger\nledger = Ledger.from_env()\n"
        "@ledger.task\ndef noop(number: int) -> int:\n    return number\n"
    )
    ledger = Ledger(url)
    noop = ledger.task(name="noop")(lambda number: number)
    ledger.enqueue_many(noop.call(number=n) for n in range(300))
    Reports(ledger).catch_up()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "WORKLEDGER_URL": ledger.url}
    command = [sys.executable, "-m", "runner.cli", "--app", "work_app:ledger", "run"]
    run = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: list[tuple[int, int, int]] = []
    sql = of(
        ledger,
        "SELECT (SELECT sum(queued - succeeded) FROM report_v1.hourly), (SELECT count(*) FROM report_v1.tasks WHERE"
        " state <> 'succeeded'), (SELECT count(*) FROM report_v1.tasks WHERE state = 'succeeded')",
    )
    try:
        tick = threading.Event()
        deadline = 600
        while (not seen or seen[-1][2] < 300) and deadline:
            with connected(ledger) as connection:
                [row] = connection.execute(sql).fetchall()
                seen.append((row[0], row[1], row[2]))
            deadline -= 1
            tick.wait(0.05)  # the run keeps the reports by itself: nobody here catches up
    finally:
        run.terminate()
        run.wait()
    assert seen[-1] == (0, 0, 300)
    assert all(by_hour == by_task for by_hour, by_task, _ in seen)
    assert Reports(ledger).verify() == []
    ledger.close()
